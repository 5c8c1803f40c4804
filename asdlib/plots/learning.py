"""Pictures of what is learned from: pairs and loss.

Shapes: B clips of a batch.
"""

from collections.abc import Sequence
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from asdlib.features import FeatureStore
from asdlib.method.losses import supervised_contrastive_loss
from asdlib.plots.style import BLUE, GREEN, GREY, INK, VERMILION, WIDTH
from asdlib.system import section_keys

PAIR_KINDS = ("itself", "positive", "negative", "left out")
PAIR_COLOURS = (INK, BLUE, "#F2D9C7", "#FFFFFF")


def pair_kinds(classes: np.ndarray, domains: np.ndarray, *, cross_domain: bool) -> np.ndarray:
    """Say what every view of a batch is to every other one.

    Parameters
    ----------
    classes, domains
        Of each clip, shape (B,).
    cross_domain
        Whether positives come from the other domain; a class with one domain has its own view.

    Returns
    -------
    ndarray
        Positions in `PAIR_KINDS`, shape (2·B, 2·B); the two views of a clip stand side by side.
    """
    clip = np.repeat(np.arange(len(classes)), 2)
    same_class = classes[clip][:, None] == classes[clip][None, :]
    kinds = np.where(same_class, PAIR_KINDS.index("positive"), PAIR_KINDS.index("negative"))
    if cross_domain:
        same_domain = domains[clip][:, None] == domains[clip][None, :]
        other_clip = clip[:, None] != clip[None, :]
        kinds[same_class & same_domain & other_clip] = PAIR_KINDS.index("left out")
    np.fill_diagonal(kinds, PAIR_KINDS.index("itself"))
    return kinds


def batch_of(store: FeatureStore, *, classes: int = 3, clips: int = 4) -> pd.DataFrame:
    """Choose training clips of some classes, as many of each domain as can be."""
    manifest = store.rows(split="train").manifest
    manifest = manifest.assign(key=section_keys(manifest))
    chosen = []
    for key in sorted(set(manifest["key"]))[:classes]:
        of_class = manifest[manifest["key"] == key]
        turn = of_class.groupby("domain").cumcount()
        chosen.append(of_class.assign(turn=turn).sort_values(["turn", "domain"]).head(clips))
    batch: pd.DataFrame = pd.concat(chosen).sort_values(["key", "domain"])
    return batch.reset_index(drop=True)


def plot_pairs(batch: pd.DataFrame, *, cross_domain: Sequence[bool] = (False,)) -> Figure:
    """Draw who is positive and who negative in a batch, a panel a rule."""
    classes, domains = batch["key"].to_numpy(), batch["domain"].to_numpy()
    figure, grid = plt.subplots(
        1, len(cross_domain), figsize=(WIDTH, 0.62 * WIDTH if len(cross_domain) == 2 else 4.4)
    )
    colours, edges = ListedColormap(PAIR_COLOURS), BoundaryNorm(np.arange(5) - 0.5, 4)
    starts = batch.groupby("key", sort=False).size().cumsum()
    ends = [0, *(2 * starts).tolist()]
    for axes, crossed in zip(np.atleast_1d(grid), cross_domain, strict=True):
        kinds = pair_kinds(classes, domains, cross_domain=crossed)
        image = axes.imshow(kinds, cmap=colours, norm=edges, interpolation="nearest")
        axes.set_title("across domains" if crossed else "by class")
        for end in ends[1:-1]:
            axes.axhline(end - 0.5, color=GREY, linewidth=0.8)
            axes.axvline(end - 0.5, color=GREY, linewidth=0.8)
        middles = [(low + high) / 2 - 0.5 for low, high in pairwise(ends)]
        axes.set_xticks(middles, list(starts.index), rotation=25, ha="right")
        axes.set_yticks(middles, list(starts.index) if axes is np.atleast_1d(grid)[0] else [])
        axes.tick_params(length=0)
    bar = figure.colorbar(image, ax=grid, location="bottom", aspect=30, ticks=range(4), pad=0.02)
    bar.ax.set_xticklabels(PAIR_KINDS)
    return figure


def pair_counts(batch: pd.DataFrame) -> pd.DataFrame:
    """Count the kinds of pairs that an anchor has on average, for both rules."""
    classes, domains = batch["key"].to_numpy(), batch["domain"].to_numpy()
    rows = []
    for crossed, name in ((False, "by class"), (True, "across domains")):
        kinds = pair_kinds(classes, domains, cross_domain=crossed)
        counts = [(kinds == number).sum() / len(kinds) for number in range(1, len(PAIR_KINDS))]
        rows.append((name, *(f"{count:.3g}" for count in counts)))
    return pd.DataFrame(rows, columns=["rule", "positives", "negatives", "left out"])


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
