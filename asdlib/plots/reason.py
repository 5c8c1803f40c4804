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
    figure, grid = plt.subplots(
        2,
        3,
        figsize=(WIDTH, 3.6),
        width_ratios=(4, 4, 1.3),
        height_ratios=(3, 1),
        layout="constrained",
    )
    (recording, difference, bins), (below, frames, corner) = grid
    n_mels, n_frames = reason.log_mel.shape
    image = draw_log_mel(recording, reason.log_mel, reason.front_end)
    recording.set(title="recording")
    figure.colorbar(image, ax=recording, location="bottom", aspect=30, pad=0.02).set_label(
        unit_of(reason.front_end)
    )
    most = float(np.quantile(np.abs(reason.difference), 0.99))
    image = draw_log_mel(difference, reason.difference, reason.front_end, limits=(-most, most))
    image.set_cmap("RdBu_r")
    difference.set(title="difference from normal", ylabel="")
    figure.colorbar(image, ax=difference, location="bottom", aspect=30, pad=0.02).set_label(
        f"difference ({unit_of(reason.front_end)})"
    )
    hop = reason.front_end.hop_length / reason.front_end.sample_rate
    (start, end), (low, high) = (hop * frame for frame in reason.frames), reason.bins
    for axes in (recording, difference):
        axes.tick_params(labelbottom=True)
        axes.set_xlabel("time (s)")
        size = (end - start, high - low)
        box = Rectangle((start, low - 0.5), *size, fill=False, edgecolor="white", linewidth=2)
        axes.add_patch(box)
        axes.add_patch(
            Rectangle((start, low - 0.5), *size, fill=False, edgecolor=INK, linewidth=0.8)
        )
    inside = (np.arange(n_mels) >= low) & (np.arange(n_mels) < high)
    colours = np.where(inside, VERMILION, GREY)
    bins.barh(np.arange(n_mels), reason.by_bin, height=1.0, color=colours)
    bins.set(ylim=(-0.5, n_mels - 0.5), xlabel="part of score", title="by band")
    bins.set_yticks(*mel_ticks(reason.front_end))
    bins.xaxis.set_ticks([])
    frames.plot(np.arange(n_frames) * hop, reason.by_frame, color=VERMILION)
    frames.axvspan(start, end, color=GREY, alpha=0.3, linewidth=0)
    frames.set(xlabel="time in the window (s)", ylabel="part of\nscore", xlim=(0, n_frames * hop))
    frames.yaxis.set_ticks([])
    below.remove()
    corner.remove()
    return figure
