import numpy as np
import pytest
from scipy import stats

from asdlib.baselines import gamma_threshold
from asdlib.errors import RunError


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_recovers_the_quantile_of_a_known_distribution(quantile: float) -> None:
    known = stats.gamma(3.0, loc=5.0, scale=2.0)
    scores = known.rvs(4000, random_state=np.random.default_rng(0))
    assert gamma_threshold(scores, quantile) == pytest.approx(known.ppf(quantile), rel=0.03)


def test_the_default_is_the_ninth_decile() -> None:
    scores = stats.gamma(2.0).rvs(500, random_state=np.random.default_rng(1))
    assert gamma_threshold(scores) == gamma_threshold(scores, 0.9)


@pytest.mark.parametrize(
    ("scores", "quantile", "message"),
    [
        ([1.0, 2.0, 3.0], 1.0, "quantile 1.0 is not allowed"),
        ([1.0, np.nan, 3.0, 4.0], 0.9, "1 of 4 scores are NaN"),
        ([2.0] * 10, 0.9, "1 different scores are too few"),
    ],
)
def test_unusable_input(scores: list[float], quantile: float, message: str) -> None:
    with pytest.raises(RunError, match=message):
        gamma_threshold(np.array(scores), quantile)
