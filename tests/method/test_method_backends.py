"""Back-ends: against independent implementations, what holds for all, what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn.metrics
from hypothesis import given, settings, strategies as st
from safetensors.numpy import load_file, save_file
from scipy.spatial import distance
from scipy.stats import multivariate_normal
from sklearn.cluster import KMeans
from sklearn.covariance import LedoitWolf, ledoit_wolf
from sklearn.neighbors import NearestNeighbors

from asdlib.errors import AsdError, ConfigError, RunError
from asdlib.method.backends import (
    BACKENDS,
    SHARES,
    backend_from_state,
    build_backend,
    divide,
    held_out_scores,
    nearest_of,
)

D = 6
NO_SHARES = (0, -0.1, 1.1, float("nan"), "half", True)
TWO_LEVELS = {"levels": ("encoder", "feature_map"), "sizes": (2, 4)}
CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in BACKENDS),
    ("local_density_knn", {"whiten": True, "metric": "euclidean"}),
    ("balanced_knn", {"centres": None, "smote": 3, "k": 2}),
    ("level_sum", TWO_LEVELS),
]


def clips(n: int, seed: int = 0, shift: float = 2.0, size: int = D) -> np.ndarray:
    mixing = np.random.default_rng(99).standard_normal((size, size))
    return shift + np.random.default_rng(seed).standard_normal((n, size)) @ mixing


def names(n: int, *sections: str) -> np.ndarray:
    """Sections by turns, shape (n,)."""
    return np.array([sections[i % len(sections)] for i in range(n)], object)


def score(
    name: str, train: np.ndarray, test: np.ndarray, domains: np.ndarray | None = None, **params: Any
) -> np.ndarray:
    """Score with all clips in one section."""
    backend = build_backend(name, **params).fit(train, names(len(train), "fan/00"), domains)
    return backend.score(test, names(len(test), "fan/00"))


def test_mahalanobis_equals_scikit_learn_and_scipy() -> None:
    train, test = clips(40), clips(7, seed=1)
    scores = score("mahalanobis", train, test)
    reference = LedoitWolf().fit(train)
    np.testing.assert_allclose(scores, np.sqrt(reference.mahalanobis(test)), rtol=1e-8)
    one = distance.mahalanobis(test[0], train.mean(axis=0), np.linalg.inv(reference.covariance_))
    assert scores[0] == pytest.approx(one, rel=1e-8)
    # The relatives of Mahalanobis are the same where there is nothing to select or to share.
    same = score("selective_mahalanobis", train, test, names(40, "source"))
    np.testing.assert_allclose(same, scores)
    np.testing.assert_allclose(score("pooled_mahalanobis", train, test, share=1), scores, rtol=1e-9)


def test_selective_mahalanobis_is_the_smaller_of_both_domains() -> None:
    train, test = np.concatenate((clips(40), clips(12, seed=1, shift=9))), clips(7, seed=2)
    domains = np.array(["source"] * 40 + ["target"] * 12, object)
    scores = score("selective_mahalanobis", train, test, domains)
    groups = [train[:40], train[40:]]
    centred = np.concatenate([g - g.mean(axis=0) for g in groups])
    inverse = LedoitWolf(assume_centered=True).fit(centred).precision_
    distances = []
    for group in groups:
        away = test - group.mean(axis=0)
        distances.append(np.sqrt(np.einsum("nd,de,ne->n", away, inverse, away)))
    np.testing.assert_allclose(scores, np.min(distances, axis=0), rtol=1e-8)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_and_class_mean_equal_scikit_learn_and_scipy(metric: str) -> None:
    train, test = clips(30), clips(7, seed=1)
    for k in (1, 3):
        found, _ = NearestNeighbors(n_neighbors=k, metric=metric).fit(train).kneighbors(test)
        scores = score("knn", train, test, k=k, metric=metric)
        np.testing.assert_allclose(scores, found.mean(axis=1), atol=1e-12)
    expected = [getattr(distance, metric)(row, train.mean(axis=0)) for row in test]
    scores = score("class_mean", train, test, metric=metric)
    np.testing.assert_allclose(scores, expected, rtol=1e-10)


def test_cosine_distance_of_zero_is_one() -> None:
    corners = np.array([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])
    np.testing.assert_allclose(nearest_of(corners, corners[:2], 2, "cosine"), [1, 0.5, 1.5])


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_neighbours_found_in_blocks_are_the_nearest_of(
    metric: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far from the origin, with copies: where products of rows would be too coarse."""
    chunked, sizes = sklearn.metrics.pairwise_distances_chunked, []

    def in_small_blocks(*args: Any, **options: Any) -> Any:
        for block in chunked(*args, **options | {"working_memory": 0.02}):
            sizes.append(len(block))
            yield block

    monkeypatch.setattr(sklearn.metrics, "pairwise_distances_chunked", in_small_blocks)
    rng = np.random.default_rng(0)
    y = rng.normal(size=(300, 16)) + 40
    y[7] = y[250]
    x, scale = np.concatenate((y[:20], rng.normal(size=(30, 16)) + 40)), rng.uniform(1, 2, 300)
    apart = distance.cdist(x, y, metric) / scale
    expected = np.sort(apart, axis=1)[:, :3].mean(axis=1)
    found = nearest_of(x, y, 3, metric, scale=scale)
    np.testing.assert_allclose(found, expected, rtol=1e-7, atol=1e-12)
    apart = distance.cdist(y, y, metric)
    np.fill_diagonal(apart, np.inf)
    found = nearest_of(y, y, 1, metric, itself=True)
    np.testing.assert_allclose(found, apart.min(axis=1), rtol=1e-7, atol=1e-12)
    assert metric == "cosine" or found[7] == 0
    assert max(sizes) < 10


