"""Pictures of log-mel spectrograms: clips, front ends, the augmentation step by step.

Shapes: F mel bins, T frames, V views.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asdlib.features import FeatureStore, FrontEnd
from asdlib.method.augment import AugmentationParams, SpectrumAugmentation
from asdlib.plots.spectrogram import draw_log_mel
from asdlib.plots.style import (
    BLUE,
    GREEN,
    PURPLE,
    VERMILION,
    WIDTH,
    unit_name,
)


def plot_examples(store: FeatureStore, machines: Sequence[str] | None = None) -> Figure:
    """Draw a normal and an anomalous test clip of each machine type, same section, same scale."""
    manifest = store.manifest
    machines = list(machines or sorted(set(manifest["machine"])))
    figure, grid = plt.subplots(
        len(machines),
        2,
        figsize=(WIDTH, 1.0 + 1.45 * len(machines)),
        sharex="row",
        sharey=True,
        squeeze=False,
    )
    for machine, pair in zip(machines, grid, strict=True):
        _draw_pair(store, machine, pair)
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    figure.supylabel("frequency (kHz)", fontsize=10)
    return figure


def _draw_pair(store: FeatureStore, machine: str, pair: Sequence[Axes]) -> None:
    manifest = store.manifest
    test = manifest[(manifest["machine"] == machine) & (manifest["split"] == "test")]
    section = sorted(set(test.loc[test["label"] == "anomaly", "section"]) or set(test["section"]))[
        0
    ]
    test = test[test["section"] == section]
    rows = {label: test.index[test["label"] == label] for label in ("normal", "anomaly")}
    clips = {
        label: store.features[index[0], :, : store.frames[index[0]]].astype(np.float32)
        for label, index in rows.items()
        if len(index)
    }
    together = np.concatenate(list(clips.values()), axis=1)
    limits = float(np.percentile(together, 1)), float(np.percentile(together, 99.8))
    image = None
    for axes, (label, clip) in zip(pair, clips.items(), strict=False):
        image = draw_log_mel(
            axes,
            clip,
            store,
            limits=limits,
        )
        axes.set_title(f"{machine} {section}, {label}")
    if image is not None:
        bar = pair[0].figure.colorbar(image, ax=list(pair), pad=0.01, aspect=12)
        bar.set_label(unit_name(store.front_end.get("unit", "dB")))


def plot_front_ends(log_mels: Mapping[str, tuple[np.ndarray, Any]]) -> Figure:
    """Draw one clip under several front ends.

    Parameters
    ----------
    log_mels
        Name → spectrogram (F, T) and its `FrontEnd`.
    """
    figure, grid = plt.subplots(len(log_mels), 1, figsize=(WIDTH, 2.1 * len(log_mels)))
    for axes, (name, (log_mel, front_end)) in zip(
        np.atleast_1d(grid), log_mels.items(), strict=True
    ):
        image = draw_log_mel(
            axes,
            log_mel,
            front_end,
        )
        axes.set_title(f"{name}: {log_mel.shape[0]} mel bins × {log_mel.shape[1]} frames")
        axes.set_ylabel("frequency (kHz)")
        figure.colorbar(image, ax=axes, pad=0.01).set_label(unit_name(front_end.unit))
    axes.set_xlabel("time (s)")
    return figure


def _augmentation(store: FeatureStore, params: AugmentationParams | None) -> SpectrumAugmentation:
    values = store.features[: min(len(store), 256)].astype(np.float32)
    return SpectrumAugmentation(
        params,
        mean=float(values.mean()),
        std=float(values.std()),
        mel_frequencies=store.mel_frequencies(),
    )


def _training_crops(store: FeatureStore, count: int, crop_frames: int) -> torch.Tensor:
    rows = store.rows(split="train")
    step = max(1, len(rows) // count)
    positions = np.arange(0, len(rows), step)[:count]
    return torch.from_numpy(rows.crops(positions, np.zeros_like(positions), crop_frames))


def plot_augmentation_steps(
    store: FeatureStore,
    *,
    crop_frames: int = 64,
    seed: int = 0,
    params: AugmentationParams | None = None,
) -> Figure:
    """Draw one crop before and after each of the four steps."""
    block = _augmentation(store, params)
    crops = _training_crops(store, 65, min(crop_frames, int(store.frames.min())))
    generator = torch.Generator().manual_seed(seed)
    block(crops[1:], generator)  # fills the bank with other clips
    one = crops[:1]
    stages = {"log-mel crop": one}
    stages["1 pre-norm"] = block.pre_normalise(one)
    stages["2 log-mixup-exp"] = block.log_mixup_exp(stages["1 pre-norm"], generator)
    stages["3 random resize crop"] = block.random_resize_crop(stages["2 log-mixup-exp"], generator)
    stages["4 post-norm"] = block.post_normalise(stages["3 random resize crop"])
    stages["the other view"] = block(one, generator)[1]
    return _draw_stages(store, {name: stage[0].numpy() for name, stage in stages.items()})


def plot_views(
    store: FeatureStore,
    variants: Mapping[str, AugmentationParams],
    *,
    crop_frames: int = 64,
    seed: int = 0,
) -> Figure:
    """Draw the two views of the same crop under several settings of the block, a row each."""
    figure, grid = plt.subplots(
        len(variants), 3, figsize=(WIDTH, 1.0 + 1.5 * len(variants)), sharey=True, squeeze=False
    )
    crops = _training_crops(store, 65, min(crop_frames, int(store.frames.min())))
    for row, (name, params) in zip(grid, variants.items(), strict=True):
        block = _augmentation(store, params)
        generator = torch.Generator().manual_seed(seed)
        block(crops[1:], generator)
        views = block(crops[:1].expand(8, -1, -1), generator)[:, 0]
        pictures = [block.normalise(crops[0]), views[0], views[1]]
        for axes, picture, what in zip(row, pictures, ("input", "view 1", "view 2"), strict=True):
            draw_log_mel(
                axes,
                picture.numpy(),
                store,
                limits=(-2.5, 2.5),
            )
            axes.set_title(f"{name}: {what}" if what == "input" else what)
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    figure.supylabel("frequency (kHz)", fontsize=10)
    return figure


def plot_view_difference(
    store: FeatureStore,
    variants: Mapping[str, AugmentationParams],
    *,
    crop_frames: int = 64,
    seed: int = 0,
) -> Figure:
    """Draw the mean absolute difference of two views against frequency, a line a variant."""
    figure, axes = plt.subplots(figsize=(WIDTH, 3.0))
    crops = _training_crops(store, 128, min(crop_frames, int(store.frames.min())))
    khz = store.mel_frequencies() / 1000
    styles = zip(
        variants.items(), (BLUE, VERMILION, GREEN, PURPLE), ("-", "--", "-.", ":"), strict=False
    )
    for (name, params), colour, line in styles:
        block = _augmentation(store, params)
        generator = torch.Generator().manual_seed(seed)
        block(crops, generator)
        views = block(crops, generator)
        difference = (views[0] - views[1]).abs().mean(dim=(0, 2)).numpy()
        axes.plot(khz, difference, line, color=colour, label=name)
    axes.set_xlabel("frequency (kHz)")
    axes.set_ylabel("mean |view 1 − view 2|\n(standardised)")
    axes.set_ylim(bottom=0)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(variants))
    return figure


def _draw_stages(store: FeatureStore, stages: Mapping[str, np.ndarray]) -> Figure:
    figure, grid = plt.subplots(2, 3, figsize=(WIDTH, 4.6), sharey=True)
    units = [unit_name(store.front_end.get("unit", "dB"))] + ["standardised"] * (len(stages) - 1)
    for axes, unit, (name, picture) in zip(grid.flat, units, stages.items(), strict=True):
        image = draw_log_mel(axes, picture, store)
        axes.set_title(name)
        axes.set_xlabel("time (s)")
        figure.colorbar(image, ax=axes, pad=0.02).set_label(unit)
    figure.supylabel("frequency (kHz)", fontsize=10)
    return figure


def preset_table(presets: Mapping[str, FrontEnd]) -> pd.DataFrame:
    """One row a parameter, one column a preset; what a preset does not know is empty."""
    columns = {name: front_end.describe() for name, front_end in presets.items()}
    table = pd.DataFrame(columns).map(_parameter_text)
    return table.rename_axis("parameter").reset_index()


def _parameter_text(value: Any) -> str:
    if isinstance(value, float):
        return "–" if np.isnan(value) else f"{value:.3g}" if abs(value) < 1 else f"{value:g}"
    return "–" if value is None else unit_name(value)
