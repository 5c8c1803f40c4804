"""ROC curves with the region of low false-alarm rates that pAUC measures."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from sklearn.metrics import roc_curve

from asdlib.plots.style import GREY, ORANGE, colour_of

_STYLES = {"statistics": "--", "autoencoder": "-."}


def draw_roc(axes: Axes, curves: Mapping[str, pd.DataFrame], *, max_fpr: float = 0.1) -> None:
    """Draw the ROC curve of each system on the same test clips.

    Parameters
    ----------
    axes
        Where to draw.
    curves
        System → scores of one section, columns ``label`` and ``anomaly_score``; the system decides
        the colour.
    max_fpr
        False-positive rate up to which the region of pAUC is shaded.
    """
    axes.axvspan(0, max_fpr, color=ORANGE, alpha=0.2, linewidth=0, label="pAUC region")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":", label="chance")
    for system, scores in curves.items():
        false_rate, true_rate, _ = roc_curve(scores["label"] == "anomaly", scores["anomaly_score"])
        style = _STYLES.get(system, "-")
        axes.plot(false_rate, true_rate, style, color=colour_of(system), label=system)
    axes.set(
        xlabel="false-positive rate (normal clips called anomalous)",
        ylabel="true-positive rate (anomalies found)",
        aspect="equal",
    )
    axes.legend(loc="lower right")
