"""Bootstrap intervals and paired tests of whole tables: sections, averages and omega.

Conventions: as in :mod:`asdlib.evaluation.intervals`. A figure that is not defined is NaN, with NaN
bounds; averages skip it. Clips of two systems are joined by name.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from asdlib.data.naming import clip_key
from asdlib.errors import ScoreError
from asdlib.evaluation import metrics
from asdlib.evaluation.intervals import (
    Floats,
    Interval,
    PairedTest,
    check_settings,
    paired_test,
    percentile_bounds,
)
from asdlib.evaluation.resampling import RankedScores, bootstrap_counts

Draws = dict[tuple[str, str, str], Floats]
"""(machine, section, metric) → (1 + R,): the estimate, then R resamples."""


def bootstrap_frame(
    df: pd.DataFrame,
    year: int,
    *,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Bootstrap intervals of every figure of a metrics frame, averages and omega included.

    Parameters
    ----------
    df : labelled score table

    Returns
    -------
    DataFrame
        ``machine``, ``section``, ``metric``, ``estimate``, ``low``, ``high``.
    """
    check_settings(n_resamples, confidence)
    metrics.validate_frame(df)
    table = df.reset_index(drop=True)
    draws = _with_averages(_draws(table, [], metrics.check_year(year), n_resamples, rng)[0], year)
    rows = [(*key, float(v[0]), *percentile_bounds(v[1:], confidence)) for key, v in draws.items()]
    return pd.DataFrame(rows, columns=["machine", "section", "metric", *Interval._fields])


