"""Uncertainty of a figure: bootstrap intervals over clips, paired tests, intervals over seeds.

The bootstrap draws clips with replacement within machine, section, domain and label, so every
resample has the composition of the test set. Its percentile intervals are about other test clips of
the same machines, not about other machines or other training runs; intervals over seeds
(:func:`t_interval`) are about other training runs on the same test clips. Paired tests compare two
systems A and B on the same clips, joined by name, with two-sided p-values. A figure that is not
defined is NaN, with NaN bounds; averages skip it. Randomness comes from the generator passed in.

Shape legend: N clips, K distinct scores, R resamples, M sections. A resample is a vector of counts,
how often each clip was drawn, so scores are sorted once and not once per resample; the metrics
equal scikit-learn's on the resampled clips (tests: 1e-12).

References
----------
E. R. DeLong, D. M. DeLong, D. L. Clarke-Pearson, Biometrics 44(3), 1988, equations 1 to 5.
X. Sun, W. Xu, IEEE Signal Processing Letters 21(11), 2014: the same from mid-ranks.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats

from asdlib.errors import ScoreError
from asdlib.evaluation import metrics
from asdlib.evaluation.metrics import MAX_FPR, Floats
from asdlib.evaluation.scores import align_clips

Draws = dict[tuple[str, str, str], Floats]
"""(machine, section, metric) → (1 + R,): the estimate, then R resamples."""

_KEYS = ["machine", "section", "metric"]
_BOUNDS = [(1 - 0.95) / 2, (1 + 0.95) / 2]
_BLOCK = 4_000_000
"""Largest number of counts held at once (32 MB as float64)."""


class Interval(NamedTuple):
    """An estimate with its confidence interval."""

    estimate: float
    low: float
    high: float


class DeLongTest(NamedTuple):
    """AUCs of systems A and B, their difference A − B, its standard error, z and p-value."""

    auc_a: float
    auc_b: float
    difference: float
    standard_error: float
    z: float
    p_value: float


def t_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Return the mean over seeds (S,) with its Student-t interval, which is NaN for one seed."""
    if not 0 < confidence < 1:
        raise ScoreError(f"confidence is {confidence}; expected 0 < confidence < 1")
    array = np.asarray(values, dtype=np.float64).ravel()
    if array.size == 0 or not np.isfinite(array).all():
        raise ScoreError(f"values over seeds are {array.tolist()}; expected finite numbers")
    mean = float(array.mean())
    if array.size == 1:
        return Interval(mean, float("nan"), float("nan"))
    reach = stats.t.ppf((1 + confidence) / 2, array.size - 1) * stats.sem(array)
    return Interval(mean, mean - float(reach), mean + float(reach))


def bootstrap_frame(
    df: pd.DataFrame, year: int, *, n_resamples: int = 2000, rng: np.random.Generator
) -> pd.DataFrame:
    """Compute 95 % bootstrap intervals of every figure of a labelled score table, and of omega.

    Returns ``machine``, ``section``, ``metric``, ``estimate``, ``low``, ``high``.
    """
    metrics.validate_frame(df)
    draws = _draw([df.reset_index(drop=True)], year, n_resamples, rng)[0]
    values = np.stack(list(draws.values()))
    low, high = np.quantile(values[:, 1:], _BOUNDS, axis=1)
    return pd.DataFrame(list(draws), columns=_KEYS).assign(
        estimate=values[:, 0], low=low, high=high
    )


