"""Pictures of what is learned from: pairs and loss.

Shapes: B clips of a batch.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import torch
from matplotlib.figure import Figure

from asdlib.method.losses import supervised_contrastive_loss
from asdlib.plots.style import BLUE, GREEN, VERMILION, WIDTH


def plot_temperature(temperatures: Sequence[float] = (0.05, 0.1, 0.5)) -> Figure:
    """Draw how much a negative weighs in the gradient of the loss against its similarity."""
    cosine = np.linspace(-1, 1, 201)
    figure, axes = plt.subplots(figsize=(WIDTH, 3.2))
    for temperature, colour, line in zip(
        temperatures, (VERMILION, BLUE, GREEN), ("-", "--", "-."), strict=False
    ):
        weight = np.exp((cosine - 1) / temperature)
        axes.plot(cosine, weight, line, color=colour, label=f"τ = {temperature:g}")
    axes.set_xlabel("cosine between anchor and negative")
    axes.set_ylabel("weight, relative to\na negative at cosine 1")
    axes.legend(loc="upper left")
    return figure


def loss_landmarks(
    *, classes: int = 8, views: int = 16, size: int = 128, temperature: float = 0.1, seed: int = 0
) -> dict[str, float]:
    """Compute the loss of a batch in three cases that can be thought through.

    Returns
    -------
    ``collapsed``: all embeddings equal; ``random``: random directions; ``ideal``: every class in a
    point of its own, all classes at right angles.
    """
    labels = torch.arange(classes).repeat_interleave(views)
    generator = torch.Generator().manual_seed(seed)
    cases = {
        "collapsed": torch.ones(len(labels), size),
        "random": torch.randn(len(labels), size, generator=generator),
        "ideal": torch.eye(size)[labels],
    }
    return {
        name: float(supervised_contrastive_loss(embeddings, labels, temperature))
        for name, embeddings in cases.items()
    }
