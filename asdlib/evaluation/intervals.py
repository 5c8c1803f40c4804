"""How certain a figure is: bootstrap intervals over clips, paired tests, intervals over seeds.

Conventions
-----------
- The bootstrap draws clips with replacement within machine, section, domain and label, so every
  resample has the composition of the test set. Intervals are percentile intervals. They speak
  about other test clips of the same machines, not about other machines or other training runs.
- Intervals over seeds speak about other training runs on the same test clips.
- Paired tests compare two systems on the same clips. p-values are two-sided.
- Randomness comes from the generator that is passed.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from asdlib.errors import ScoreError
from asdlib.evaluation import metrics
from asdlib.evaluation.resampling import RankedScores, bootstrap_counts

Floats = NDArray[np.float64]
Metric = Literal["auc", "pauc"]


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float


class PairedTest(NamedTuple):
    """Difference A − B of two systems on the same clips, its interval and two-sided p-value."""

    difference: float
    low: float
    high: float
    p_value: float


def check_settings(n_resamples: int, confidence: float) -> None:
    """Refuse a number of resamples below 1 or a confidence outside (0, 1)."""
    if n_resamples < 1:
        raise ScoreError(f"n_resamples is {n_resamples}; expected 1 or more")
    if not 0 < confidence < 1:
        raise ScoreError(f"confidence is {confidence}; expected 0 < confidence < 1")


def percentile_bounds(draws: Floats, confidence: float) -> tuple[float, float]:
    """Percentile bounds of resampled values; NaN if there are none."""
    draws = draws[~np.isnan(draws)]
    if draws.size == 0:
        return float("nan"), float("nan")
    low, high = np.quantile(draws, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def bootstrap_interval(
    y_true: ArrayLike,
    score: ArrayLike,
    *,
    metric: Metric = "auc",
    n_resamples: int = 2000,
    confidence: float = 0.95,
    rng: np.random.Generator,
) -> Interval:
    """Percentile bootstrap interval of AUC or pAUC of one set of clips.

    Parameters
    ----------
    y_true : (N,) 0 = normal, 1 = anomaly
    score : (N,) anomaly scores
    """
    check_settings(n_resamples, confidence)
    y, s = metrics.validate(y_true, score)
    ranked = RankedScores(y, s)
    compute = ranked.auc if metric == "auc" else ranked.pauc
    draws = np.concatenate([compute(c) for c in bootstrap_counts(y, n_resamples, rng)])
    return Interval(float(compute(np.ones(y.size))[0]), *percentile_bounds(draws, confidence))


def paired_test(difference: Floats, confidence: float) -> PairedTest:
    """Make a test of (1 + R,) differences: the estimate, then R resamples.

    The p-value is twice the smaller tail beyond 0, with one added to each count, so it is never 0.
    """
    observed, draws = float(difference[0]), difference[1:]
    if np.isnan(observed):
        return PairedTest(observed, observed, observed, observed)
    tails = [1 + int(np.sum(draws <= 0)), 1 + int(np.sum(draws >= 0))]
    p_value = min(1.0, 2.0 * min(tails) / (draws.size + 1))
    return PairedTest(observed, *percentile_bounds(draws, confidence), p_value)


def paired_bootstrap(
    y_true: ArrayLike,
    score_a: ArrayLike,
    score_b: ArrayLike,
    *,
    metric: Metric = "pauc",
    n_resamples: int = 2000,
    confidence: float = 0.95,
    rng: np.random.Generator,
) -> PairedTest:
    """Compare two systems on the same clips of one set by the paired bootstrap.

    Parameters
    ----------
    y_true : (N,) 0 = normal, 1 = anomaly
    score_a, score_b : (N,) anomaly scores of both systems, in the same order of clips
    """
    check_settings(n_resamples, confidence)
    ranked = [RankedScores(y_true, s) for s in (score_a, score_b)]
    a, b = (r.auc if metric == "auc" else r.pauc for r in ranked)
    y = np.asarray(y_true)
    blocks = [np.ones((1, y.size)), *bootstrap_counts(y, n_resamples, rng)]
    return paired_test(np.concatenate([a(c) - b(c) for c in blocks]), confidence)


def t_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Mean over seeds with its Student-t interval.

    Parameters
    ----------
    values : (S,) one figure a seed; with one seed the interval is NaN

    Raises
    ------
    ScoreError
        No values, or one that is not finite.
    """
    check_settings(1, confidence)
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0 or not np.isfinite(array).all():
        raise ScoreError(f"values over seeds are {array.tolist()}; expected finite numbers")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, float("nan"), float("nan"))
    reach = stats.t.ppf((1 + confidence) / 2, array.size - 1) * stats.sem(array)
    return Interval(mean, mean - float(reach), mean + float(reach))