def test_local_density_equals_a_loop() -> None:
    train, test = clips(20), clips(5, seed=1)
    scores = score("local_density_knn", train, test, k=2, density_k=3, metric="euclidean")
    for x, given_score in zip(test, scores, strict=True):
        ratios = []
        for i, y in enumerate(train):
            others = sorted(float(np.linalg.norm(y - z)) for j, z in enumerate(train) if j != i)
            ratios.append(float(np.linalg.norm(x - y)) / np.mean(others[:3]))
        assert given_score == pytest.approx(np.mean(sorted(ratios)[:2]))


FEW = np.array(["source"] * 40 + ["target"] * 5, object)


def few_targets() -> np.ndarray:
    return np.concatenate((clips(40), clips(5, seed=1, shift=9)))


def test_whitened_density_is_that_of_clips_whitened_by_hand() -> None:
    train, test = few_targets(), clips(7, seed=2)
    centred = np.concatenate([train[d == FEW] - train[d == FEW].mean(axis=0) for d in set(FEW)])
    root = np.linalg.cholesky(LedoitWolf(assume_centered=True).fit(centred).precision_)
    kept = {"k": 2, "density_k": 3, "metric": "euclidean"}
    expected = score("local_density_knn", train @ root, test @ root, FEW, **kept)
    scores = score("local_density_knn", train, test, FEW, whiten=True, **kept)
    np.testing.assert_allclose(scores, expected, rtol=1e-8)


def test_the_balanced_memory_holds_centres_of_the_source_and_all_target_clips() -> None:
    train, test = few_targets(), clips(7, seed=2)
    centres = KMeans(4, n_init=10, random_state=0).fit(train[:40]).cluster_centers_
    found = distance.cdist(test, np.concatenate((centres, train[40:]))).min(axis=1)
    kept = {"metric": "euclidean", "centres": 4}
    np.testing.assert_allclose(score("balanced_knn", train, test, FEW, **kept), found)
    # By cosine the centres are those of directions.
    unit = train / np.linalg.norm(train, axis=1, keepdims=True)
    directions = KMeans(4, n_init=10, random_state=0).fit(unit[:40]).cluster_centers_
    found = distance.cdist(test, np.concatenate((directions, unit[40:])), "cosine").min(axis=1)
    np.testing.assert_allclose(score("balanced_knn", train, test, FEW, centres=4), found)


