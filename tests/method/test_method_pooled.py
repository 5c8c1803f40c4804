"""The pooled Mahalanobis distance: against the definition, its limits, how the share is chosen."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import ledoit_wolf

from asdlib.errors import ConfigError, RunError
from asdlib.method.backends import (
    FOLDS,
    SHARES,
    PooledMahalanobis,
    backend_from_state,
    build_backend,
    divide,
    surprise_of_shares,
)

D = 6
NAMES = np.repeat(np.array(["fan/00", "fan/02", "pump/00"], object), 30)


def clips(seed: int = 0, n: int = 30) -> np.ndarray:
    """Two fans with one covariance and different means, and a pump unlike them, (3 n, D)."""
    rng = np.random.default_rng(seed)
    fan, pump = rng.normal(size=(2, D, D))
    parts = [rng.normal(size=(n, D)) @ shape + 5 * i for i, shape in enumerate((fan, fan, pump))]
    return np.concatenate(parts)


def chosen_share(x: np.ndarray, names: np.ndarray) -> float:
    return float(PooledMahalanobis().fit(x, names).models_[names[0]]["share"][0])


def by_definition(
    x: np.ndarray, names: np.ndarray, section: str, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of a section, written out."""
    own = x[names == section]
    alike = sorted({n for n in names if n.split("/")[0] == section.split("/")[0]})
    around = np.concatenate([x[names == n] - x[names == n].mean(0) for n in alike])
    pooled, _ = ledoit_wolf(around, assume_centered=True)
    return own.mean(0), (1 - share) * np.cov(own.T, bias=True) + share * pooled


@given(
    seed=st.integers(0, 1000),
    share=st.floats(0.01, 1),
    section=st.sampled_from(["fan/00", "fan/02", "pump/00"]),
)
def test_scores_equal_the_definition(seed: int, share: float, section: str) -> None:
    x = clips(seed)
    test = np.random.default_rng(seed + 1).normal(size=(4, D)) * 3
    backend = PooledMahalanobis(share=share).fit(x, NAMES)
    mean, covariance = by_definition(x, NAMES, section, share)
    apart = test - mean
    expected = np.sqrt(np.einsum("nd,nd->n", apart, np.linalg.solve(covariance, apart.T).T))
    np.testing.assert_allclose(backend.score(test, [section] * 4), expected, rtol=1e-6)


def test_one_section_leaning_on_itself_alone_is_the_plain_distance() -> None:
    x, names = clips()[:30], NAMES[:30]
    plain = build_backend("mahalanobis").fit(x, names).score(x, names)
    pooled = PooledMahalanobis(share=1).fit(x, names).score(x, names)
    np.testing.assert_allclose(pooled, plain, rtol=1e-9)


def test_other_machine_types_have_no_part() -> None:
    x = clips()
    alone = PooledMahalanobis().fit(x[:60], NAMES[:60])
    together = PooledMahalanobis().fit(x, NAMES)
    np.testing.assert_array_equal(
        alone.score(x[:60], NAMES[:60]), together.score(x[:60], NAMES[:60])
    )


def test_the_order_of_sections_in_the_rows_does_not_matter() -> None:
    x = clips()
    order = np.r_[60:90, 30:60, 0:30]
    straight, turned = PooledMahalanobis().fit(x, NAMES), PooledMahalanobis()
    turned.fit(x[order], NAMES[order])
    assert list(straight.models_) == list(turned.models_)
    np.testing.assert_allclose(straight.score(x, NAMES), turned.score(x, NAMES), rtol=1e-9)


def test_the_share_is_the_likeliest_by_a_plain_loop() -> None:
    """Five folds, the Gaussian log-likelihood of each held-out clip by scipy."""
    from scipy.stats import multivariate_normal

    for seed in range(3):
        x, names = clips(seed)[:60], NAMES[:60]
        domains = np.full(60, "", object)
        fold = divide(names, domains, folds=FOLDS)
        log_likelihood = []
        for share in SHARES:
            total = 0.0
            for number in range(FOLDS):
                held = fold == number
                for i in np.flatnonzero(held):
                    mean, covariance = by_definition(x[~held], names[~held], names[i], share)
                    total += multivariate_normal(mean, covariance).logpdf(x[i])
            log_likelihood.append(total / len(x))
        assert chosen_share(x, names) == SHARES[int(np.argmax(log_likelihood))]
        surprise = surprise_of_shares(x, names, domains)
        np.testing.assert_allclose(surprise[1:] - surprise[0], -np.diff(log_likelihood).cumsum())


def test_sections_that_vary_alike_lean_on_each_other_and_others_do_not() -> None:
    rng = np.random.default_rng(5)
    names = np.repeat(np.array(["fan/00", "fan/02"], object), 40)
    alike = rng.normal(size=(80, 20))
    spread = np.r_[np.ones(10), 100 * np.ones(10)]
    unlike = np.concatenate([alike[:40] * spread, alike[40:] * spread[::-1]])
    assert chosen_share(alike, names) == 1.0
    assert chosen_share(unlike, names) < 0.5


def test_state_round_trip() -> None:
    backend = PooledMahalanobis().fit(clips(), NAMES)
    again = backend_from_state(backend.state())
    assert again.params() == {"share": None}
    np.testing.assert_array_equal(again.score(clips(), NAMES), backend.score(clips(), NAMES))


@pytest.mark.parametrize("n", [2, 3, 6])
def test_few_clips_have_finite_scores(n: int) -> None:
    x, names = clips(n=n), np.repeat(np.array(["fan/00", "fan/02", "pump/00"], object), n)
    assert np.isfinite(PooledMahalanobis().fit(x, names).score(x + 1, names)).all()


def test_a_clip_of_each_domain_cannot_be_held_out() -> None:
    x, names = clips(n=2)[:2], np.array(["fan/00"] * 2, object)
    backend = PooledMahalanobis().fit(x, names, ["source", "target"])
    assert backend.models_["fan/00"]["share"] == 1.0


def test_equal_clips_have_finite_scores() -> None:
    same = np.ones((8, 3))
    backend = PooledMahalanobis().fit(same, ["fan/00"] * 8)
    assert np.isfinite(backend.score(np.vstack([same, same + 1]), ["fan/00"] * 16)).all()


def test_a_section_of_one_clip_is_refused() -> None:
    with pytest.raises(RunError, match="section 'pump/00' has 1 training clips.*at least 2"):
        PooledMahalanobis().fit(clips()[:61], NAMES[:61])


@pytest.mark.parametrize("share", [0, -0.1, 1.1, float("nan"), "half", True])
def test_a_share_that_is_none_is_refused(share: object) -> None:
    with pytest.raises(ConfigError, match="share of back-end 'pooled_mahalanobis' is"):
        build_backend("pooled_mahalanobis", share=share)
