"""The sum over levels: its scale, its parts, its state."""

import numpy as np
import pytest

from asdlib.errors import ConfigError, RunError
from asdlib.method.backends import LevelSum, backend_from_state, build_backend

RNG = np.random.default_rng(3)
X = RNG.normal(size=(40, 9)) * np.r_[np.ones(4), 5 * np.ones(5)] + 10.0
NAMES = np.repeat(["fan/00", "fan/02"], 20)


def both_levels() -> LevelSum:
    return LevelSum(levels=("encoder", "feature_map"), sizes=(4, 5)).fit(X, NAMES)


def test_one_level_ranks_like_its_back_end() -> None:
    test = RNG.normal(size=(30, 9)) + 2.0
    names = np.repeat(["fan/00"], 30)
    alone = build_backend("pooled_mahalanobis").fit(X, NAMES).score(test, names)
    summed = LevelSum(levels=("encoder",), sizes=(9,)).fit(X, NAMES).score(test, names)
    assert np.array_equal(np.argsort(alone), np.argsort(summed))


def test_normal_clips_score_about_zero_and_strange_ones_above() -> None:
    backend = both_levels()
    fresh = RNG.normal(size=(400, 9)) * np.r_[np.ones(4), 5 * np.ones(5)] + 10.0
    scores = backend.score(fresh, np.repeat(["fan/00"], 400))
    assert abs(np.median(scores)) < 1
    for part in (slice(0, 4), slice(4, 9)):
        strange = fresh.copy()
        strange[:, part] = strange[:, part] * -6
        assert np.median(backend.score(strange, np.repeat(["fan/00"], 400))) > 1


def test_the_sum_is_the_mean_of_standardised_logarithms() -> None:
    """Against the definition, written out for the nearest neighbour in plain NumPy."""
    x, test = X[:20, :4], RNG.normal(size=(5, 4)) + 2.0
    own = LevelSum(levels=("feature_map",), sizes=(4,))
    given = own.fit(x, NAMES[:20]).score(test, NAMES[:5])
    floor, mean, deviation = own.models_["fan/00"]["feature_map.scale"]
    unit, others = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (test, x))
    distance = (1 - unit @ others.T).min(axis=1)
    np.testing.assert_allclose(given, (np.log(distance) - mean) / deviation, rtol=1e-9)
    assert 0 < floor < distance.min()


def test_the_scale_comes_from_clips_that_the_back_end_has_not_seen() -> None:
    """The nearest neighbour of a training clip is itself: its own distance would be 0."""
    backend = LevelSum(levels=("feature_map",), sizes=(9,)).fit(X, NAMES)
    floor, mean, _ = backend.models_["fan/00"]["feature_map.scale"]
    assert np.exp(mean) > 100 * floor


def test_state_round_trip() -> None:
    backend = both_levels()
    state = {key: value.copy() for key, value in backend.state().items()}
    again = backend_from_state(state)
    assert again.params() == backend.params()
    assert np.array_equal(again.score(X, NAMES), backend.score(X, NAMES))


def test_a_copy_of_a_training_clip_has_a_finite_score() -> None:
    backend = LevelSum(levels=("feature_map",), sizes=(9,)).fit(X, NAMES)
    assert np.isfinite(backend.score(X, NAMES)).all()


def test_equal_clips_have_a_finite_score() -> None:
    same = np.ones((8, 3))
    backend = LevelSum(levels=("encoder",), sizes=(3,)).fit(same, ["a"] * 8)
    assert np.isfinite(backend.score(np.vstack([same, same + 1]), ["a"] * 16)).all()


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"levels": ("spectrum", "colour")}, "'colour': Input should be 'spectrum', "),
        ({"levels": ()}, "at least 1 item"),
    ],
)
def test_what_does_not_fit_is_refused(params: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_backend("level_sum", **params)


def test_embeddings_of_another_size_are_refused() -> None:
    with pytest.raises(
        RunError, match="size 8 do not hold the levels encoder, feature_map of sizes 4, 5"
    ):
        both_levels().score(X[:, :8], NAMES)