def paired_frame(
    df_a: pd.DataFrame,
    df_b: pd.DataFrame,
    year: int,
    *,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Compare two systems by the paired bootstrap: every section, the averages and omega.

    Parameters
    ----------
    df_a, df_b : labelled score tables of the same clips, in any order

    Returns
    -------
    DataFrame
        ``machine``, ``section``, ``metric`` and the fields of :class:`PairedTest`.

    Raises
    ------
    ScoreError
        The tables do not hold the same clips, or differ in a label or domain.
    """
    return paired_groups(
        [df_a], [df_b], year, n_resamples=n_resamples, confidence=confidence, rng=rng
    )


def paired_groups(
    group_a: Sequence[pd.DataFrame],
    group_b: Sequence[pd.DataFrame],
    year: int,
    *,
    n_resamples: int = 2000,
    confidence: float = 0.95,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Compare the mean figures of two groups of runs by the paired bootstrap over clips.

    A group holds the runs of one system with different seeds; it may be a single run. In each
    resample every run of both groups sees the same clips, and a figure is the mean over the group.
    So the test speaks about other clips with these very trainings.

    Parameters
    ----------
    group_a, group_b : labelled score tables of the same clips, in any order

    Returns
    -------
    DataFrame
        ``machine``, ``section``, ``metric`` and the fields of :class:`PairedTest`.

    Raises
    ------
    ScoreError
        The tables do not hold the same clips, differ in a label or domain, or a group is empty.
    """
    check_settings(n_resamples, confidence)
    if not group_a or not group_b:
        raise ScoreError("a group of runs is empty; give at least one score table for each system")
    first = align(group_a[0], group_a[0])[0]
    others = [align(first, df)[1] for df in (*group_a[1:], *group_b)]
    draws = [
        _with_averages(one, year)
        for one in _draws(first, others, metrics.check_year(year), n_resamples, rng)
    ]
    n = len(group_a)
    rows = []
    for key in draws[0]:
        mean_a, mean_b = (
            np.mean([d[key] for d in part], axis=0) for part in (draws[:n], draws[n:])
        )
        rows.append((*key, *paired_test(mean_a - mean_b, confidence)))
    return pd.DataFrame(rows, columns=["machine", "section", "metric", *PairedTest._fields])


def align(df_a: pd.DataFrame, df_b: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring two labelled score tables into one order of clips, by machine, section and name.

    Raises
    ------
    ScoreError
        A clip stands in one table only, or has another label or domain in the other.
    """
    keys = ["machine", "section", "key"]
    tables = []
    for df in (df_a, df_b):
        metrics.validate_frame(df)
        table = df.assign(key=df["clip"].map(clip_key))
        tables.append(table.sort_values(keys, ignore_index=True))
    a, b = tables
    only = a[keys].merge(b[keys], how="outer", indicator=True).query("_merge != 'both'")
    if not only.empty:
        first = only.iloc[0]
        which = "first" if first["_merge"] == "left_only" else "second"
        raise ScoreError(
            f"clip '{first['key']}' of {first['machine']}/{first['section']} is only in the "
            f"{which} system's scores ({len(only)} such clips); compare on the same clips"
        )
    for column in ("label", "domain"):
        differ = np.flatnonzero((a[column] != b[column]).to_numpy())
        if differ.size:
            row = int(differ[0])
            raise ScoreError(
                f"clip '{a['key'][row]}' of '{a['machine'][row]}' has {column} "
                f"{a[column][row]!r} in one table and {b[column][row]!r} in the other"
            )
    return a.drop(columns="key"), b.drop(columns="key")


def _draws(
    df: pd.DataFrame, others: Sequence[pd.DataFrame], year: int, n: int, rng: np.random.Generator
) -> list[Draws]:
    """Draw every section metric of tables that share their clips, with the same resamples."""
    tables = [df, *others]
    out: list[Draws] = [{} for _ in tables]
    for (machine, section), group in df.groupby(["machine", "section"], sort=True):
        y = (group["label"] == "anomaly").to_numpy(dtype=np.int64)
        domain = group["domain"].to_numpy(dtype=np.str_)
        scores = [t.loc[group.index, "anomaly_score"].to_numpy(dtype=np.float64) for t in tables]
        masks = metrics.section_masks(y, domain, year)
        defined = {name: m for name, m in masks.items() if np.unique(y[m]).size == 2}
        ranked = [{name: RankedScores(y[m], s[m]) for name, m in defined.items()} for s in scores]
        strata = np.char.add(domain, y.astype(np.str_))
        blocks: list[dict[str, list[Floats]]] = [{name: [] for name in masks} for _ in tables]
        for counts in (np.ones((1, y.size)), *bootstrap_counts(strata, n, rng)):
            for block, ranks in zip(blocks, ranked, strict=True):
                for name, mask in masks.items():
                    if name not in ranks:
                        block[name].append(np.full(len(counts), np.nan))
                        continue
                    one = ranks[name]
                    compute = one.pauc if name.startswith("pauc") else one.auc
                    block[name].append(compute(counts[:, mask]))
        for target, block in zip(out, blocks, strict=True):
            values = {name: np.concatenate(parts) for name, parts in block.items()}
            if year == 2021:
                for kind in ("auc", "pauc"):
                    values[kind] = (values[f"{kind}_source"] + values[f"{kind}_target"]) / 2
            for name in metrics.metric_columns(year):
                target[str(machine), str(section), name] = values[name]
    return out


def _stacked(values: Sequence[Floats], harmonic: bool = False) -> Floats:
    """Mean (1 + R,) over the rows that are defined."""
    rows = np.stack([v for v in values if not np.isnan(v[0])] or [np.full_like(values[0], np.nan)])
    if not harmonic:
        mean: Floats = rows.mean(axis=0)
        return mean
    inverse: Floats = 1.0 / np.mean(1.0 / np.maximum(rows, metrics.FLOOR), axis=0)
    return np.where(np.isnan(rows[0]), np.nan, inverse)


def _with_averages(draws: Draws, year: int) -> Draws:
    """Add the average rows and omega, as :mod:`asdlib.evaluation.means` defines them."""
    machines = list(dict.fromkeys(machine for machine, _, _ in draws))
    out: Draws = {}
    overall: dict[str, list[Floats]] = {}
    omega: list[Floats] = []
    terms = ["auc_source", "auc_target", *(["pauc"] if year > 2021 else [])]
    terms += ["pauc_source", "pauc_target"] if year == 2021 else []
    for machine in machines:
        own = {key: value for key, value in draws.items() if key[0] == machine}
        out.update(own)
        for name in metrics.metric_columns(year):
            # In 2021 "auc" and "pauc" average the rows of both domains, like the official table.
            split = year == 2021 and name in ("auc", "pauc")
            names = (f"{name}_source", f"{name}_target") if split else (name,)
            values = [value for key, value in own.items() if key[2] in names]
            out[machine, "Average", name] = _stacked(values)
            overall.setdefault(name, []).extend(
                [out[machine, "Average", name]] if year == 2020 else values
            )
        omega += [value for key, value in own.items() if key[2] in terms]
    for name, values in overall.items():
        out["Average", "Average", name] = _stacked(values)
    if year != 2020:
        out["Average", "Average", "omega"] = _stacked(omega, harmonic=True)
    return out
