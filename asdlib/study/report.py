"""Tidy results → what a reader sees: means over seeds, paired differences, intervals.

Metrics are between 0 and 1 in tidy results and in percent here. A table to summarise holds the rows
of one mean: of all machines (`overall_rows`), or of each machine (`machine_rows`, with ``machine``
in `by`). Intervals are 95 % Student-t intervals over seeds, NaN with one seed.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from asdlib.errors import ConfigError
from asdlib.evaluation import t_interval


def overall_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the mean over all machines."""
    return table[table["machine"] == "Average"]


def machine_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of each machine's mean over its sections."""
    return table[(table["section"] == "Average") & (table["machine"] != "Average")]


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
    _check_one_row_a_seed(table, [*by, "seed"])
    rows = [
        (*key, *t_interval(values), len(values))
        for key, group in table.groupby(list(by), sort=False)
        if len(values := 100 * group[metric].dropna().to_numpy())
    ]
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"])


def paired_differences(
    table: pd.DataFrame,
    reference: str,
    metric: str = "auc",
    *,
    by: Sequence[str] = (),
    variant: str = "variant",
) -> pd.DataFrame:
    """Differences of all variants to one of them, paired over seeds, in percentage points.

    A variant with one run only, because nothing in it is random, is paired with every seed.

    Parameters
    ----------
    table
        Rows of one mean.
    reference
        Name of the variant that the others are compared with.
    metric
        Column to compare.
    by
        Columns within which variants are compared, such as ``["machine"]`` or ``["band"]``.
    variant
        Column that names the variants.

    Returns
    -------
    Columns `by`, `variant`, ``difference, low, high, seeds``, and ``shown``: whether the interval
    leaves out zero.

    Raises
    ------
    ConfigError
        If a variant holds a seed twice, or there is no such reference.
    """
    _check_one_row_a_seed(table, [*by, variant, "seed"])
    if reference not in set(table[variant]):
        known = ", ".join(map(str, dict.fromkeys(table[variant])))
        raise ConfigError(f"no {variant} '{reference}' to compare with (known: {known})")
    rows = []
    for key, part in table.groupby(list(by), sort=False) if by else [((), table)]:
        values = part.pivot(index="seed", columns=variant, values=metric)
        for name in dict.fromkeys(part[variant]):
            if name == reference or reference not in values:
                continue
            pair = values[[name, reference]].copy()
            once = pair.columns[pair.notna().sum() == 1]
            if len(once) == 1:  # the only run of what is not random stands for every seed
                pair[once[0]] = pair[once[0]].max()
            difference = 100 * (pair[name] - pair[reference]).dropna().to_numpy()
            if len(difference):
                mean, low, high = t_interval(difference)
                rows.append((*key, name, mean, low, high, len(difference), low > 0 or high < 0))
    columns = [*by, variant, "difference", "low", "high", "seeds", "shown"]
    return pd.DataFrame(rows, columns=columns).astype({"shown": bool})


def _check_one_row_a_seed(table: pd.DataFrame, columns: list[str]) -> None:
    twice = table[table.duplicated(columns)]
    if len(twice):
        place = ", ".join(f"{name} {twice.iloc[0][name]}" for name in columns)
        raise ConfigError(
            f"several rows of {place}; choose those of one mean, as overall_rows(table), or name "
            "the column that tells them apart in by"
        )


def signed(value: float) -> str:
    """Write one digit with a sign: a true minus, and none before what rounds to zero."""
    return f"{round(value, 1) + 0.0:+.1f}".replace("-", "−")


def describe_difference(mean: float, low: float, high: float) -> str:
    """Write a difference in points, its interval, and whether it is shown."""
    if np.isnan(low):
        return f"{signed(mean)} points (one seed: no interval)"
    word = "shown" if low > 0 or high < 0 else "not shown to differ"
    return f"{signed(mean)} points [{signed(low)}, {signed(high)}], {word}"
