"""Log-mel spectrograms on axes that a reader can use: seconds, kilohertz, one colour scale.

Shapes: F mel bins, T frames.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator

from asdlib.features import FeatureStore, FrontEnd
from asdlib.plots.figures import WIDTH

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
