"""Pictures of what comes out: losses, scores, ROC curves, comparisons with intervals.

Tables come from `asdlib.study`: one row a run and section, metrics between 0 and 1, averages in
rows whose section is ``Average``. Pictures show percent. Bars and dots are means over seeds,
whiskers their 95 % Student-t intervals; small grey dots are single seeds.
"""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from sklearn.metrics import roc_curve

from asdlib.plots.intervals import draw_whiskers
from asdlib.plots.style import (
    GREEN,
    GREY,
    ORANGE,
    WIDTH,
    colour_of,
    marker_of,
)
from asdlib.study.report import machine_rows, over_seeds, overall_rows

METRIC_NAMES = {
    "auc": "AUC",
    "pauc": "pAUC",
    "auc_source": "AUC source",
    "auc_target": "AUC target",
}


def plot_roc(scores: Mapping[str, pd.DataFrame], machine: str, section: str) -> Figure:
    """Draw the ROC curves of several systems on one section; the pAUC region is shaded."""
    figure, axes = plt.subplots(figsize=(0.62 * WIDTH, 0.56 * WIDTH))
    axes.axvspan(0, 0.1, color=ORANGE, alpha=0.2, linewidth=0, label="pAUC region")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
    for system, table in scores.items():
        part = table[(table["machine"] == machine) & (table["section"] == section)]
        false_rate, true_rate, _ = roc_curve(part["label"] == "anomaly", part["anomaly_score"])
        style = {"statistics": "--", "autoencoder": "-."}.get(system, "-")
        axes.plot(false_rate, true_rate, style, color=colour_of(system), label=system)
    axes.set_xlabel("false positive rate (normal clips called anomalous)")
    axes.set_ylabel("true positive rate (anomalies found)")
    axes.set_title(f"{machine} {section}")
    axes.legend(loc="lower right")
    axes.set_aspect("equal")
    return figure


def plot_comparison(table: pd.DataFrame, *, metric: str = "auc") -> Figure:
    """Draw each system's metric for every machine and on average, with intervals over seeds."""
    chosen = pd.concat([machine_rows(table), overall_rows(table)])
    machines = list(dict.fromkeys(chosen["machine"]))
    systems = list(dict.fromkeys(chosen["variant"]))
    summary = over_seeds(chosen, ["variant", "machine"], metric)
    figure, axes = plt.subplots(figsize=(WIDTH, 3.4))
    for i, system in enumerate(systems):
        part = summary[summary["variant"] == system].set_index("machine").reindex(machines)
        x = np.arange(len(machines)) + 0.2 * (i - (len(systems) - 1) / 2)
        draw_whiskers(axes, x, part, colour_of(system), marker_of(system), label=system)
    axes.axhline(50, color=GREY, linestyle=":", linewidth=1)
    axes.annotate("chance", (-0.45, 50.6), color=GREY, fontsize=9)
    axes.axvspan(len(machines) - 1.5, len(machines) - 0.5, color="#F0F0F0", zorder=0)
    axes.set_xticks(range(len(machines)), machines)
    axes.set_xlim(-0.5, len(machines) - 0.5)
    axes.set_ylabel(f"{METRIC_NAMES[metric]} (%)")
    low, high = axes.get_ylim()
    axes.set_ylim(max(0.0, low), min(101.0, high))
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(systems))
    return figure


def plot_ablation(table: pd.DataFrame, *, reference: str = "full") -> Figure:
    """Draw AUC and pAUC of each variant; the line marks the reference variant's mean."""
    chosen = overall_rows(table)
    variants = list(dict.fromkeys(chosen["variant"]))[::-1]
    figure, grid = plt.subplots(1, 2, figsize=(WIDTH, 1.2 + 0.34 * len(variants)), sharey=True)
    for axes, metric, colour in zip(
        grid, ("auc", "pauc"), (colour_of("contrastive"), GREEN), strict=True
    ):
        summary = over_seeds(chosen, ["variant"], metric).set_index("variant").loc[variants]
        y = np.arange(len(variants))
        axes.axvline(summary.loc[reference, "mean"], color=GREY, linestyle=":", linewidth=1)
        for i, variant in enumerate(variants):
            seeds = 100 * chosen.loc[chosen["variant"] == variant, metric]
            axes.plot(seeds, np.full(len(seeds), i + 0.22), "o", color=GREY, markersize=3)
        mean = summary["mean"].to_numpy(dtype=float)
        errors = np.nan_to_num(np.abs(summary[["low", "high"]].to_numpy(dtype=float).T - mean))
        axes.errorbar(mean, y, xerr=errors, fmt="o", color=colour, capsize=3)
        axes.set_xlabel(f"{METRIC_NAMES[metric]} (%)")
        axes.set_yticks(y, variants)
        axes.grid(axis="x")
        low, high = axes.get_xlim()
        axes.set_xlim(max(0.0, low), min(101.0, high))
    grid[0].set_title("mean over machines")
    return figure


def plot_domains(table: pd.DataFrame) -> Figure:
    """Draw AUC on the source and on the target domain, a panel a system."""
    chosen = pd.concat([machine_rows(table), overall_rows(table)])
    systems = list(dict.fromkeys(chosen["variant"]))
    machines = list(dict.fromkeys(chosen["machine"]))[::-1]
    figure, grid = plt.subplots(
        1, len(systems), figsize=(WIDTH, 1.2 + 0.34 * len(machines)), sharey=True, sharex=True
    )
    for axes, system in zip(np.atleast_1d(grid), systems, strict=True):
        part = chosen[chosen["variant"] == system]
        means = {
            metric: over_seeds(part, ["machine"], metric)
            .set_index("machine")["mean"]
            .reindex(machines)
            for metric in ("auc_source", "auc_target")
        }
        y = np.arange(len(machines))
        axes.hlines(y, means["auc_target"], means["auc_source"], color="#BBBBBB", linewidth=3)
        axes.plot(means["auc_source"], y, "o", color=GREEN, label="source")
        axes.plot(means["auc_target"], y, "D", color=ORANGE, label="target")
        axes.axvline(50, color=GREY, linestyle=":", linewidth=1)
        axes.set_title(system)
        axes.set_xlabel("AUC (%)")
        axes.set_ylim(-0.6, len(machines) - 0.4)
        axes.set_yticks(y, machines)
    handles, labels = np.atleast_1d(grid)[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure
