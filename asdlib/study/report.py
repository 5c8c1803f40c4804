"""Tidy results → what a reader sees: means over seeds, paired differences, intervals.

Metrics are between 0 and 1 in tidy results and in percent here. A table to summarise holds the rows
of one mean: of all machines (`overall_rows`), or of each machine, with ``machine`` in `by`. A
difference is *shown* where its p-value, adjusted for the number of comparisons, is below 0.05
(`adjusted`).
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from asdlib.errors import ConfigError
from asdlib.evaluation import paired_frame, t_interval
from asdlib.study.config import make_system
from asdlib.study.result import load_run, read_scores

Scores = Mapping[str, Sequence[pd.DataFrame]]
"""Labelled score tables of each system, one table per seed."""


def overall_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the mean over all machines."""
    return table[table["machine"] == "Average"]


def over_seeds(table: pd.DataFrame, by: Sequence[str], metric: str = "auc") -> pd.DataFrame:
    """Mean and interval over seeds of each group of the columns `by`, in percent.

    Returns
    -------
    Columns `by`, ``mean, low, high, seeds``; a group without a defined value has no row.

    Raises
    ------
    ConfigError
        If a group holds a seed twice.
    """
    twice = table[table.duplicated([*by, "seed"])]
    if len(twice):
        place = ", ".join(f"{name} {twice.iloc[0][name]}" for name in [*by, "seed"])
        raise ConfigError(
            f"several rows of {place}; choose those of one mean, as overall_rows(table), or name "
            "the column that tells them apart in by"
        )
    rows = [
        (*key, *t_interval(values), len(values))
        for key, group in table.groupby(list(by), sort=False)
        if len(values := 100 * group[metric].dropna().to_numpy())
    ]
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"])


def scores_of(table: pd.DataFrame) -> Scores:
    """Read the labelled clip scores of every variant of a tidy table, one table per seed."""
    runs = table.groupby("variant", sort=False)["run"].unique()
    return {str(name): [read_scores(run) for run in folders] for name, folders in runs.items()}


def pairwise(scores: Scores, against: Sequence[str], year: int) -> pd.DataFrame:
    """Compare all systems with those named in `against`, on the same clips.

    A pair is compared once, with the one that is named first.

    Returns
    -------
    ``system, reference``, then the columns of `asdlib.evaluation.paired_frame`, as fractions, about
    other clips and seeds, then those of `adjusted` for the averages over machines of all pairs.

    Raises
    ------
    ConfigError, ScoreError
        If there are fewer than two systems, a name is not among them, or clips differ.
    """
    if len(scores) < 2:
        raise ConfigError(f"{len(scores)} system to test against others; name a second one")
    tables, before = {}, set[str]()
    for reference in against:
        if reference not in scores:
            known = ", ".join(scores)
            raise ConfigError(f"no system '{reference}' to test against (there are: {known})")
        before.add(reference)
        for name in (name for name in scores if name not in before):
            tables[name, reference] = paired_frame(scores[name], scores[reference], year)
    keys = ["system", "reference"]
    tests = pd.concat(tables, names=keys).reset_index(keys).reset_index(drop=True)
    return tests.join(adjusted(tests["p_value"].where(tests["machine"] == "Average")))


def compare_runs(scores: Scores, reference: str, year: int) -> pd.DataFrame:
    """Compare all variants with one of them on the same clips, in percentage points.

    Takes what `scores_of` gives, and the year whose metrics count. Returns ``variant, metric,
    difference, low, high, p_value`` of the averages over machines, then the columns of `adjusted`
    for all rows; see `pairwise`.
    """
    table = pairwise(scores, [reference], year).rename(columns={"system": "variant"})
    table = table[(table["machine"] == "Average") & table["metric"].isin(["auc", "pauc"])]
    table = table[["variant", "metric", "difference", "low", "high", "p_value"]]
    table[["difference", "low", "high"]] *= 100
    return table.reset_index(drop=True).join(adjusted(table["p_value"].reset_index(drop=True)))


def adjusted(p_values: "pd.Series[float]") -> pd.DataFrame:
    """Adjust p-values for their number, with the index that they have.

    Returns
    -------
    ``p_holm``, by the method of Holm (Scandinavian Journal of Statistics 6(2), 1979), which bounds
    the chance of a single false statement among all; ``p_bh``, by that of Benjamini and Hochberg
    (Journal of the Royal Statistical Society B 57(1), 1995), which bounds the share of false ones
    among those made; and ``shown``: whether ``p_holm`` is below 0.05. NaN is no comparison.
    """
    from scipy import stats

    p = p_values.dropna().sort_values()
    holm = (p * np.arange(len(p), 0, -1)).cummax().clip(upper=1.0)
    table = pd.DataFrame({"p_holm": holm, "p_bh": stats.false_discovery_control(p)})
    return table.reindex(p_values.index).assign(shown=lambda rows: rows["p_holm"] < 0.05)


def with_bounds(mean: float, low: float, high: float) -> str:
    """Write a share in percent, with its interval in brackets; nothing for what is not defined."""
    if np.isnan(mean):
        return ""
    return f"{100 * mean:.2f}" + ("" if np.isnan(low) else f" [{100 * low:.2f}, {100 * high:.2f}]")


def signed(value: float, digits: int = 1) -> str:
    """Write a number with a sign: a true minus, and none before what rounds to zero."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def describe_difference(mean: float, low: float, high: float, p: float) -> str:
    """Write a difference in points, its interval, an adjusted p-value, and whether it is shown."""
    if np.isnan(low):
        return f"{signed(mean)} points (no interval)"
    word = "shown" if p < 0.05 else "not shown to differ"
    # Enough digits to see that an interval leaves out zero.
    apart = [abs(bound) for bound in (low, high) if low * high > 0]
    digits = next((d for d in (1, 2, 3) if all(round(bound, d) for bound in apart)), 4)
    bounds = f"[{signed(low, digits)}, {signed(high, digits)}]"
    p_text = "< 0.0001" if p < 0.0001 else f"= {p:.{4 if 0.045 < p < 0.055 else 2}g}"
    return f"{signed(mean, digits)} points {bounds}, p {p_text}, {word}"


def describe_runs(table: pd.DataFrame) -> str:
    """Say in one line what a tidy table rests on, from the records of its runs."""
    records = [load_run(run).record for run in table["run"].unique()]
    machines = [name for name in table["machine"].unique() if name != "Average"]

    def each(values: Iterable[int]) -> str:
        return " or ".join(f"{value:,}" for value in sorted(set(values)))

    systems: dict[str, None] = {}
    for config in (record.config for record in records):
        params = make_system(config.system, config.params).params.model_dump()
        words = [config.system]
        words += [f"{params['epochs']} epochs"] if "epochs" in params else []
        if config.system == "contrastive":
            by = f"{params['embedding']} with {params['backend']}"
            words.append(f"scored by {by}".replace("levels with level_sum", "the sum over levels"))
        systems[", ".join(words)] = None
    return (
        f"Machines {', '.join(machines)}; "
        f"{each(r.train.clips for r in records)} training clips, "
        f"{each(r.test.clips for r in records)} test clips; "
        f"seeds {', '.join(map(str, sorted({r.config.seed for r in records})))}; "
        f"{'; '.join(systems)}."
    )
