"""How mean and deviation of a batch drift from step to step of the augmentation block."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from asdlib.features import FeatureStore
from asdlib.plots.steps import make_block, training_crops
from asdlib.plots.style import GREEN, GREY, INK, WIDTH


def drift(
    store: FeatureStore, *, crop_frames: int, batches: int = 8, seed: int = 0
) -> pd.DataFrame:
    """Measure mean and deviation of training batches after every step of the block.

    Returns
    -------
    Columns ``step, batch, mean, std``.
    """
    block = make_block(store)
    generator = torch.Generator().manual_seed(seed)
    crops = training_crops(store, 32 * batches, crop_frames)
    rows = []
    for number, batch in enumerate(crops.tensor_split(batches)):
        x = block.pre_normalise(batch)
        two = x.expand(2, *x.shape).reshape(-1, *x.shape[1:])
        mixed = block.log_mixup_exp(two, generator)
        block.bank.push(x)
        cropped = block.random_resize_crop(mixed, generator)
        stages = {
            "1 pre-norm": two,
            "2 log-mixup-exp": mixed,
            "3 random resize crop": cropped,
            "4 post-norm": block.post_normalise(cropped),
        }
        for step, values in stages.items():
            rows.append((step, number, float(values.mean()), float(values.std())))
    table = pd.DataFrame(rows, columns=["step", "batch", "mean", "std"])
    # The first batch meets an empty bank, so that nothing is mixed into it.
    return table[table["batch"] > 0]


def plot_drift(table: pd.DataFrame) -> Figure:
    """Draw what `drift` found: a dot a batch, a line through the means."""
    figure, grid = plt.subplots(1, 2, figsize=(WIDTH, 3.2))
    steps = list(dict.fromkeys(table["step"]))
    places = np.arange(len(steps))
    for axes, column, target in zip(grid, ("mean", "std"), (0.0, 1.0), strict=True):
        axes.axhline(target, color=GREY, linestyle=":", linewidth=1)
        place = table["step"].map({step: i for i, step in enumerate(steps)})
        axes.plot(place, table[column], "o", color=GREY, markersize=3, alpha=0.7)
        means = table.groupby("step")[column].mean().reindex(steps)
        axes.plot(places, means, "-o", color=GREEN)
        axes.annotate(
            f"{abs(means.iloc[-1]):.2f}",
            (places[-1], means.iloc[-1]),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            color=INK,
        )
        axes.set_xticks(places, ["pre-\nnorm", "mix-\nup", "crop", "post-\nnorm"])
        axes.set_title({"mean": "mean of a batch", "std": "standard deviation of a batch"}[column])
        axes.set_xlim(-0.3, len(steps) - 0.5)
        axes.margins(y=0.12)
    return figure