def test_smote_fills_the_target_up_between_neighbours() -> None:
    train = few_targets()
    backend = build_backend("balanced_knn", metric="euclidean", centres=None, smote=2)
    memory = backend.fit(train, names(45, "fan/00"), FEW).models_["fan/00"]["embeddings"]
    np.testing.assert_array_equal(memory[:45], train)
    assert len(memory) == 80  # as many of the target as of the source
    target = train[40:]
    near = NearestNeighbors(n_neighbors=3).fit(target).kneighbors(target)[1][:, 1:]
    used = set()
    for entry in memory[45:]:
        # On the segment between a clip and one of its two neighbours both parts add up.
        detours = [
            np.linalg.norm(entry - target[i]) + np.linalg.norm(entry - target[j])
            - np.linalg.norm(target[i] - target[j])
            for i in range(5) for j in near[i]
        ]  # fmt: skip
        assert min(detours) < 1e-9
        used.add(int(np.argmin(detours)) // 2)
    assert len(used) >= 3


@pytest.mark.parametrize("k", [1, 2])
def test_the_combined_distance_varies_least_over_normal_clips(k: int) -> None:
    train, test = few_targets(), clips(7, seed=2)
    backend = build_backend("variance_minimised", metric="euclidean", k=k)
    backend.fit(train, names(45, "fan/00"), FEW)
    weight = backend.models_["fan/00"]["weight"][0]

    def distances(x: np.ndarray, leave_out: bool) -> list[np.ndarray]:
        found = []
        for domain in ("source", "target"):
            table = distance.cdist(x, train[domain == FEW])
            if leave_out:
                table[table == 0] = np.inf
            found.append(np.sort(table, axis=1)[:, :k].mean(axis=1))
        return found

    def variance(w: float) -> float:
        source, target = distances(train, leave_out=True)
        combined = w * source + (1 - w) * target
        # Each domain as often as the other: 40 clips, and 8 copies of 5.
        return float(np.concatenate([combined[:40], np.tile(combined[40:], 8)]).var())

    grid = np.linspace(0, 1, 1001)
    assert weight == pytest.approx(grid[np.argmin([variance(w) for w in grid])], abs=1e-3)
    source, target = distances(test, leave_out=False)
    found = backend.score(test, names(7, "fan/00"))
    np.testing.assert_allclose(found, weight * source + (1 - weight) * target)


POOLED_NAMES = np.repeat(np.array(["fan/00", "fan/02", "pump/00"], object), 30)


def machines(seed: int = 0) -> np.ndarray:
    """Two fans with one covariance and different means, and a pump unlike them, (90, D)."""
    rng = np.random.default_rng(seed)
    fan, pump = rng.normal(size=(2, D, D))
    parts = [rng.normal(size=(30, D)) @ shape + 5 * i for i, shape in enumerate((fan, fan, pump))]
    return np.concatenate(parts)


def pooled_by_definition(
    x: np.ndarray, sections: np.ndarray, section: str, share: float
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of a section, written out."""
    own = x[sections == section]
    alike = sorted({n for n in sections if n.split("/")[0] == section.split("/")[0]})
    around = np.concatenate([x[sections == n] - x[sections == n].mean(0) for n in alike])
    pooled, _ = ledoit_wolf(around, assume_centered=True)
    return own.mean(0), (1 - share) * np.cov(own.T, bias=True) + share * pooled


@given(
    seed=st.integers(0, 1000),
    share=st.floats(0.01, 1),
    section=st.sampled_from(["fan/00", "fan/02", "pump/00"]),
)
@settings(max_examples=25)
def test_pooled_mahalanobis_equals_its_definition(seed: int, share: float, section: str) -> None:
    x, test = machines(seed), np.random.default_rng(seed + 1).normal(size=(4, D)) * 3
    backend = build_backend("pooled_mahalanobis", share=share).fit(x, POOLED_NAMES)
    mean, covariance = pooled_by_definition(x, POOLED_NAMES, section, share)
    away = test - mean
    expected = np.sqrt(np.einsum("nd,nd->n", away, np.linalg.solve(covariance, away.T).T))
    np.testing.assert_allclose(backend.score(test, [section] * 4), expected, rtol=1e-6)


def chosen_share(x: np.ndarray, sections: np.ndarray) -> float:
    backend = build_backend("pooled_mahalanobis").fit(x, sections)
    return float(backend.models_[sections[0]]["share"][0])


def test_the_share_is_the_likeliest_by_a_plain_loop() -> None:
    """Five folds, the Gaussian log-likelihood of each held-out clip by scipy."""
    x, sections = machines()[10:50], POOLED_NAMES[10:50]
    domains = np.full(len(x), "", object)
    fold = divide(sections, domains)
    log_likelihood = []
    for share in SHARES:
        total = 0.0
        for number in range(5):
            held = fold == number
            for section in set(sections):
                rows = held & (sections == section)
                normal = pooled_by_definition(x[~held], sections[~held], section, share)
                total += multivariate_normal(*normal).logpdf(x[rows]).sum()
        log_likelihood.append(total)
    assert chosen_share(x, sections) == SHARES[int(np.argmax(log_likelihood))]


def test_sections_that_vary_alike_lean_on_each_other_and_others_do_not() -> None:
    sections = np.repeat(np.array(["fan/00", "fan/02"], object), 40)
    alike = np.random.default_rng(5).normal(size=(80, 20))
    spread = np.r_[np.ones(10), 100 * np.ones(10)]
    unlike = np.concatenate([alike[:40] * spread, alike[40:] * spread[::-1]])
    assert chosen_share(alike, sections) == 1.0
    assert chosen_share(unlike, sections) < 0.5
    # Nothing can be held out of one clip in each domain: no likelihood, the largest share.
    few = build_backend("pooled_mahalanobis").fit(
        alike[38:42], sections[38:42], ["source", "target"] * 2
    )
    assert few.models_["fan/00"]["share"] == 1.0
    with pytest.raises(RunError, match="'fan' has too few training clips: 2; .* at least 3"):
        build_backend("pooled_mahalanobis").fit(alike[:2], sections[:2])


def standardised(
    level: str, train: np.ndarray, sections: np.ndarray, test: np.ndarray, section: str
) -> np.ndarray:
    """Logarithms of the distances of `test` from `section`, in deviations of held-out clips."""
    backend = build_backend("knn" if level == "feature_map" else "pooled_mahalanobis")
    held = np.log(held_out_scores(backend, train, sections)[sections == section])
    distances = np.log(backend.fit(train, sections).score(test, np.full(len(test), section)))
    return np.asarray((distances - held.mean()) / held.std())


def test_trained_levels_count_the_same() -> None:
    """Against the definition; the scale comes from clips that the back-end has not seen."""
    train, test, sections = clips(20), clips(5, seed=1), names(20, "fan/00")
    parts = {"encoder": slice(0, 2), "feature_map": slice(2, 6)}
    expected = np.mean(
        [standardised(k, train[:, p], sections, test[:, p], "fan/00") for k, p in parts.items()], 0
    )
    trained = TWO_LEVELS | {"trained": TWO_LEVELS["levels"]}
    np.testing.assert_allclose(score("level_sum", train, test, **trained), expected, rtol=1e-9)
    # A copy of a training clip has distance 0, whose logarithm is cut.
    copies = score("level_sum", train, train, levels=("feature_map",))
    assert np.isfinite(copies).all()
    assert copies.max() < expected.min()


def test_levels_weigh_as_much_as_they_tell_the_sections_of_a_machine_apart() -> None:
    """d′², held-out clips against clips of the other section, written out once more by hand."""
    rng = np.random.default_rng(3)
    sections = names(60, "fan/00", "fan/02", "pump/00")
    train, test = rng.normal(size=(60, 6)), rng.normal(size=(5, 6))
    train[sections == "fan/02", 2:] += 3.0  # the second level tells the fans apart
    parts = {"encoder": slice(0, 2), "feature_map": slice(2, 6)}
    fold, fans = divide(sections, names(60, "")), ("fan/00", "fan/02")
    d: dict[str, float] = {}
    for level, part in parts.items():
        backend = build_backend("knn" if level == "feature_map" else "pooled_mahalanobis")
        apart = []
        for section, other in (fans, fans[::-1]):
            held = []
            for number in range(5):
                out = fold == number
                backend.fit(train[~out][:, part], sections[~out])
                clips_of_other = train[out & (sections == other)][:, part]
                held.append(backend.score(clips_of_other, np.full(len(clips_of_other), section)))
            own = np.log(held_out_scores(backend, train[:, part], sections)[sections == section])
            apart.append((np.log(np.concatenate(held)).mean() - own.mean()) / own.std())
        d[level] = max(float(np.mean(apart)), 0.0)
    assert d["feature_map"] > 2 * d["encoder"]
    fitted = build_backend("level_sum", **TWO_LEVELS).fit(train, sections)
    scores = fitted.score(test, np.full(5, "fan/00"))
    raw = sum(
        d[k] ** 2 * standardised(k, train[:, p], sections, test[:, p], "fan/00")
        for k, p in parts.items()
    )
    # Equal up to one factor and one constant, which make held-out clips mean 0 and deviation 1.
    slope, constant = np.polyfit(np.asarray(raw), scores, 1)
    np.testing.assert_allclose(scores, slope * np.asarray(raw) + constant, rtol=1e-9)
    assert slope > 0
    # A machine with a single section has nothing to compare with.
    equal = fitted.models_["pump/00"]["weights"]
    assert equal[0] == equal[1] > 0


def test_models_from_before_the_weights_count_all_levels_alike() -> None:
    train, test, sections = clips(20), clips(5, seed=1), names(20, "fan/00")
    fitted = build_backend("level_sum", **TWO_LEVELS, trained=TWO_LEVELS["levels"])
    fitted.fit(train, sections)
    before = fitted.score(test, names(5, "fan/00"))
    del fitted.models_["fan/00"]["weights"]
    np.testing.assert_allclose(fitted.score(test, names(5, "fan/00")), before, rtol=1e-12)


def test_held_out_scores_see_only_the_other_folds() -> None:
    apart = np.arange(40.0)[:, None] ** 2 + np.zeros((1, 2))
    backend = build_backend("knn", metric="euclidean").fit(apart, names(40, "z"))
    scores = held_out_scores(backend, apart, names(40, "a"), folds=40)
    expected = [min(abs(i**2 - j**2) for j in range(40) if j != i) * np.sqrt(2) for i in range(40)]
    np.testing.assert_allclose(scores, expected)
    assert list(backend.models_) == ["z"], "the back-end itself is left alone"


def test_folds_divide_each_section_and_domain_evenly_whatever_others_there_are() -> None:
    sections, domains = names(60, "a", "b"), np.repeat(np.array(["source", "target"], object), 30)
    fold = divide(sections, domains, folds=3, seed=2)
    for section in "ab":
        for domain in ("source", "target"):
            own = fold[(sections == section) & (domains == domain)]
            assert np.bincount(own).tolist() == [5, 5, 5]
    alone = sections == "a"
    np.testing.assert_array_equal(
        divide(sections[alone], domains[alone], folds=3, seed=2), fold[alone]
    )
    assert not np.array_equal(divide(sections, domains, folds=3, seed=3), fold)
    fixed = divide(names(6, "fan/00"), names(6, "source"), folds=3)
    assert fixed.tolist() == [1, 2, 2, 0, 0, 1], "kept results depend on it"


@pytest.mark.parametrize(("name", "params"), CASES)
def test_what_holds_for_every_back_end(name: str, params: dict[str, Any], tmp_path: Path) -> None:
    train, sections = clips(60, shift=5.0), names(60, "fan/00", "ToyCar/02")
    domains = names(60, "source", "source", "source", "target", "target")
    backend = build_backend(name, **params).fit(train, sections, domains)
    # Far away is more anomalous.
    normal, far = clips(40, seed=1, shift=5.0), clips(40, seed=2, shift=-20.0)
    tested = names(40, "ToyCar/02", "fan/00", "fan/00")
    scores = backend.score(normal, tested)
    assert scores.dtype == np.float64
    assert np.median(backend.score(far, tested)) > np.max(scores)
    # Machine types are apart, and the order of clips does not matter.
    for one in ("fan/00", "ToyCar/02"):
        rows, own = tested == one, sections == one
        alone = build_backend(name, **params).fit(train[own], sections[own], domains[own])
        np.testing.assert_allclose(alone.score(normal[rows], tested[rows]), scores[rows])
    np.testing.assert_allclose(backend.score(normal[::-1], tested[::-1]), scores[::-1])
    # The state goes through safetensors.
    save_file(backend.state(), tmp_path / "state.safetensors")
    back = backend_from_state(load_file(tmp_path / "state.safetensors"))
    assert back == backend
    np.testing.assert_array_equal(back.score(normal, tested), scores)
    with pytest.raises(RunError, match=r"'fan/07' was not in training \(known: ToyCar/02, fan/00"):
        backend.score(clips(1), names(1, "fan/07"))


@pytest.mark.parametrize(("name", "params"), CASES)
def test_equal_clips_and_many_dimensions_are_survived(name: str, params: dict[str, Any]) -> None:
    same = np.ones((8, D))
    equal, other = score(name, same, np.stack((same[0], -same[0])), **params)
    assert np.isfinite([equal, other]).all()
    assert other > equal
    if name != "level_sum" or not params:
        train, test = clips(10, size=50), clips(3, seed=1, size=50)
        scores = score(name, train, test, names(10, "source", "target"), **params)
        assert np.isfinite(scores).all()


def test_back_ends_of_version_0_2_score_as_before() -> None:
    """A covariance for each domain, and a seed, were parameters."""
    means = np.stack([few_targets()[d == FEW].mean(axis=0) for d in ("source", "target")])
    config = {"name": "selective_mahalanobis", "params": {"covariance": "own"}, "sections": ["a/b"]}
    state = {"config": np.frombuffer(json.dumps(config).encode(), np.uint8)}
    state |= {"0.mean": means, "0.whitening": np.stack([np.eye(D), np.eye(D) / 3])}
    test = clips(7, seed=2)
    near, far = (np.linalg.norm(test - mean, axis=1) for mean in means)
    expected = np.minimum(near, far / 3)
    found = backend_from_state(state).score(test, names(7, "a/b"))
    np.testing.assert_allclose(found, expected)


def test_level_sum_of_copies_has_an_ordinary_scale() -> None:
    copies = np.repeat(clips(1), 12, axis=0) * (1 + 1e-15 * np.arange(12))[:, None]
    assert abs(score("level_sum", copies, clips(3, seed=1), levels=("encoder",))).max() < 1e3
    assert abs(score("level_sum", copies, clips(3, seed=1), levels=("feature_map",))).max() < 1e3


TOO_FEW = [
    ("mahalanobis", {}, 2),
    ("selective_mahalanobis", {}, 2),
    ("knn", {"k": 5}, 4),
    ("local_density_knn", {"density_k": 4}, 4),
    ("level_sum", {}, 3),
]


def test_too_few_clips_are_refused() -> None:
    for name, params, n in TOO_FEW:
        message = f"section 'fan/00' has too few training clips: {n}; .* at least {n + 1}"
        with pytest.raises(RunError, match=message):
            score(name, clips(n), clips(1), **params)
        score(name, clips(n + 1), clips(1), **params)


KNN = build_backend("knn")
NOT_FINITE = clips(10)
NOT_FINITE[3, 1] = np.nan


MISFITS = [
    (lambda: KNN.fit(NOT_FINITE, names(10, "a")), r"clip 3 \(section 'a'\) is not finite"),
    (lambda: KNN.fit(clips(10), names(9, "a")), "9 sections .* do not fit"),
    (lambda: KNN.fit(clips(10), names(10, "a"), names(9, "source")), "9 domains do not fit"),
    (lambda: KNN.fit(clips(10)[0], names(D, "a")), "do not fit"),
    (lambda: build_backend("knn").score(clips(1), names(1, "a")), "fit first"),
    (lambda: held_out_scores(KNN, clips(4), names(4, "a"), folds=1), "folds is 1"),
    (
        lambda: score("level_sum", clips(10, size=5), clips(1), **TWO_LEVELS),
        "size 5 do not hold the levels .* of sizes 2, 4",
    ),
]


def test_what_does_not_fit_is_refused() -> None:
    for wrong, message in MISFITS:
        with pytest.raises(AsdError, match=message):
            wrong()


UNKNOWN = [
    ("lof", {}, r"'lof' is not known \(known: balanced_knn, class_mean, knn"),
    ("knn", {"n": 3}, "n of back-end 'knn' is 3: [Uu]nexpected keyword argument"),
    ("knn", {"k": 0}, "k of back-end 'knn' is 0: .* greater"),
    ("knn", {"k": 1.5}, "is 1.5: .* valid integer"),
    ("knn", {"k": True}, "is True: .* valid integer"),
    ("knn", {"metric": "manhattan"}, "'manhattan': .*'cosine' or 'euclidean'"),
    ("level_sum", {"levels": ()}, "at least 1 item"),
    *(("pooled_mahalanobis", {"share": a}, "share of back-end 'pooled") for a in NO_SHARES),
]


def test_unknown_names_and_values_are_refused() -> None:
    for name, params, message in UNKNOWN:
        with pytest.raises(ConfigError, match=message):
            build_backend(name, **params)
