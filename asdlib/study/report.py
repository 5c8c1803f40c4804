"""Tidy results → what a reader sees: means over seeds, intervals, counts, sentences.

Metrics are between 0 and 1 in tidy results and in percent here.
"""

from collections.abc import Sequence

import pandas as pd

from asdlib.evaluation import t_interval
from asdlib.features import FeatureStore


def over_seeds(table: pd.DataFrame, by: Sequence[str], metric: str) -> pd.DataFrame:
    """Mean and 95 % interval over seeds, in percent.

    Parameters
    ----------
    table
        Tidy results.
    by
        Columns that name a group.
    metric
        Column to summarise.

    Returns
    -------
    Columns `by`, ``mean, low, high, seeds``; with one seed low and high are NaN.
    """
    rows = []
    for key, group in table.groupby(list(by), sort=False):
        values = 100 * group[metric].dropna().to_numpy()
        if not len(values):
            continue
        interval = t_interval(values)
        rows.append((*key, float(values.mean()), interval.low, interval.high, len(values)))
    return pd.DataFrame(rows, columns=[*by, "mean", "low", "high", "seeds"])


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
