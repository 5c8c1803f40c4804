"""The picture of where each step of the block helps."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from asdlib.plots.style import BLUE, GREY, VERMILION, WIDTH


def plot_conditions(found: pd.DataFrame) -> Figure:
    """Draw what each step does at each place, with its 95 % interval, a panel a step.

    An effect whose interval leaves out zero is a filled triangle that points to the better side;
    all others are hollow grey circles, so that the figure can be read without its colours.

    Parameters
    ----------
    found
        Of `asdlib.study.effects.effects_of`; the effects themselves are drawn, not their
        differences.
    """
    chosen = found[found["against"] == ""]
    steps = list(dict.fromkeys(chosen["step"]))
    places = chosen.drop_duplicates(["question", "level"])[["question", "level"]]
    number = (places["question"] != places["question"].shift()).cumsum().to_numpy()
    # One line for the name of a question above its levels.
    rows = 1.0 - np.arange(len(places)) - number
    heights = dict(zip(places.itertuples(index=False, name=None), rows, strict=True))
    figure, grid = plt.subplots(
        1,
        len(steps),
        figsize=(WIDTH, 1.2 + 0.21 * (len(places) + number[-1])),
        sharey=True,
        sharex=True,
        squeeze=False,
    )
    for axes, step in zip(grid[0], steps, strict=True):
        axes.axvline(0, color=GREY, linestyle=":", linewidth=1)
        part = chosen[chosen["step"] == step]
        numbers = part[["effect", "low", "high"]].to_numpy(dtype=float)
        keys = zip(part["question"], part["level"], strict=True)
        for key, (mean, low, high) in zip(keys, numbers, strict=True):
            colour, marker, face = GREY, "o", "white"
            if low > 0 or high < 0:
                colour, marker = (BLUE, ">") if mean > 0 else (VERMILION, "<")
                face = colour
            axes.plot([low, high], [heights[key]] * 2, color=colour, linewidth=1.2)
            axes.plot([mean], [heights[key]], marker, color=colour, markerfacecolor=face, ms=5)
        axes.set_title(step.replace("all but ", "all but\n"), fontsize=9)
        axes.grid(axis="x")
    firsts = places.assign(row=rows).drop_duplicates("question")
    ticks = [*rows, *(firsts["row"] + 1)]
    labels = [*places["level"], *(f"{name}:" for name in firsts["question"])]
    grid[0, 0].set_yticks(ticks, labels, fontsize=8.5)
    for label in grid[0, 0].get_yticklabels()[len(rows) :]:
        label.set_fontweight("bold")
    for axes in grid[0]:
        axes.tick_params(axis="y", length=0)
    grid[0, 0].set_ylim(min(rows) - 0.7, 1.0 + max(rows) + 0.6)
    figure.supxlabel(
        "AUC with all steps minus without the step (points); triangle: shown, circle: not shown",
        fontsize=9,
    )
    return figure
