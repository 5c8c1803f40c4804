"""Uncertainty of a figure: intervals and paired tests over clips and seeds, Student t over seeds.

A test set is a sample of clips, and a network one of many trainings. The variance of a figure is
the sum of two: the *jackknife* over clips, from leaving out each clip of a machine, section, domain
and label in turn, and the variance of the mean over the runs of a group, which differ in their
seed. So an interval is about other clips of the same machines and other trainings, not about other
machines. For AUC the first one is the variance of DeLong et al. Nothing is drawn at random.

An interval of a figure is symmetric on the logit scale, one of a difference on its own; both use
the t distribution with the degrees of freedom of Satterthwaite, for clips from the spread of
their influence: few normal clips decide a pAUC. ``results/coverage`` holds a simulation of how
often this and other methods cover the truth. A figure that is not defined is NaN, with NaN bounds;
averages skip it. Where no clip and no seed makes a difference, as in a perfect ranking, the bounds
are NaN too: such data do not tell how far the next clip may be off.

Shape legend: N clips, S runs of a group, F figures.

References
----------
E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44(3), 1988.
B. Efron, C. Stein, Annals of Statistics 9(3), 1981: the jackknife estimate of variance.
F. E. Satterthwaite, Biometrics Bulletin 2(6), 1946.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from asdlib.errors import ScoreError
from asdlib.evaluation import metrics
from asdlib.evaluation.metrics import MAX_FPR, Floats, added_area
from asdlib.evaluation.scores import align_clips

_ROUNDING = 1e-12
"""Differences below it are rounding."""


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float


def t_interval(values: ArrayLike) -> Interval:
    """Return the mean over seeds (S,) with its 95 % Student-t interval, NaN for one seed."""
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0 or not np.isfinite(array).all():
        raise ScoreError(f"values over seeds are {array.tolist()}; expected finite numbers")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, float("nan"), float("nan"))
    from scipy import stats

    reach = stats.t.ppf(0.975, array.size - 1) * stats.sem(array)
    return Interval(mean, mean - float(reach), mean + float(reach))


def interval_frame(group: Sequence[pd.DataFrame], year: int) -> pd.DataFrame:
    """Compute 95 % intervals of every figure of a system: sections, means and omega.

    From 2021 on there are harmonic means, too, in the rows ``Harmonic mean``.

    The group holds labelled score tables of the system with different seeds, of the same clips in
    any order; with one table, the intervals are about clips alone. Returns ``machine``,
    ``section``, ``metric``, ``estimate`` (mean over the group), ``low``, ``high``.

    Raises
    ------
    ScoreError
        If the tables hold different clips, differ in a label or domain, or there is none.
    """
    from scipy import special, stats

    keys, values, strata = _figures(year, group, kinds=list(metrics.MEANS)[: 1 + (year > 2020)])
    estimate = values[:, :, 0].mean(axis=0)
    error, freedom = standard_error(values.mean(axis=0), [values[:, :, 0]], strata)
    # The derivative of the logit brings the standard error to its scale.
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = stats.t.ppf(0.975, freedom) * error / (estimate * (1.0 - estimate))
        low, high = (special.expit(special.logit(estimate) + side * reach) for side in (-1, 1))
    return keys.assign(estimate=estimate, low=low, high=high)


def official_score(frame: pd.DataFrame, year: int) -> dict[str, Interval]:
    """Pick the official score out of an interval frame: Ω since 2021, before it AUC and pAUC."""
    overall = frame[(frame["machine"] == "Average") & (frame["section"] == "Average")]
    rows = overall.set_index("metric")[list(Interval._fields)]
    names = ("auc", "pauc") if year == 2020 else ("omega",)
    return {name: Interval(*rows.loc[name]) for name in names}


def paired_frame(
    group_a: Sequence[pd.DataFrame], group_b: Sequence[pd.DataFrame], year: int
) -> pd.DataFrame:
    """Compare two systems on the same clips: every section, the averages and omega.

    Groups are as in :func:`interval_frame`, and paired run by run if they have one size. Returns
    ``machine``, ``section``, ``metric``; ``difference`` A − B of the means over the groups; ``low``
    and ``high`` of its 95 % interval; ``p_value``, two-sided.
    """
    from scipy import stats

    keys, values, strata = _figures(year, group_a, group_b)
    a, b = values[: len(group_a)], values[len(group_a) :]
    runs = [a - b] if len(a) == len(b) else [a, b]
    influence = a.mean(axis=0) - b.mean(axis=0)
    error, freedom = standard_error(influence, [part[:, :, 0] for part in runs], strata)
    difference = influence[:, 0]
    reach = stats.t.ppf(0.975, freedom) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        p_value = 2.0 * stats.t.sf(np.abs(difference) / error, freedom)
    same = np.isnan(error) & (np.abs(difference) < _ROUNDING)
    return keys.assign(
        difference=difference,
        low=np.where(same, difference, difference - reach),
        high=np.where(same, difference, difference + reach),
        p_value=np.where(same, 1.0, p_value),
    )


def standard_error(
    influence: Floats, runs: Sequence[Floats], strata: Sequence[NDArray[np.intp]]
) -> tuple[Floats, Floats]:
    """Return standard errors (F,) and degrees of freedom; NaN where nothing varies.

    ``influence`` (F, 1 + N) are figures with and without each clip; ``runs`` (S, F) are figures by
    seed, of parts that vary on their own.
    """
    total, spread = np.zeros(len(influence)), np.zeros(len(influence))
    for rows in (rows for rows in strata if rows.size > 1):
        n, without = rows.size, influence[:, 1 + rows]
        squares = (without - without.mean(axis=1, keepdims=True)) ** 2
        variance = (n - 1) * squares.mean(axis=1)
        total += variance
        # Variance of this variance, at least that of n normal numbers.
        own = (n - 1) ** 2 / n * squares.var(axis=1, ddof=1)
        spread += np.maximum(own / 2, variance**2 / (n - 1))
    for part in (part for part in runs if len(part) > 1):
        variance = part.var(axis=0, ddof=1) / len(part)
        total += variance
        spread += variance**2 / (len(part) - 1)
    total = np.where(total < _ROUNDING**2, np.nan, total)
    return np.sqrt(total), total**2 / spread


def _figures(
    year: int, *groups: Sequence[pd.DataFrame], kinds: Sequence[metrics.Mean] = ("arithmetic",)
) -> tuple[pd.DataFrame, Floats, list[NDArray[np.intp]]]:
    """Return keys, figures (S, F, 1 + N) of all tables, of the same clips, and rows by stratum.

    A figure is followed by what it is without each of the N clips.
    """
    if not all(groups):
        raise ScoreError("a group of runs is empty; give at least one score table for each system")
    metrics.check_year(year)
    tables = [_align(groups[0][0], df) for group in groups for df in group]
    n = len(tables[0])

    def figure(clips: pd.DataFrame, max_fpr: float) -> Floats:
        y, score = metrics.labels_of(clips), clips["anomaly_score"].to_numpy(dtype=np.float64)
        own = without_each(y, score, max_fpr)
        every = np.full(1 + n, own[0])
        every[1 + clips.index.to_numpy()] = own[1:]
        return every

    values = []
    for table in tables:
        sections, _ = metrics.section_metrics(table, year, figure)
        frame = metrics.with_means(sections, year, kinds).set_index(["machine", "section"])
        figures: dict[Any, Any] = dict(frame.stack(future_stack=True).items())
        if year != 2020:
            figures["Average", "Average", "omega"] = metrics.omega(sections, year)
        values.append([np.broadcast_to(value, 1 + n) for value in figures.values()])
    keys = pd.DataFrame(list(figures), columns=["machine", "section", "metric"])
    strata = tables[0].groupby(["machine", "section", "domain", "label"], sort=False).indices
    return keys, np.array(values), [np.asarray(rows, dtype=np.intp) for rows in strata.values()]


def without_each(y: NDArray[np.int64], score: Floats, max_fpr: float = MAX_FPR) -> Floats:
    """Compute pAUC, or AUC if ``max_fpr`` is 1, of all clips and without each: (1 + N,).

    See :func:`~asdlib.evaluation.metrics.added_area`. The last clip of a class cannot be left out;
    its value is that of all clips.
    """
    anomaly, normal = score[y == 1], np.sort(score[y == 0])
    m, n = anomaly.size, normal.size
    first, last = (np.searchsorted(normal, anomaly, side) for side in ("left", "right"))
    above, beside = n - last, last - first

    own = added_area(above, beside, n, max_fpr)
    out = np.full(1 + y.size, own.mean())
    if m > 1:
        out[1:][y == 1] = (own.sum() - own) / (m - 1)
    if n > 1:
        # Sums over anomalies in the order of their score: those below, beside and above a clip.
        order = np.argsort(anomaly)
        terms = (above - 1, beside), (above, beside - 1), (above, beside)
        below, equal, over = (
            np.r_[0.0, np.cumsum(added_area(*counts, n - 1, max_fpr)[order])] for counts in terms
        )
        left, right = (
            np.searchsorted(anomaly[order], score[y == 0], side) for side in ("left", "right")
        )
        sums = below[left] + equal[right] - equal[left] + over[-1] - over[right]
        out[1:][y == 0] = sums / m
    return out


def _align(first: pd.DataFrame, df: pd.DataFrame) -> pd.DataFrame:
    """Bring a labelled score table into the order of clips that it shares with the first."""
    for table in (first, df):
        metrics.validate_frame(table)
    names = ("score by the first system", "score by the second system")
    a, b = align_clips(first, df, names, "compare on the same clips")
    for column in ("label", "domain"):
        if not a[column].equals(b[column]):
            row = int(np.argmax(a[column] != b[column]))
            raise ScoreError(
                f"clip '{a['clip'][row]}' of '{a['machine'][row]}' has {column} "
                f"{a[column][row]!r} in one table and {b[column][row]!r} in the other"
            )
    return b
