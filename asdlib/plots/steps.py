"""Pictures and sounds of the four steps of the augmentation block, one step at a time.

Shapes: B batch, F mel bins, T frames, V views (2).
"""

from collections.abc import Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from asdlib.features import FeatureStore
from asdlib.method.augment import AugmentationParams, SpectrumAugmentation
from asdlib.method.contrastive import mean_and_deviation
from asdlib.method.mixing import first_bin_above, log_mixup_exp
from asdlib.method.resize import draw_crops, resize_crop
from asdlib.plots.sound import Card, log_mel_to_audio, show_cards
from asdlib.plots.spectrogram import draw_log_mel
from asdlib.plots.style import BLUE, GREY, INK, ORANGE, VERMILION, WIDTH, unit_name

LIMITS = (-2.5, 2.5)
"""Colour scale of standardised spectrograms: mean ± 2.5 deviations."""
HEARD_FRAMES = 96
_ITERATIONS = 20


def make_block(
    store: FeatureStore, params: AugmentationParams | None = None
) -> SpectrumAugmentation:
    """Build the augmentation block with the statistics of the store's training clips."""
    mean, std = mean_and_deviation(store.rows(split="train"))
    return SpectrumAugmentation(params, mean=mean, std=std, mel_frequencies=store.mel_frequencies())


def training_crops(store: FeatureStore, count: int, crop_frames: int) -> torch.Tensor:
    """Cut the beginnings of training clips that lie far apart in the store, shape (B, F, T)."""
    rows = store.rows(split="train")
    frames = min(crop_frames, int(rows.frames.min()))
    positions = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    return torch.from_numpy(rows.crops(positions, np.zeros_like(positions), frames))


def plot_pre_norm(store: FeatureStore) -> Figure:
    """Draw the quietest and the loudest training clip: as stored, and normalised in two ways.

    The middle column is pre-norm. In the right one each clip has its own mean and deviation.
    """
    rows = store.rows(split="train")
    clips = training_crops(store, len(rows), HEARD_FRAMES)
    levels = clips.mean(dim=(1, 2))
    chosen = clips[[int(levels.argmin()), int(levels.argmax())]]
    block = make_block(store)
    own = (chosen - chosen.mean(dim=(1, 2), keepdim=True)) / chosen.std(dim=(1, 2), keepdim=True)
    columns = {
        "as stored": (chosen, unit_name(store.front_end.get("unit", "dB"))),
        "pre-norm": (block.pre_normalise(chosen), "standard deviations"),
        "each by itself": (own, "standard deviations"),
    }
    figure, grid = plt.subplots(2, 3, figsize=(WIDTH, 4.2), sharex=True, sharey=True)
    for column, (name, (pictures, unit)) in zip(grid.T, columns.items(), strict=True):
        low, high = np.percentile(pictures.numpy(), [1, 99.8])
        limits = (float(low), float(high)) if name == "as stored" else LIMITS
        for axes, picture, which in zip(column, pictures, ("quietest", "loudest"), strict=True):
            image = draw_log_mel(
                axes,
                picture.numpy(),
                store,
                limits=limits,
            )
            axes.set_title(name if which == "quietest" else "")
            if name == "as stored":
                axes.set_ylabel(f"{which} clip")
        figure.colorbar(image, ax=list(column), location="bottom", aspect=25).set_label(unit)
        column[-1].set_xlabel("time (s)")
    figure.supylabel("frequency (kHz)", fontsize=11)
    return figure


def mixing_levels(std: float, ratios: Sequence[float] = (0.1, 0.2, 0.3, 0.4)) -> pd.DataFrame:
    """Say what a share λ does to the level of the input and of the partner, in dB.

    Parameters
    ----------
    std
        Deviation that pre-norm divided by, in dB.
    ratios
        Values of λ.

    Returns
    -------
    One row a λ; "here" is mixing after pre-norm, "as power" mixing of mel power.
    """
    share = np.asarray(ratios)
    columns = {
        "λ": share,
        "input here (dB)": std * np.log(1 - share),
        "partner here (dB)": std * np.log(share),
        "input as power (dB)": 10 * np.log10(1 - share),
        "partner as power (dB)": 10 * np.log10(share),
    }
    return pd.DataFrame(columns)


def hear_mixing(
    store: FeatureStore, *, ratios: Sequence[float] = (0.2, 0.4), cutoff_hz: float = 2000.0
) -> Any:
    """Show an input, a past input, and their mixtures as cards with sound.

    Parameters
    ----------
    store
        Where the clips come from.
    ratios
        Shares λ of the past input.
    cutoff_hz
        Lowest frequency that is mixed in the last card.
    """
    block = make_block(store)
    x, z = _input_and_partner(store, block)
    first = first_bin_above(store.mel_frequencies(), cutoff_hz)
    stages = {"input": x, "past input": z}
    for ratio in ratios:
        stages[f"mixed, λ = {ratio:g}"] = log_mixup_exp(x, z, torch.tensor([ratio]))
    high = x.clone()
    high[:, first:] = stages[f"mixed, λ = {ratios[-1]:g}"][:, first:]
    stages[f"mixed above {cutoff_hz / 1000:g} kHz, λ = {ratios[-1]:g}"] = high
    return show_stages(store, block, stages)


