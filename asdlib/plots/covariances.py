"""Pictures of what the sections of a machine type share.

Shapes: N clips, D embedding size.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from asdlib.baselines import TimeStatistics
from asdlib.evaluation import auc, pauc
from asdlib.features import FeatureStore, Rows
from asdlib.method.backends import SHARES, surprise_of_shares
from asdlib.method.contrastive import Contrastive
from asdlib.plots.style import BLUE, GREEN, GREY, ORANGE, PURPLE, SKY, VERMILION, WIDTH
from asdlib.system import section_keys

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, GREY)
_MARKERS = "osD^vPX"
LEVELS = {"spectrum": "mean spectrum of the input", "encoder": "embedding"}
"""Levels of the network that are scored with a pooled covariance: name → words."""


def share_curves(system: Contrastive, store: FeatureStore) -> pd.DataFrame:
    """Tell how unlikely held-out normal clips are under each share of the pooled covariance.

    Returns
    -------
    pd.DataFrame
        Columns ``level``, ``machine``, ``share``, ``surprise`` (nats a clip above the best share)
        and ``chosen``.
    """
    rows = store.rows(split="train", label="normal")
    names, domains = section_keys(rows.manifest), rows.manifest["domain"].to_numpy(dtype=object)
    machines = rows.manifest["machine"].to_numpy()
    parts = []
    for level in LEVELS:
        x = _embed(system, rows, level)
        for machine in sorted(set(machines)):
            own = machines == machine
            surprise = surprise_of_shares(x[own], names[own], domains[own])
            excess = surprise - surprise.min()
            best = len(SHARES) - 1 - int(np.argmin(surprise[::-1]))
            parts.append(
                pd.DataFrame(
                    {
                        "level": level,
                        "machine": machine,
                        "share": SHARES,
                        "surprise": excess,
                        "chosen": np.arange(len(SHARES)) == best,
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def plot_shares(curves: pd.DataFrame) -> Figure:
    """Draw the curves of `share_curves`, a panel a level, and mark the share that is chosen."""
    levels = list(dict.fromkeys(curves["level"]))
    machines = list(dict.fromkeys(curves["machine"]))
    figure, grid = plt.subplots(
        1, len(levels), figsize=(WIDTH, 3.2), sharex=True, sharey=True, squeeze=False
    )
    for axes, level in zip(grid[0], levels, strict=True):
        for i, machine in enumerate(machines):
            own = curves[(curves["level"] == level) & (curves["machine"] == machine)]
            colour = _COLOURS[i % len(_COLOURS)]
            axes.plot(own["share"], own["surprise"], color=colour, linewidth=1.3)
            best = own[own["chosen"]]
            axes.plot(
                best["share"],
                best["surprise"],
                _MARKERS[i % len(_MARKERS)],
                color=colour,
                clip_on=False,
                label=machine,
            )
        axes.axhline(0, color=GREY, linestyle=":", linewidth=1)
        axes.set(title=LEVELS.get(level, level), xlabel="share of the pooled covariance")
    grid[0, 0].set_yscale("symlog", linthresh=1.0)
    grid[0, 0].set_ylim(bottom=0)
    grid[0, 0].set_ylabel("less likely than at the\nbest share [nats a clip]")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        title="chosen for",
        loc="outside lower center",
        ncols=min(6, len(machines)),
    )
    return figure


def compare_covariances(store: FeatureStore) -> pd.DataFrame:
    """Score a store's test clips by the statistical reference, each section alone and pooled.

    Returns
    -------
    pd.DataFrame
        A row a machine type: ``machine``, ``sections``, and AUC and pAUC of both in percent, means
        over the sections whose test clips are labelled and of both kinds.
    """
    train, test = store.rows(split="train", label="normal"), store.rows(split="test")
    keys = section_keys(test.manifest)
    labels = test.manifest["label"].to_numpy()
    machines = test.manifest["machine"].to_numpy()
    scores = {
        covariance: TimeStatistics(covariance=covariance).fit(train).score(test)
        for covariance in ("own", "pooled")
    }
    rows = []
    for machine in sorted(set(machines)):
        sections = sorted(set(keys[machines == machine]))
        parts = [keys == section for section in sections]
        parts = [part for part in parts if {"normal", "anomaly"} <= set(labels[part])]
        row: dict[str, object] = {"machine": machine, "sections": len(sections)}
        for metric, measure in (("AUC", auc), ("pAUC", pauc)):
            for covariance, values in scores.items():
                found = [measure(labels[part] == "anomaly", values[part]) for part in parts]
                row[f"{metric}, {covariance}"] = 100 * np.mean(found) if found else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def _embed(system: Contrastive, rows: Rows, level: str) -> np.ndarray:
    alone = copy.copy(system)
    alone.params = system.params.model_copy(update={"embedding": level})
    return alone.embed(rows).astype(np.float64)
