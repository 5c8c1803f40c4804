"""Pictures of a trained encoder and of what a back-end makes of its embeddings.

Shapes: B clips of a batch, F mel bins, T frames, D embedding size, N clips.
"""

import copy

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from asdlib.evaluation import auc, pauc
from asdlib.features import FeatureStore, Rows
from asdlib.method.backends import BACKENDS, build_backend
from asdlib.method.contrastive import Contrastive
from asdlib.plots.steps import HEARD_FRAMES, training_crops
from asdlib.plots.style import BLUE, GREY, LABEL_COLOURS, ORANGE, VERMILION, WIDTH
from asdlib.study import Study
from asdlib.system import section_keys


def trained_system(study: Study, *, seed: int = 0) -> Contrastive:
    """Load the contrastive system of a study, trained with a seed; trains it if need be."""
    return Contrastive.load(study.run("contrastive", seed=seed).path / "model")


def encoder_embeddings(system: Contrastive, rows: Rows) -> np.ndarray:
    """Embed clips by the encoder alone, shape (N, D), whatever the system scores."""
    alone = copy.copy(system)
    alone.params = system.params.model_copy(update={"embedding": "encoder"})
    return alone.embed(rows)


def untrained(system: Contrastive, rows: Rows) -> Contrastive:
    """Make the same system as it was before its training: initial weights, fitted back-end."""
    params = system.params.model_dump() | {"epochs": 0}
    return Contrastive(seed=system.seed, **params).fit(rows)


def plot_similarities(systems: dict[str, Contrastive], rows: Rows, *, most: int = 400) -> Figure:
    """Draw cosines between projections of clips: of one class and of different classes."""
    step = max(1, len(rows) // most)
    rows = rows.select(np.arange(0, len(rows), step))
    classes = section_keys(rows.manifest)
    same = classes[:, None] == classes[None, :]
    upper = np.triu(np.ones_like(same), k=1).astype(bool)
    figure, grid = plt.subplots(1, len(systems), figsize=(WIDTH, 3.0), sharex=True, squeeze=False)
    for axes, (name, system) in zip(grid[0], systems.items(), strict=True):
        z = _projections(system, rows)
        cosine = z @ z.T
        for mask, colour, label in (
            (same & upper, BLUE, "same class"),
            (~same & upper, ORANGE, "other classes"),
        ):
            axes.hist(
                cosine[mask],
                bins=list(np.linspace(-1, 1, 41)),
                density=True,
                color=colour,
                alpha=0.65,
                label=label,
            )
        axes.set_title(name)
        axes.set_yticks([])
        axes.set_xlabel("cosine of two clips")
    grid[0, 0].set_ylabel("share of pairs")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=2)
    return figure


def encoder_table(system: Contrastive, *, frames: int | None = None) -> pd.DataFrame:
    """List the stages of the encoder with shape and parameters, for a training crop."""
    encoder = system.network_.encoder.cpu().eval()
    frames = frames or max(system.params.crop_lengths)
    rows = []
    with torch.inference_mode():
        x = torch.zeros(1, encoder.n_mels, frames)
        rows.append(("input", "mel bins × frames", f"{encoder.n_mels} × {frames}", 0))
        image = x.unsqueeze(1)
        number = 0
        for layer in encoder.body.children():
            image = layer(image)
            size = sum(p.numel() for p in layer.parameters())
            if size:
                number += 1
                shape = " × ".join(str(side) for side in image.shape[1:])
                rows.append((f"layer {number}", "channels × bins × frames", shape, size))
        mean = image.mean(dim=3).flatten(1)
        rows.append(("mean over time", "channels · bins", str(mean.shape[1]), 0))
        last = sum(p.numel() for p in encoder.last.parameters())
        rows.append(("last layer", "embedding", str(encoder.embedding_size), last))
    return pd.DataFrame(rows, columns=["stage", "axes", "shape", "parameters"])


def band_importance(system: Contrastive, store: FeatureStore, *, bands: int = 16) -> pd.DataFrame:
    """Measure how far an embedding moves when a band is set to the mean level.

    Returns
    -------
    Columns ``kHz`` (centre of the band), ``distance``: 1 − cosine to the embedding of the whole
    crop, mean over training crops.
    """
    network = system.network_.cpu().eval()
    crops = system.augmentation_.cpu().pre_normalise(training_crops(store, 64, HEARD_FRAMES))
    frequencies = store.mel_frequencies()
    rows = []
    with torch.inference_mode():
        whole = torch.nn.functional.normalize(network.encoder(crops), dim=1)
        for part in np.array_split(np.arange(len(frequencies)), bands):
            without = crops.clone()
            without[:, part] = 0.0
            moved = torch.nn.functional.normalize(network.encoder(without), dim=1)
            distance = 1 - (whole * moved).sum(dim=1).mean()
            rows.append((frequencies[part].mean() / 1000, float(distance)))
    return pd.DataFrame(rows, columns=["kHz", "distance"])


