from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from scipy.spatial import distance
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf
from sklearn.mixture import GaussianMixture as SklearnMixture
from sklearn.neighbors import NearestNeighbors

from asdlib.errors import ConfigError, RunError
from asdlib.method.backends import (
    BACKENDS,
    Backend,
    ClassMeanDistance,
    GaussianMixture,
    KNearestNeighbours,
    LocalDensityKNN,
    Mahalanobis,
    SelectiveMahalanobis,
    backend_from_state,
    build_backend,
    held_out_scores,
    pairwise_distances,
)

D = 6


def clips(n: int, seed: int = 0, shift: float = 2.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((D, D))
    return shift + rng.standard_normal((n, D)) @ mixing


def names(n: int, *sections: str) -> np.ndarray:
    return np.array([sections[i % len(sections)] for i in range(n)], object)


# Golden values of independent implementations


def test_mahalanobis_equals_scikit_learn_and_scipy() -> None:
    train, test = clips(40), clips(7, seed=1)
    scores = Mahalanobis().fit(train, names(40, "a")).score(test, names(7, "a"))
    reference = LedoitWolf().fit(train)
    np.testing.assert_allclose(scores, np.sqrt(reference.mahalanobis(test)), rtol=1e-8)
    inverse = np.linalg.inv(reference.covariance_)
    one = distance.mahalanobis(test[0], train.mean(axis=0), inverse)
    assert scores[0] == pytest.approx(one, rel=1e-8)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 3])