def paired_frame(
    group_a: Sequence[pd.DataFrame],
    group_b: Sequence[pd.DataFrame],
    year: int,
    *,
    n_resamples: int = 2000,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Compare two systems by the paired bootstrap: every section, the averages and omega.

    A group holds the labelled score tables of one system with different seeds, of the same clips in
    any order. In each resample every run of both groups sees the same clips, and a figure is the
    mean over the group. So the test is about other clips with these very trainings.

    Returns
    -------
    DataFrame
        ``machine``, ``section``, ``metric``; ``difference`` A − B; ``low`` and ``high`` of its 95 %
        interval; ``p_value``: twice the smaller tail beyond 0, with one added to each count.

    Raises
    ------
    ScoreError
        The tables do not hold the same clips, differ in a label or domain, or a group is empty.
    """
    if not group_a or not group_b:
        raise ScoreError("a group of runs is empty; give at least one score table for each system")
    tables = [_align(group_a[0], df)[1] for df in (*group_a, *group_b)]
    draws = _draw(tables, year, n_resamples, rng)
    values = np.stack([list(one.values()) for one in draws])
    difference = values[: len(group_a)].mean(axis=0) - values[len(group_a) :].mean(axis=0)
    observed, resampled = difference[:, 0], difference[:, 1:]
    low, high = np.quantile(resampled, _BOUNDS, axis=1)
    tail = 1 + np.minimum((resampled <= 0).sum(axis=1), (resampled >= 0).sum(axis=1))
    p_value = np.minimum(1.0, 2.0 * tail / (n_resamples + 1))
    return pd.DataFrame(list(draws[0]), columns=_KEYS).assign(
        difference=observed,
        low=low,
        high=high,
        p_value=np.where(np.isnan(observed), np.nan, p_value),
    )


def delong_test(y_true: ArrayLike, score_a: ArrayLike, score_b: ArrayLike) -> DeLongTest:
    """Test whether two systems have the same AUC, from labels and both scores of clips, all (N,).

    With no variance and no difference p is 1; with one clip in a class it is NaN.
    """
    of_anomaly, of_normal = [], []
    for scores in (score_a, score_b):
        y, s = metrics.validate(y_true, scores)
        anomaly, normal, rank = s[y == 1], s[y == 0], stats.rankdata(s)
        # For each anomaly, the share of normal clips below it, and the reverse.
        of_anomaly.append((rank[y == 1] - stats.rankdata(anomaly)) / normal.size)
        of_normal.append(1.0 - (rank[y == 0] - stats.rankdata(normal)) / anomaly.size)
    auc_a, auc_b = (float(share.mean()) for share in of_anomaly)
    m, n = len(of_anomaly[0]), len(of_normal[0])
    if min(m, n) < 2:
        return _test_auc(auc_a, auc_b, float("nan"))
    covariance = np.cov(of_anomaly) / m + np.cov(of_normal) / n
    variance = covariance[0, 0] + covariance[1, 1] - 2.0 * covariance[0, 1]
    return _test_auc(auc_a, auc_b, float(variance))


def delong_frame(df_a: pd.DataFrame, df_b: pd.DataFrame, year: int) -> pd.DataFrame:
    """Run DeLong tests of AUC over all clips: every section, and the mean over sections.

    Takes labelled score tables of the same clips and returns ``machine``, ``section`` and the
    fields of :class:`DeLongTest`; sections with one class only are left out. Sections hold
    different clips, so the variance of the mean over M sections is the sum of their variances
    divided by M².
    """
    metrics.check_year(year)
    a, b = _align(df_a, df_b)
    rows: list[tuple[object, ...]] = []
    for (machine, section), group in a.groupby(["machine", "section"], sort=True):
        y = metrics.labels_of(group)
        if np.unique(y).size == 2:
            rows.append((machine, section, *delong_test(y, *_scores([a, b], group))))
    columns = ["machine", "section", *DeLongTest._fields]
    table = pd.DataFrame(rows, columns=columns)
    if rows:
        variance = float((table["standard_error"] ** 2).sum()) / len(table) ** 2
        mean = _test_auc(float(table["auc_a"].mean()), float(table["auc_b"].mean()), variance)
        rows.append(("Average", "Average", *mean))
    return pd.DataFrame(rows, columns=columns)


def _align(df_a: pd.DataFrame, df_b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring two labelled score tables into one order of clips."""
    for df in (df_a, df_b):
        metrics.validate_frame(df)
    names = ("score by the first system", "score by the second system")
    a, b = align_clips(df_a, df_b, names, "compare on the same clips")
    for column in ("label", "domain"):
        if not a[column].equals(b[column]):
            row = int(np.argmax(a[column] != b[column]))
            raise ScoreError(
                f"clip '{a['clip'][row]}' of '{a['machine'][row]}' has {column} "
                f"{a[column][row]!r} in one table and {b[column][row]!r} in the other"
            )
    return a, b


def weighted_pauc(
    y_true: ArrayLike, score: ArrayLike, counts: Floats, max_fpr: float = MAX_FPR
) -> Floats:
    """Compute the pAUC (R,) of clips that occur ``counts`` (R, N) times; AUC if ``max_fpr`` is 1.

    Each class needs a clip in every resample.
    """
    y, s = metrics.validate(y_true, score)
    order = np.argsort(-s, kind="stable")
    ranked, anomalous = s[order], y[order] == 1
    # Clips of equal score enter the ROC curve as one step.
    first = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])

    def rates(weights: Floats) -> tuple[Floats, Floats]:
        """Return the rate (R, K) before each step of the ROC curve, and the step."""
        rate = np.cumsum(np.add.reduceat(weights, first, axis=1), axis=1)
        rate /= rate[:, -1:]
        before = np.concatenate([np.zeros_like(rate[:, :1]), rate[:, :-1]], axis=1)
        return before, rate - before

    below, height = rates(counts[:, order] * anomalous)
    left, width = rates(counts[:, order] * ~anomalous)
    # The step that crosses max_fpr counts up to there, its height interpolated.
    used = np.clip(max_fpr - left, 0.0, width)
    share = np.divide(used, width, out=np.zeros_like(width), where=width > 0)
    area: Floats = np.sum(used * (below + 0.5 * share * height), axis=1)
    if max_fpr == 1:
        return area
    least = 0.5 * max_fpr**2
    return 0.5 * (1.0 + (area - least) / (max_fpr - least))