def plot_band_importance(tables: dict[str, pd.DataFrame]) -> Figure:
    """Draw `band_importance` of several systems, each as shares of its own sum."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.2))
    styles = zip(tables.items(), (VERMILION, GREY), ("-o", "--s"), strict=False)
    for (name, table), colour, line in styles:
        share = 100 * table["distance"] / table["distance"].sum()
        axes.plot(table["kHz"], share, line, color=colour, markersize=4, label=name)
    axes.set_xlabel("centre of the silenced band (kHz)")
    axes.set_ylabel("share of all movement (%)")
    axes.set_ylim(bottom=0)
    axes.legend(loc="upper right")
    return figure


def plot_embeddings(system: Contrastive, store: FeatureStore, machine: str, section: str) -> Figure:
    """Draw the clips of a section on the two main axes of its normal training embeddings."""
    train = store.rows(machine=machine, section=section, split="train")
    test = store.rows(machine=machine, section=section, split="test")
    normal = encoder_embeddings(system, train)
    centre = normal.mean(axis=0)
    axis = np.linalg.svd(normal - centre, full_matrices=False)[2][:2].T
    flat, tested = (normal - centre) @ axis, (encoder_embeddings(system, test) - centre) @ axis
    labels = test.manifest["label"].to_numpy()
    figure, axes = plt.subplots(figsize=(WIDTH, 0.66 * WIDTH))
    axes.plot(flat[:, 0], flat[:, 1], "o", color="#BBBBBB", markersize=4, label="training, normal")
    for label, marker in (("normal", "o"), ("anomaly", "X")):
        part = tested[labels == label]
        axes.plot(
            part[:, 0],
            part[:, 1],
            marker,
            color=LABEL_COLOURS[label],
            markersize=6,
            label=f"test, {label}",
        )
    angle = np.linspace(0, 2 * np.pi, 100)
    spread = flat.std(axis=0)
    for radius in (1, 2, 3):
        x, y = radius * spread[0] * np.cos(angle), radius * spread[1] * np.sin(angle)
        axes.plot(x, y, color=GREY, linewidth=0.8, linestyle=":")
        axes.annotate(f"{radius}σ", (0, radius * spread[1]), color=GREY, ha="center", va="bottom")
    axes.set_xlabel("first main axis")
    axes.set_ylabel("second main axis")
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=3, columnspacing=1.0)
    return figure


def compare_backends(system: Contrastive, store: FeatureStore) -> pd.DataFrame:
    """Score test clips by every back-end; mean AUC and pAUC over sections, 0 to 1.

    All are fitted to the embeddings of the encoder alone, but the first row: it is the system as
    it stands, with the levels of the network that its parameters name.
    """
    train, test = store.rows(split="train"), store.rows(split="test")
    fitted, tested = encoder_embeddings(system, train), encoder_embeddings(system, test)
    keys = section_keys(test.manifest)
    own = f"{system.params.backend} on {system.params.embedding} (the system's own)"
    scores = {own: system.score(test)}
    for name in BACKENDS:
        if name != "level_sum":
            backend = build_backend(name)
            backend.fit(fitted, section_keys(train.manifest), train.manifest["domain"])
            scores[name] = backend.score(tested, keys)
    labels = test.manifest["label"].to_numpy()
    anomalous = (labels == "anomaly").astype(int)
    parts = [keys == key for key in sorted(set(keys))]
    # Evaluation sections may be without labels, or without one of the two.
    parts = [part for part in parts if {"normal", "anomaly"} <= set(labels[part])]
    rows = [
        (
            name,
            float(np.mean([auc(anomalous[part], values[part]) for part in parts])),
            float(np.mean([pauc(anomalous[part], values[part]) for part in parts])),
        )
        for name, values in scores.items()
    ]
    return pd.DataFrame(rows, columns=["back-end", "auc", "pauc"])


def _projections(system: Contrastive, rows: Rows) -> np.ndarray:
    network = system.network_.cpu().eval()
    augmentation = system.augmentation_.cpu().eval()
    out = np.empty((len(rows), system.params.projection_size), np.float32)
    with torch.inference_mode():
        for positions, log_mel in rows.batches(64):
            out[positions] = network(augmentation.pre_normalise(torch.from_numpy(log_mel))).numpy()
    return out
