"""What sounds wrong, drawn: the recording, its difference from normal, band and stretch marked."""

from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from asdlib.plots.figures import GREY, INK, VERMILION, WIDTH, draw_log_mel, mel_ticks, unit_of

if TYPE_CHECKING:
    from asdlib.study.explain import Reason


def plot_reason(reason: "Reason") -> Figure:
    """Draw a reason: log-mels, difference from the normal mean spectrum, parts of bins and frames.

    The box is the band that counts most, and in it the stretch that counts most.
    """
    front_end, unit = reason.front_end, unit_of(reason.front_end)
    figure = plt.figure(figsize=(WIDTH, 3.6), layout="constrained")
    grid = figure.subplot_mosaic("RDB;.F.", width_ratios=(4, 4, 1.3), height_ratios=(3, 1))
    recording, difference, bins, frames = (grid[name] for name in "RDBF")
    hop = front_end.hop_length / front_end.sample_rate
    (start, end), (low, high) = (hop * frame for frame in reason.frames), reason.bins
    most = float(np.quantile(np.abs(reason.difference), 0.99))
    change = draw_log_mel(difference, reason.difference, front_end, limits=(-most, most))
    change.set_cmap("RdBu_r")
    for axes, image, title, label in (
        (recording, draw_log_mel(recording, reason.log_mel, front_end), "recording", unit),
        (difference, change, "difference from normal", f"difference ({unit})"),
    ):
        figure.colorbar(image, ax=axes, location="bottom", aspect=30, pad=0.02).set_label(label)
        axes.set(title=title, xlabel="time (s)")
        axes.tick_params(labelbottom=True)
        for colour, width in (("white", 2.0), (INK, 0.8)):
            box = Rectangle((start, low - 0.5), end - start, high - low, fill=False)
            box.set(edgecolor=colour, linewidth=width)
            axes.add_patch(box)
    difference.set_ylabel("")
    places = np.arange(len(reason.by_bin))
    colours = np.where((places >= low) & (places < high), VERMILION, GREY)
    bins.barh(places, reason.by_bin, height=1.0, color=colours)
    bins.set(ylim=(-0.5, len(places) - 0.5), xlabel="part of score", title="by band")
    bins.set_yticks(*mel_ticks(front_end))
    bins.xaxis.set_ticks([])
    times = hop * np.arange(len(reason.by_frame))
    frames.plot(times, reason.by_frame, color=VERMILION)
    frames.axvspan(start, end, color=GREY, alpha=0.3, linewidth=0)
    frames.set(xlabel="time in the window (s)", ylabel="part of\nscore", xlim=(0, hop * len(times)))
    frames.yaxis.set_ticks([])
    return figure