def plot_mixing_spectra(store: FeatureStore, *, ratio: float = 0.4) -> Figure:
    """Draw mean spectra of an input, a past input, and both ways to mix them."""
    block = make_block(store)
    x, z = _input_and_partner(store, block)
    mixed = log_mixup_exp(x, z, torch.tensor([ratio]))
    lines = {
        "input": (x, BLUE, "-"),
        "past input": (z, ORANGE, "-"),
        "log-mixup-exp": (mixed, INK, "-"),
        "mean of logarithms": ((1 - ratio) * x + ratio * z, GREY, "--"),
    }
    figure, axes = plt.subplots(figsize=(WIDTH, 3.4))
    khz = store.mel_frequencies() / 1000
    for name, (spectrogram, colour, style) in lines.items():
        axes.plot(khz, spectrogram[0].mean(dim=1), style, color=colour, label=name)
    axes.set_xlabel("frequency (kHz)")
    axes.set_ylabel("mean over time\n(standard deviations)")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def draw_boxes(
    n_draws: int, size: tuple[int, int], seed: int, params: AugmentationParams | None = None
) -> tuple[torch.Tensor, ...]:
    """Draw crops of the random resize crop: top, left, height, width, each of shape (B,)."""
    params = params or AugmentationParams()
    generator = torch.Generator().manual_seed(seed)
    uniform = torch.rand(n_draws, 4, generator=generator, dtype=torch.float64)
    canvas = int(params.frequency_canvas * size[0]), int(params.time_canvas * size[1])
    return draw_crops(uniform, size, canvas, params.frequency_scale, params.time_scale)


def plot_crops(store: FeatureStore, *, draws: int = 3, seed: int = 3) -> Figure:
    """Draw one input on its canvas with the crops that were drawn, and what becomes of them."""
    block = make_block(store)
    x, _ = _input_and_partner(store, block)
    n_mels, n_frames = x.shape[1:]
    boxes = draw_boxes(draws, (n_mels, n_frames), seed)
    views = resize_crop(x.expand(draws, -1, -1).contiguous(), *boxes)
    second = float(store.front_end.get("hop_length", 512)) / 16000
    figure, grid = plt.subplots(2, draws, figsize=(WIDTH, 4.2), sharey=True, sharex="row")
    for i, (above, below) in enumerate(grid.T):
        margin = n_frames // 4
        canvas = np.zeros((n_mels, n_frames + 2 * margin), np.float32)
        canvas[:, margin : margin + n_frames] = x[0].numpy()
        top, left, height, width = (int(side[i]) for side in boxes)
        for axes, picture in ((above, canvas), (below, views[i].numpy())):
            image = draw_log_mel(axes, picture, store, limits=LIMITS)
        corner = ((left + margin) * second, top - 0.5)
        above.add_patch(
            Rectangle(
                corner,
                width * second,
                height,
                fill=False,
                edgecolor="white",
                linewidth=3,
                clip_on=False,
            )
        )
        above.add_patch(
            Rectangle(
                corner,
                width * second,
                height,
                fill=False,
                edgecolor=BLUE,
                linestyle="--",
                clip_on=False,
            )
        )
        above.set_title(f"crop {i + 1}")
        below.set_title(f"crop {i + 1}, resized")
        below.set_xlabel("time (s)")
    figure.supylabel("frequency (kHz)", fontsize=11)
    figure.colorbar(image, ax=grid, pad=0.01, aspect=30).set_label("standard deviations")
    return figure


def hear_crops(store: FeatureStore, *, draws: int = 3, seed: int = 3) -> Any:
    """Show an input and some of its random resize crops as cards with sound."""
    block = make_block(store)
    x, _ = _input_and_partner(store, block)
    boxes = draw_boxes(draws, (x.shape[1], x.shape[2]), seed)
    views = resize_crop(x.expand(draws, -1, -1).contiguous(), *boxes)
    stages = {"input": x} | {f"crop {i + 1}, resized": views[i : i + 1] for i in range(draws)}
    return show_stages(store, block, stages)


def zoomed_share(*, draws: int = 100_000, seed: int = 0) -> float:
    """Share of draws that zoom in on frequency, counted."""
    height = draw_boxes(draws, (1000, 1000), seed)[2]
    return float((height < 1000).double().mean())


def plot_crop_sizes(*, draws: int = 400, seed: int = 0) -> Figure:
    """Draw the sizes of many crops, as multiples of the input."""
    _, _, height, width = draw_boxes(draws, (1000, 1000), seed)
    zoomed = height < 1000
    figure, axes = plt.subplots(figsize=(0.75 * WIDTH, 3.4))
    for mask, colour, name in (
        (zoomed, VERMILION, "frequency zoomed in"),
        (~zoomed, BLUE, "full height"),
    ):
        axes.plot(
            width[mask] / 1000, height[mask] / 1000, "o", color=colour, markersize=3, label=name
        )
    axes.axvline(1.0, color=GREY, linestyle=":", linewidth=1)
    axes.set_xlabel("width of the crop / width of the input")
    axes.set_ylabel("height of the crop /\nheight of the input")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def show_stages(
    store: FeatureStore, block: SpectrumAugmentation, stages: dict[str, torch.Tensor]
) -> Any:
    """Show standardised spectrograms (1, F, T) as cards; their sound has the store's unit again."""
    cards = {}
    for name, stage in stages.items():
        log_mel = stage[0].numpy()
        sound = log_mel_to_audio(log_mel * block.std + block.mean, store, iterations=_ITERATIONS)
        cards[name] = Card(log_mel, sound)
    return show_cards(cards, store, unit="standard deviations", limits=LIMITS)


def _input_and_partner(
    store: FeatureStore, block: SpectrumAugmentation
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the most eventful training clip and the steadiest, pre-normalised, each (1, F, T)."""
    crops = block.pre_normalise(training_crops(store, 64, HEARD_FRAMES))
    events = crops.mean(dim=1).std(dim=1)
    return crops[[int(events.argmax())]], crops[[int(events.argmin())]]
