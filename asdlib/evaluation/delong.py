"""DeLong test for two correlated AUCs, on one set of clips or over all sections.

References
----------
E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44(3), 1988, equations 1 to 5.
X. Sun, W. Xu, IEEE Signal Processing Letters 21(11), 2014: the same from mid-ranks, in
O(N log N) for N clips.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from asdlib.evaluation.frame_intervals import align
from asdlib.evaluation.metrics import check_year, validate

Floats = NDArray[np.float64]


class DeLongTest(NamedTuple):
    """AUCs of systems A and B, their difference A − B, its standard error, z and p-value."""

    auc_a: float
    auc_b: float
    difference: float
    standard_error: float
    z: float
    p_value: float


def _placements(y: NDArray[np.int64], score: Floats) -> tuple[Floats, Floats]:
    """Return, for each anomaly, the share of normal clips below it, and the reverse."""
    anomaly, normal = score[y == 1], score[y == 0]
    rank = stats.rankdata(score)
    of_anomaly = (rank[y == 1] - stats.rankdata(anomaly)) / normal.size
    of_normal = 1.0 - (rank[y == 0] - stats.rankdata(normal)) / anomaly.size
    return of_anomaly, of_normal


def delong_covariance(y_true: ArrayLike, *scores: ArrayLike) -> tuple[Floats, Floats]:
    """AUCs of several systems on the same clips and their covariance.

    Parameters
    ----------
    y_true : (N,) 0 = normal, 1 = anomaly
    scores : one (N,) array for each of M systems

    Returns
    -------
    aucs : (M,)
    covariance : (M, M)
        NaN if a class has only one clip.
    """
    checked = [validate(y_true, score) for score in scores]
    y = checked[0][0]
    placed = [_placements(y, s) for _, s in checked]
    of_anomaly = np.stack([p[0] for p in placed])
    of_normal = np.stack([p[1] for p in placed])
    aucs: Floats = of_anomaly.mean(axis=1)
    m, n = of_anomaly.shape[1], of_normal.shape[1]
    if min(m, n) < 2:
        return aucs, np.full((len(scores), len(scores)), np.nan)
    covariance = np.atleast_2d(np.cov(of_anomaly)) / m + np.atleast_2d(np.cov(of_normal)) / n
    return aucs, covariance


def _test(auc_a: float, auc_b: float, variance: float) -> DeLongTest:
    difference = auc_a - auc_b
    # Rounding leaves a variance of about 1e-20 where both systems rank all clips alike.
    error = 0.0 if abs(variance) < 1e-18 else math.sqrt(variance)
    if error == 0.0:
        z = 0.0 if abs(difference) < 1e-12 else math.copysign(math.inf, difference)
    else:
        z = difference / error
    return DeLongTest(auc_a, auc_b, difference, error, z, float(2.0 * stats.norm.sf(abs(z))))


def delong_test(y_true: ArrayLike, score_a: ArrayLike, score_b: ArrayLike) -> DeLongTest:
    """Test whether two systems have the same AUC on the same clips.

    Parameters
    ----------
    y_true : (N,) 0 = normal, 1 = anomaly
    score_a, score_b : (N,) anomaly scores of both systems, in the same order of clips

    Returns
    -------
    DeLongTest
        Two-sided. With no variance and no difference p is 1; with one clip in a class it is NaN.

    Raises
    ------
    ScoreError
        See :func:`asdlib.evaluation.metrics.validate`.
    """
    aucs, covariance = delong_covariance(y_true, score_a, score_b)
    variance = covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1]
    return _test(float(aucs[0]), float(aucs[1]), float(variance))


def delong_frame(df_a: pd.DataFrame, df_b: pd.DataFrame, year: int) -> pd.DataFrame:
    """Run DeLong tests of AUC over all clips: every section, and the mean over sections.

    Sections hold different clips, so the variance of the mean over M sections is the sum of their
    variances divided by M².

    Parameters
    ----------
    df_a, df_b : labelled score tables of the same clips, in any order

    Returns
    -------
    DataFrame
        ``machine``, ``section`` and the fields of :class:`DeLongTest`; the last row is the mean.
        Sections with one class only are left out.
    """
    check_year(year)
    a, b = align(df_a, df_b)
    rows: list[tuple[object, ...]] = []
    for (machine, section), group in a.groupby(["machine", "section"], sort=True):
        y = (group["label"] == "anomaly").to_numpy(dtype=np.int64)
        if np.unique(y).size < 2:
            continue
        scores = (t.loc[group.index, "anomaly_score"].to_numpy(dtype=np.float64) for t in (a, b))
        rows.append((machine, section, *delong_test(y, *scores)))
    columns = ["machine", "section", *DeLongTest._fields]
    table = pd.DataFrame(rows, columns=columns)
    if rows:
        variance = float((table["standard_error"] ** 2).sum()) / len(table) ** 2
        mean = _test(float(table["auc_a"].mean()), float(table["auc_b"].mean()), variance)
        rows.append(("Average", "Average", *mean))
    return pd.DataFrame(rows, columns=columns)
