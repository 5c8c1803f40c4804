"""Colours, fonts and sizes of every figure.

The colours are those of Okabe and Ito, "Color Universal Design", 2008: they differ for all common
kinds of colour vision. Normal is always blue, anomalous always vermilion, and each system keeps its
colour through the whole book.
"""

import matplotlib as mpl
from cycler import cycler

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
