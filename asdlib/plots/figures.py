"""The look of every figure; log-mel spectrograms, and effects with 95 % intervals.

The colours are those of Okabe and Ito, "Color Universal Design", 2008: they differ for all common
kinds of colour vision. Normal is always blue, anomalous always vermilion.

An effect whose interval leaves out zero is a filled triangle that points to its side; all others
are hollow grey circles. So a figure can be read without its colours.

Spectrograms have axes that a reader can use: seconds, kilohertz, one colour scale.

Shapes: F mel bins, T frames.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from asdlib.features import FeatureStore, FrontEnd
from asdlib.files import whole_file

BLUE, VERMILION, GREEN = "#0072B2", "#D55E00", "#009E73"
ORANGE, SKY, PURPLE = "#E69F00", "#56B4E9", "#CC79A7"
GREY, INK = "#6B6B6B", "#1A1A1A"
PALETTE = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GREY)
"""Colours in the order in which seaborn and matplotlib use them."""

LABEL_COLOURS = {"normal": BLUE, "anomaly": VERMILION}
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


def plot_effects(effects: pd.DataFrame, *, panel: str, group: str, row: str, xlabel: str) -> Figure:
    """Draw effects with their 95 % intervals, one panel per metric or step, rows in groups.

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
    lines: list[tuple[str | None, str]] = []  # from top to bottom, a group's name above its rows
    for name, part in effects.groupby(group, sort=False):
        lines += [(None, f"{name}:")] * bool(name)
        lines += [(str(name), label) for label in dict.fromkeys(part[row])]
    figure, grid = plt.subplots(
        1,
        len(panels),
        figsize=(WIDTH, 1.1 + 0.22 * len(lines)),
        sharey=True,
        sharex=True,
        squeeze=False,
    )
    for axes, name in zip(grid[0], panels, strict=True):
        axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
        part = effects.loc[effects[panel] == name, [group, row, "mean", "low", "high"]]
        for *key, mean, low, high in part.itertuples(index=False):
            place = -lines.index((key[0], key[1]))
            colour, marker = (BLUE, ">") if mean > 0 else (VERMILION, "<")
            face = colour
            if not (low > 0 or high < 0):
                colour, marker, face = GREY, "o", "white"
            axes.plot([low, high], [place, place], color=colour, linewidth=1.2)
            axes.plot([mean], [place], marker, color=colour, markerfacecolor=face, markersize=5)
        axes.set_title(name)
        axes.grid(axis="x")
        axes.tick_params(axis="y", length=0)
    grid[0, 0].set_yticks(range(0, -len(lines), -1), [label for _, label in lines], fontsize=9)
    for (of, _), label in zip(lines, grid[0, 0].get_yticklabels(), strict=True):
        label.set_fontweight("bold" if of is None else "normal")
    grid[0, 0].set_ylim(0.3 - len(lines), 0.7)
    figure.supxlabel(
        f"{xlabel}; triangle: the interval leaves out zero, circle: it contains zero", fontsize=10
    )
    return figure


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


TICKS_HZ = (500, 1000, 2000, 4000, 8000)
COLOURS = "magma"
STANDARDISED = (-2.5, 2.5)
"""Colour scale of standardised spectrograms: mean ± 2.5 standard deviations."""


def draw_log_mel(
    axes: Axes,
    log_mel: np.ndarray,
    source: FeatureStore | FrontEnd,
    *,
    limits: tuple[float, float] | None = None,
) -> AxesImage:
    """Draw one spectrogram with time in seconds and frequency in kilohertz.

    Parameters
    ----------
    axes
        Where to draw.
    log_mel
        Shape (F, T).
    source
        Feature store or front end that the axes are taken from.
    limits
        Ends of the colour scale; by default `common_limits` of this spectrogram.

    Returns
    -------
    AxesImage
        For a colour bar.
    """
    n_mels, n_frames = log_mel.shape
    front_end = parameters_of(source)
    seconds = n_frames * front_end.hop_length / front_end.sample_rate
    low, high = limits or common_limits([log_mel])
    image = axes.imshow(
        log_mel,
        origin="lower",
        aspect="auto",
        interpolation="nearest",
        cmap=COLOURS,
        vmin=low,
        vmax=high,
        extent=(0.0, seconds, -0.5, n_mels - 0.5),
    )
    axes.set_yticks(*mel_ticks(source))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10], prune="upper"))
    axes.set(xlabel="time (s)", ylabel="frequency (kHz)")
    axes.label_outer()
    return image


def plot_log_mels(
    log_mels: Mapping[str, np.ndarray], source: FeatureStore | FrontEnd, *, columns: int = 3
) -> Figure:
    """Draw spectrograms (F, T) with their titles side by side, on one colour scale.

    Parameters
    ----------
    log_mels
        Title → spectrogram, in the unit of the source.
    source
        Feature store or front end that the axes are taken from.
    columns
        Spectrograms in a row.
    """
    columns = min(columns, len(log_mels))
    rows = -(-len(log_mels) // columns)
    figure, grid = plt.subplots(
        rows, columns, figsize=(WIDTH, 0.7 + 1.8 * rows), sharex=True, sharey=True, squeeze=False
    )
    limits = common_limits(list(log_mels.values()))
    for axes, (title, log_mel) in zip(grid.flat, log_mels.items(), strict=False):
        image = draw_log_mel(axes, log_mel, source, limits=limits)
        axes.set_title(title)
    for axes in grid.flat[len(log_mels) :]:
        axes.remove()
    drawn = list(grid.flat[: len(log_mels)])
    for axes in drawn[-columns:]:  # the lowest of each column
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("time (s)")
    figure.colorbar(image, ax=drawn, pad=0.01, aspect=30).set_label(unit_of(source))
    return figure


def mel_ticks(source: FeatureStore | FrontEnd) -> tuple[np.ndarray, list[str]]:
    """Return places of ticks in mel bins and their labels in kilohertz, for an axis over bins."""
    frequencies = source.mel_frequencies()
    ticks = [hz for hz in TICKS_HZ if frequencies[0] <= hz <= frequencies[-1] * 1.02]
    places = np.interp(ticks, frequencies, np.arange(len(frequencies)))
    return places, [f"{hz / 1000:g}" for hz in ticks]


def common_limits(log_mels: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the ends of a colour scale for several spectrograms, outliers cut off."""
    values = np.concatenate([log_mel.ravel() for log_mel in log_mels])
    low, high = np.percentile(values, [1, 99.8])
    return float(low), float(high)


def parameters_of(source: FeatureStore | FrontEnd) -> FrontEnd:
    """Return the front end of a store, or the front end itself."""
    return source if isinstance(source, FrontEnd) else source.parameters


def unit_of(source: FeatureStore | FrontEnd) -> str:
    """Return the unit of the values of a store or front end; natural logarithms are of power."""
    unit = parameters_of(source).unit
    return "ln(power)" if unit == "neper" else unit
