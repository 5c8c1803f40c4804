"""Tidy results → what a reader sees: means over seeds, intervals, counts, sentences.

Metrics are between 0 and 1 in tidy results and in percent here.
"""

from collections.abc import Sequence

import pandas as pd

from asdlib.errors import ConfigError
from asdlib.evaluation import t_interval
from asdlib.features import FeatureStore


def over_seeds(table: pd.DataFrame, by: Sequence[str], metric: str = "auc") -> pd.DataFrame:
    """Mean and 95 % Student-t interval over seeds, in percent.

    Parameters
    ----------
    table
        Rows of one mean: of all machines (`overall_rows`) or of each machine (`machine_rows`, with
        ``machine`` in `by`).
    by
        Columns that name a group.
    metric
        Column to summarise.

    Returns
    -------
    Columns `by`, ``mean, low, high, seeds``; with one seed low and high are NaN.

    Raises
    ------
    ConfigError
        If a group holds a seed twice.
    """
    _check_one_row_a_seed(table, [*by, "seed"])
    rows = []
    for key, group in table.groupby(list(by), sort=False):
        values = 100 * group[metric].dropna().to_numpy()
        if not len(values):
            continue
        interval = t_interval(values)
        rows.append((*key, float(values.mean()), interval.low, interval.high, len(values)))
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
        Rows of one mean, as for `over_seeds`.
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
    Columns `by`, `variant`, ``difference, low, high`` (mean and 95 % Student-t interval over seeds;
    NaN bounds with one seed), ``seeds``, and ``shown``: whether the interval leaves out zero.

    Raises
    ------
    ConfigError
        If a variant holds a seed twice, or there is no such reference.
    """
    _check_one_row_a_seed(table, [*by, variant, "seed"])
    if reference not in set(table[variant]):
        known = ", ".join(map(str, dict.fromkeys(table[variant])))
        raise ConfigError(f"no {variant} '{reference}' to compare with (known: {known})")
    parts = table.groupby(list(by), sort=False) if by else [((), table)]
    rows = []
    for key, part in parts:
        values = part.pivot(index="seed", columns=variant, values=metric)
        for name in dict.fromkeys(part[variant]):
            if name == reference or reference not in values:
                continue
            own, other = values[name], values[reference]
            own, other = _for_every_seed(own, other), _for_every_seed(other, own)
            difference = 100 * (own - other).dropna().to_numpy()
            if len(difference):
                mean, low, high = t_interval(difference)
                shown = bool(low > 0 or high < 0)
                rows.append((*key, name, mean, low, high, len(difference), shown))
    columns = [*by, variant, "difference", "low", "high", "seeds", "shown"]
    return pd.DataFrame(rows, columns=columns)


def _for_every_seed(values: pd.Series, others: pd.Series) -> pd.Series:
    """Repeat the only value of what is not random for every seed that the other variant has."""
    known = values.dropna()
    if len(known) == 1 and others.notna().sum() > 1:
        return pd.Series(known.iloc[0], index=others.index)
    return values


def _check_one_row_a_seed(table: pd.DataFrame, columns: list[str]) -> None:
    twice = table[table.duplicated(columns)]
    if len(twice):
        place = ", ".join(f"{name} {twice.iloc[0][name]}" for name in columns)
        raise ConfigError(
            f"several rows of {place}; choose those of one mean, as overall_rows(table), or name "
            "the column that tells them apart in by"
        )


def overall_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the mean over all machines."""
    return table[table["machine"] == "Average"]


def machine_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of each machine's mean over its sections."""
    return table[(table["section"] == "Average") & (table["machine"] != "Average")]


def formatted(
    table: pd.DataFrame,
    by: Sequence[str] = ("variant",),
    metrics: Sequence[str] = ("auc", "pauc"),
) -> pd.DataFrame:
    """Mean ± half-width of the 95 % interval as text, a column a metric.

    With one seed there is no interval, and the text says so by having none.
    """
    columns = {}
    for metric in metrics:
        summary = over_seeds(table, by, metric).set_index(list(by))
        half = (summary["high"] - summary["low"]) / 2
        columns[f"{metric} (%)"] = [
            f"{mean:.1f}" if pd.isna(width) else f"{mean:.1f} ± {width:.1f}"
            for mean, width in zip(summary["mean"], half, strict=True)
        ]
        columns["seeds"] = summary["seeds"].tolist()
        index = summary.index
    names = [name for name in columns if name != "seeds"]
    return pd.DataFrame(columns, index=index).reset_index()[[*by, *names, "seeds"]]


def counts(store: FeatureStore) -> pd.DataFrame:
    """Clips of a store for each machine and section: training, and test by label."""
    manifest = store.manifest.assign(
        part=store.manifest["split"] + " " + store.manifest["label"].replace("", "unlabelled")
    )
    table = pd.crosstab([manifest["machine"], manifest["section"]], manifest["part"])
    return table.reset_index().rename_axis(columns=None)


def percent(metrics: pd.DataFrame) -> pd.DataFrame:
    """Metrics of one run in percent."""
    out = metrics.copy()
    for name in metrics.select_dtypes("number"):
        out[name] = 100 * metrics[name]
    return out


def hardest_section(table: pd.DataFrame, variant: str) -> tuple[str, str]:
    """Machine and section with the lowest mean AUC of a variant."""
    rows = table[(table["variant"] == variant) & (table["section"] != "Average")]
    means = rows.groupby(["machine", "section"], as_index=False)["auc"].mean()
    hardest = means.loc[means["auc"].idxmin()]
    return str(hardest["machine"]), str(hardest["section"])