def bootstrap_counts(
    strata: ArrayLike, n_resamples: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Yield stratified resamples of clips with strata (N,) as counts (block, N), R rows in all."""
    _, group = np.unique(np.asarray(strata), return_inverse=True)
    members = [np.flatnonzero(group == g) for g in range(int(group.max()) + 1)]
    block = max(1, _BLOCK // group.size)
    for start in range(0, n_resamples, block):
        size = min(block, n_resamples - start)
        counts = np.zeros((size, group.size))
        for rows in members:
            drawn = rng.integers(rows.size, size=(size, rows.size))
            flat = drawn + rows.size * np.arange(size)[:, None]
            tally = np.bincount(flat.ravel(), minlength=size * rows.size)
            counts[:, rows] = tally.reshape(size, rows.size)
        yield counts


def _test_auc(auc_a: float, auc_b: float, variance: float) -> DeLongTest:
    difference = auc_a - auc_b
    # Rounding leaves a variance of about 1e-20 where both systems rank all clips alike.
    error = 0.0 if abs(variance) < 1e-18 else math.sqrt(variance)
    if error == 0.0:
        z = 0.0 if abs(difference) < 1e-12 else math.copysign(math.inf, difference)
    else:
        z = difference / error
    return DeLongTest(auc_a, auc_b, difference, error, z, float(2.0 * stats.norm.sf(abs(z))))


def _scores(tables: Sequence[pd.DataFrame], group: pd.DataFrame) -> list[Floats]:
    return [t.loc[group.index, "anomaly_score"].to_numpy(dtype=np.float64) for t in tables]


def _draw(
    tables: Sequence[pd.DataFrame], year: int, n: int, rng: np.random.Generator
) -> list[Draws]:
    """Draw all figures of tables that share their clips, with the same resamples."""
    metrics.check_year(year)
    if n < 1:
        raise ScoreError(f"n_resamples is {n}; expected 1 or more")
    out: list[Draws] = [{} for _ in tables]
    for (machine, section), group in tables[0].groupby(["machine", "section"], sort=True):
        y = metrics.labels_of(group)
        domain = group["domain"].to_numpy(dtype=np.str_)
        masks = metrics.section_masks(y, domain, year)
        strata = np.char.add(domain, y.astype(np.str_))
        counts = [np.ones((1, y.size)), *bootstrap_counts(strata, n, rng)]
        for target, score in zip(out, _scores(tables, group), strict=True):
            values = {name: np.full(1 + n, np.nan) for name in masks}
            for name, mask in masks.items():
                if np.unique(y[mask]).size == 2:
                    rate = MAX_FPR if name.startswith("pauc") else 1.0
                    parts = [weighted_pauc(y[mask], score[mask], c[:, mask], rate) for c in counts]
                    values[name] = np.concatenate(parts)
            if year == 2021:
                for kind in ("auc", "pauc"):
                    values[kind] = (values[f"{kind}_source"] + values[f"{kind}_target"]) / 2
            for name in metrics.metric_columns(year):
                target[str(machine), str(section), name] = values[name]
    return [_with_averages(draws, year) for draws in out]


def _mean(values: Sequence[Floats], harmonic: bool = False) -> Floats:
    """Return the mean (1 + R,) over the rows that are defined."""
    rows = np.stack([v for v in values if not np.isnan(v[0])] or [np.full_like(values[0], np.nan)])
    if not harmonic:
        mean: Floats = rows.mean(axis=0)
        return mean
    inverse: Floats = 1.0 / np.mean(1.0 / np.maximum(rows, metrics.FLOOR), axis=0)
    return np.where(np.isnan(rows[0]), np.nan, inverse)


def _with_averages(draws: Draws, year: int) -> Draws:
    """Add the average rows and omega, as :mod:`asdlib.evaluation.metrics` defines them."""
    machines = dict.fromkeys(machine for machine, _, _ in draws)

    def values(columns: Sequence[str], *of: str) -> list[Floats]:
        return [v for key, v in draws.items() if key[0] in of and key[2] in columns]

    out: Draws = {}
    for machine in machines:
        out |= {key: value for key, value in draws.items() if key[0] == machine}
        for name in metrics.metric_columns(year):
            own = values(metrics.averaged_columns(name, year), machine)
            out[machine, "Average", name] = _mean(own)
    for name in metrics.metric_columns(year):
        every = values(metrics.averaged_columns(name, year), *machines)
        if year == 2020:
            every = [out[machine, "Average", name] for machine in machines]
        out["Average", "Average", name] = _mean(every)
    if year != 2020:
        terms = values(metrics.omega_columns(year), *machines)
        out["Average", "Average", "omega"] = _mean(terms, harmonic=True)
    return out
