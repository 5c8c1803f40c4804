"""Pictures of differences to a reference, with their intervals."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from asdlib.plots.intervals import draw_whiskers
from asdlib.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE, VERMILION, WIDTH
from asdlib.study.report import over_seeds, overall_rows
from asdlib.study.verdicts import paired_difference

METRIC_NAMES = {
    "auc": "AUC",
    "pauc": "pAUC",
    "auc_source": "AUC source",
    "auc_target": "AUC target",
}

_STYLES = (
    (GREY, "o"),
    (VERMILION, "s"),
    (BLUE, "^"),
    (GREEN, "D"),
    (ORANGE, "v"),
    (PURPLE, "X"),
)


def plot_differences(
    summary: pd.DataFrame, *, metrics: tuple[str, ...] = ("auc", "pauc")
) -> Figure:
    """Draw the paired difference of each variant to the reference, with its 95 % interval.

    A difference whose interval leaves out zero is a filled triangle that points to the better side;
    all others are hollow grey circles. So the figure can be read without its colours.

    Parameters
    ----------
    summary
        Of `asdlib.study.summary.summarise`; the mean over machines is drawn.
    metrics
        A panel each.
    """
    chosen = summary[(summary["machine"] == "Average") & summary["difference"].notna()]
    chosen = chosen.drop_duplicates(["variant", "metric"])
    variants = chosen.drop_duplicates("variant")[["group", "variant"]]
    # One empty line between two groups.
    group_number = (variants["group"] != variants["group"].shift()).cumsum().to_numpy()
    places = dict(
        zip(variants["variant"], 1.0 - np.arange(len(variants)) - group_number, strict=True)
    )
    height = 1.1 + 0.24 * (len(places) + group_number.max())
    figure, grid = plt.subplots(
        1, len(metrics), figsize=(WIDTH, height), sharey=True, squeeze=False
    )
    for axes, metric in zip(grid[0], metrics, strict=True):
        axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
        part = chosen[chosen["metric"] == metric]
        numbers = part[["difference", "difference_low", "difference_high"]].to_numpy(dtype=float)
        for name, (mean, low, high) in zip(part["variant"], numbers, strict=True):
            y = places[name]
            colour, marker, face = GREY, "o", "white"
            if low > 0 or high < 0:
                colour, marker = (BLUE, ">") if mean > 0 else (VERMILION, "<")
                face = colour
            axes.plot([low, high], [y, y], color=colour)
            axes.plot([mean], [y], marker, color=colour, markerfacecolor=face)
        axes.set_title(METRIC_NAMES[metric])
        axes.set_yticks(list(places.values()), list(places))
        axes.set_ylim(min(places.values()) - 0.7, 0.7)
        axes.grid(axis="x")
    figure.supxlabel(
        "difference to full (points); triangle: shown to differ, circle: not shown", fontsize=10
    )
    return figure


def plot_systems(comparison: pd.DataFrame) -> Figure:
    """Draw AUC and pAUC of every measured system with its 95 % interval.

    Filled dots have intervals over seeds, hollow ones over clips.

    Parameters
    ----------
    comparison
        Of `asdlib.study.comparison.compare`; published rows are not drawn.
    """
    chosen = comparison[comparison["origin"] == "measured"].iloc[::-1]
    figure, grid = plt.subplots(
        1, 2, figsize=(WIDTH, 1.3 + 0.34 * len(chosen)), sharey=True, squeeze=False
    )
    for axes, metric, colour in zip(grid[0], ("auc", "pauc"), (VERMILION, BLUE), strict=True):
        bounds = [metric, f"{metric}_low", f"{metric}_high"]
        numbers = 100 * chosen.reindex(columns=bounds).to_numpy(dtype=float)
        over_clips = chosen.reindex(columns=["interval"])["interval"] == "clips"
        for y, ((mean, low, high), clips) in enumerate(zip(numbers, over_clips, strict=True)):
            axes.plot([low, high], [y, y], color=colour)
            axes.plot([mean], [y], "o", color=colour, markerfacecolor="white" if clips else colour)
        axes.set_xlabel(f"{METRIC_NAMES[metric]} (%)")
        axes.set_yticks(range(len(chosen)), chosen["system"])
        axes.set_ylim(-0.6, len(chosen) - 0.4)
        axes.grid(axis="x")
    figure.suptitle("filled: interval over seeds; hollow: one run, interval over clips", fontsize=9)
    return figure


def plot_premise(table: pd.DataFrame, *, reference: str = "none") -> Figure:
    """Draw AUC of each augmentation by the band of the faults, and its difference to none.

    Parameters
    ----------
    table
        Of `asdlib.study.premise.study_premise`.
    reference
        Variant without augmentation.
    """
    chosen = overall_rows(table)
    bands = list(dict.fromkeys(chosen["band"]))
    names = list(dict.fromkeys(chosen["variant"]))
    figure, grid = plt.subplots(1, 2, figsize=(WIDTH, 3.9))
    at = np.arange(len(bands), dtype=float)
    for i, (name, (colour, marker)) in enumerate(zip(names, _STYLES, strict=False)):
        x = at + 0.13 * (i - (len(names) - 1) / 2)
        part = chosen[chosen["variant"] == name]
        summary = over_seeds(part, ["band"], "auc").set_index("band").reindex(bands)
        draw_whiskers(grid[0], x, summary, colour, marker, label=name)
        if name != reference and part["seed"].nunique() == chosen["seed"].nunique():
            rows = [
                paired_difference(chosen[chosen["band"] == band], name, reference) for band in bands
            ]
            gains = pd.DataFrame(rows, columns=["mean", "low", "high"], index=bands)
            draw_whiskers(grid[1], x, gains, colour, marker, label=name)
    grid[0].axhline(50, color=GREY, linestyle=":", linewidth=1)
    grid[1].axhline(0, color=GREY, linestyle=":", linewidth=1)
    bottom, top = grid[0].get_ylim()
    grid[0].set_ylim(max(0.0, bottom), min(101.0, top))
    grid[0].set_ylabel("AUC (%)")
    grid[1].set_ylabel(f"AUC: difference to {reference} (points)")
    for axes in grid:
        axes.set_xticks(at, bands)
        axes.set_xlim(-0.5, len(bands) - 0.5)
        axes.set_xlabel("band of the faults")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3)
    return figure