def test_knn_equals_scikit_learn(metric: str, k: int) -> None:
    train, test = clips(30), clips(7, seed=1)
    backend = build_backend("knn", k=k, metric=metric).fit(train, names(30, "a"))
    found, _ = NearestNeighbors(n_neighbors=k, metric=metric).fit(train).kneighbors(test)
    np.testing.assert_allclose(backend.score(test, names(7, "a")), found.mean(axis=1), atol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_class_mean_equals_scipy(metric: str) -> None:
    train, test = clips(30), clips(3, seed=1)
    scores = build_backend("class_mean", metric=metric).fit(train, names(30, "a"))
    expected = [getattr(distance, metric)(row, train.mean(axis=0)) for row in test]
    np.testing.assert_allclose(scores.score(test, names(3, "a")), expected, rtol=1e-10)


def test_mixture_equals_scikit_learn() -> None:
    train = np.concatenate((clips(40), clips(40, seed=1, shift=-4)))
    test = clips(7, seed=2)
    backend = GaussianMixture(n_components=3, regularisation=0.05, seed=4)
    scores = backend.fit(train, names(80, "a")).score(test, names(7, "a"))
    reg = 0.05 * train.var(axis=0).mean()
    reference = SklearnMixture(3, reg_covar=reg, random_state=4).fit(train)
    np.testing.assert_allclose(scores, -reference.score_samples(test), rtol=1e-10)


def test_mixture_of_one_is_a_normal_density() -> None:
    train, test = clips(60), clips(7, seed=1)
    backend = GaussianMixture(n_components=1, regularisation=1e-9)
    scores = backend.fit(train, names(60, "a")).score(test, names(7, "a"))
    normal = multivariate_normal(train.mean(axis=0), np.cov(train.T, bias=True))
    np.testing.assert_allclose(scores, -normal.logpdf(test), rtol=1e-6)


def test_local_density_equals_a_loop() -> None:
    train, test = clips(20), clips(5, seed=1)
    backend = LocalDensityKNN(k=2, density_k=3, metric="euclidean")
    scores = backend.fit(train, names(20, "a")).score(test, names(5, "a"))
    for x, score in zip(test, scores, strict=True):
        ratios = []
        for i, y in enumerate(train):
            others = sorted(float(np.linalg.norm(y - z)) for j, z in enumerate(train) if j != i)
            ratios.append(float(np.linalg.norm(x - y)) / np.mean(others[:3]))
        assert score == pytest.approx(np.mean(sorted(ratios)[:2]))


def test_local_density_lifts_the_penalty_of_sparse_places() -> None:
    rng = np.random.default_rng(0)
    dense, sparse = 0.1 * rng.standard_normal((200, 2)), 10 + rng.standard_normal((20, 2))
    train = np.concatenate((dense, sparse))
    test = np.array([[0.5, 0.5], [10.5, 10.5]])
    plain = KNearestNeighbours(metric="euclidean").fit(train, names(220, "a"))
    normed = LocalDensityKNN(metric="euclidean").fit(train, names(220, "a"))
    assert normed.score(test, names(2, "a"))[1] < normed.score(test, names(2, "a"))[0]
    ratio = [
        b.score(test, names(2, "a"))[1] / b.score(test, names(2, "a"))[0] for b in (plain, normed)
    ]
    assert ratio[1] < ratio[0] / 3


@pytest.mark.parametrize("covariance", ["shared", "own"])
def test_selective_mahalanobis_is_the_smaller_of_both_domains(covariance: str) -> None:
    train, test = np.concatenate((clips(40), clips(12, seed=1, shift=9))), clips(7, seed=2)
    domains = np.array(["source"] * 40 + ["target"] * 12, object)
    backend = build_backend("selective_mahalanobis", covariance=covariance)
    scores = backend.fit(train, names(52, "a"), domains).score(test, names(7, "a"))
    groups = [train[:40], train[40:]]
    centred = [g - g.mean(axis=0) for g in groups]
    if covariance == "shared":
        centred = [np.concatenate(centred)] * 2
    distances = []
    for group, rows in zip(groups, centred, strict=True):
        inverse = LedoitWolf(assume_centered=True).fit(rows).precision_
        away = test - group.mean(axis=0)
        distances.append(np.sqrt(np.einsum("nd,de,ne->n", away, inverse, away)))
    np.testing.assert_allclose(scores, np.min(distances, axis=0), rtol=1e-8)


def test_selective_mahalanobis_of_one_domain_is_mahalanobis() -> None:
    train, test = clips(30), clips(7, seed=1)
    scores = [
        backend.fit(train, names(30, "a"), names(30, "source")).score(test, names(7, "a"))
        for backend in (
            Mahalanobis(),
            SelectiveMahalanobis(),
            SelectiveMahalanobis(covariance="own"),
        )
    ]
    np.testing.assert_allclose(scores[1], scores[0])
    np.testing.assert_allclose(scores[2], scores[0])


# What holds for all


def everyone() -> list[Callable[[], Backend]]:
    return [
        *BACKENDS.values(),
        lambda: SelectiveMahalanobis(covariance="own"),
        lambda: GaussianMixture(n_components=1),
    ]


@pytest.mark.parametrize("make", everyone())
def test_far_away_is_more_anomalous(make: Callable[[], Backend]) -> None:
    train = clips(60, shift=5.0)
    backend = make().fit(train, names(60, "a"))
    normal = backend.score(clips(40, seed=1, shift=5.0), names(40, "a"))
    anomalous = backend.score(clips(40, seed=2, shift=-20.0), names(40, "a"))
    assert normal.dtype == np.float64
    assert np.median(anomalous) > np.max(normal)


@pytest.mark.parametrize("make", everyone())
@given(seed=st.integers(0, 1000))
@settings(max_examples=5, deadline=None)
def test_sections_are_apart_and_order_does_not_matter(
    make: Callable[[], Backend], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    train, test = clips(40, seed), clips(10, seed + 1)
    sections, tested = names(40, "fan/a", "pump/b"), names(10, "pump/b", "fan/a", "fan/a")
    scores = make().fit(train, sections).score(test, tested)
    for one in ("fan/a", "pump/b"):
        alone = make().fit(train[sections == one], sections[sections == one])
        np.testing.assert_allclose(
            alone.score(test[tested == one], tested[tested == one]), scores[tested == one]
        )
    order = rng.permutation(10)
    together = make().fit(train, sections).score(test[order], tested[order])
    np.testing.assert_allclose(together, scores[order])


@pytest.mark.parametrize("make", everyone())
def test_state_goes_through_safetensors(make: Callable[[], Backend], tmp_path: Path) -> None:
    train, test = clips(40), clips(6, seed=1)
    sections = names(40, "fan/00", "ToyCar/02")
    backend = make().fit(train, sections, names(40, "source", "source", "target", "target"))
    save_file(backend.state(), tmp_path / "state.safetensors")
    back = backend_from_state(load_file(tmp_path / "state.safetensors"))
    assert back == backend
    tested = names(6, "ToyCar/02", "fan/00")
    np.testing.assert_array_equal(back.score(test, tested), backend.score(test, tested))


@pytest.mark.parametrize("make", everyone())
def test_unknown_section_is_refused(make: Callable[[], Backend]) -> None:
    backend = make().fit(clips(40), names(40, "fan/00", "fan/02"))
    with pytest.raises(
        RunError, match=r"section 'fan/07' was not in training \(known: fan/00, fan"
    ):
        backend.score(clips(1), names(1, "fan/07"))


def test_unfitted_backend_is_refused() -> None:
    with pytest.raises(RunError, match="fit first"):
        Mahalanobis().score(clips(1), names(1, "a"))


@pytest.mark.parametrize(
    ("backend", "n"),
    [
        (Mahalanobis(), 1),
        (SelectiveMahalanobis(), 1),
        (KNearestNeighbours(k=5), 4),
        (LocalDensityKNN(density_k=4), 4),
        (GaussianMixture(n_components=3), 2),
    ],
)
def test_too_few_clips_are_refused(backend: Backend, n: int) -> None:
    with pytest.raises(RunError, match=f"section 'a' has {n} training clips, .* at least {n + 1}"):
        backend.fit(clips(n), names(n, "a"))
    backend.fit(clips(n + 1), names(n + 1, "a"))


def test_bad_input_is_refused() -> None:
    train = clips(10)
    train[3, 1] = np.nan
    with pytest.raises(RunError, match="clip 3 .* not finite"):
        Mahalanobis().fit(train, names(10, "a"))
    with pytest.raises(RunError, match="do not fit"):
        Mahalanobis().fit(clips(10), names(9, "a"))
    with pytest.raises(RunError, match="9 domains do not fit"):
        Mahalanobis().fit(clips(10), names(10, "a"), names(9, "source"))


@pytest.mark.parametrize("make", everyone())
def test_equal_training_clips_are_survived(make: Callable[[], Backend]) -> None:
    same = np.ones((12, D))
    scores = make().fit(same, names(12, "a")).score(np.stack((same[0], -same[0])), names(2, "a"))
    assert np.isfinite(scores).all()
    assert scores[1] > scores[0]


def test_more_dimensions_than_clips_are_survived() -> None:
    rng = np.random.default_rng(0)
    train, test = rng.standard_normal((10, 50)), rng.standard_normal((3, 50))
    for backend in (
        Mahalanobis(),
        SelectiveMahalanobis(covariance="own"),
        GaussianMixture(n_components=2),
    ):
        scores = backend.fit(train, names(10, "a"), names(10, "source", "target"))
        assert np.isfinite(scores.score(test, names(3, "a"))).all()


def test_cosine_distance_of_zero_is_one() -> None:
    distances = pairwise_distances(np.zeros((1, 3)), np.ones((2, 3)), "cosine")
    np.testing.assert_array_equal(distances, np.ones((1, 2)))


def test_unknown_names_and_values_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'lof' is not known \(known: class_mean, gaussian"):
        build_backend("lof")
    with pytest.raises(ConfigError, match=r"'n' is not known to back-end 'knn' \(known: k, metric"):
        build_backend("knn", n=3)
    with pytest.raises(ConfigError, match="k of back-end 'knn' is 0: .* greater"):
        build_backend("knn", k=0)
    with pytest.raises(ConfigError, match=r"k of back-end 'knn' is 1.5: .* valid integer"):
        build_backend("knn", k=1.5)
    with pytest.raises(
        ConfigError, match="metric of back-end 'knn' is 'manhattan': .*'cosine' or 'euclidean'"
    ):
        build_backend("knn", metric="manhattan")
    with pytest.raises(ConfigError, match="'diagonal': .*'shared' or 'own'"):
        build_backend("selective_mahalanobis", covariance="diagonal")


# Fusion


def test_held_out_scores_see_only_the_other_folds() -> None:
    train = np.concatenate((clips(20), clips(20)))
    sections = names(40, "a", "b")
    backend = KNearestNeighbours(metric="euclidean")
    assert backend.fit(train, sections).score(train, sections).max() == 0
    apart = np.arange(40.0)[:, None] ** 2 + np.zeros((1, 2))
    scores = held_out_scores(backend, apart, names(40, "a"), folds=40)
    expected = [min(abs(i**2 - j**2) for j in range(40) if j != i) * np.sqrt(2) for i in range(40)]
    np.testing.assert_allclose(scores, expected)


def test_held_out_scores_are_repeatable_and_leave_the_backend_alone() -> None:
    backend = Mahalanobis().fit(clips(20, seed=5), names(20, "z"))
    first, second = (held_out_scores(backend, clips(30), names(30, "a", "b"), seed=3) for _ in "12")
    np.testing.assert_array_equal(first, second)
    assert list(backend.models_) == ["z"]


def test_held_out_scores_keep_both_domains_in_every_fold() -> None:
    domains = np.array(["source"] * 27 + ["target"] * 3, object)
    scores = held_out_scores(SelectiveMahalanobis(), clips(30), names(30, "a"), domains, folds=3)
    assert np.isfinite(scores).all()


def test_one_fold_is_refused() -> None:
    with pytest.raises(ConfigError, match="folds is 1"):
        held_out_scores(Mahalanobis(), clips(4), names(4, "a"), folds=1)


def test_class_mean_is_registered_under_its_name() -> None:
    assert BACKENDS["class_mean"] is ClassMeanDistance
