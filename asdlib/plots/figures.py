"""The look of every figure, and figures of results: effects with 95 % intervals, and ROC curves.

The colours are those of Okabe and Ito, "Color Universal Design", 2008: they differ for all common
kinds of colour vision. Normal is always blue, anomalous always vermilion, and each system keeps its
colour through the whole book.

An effect whose interval leaves out zero is a filled triangle that points to its side; all others
are hollow grey circles. So a figure can be read without its colours.
"""

from collections.abc import Mapping
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asdlib.files import whole_file

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, SKY, PURPLE = "#E69F00", "#56B4E9", "#CC79A7"
GREY, INK = "#6B6B6B", "#1A1A1A"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GREY)
"""Colours in the order in which seaborn and matplotlib use them."""

LABEL_COLOURS = {"normal": BLUE, "anomaly": VERMILION}
SYSTEM_COLOURS = {
    "contrastive": VERMILION,
    "autoencoder": BLUE,
    "statistics": GREEN,
    "autoencoder2022": SKY,
    "mobilenetv2": PURPLE,
}
WIDTH = 6.6
"""Width of a figure in inches: small enough that its letters can still be read on a phone."""
_STYLES = {"statistics": "--", "autoencoder": "-."}


def apply_style() -> None:
    """Set matplotlib's defaults, and crisp pictures in notebooks."""
    mpl.rcParams.update(
        {
            "axes.edgecolor": GREY,
            "axes.grid": False,
            "axes.labelsize": 11,
            "axes.prop_cycle": cycler(color=PALETTE),
            "axes.spines.right": False,
            "axes.spines.top": False,
            "axes.titlelocation": "left",
            "axes.titlesize": 11,
            "axes.titleweight": "bold",
            "figure.constrained_layout.use": True,
            "figure.facecolor": "white",
            "font.size": 11,
            "grid.color": "#D9D9D9",
            "legend.fontsize": 10,
            "legend.frameon": False,
            "legend.handlelength": 1.5,
            "lines.linewidth": 1.6,
            "savefig.facecolor": "white",
            "text.color": INK,
            "xtick.labelsize": 10,
            "ytick.labelsize": 10,
        }
    )
    try:
        from matplotlib_inline.backend_inline import set_matplotlib_formats
    except ImportError:
        return
    from IPython.core.getipython import get_ipython

    if get_ipython() is not None:
        set_matplotlib_formats("retina")


def colour_of(system: str) -> str:
    """Colour of a system, grey if it has none of its own."""
    return SYSTEM_COLOURS.get(system, GREY)


def plot_effects(effects: pd.DataFrame, *, panel: str, group: str, row: str, xlabel: str) -> Figure:
    """Draw effects with their 95 % intervals, one panel a metric or step, rows in groups.

    Parameters
    ----------
    effects
        Columns ``mean, low, high`` and the three that the other parameters name; equal rows come
        in the order of their first appearance.
    panel, group, row
        Column of the panels, of the groups of rows, and of the rows.
    xlabel
        What the values are, with their unit.
    """
    panels = list(dict.fromkeys(effects[panel]))
    places, headings, labels = _places(effects, group, row)
    bottom = min(places.values()) - 0.7
    figure, grid = plt.subplots(
        1,
        len(panels),
        figsize=(WIDTH, 1.2 + 0.22 * -bottom),
        sharey=True,
        sharex=True,
        squeeze=False,
    )
    for axes, name in zip(grid[0], panels, strict=True):
        axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
        part = effects[effects[panel] == name]
        keys = zip(part[group], part[row], strict=True)
        numbers = part[["mean", "low", "high"]].to_numpy(dtype=float)
        for key, (mean, low, high) in zip(keys, numbers, strict=True):
            _draw_effect(axes, places[key], mean, low, high)
        axes.set_title(name)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    grid[0, 0].set_yticks([*places.values(), *headings], labels, fontsize=9)
    for label in grid[0, 0].get_yticklabels()[len(places) :]:
        label.set_fontweight("bold")
    grid[0, 0].set_ylim(bottom, 0.7)
    figure.supxlabel(
        f"{xlabel}; triangle: the interval leaves out zero, circle: it holds zero", fontsize=10
    )
    return figure


def _places(
    effects: pd.DataFrame, group: str, row: str
) -> tuple[dict[tuple[str, str], float], list[float], list[str]]:
    """Return the height of each row, the heights of the groups' names, and all labels."""
    places: dict[tuple[str, str], float] = {}
    headings: dict[str, float] = {}
    height = 0.0
    rows = effects.drop_duplicates([group, row])
    for name in dict.fromkeys(rows[group].astype(str)):
        if name:
            headings[f"{name}:"] = height
            height -= 1.0
        for label in rows.loc[rows[group] == name, row]:
            places[name, label] = height
            height -= 1.0
    labels = [*(label for _, label in places), *headings]
    return places, list(headings.values()), labels


def _draw_effect(axes: Axes, place: float, mean: float, low: float, high: float) -> None:
    colour, marker, face = GREY, "o", "white"
    if low > 0 or high < 0:
        colour, marker = (BLUE, ">") if mean > 0 else (VERMILION, "<")
        face = colour
    axes.plot([low, high], [place, place], color=colour, linewidth=1.2)
    axes.plot([mean], [place], marker, color=colour, markerfacecolor=face, markersize=5)


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
    from sklearn.metrics import roc_curve

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


def save_figure(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as PNG and SVG beside each other and close it; return both paths."""
    saved = []
    for kind in ("png", "svg"):
        target = path.with_name(f"{path.name}.{kind}")
        # Without the date, the same results give the same file.
        metadata = {"Date": None} if kind == "svg" else None
        with whole_file(target) as partial:
            figure.savefig(partial, format=kind, dpi=150, metadata=metadata)
        saved.append(target)
    plt.close(figure)
    return saved
