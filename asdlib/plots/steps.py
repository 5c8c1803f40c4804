"""Crops of training clips, and the augmentation block for them."""

import numpy as np
import torch

from asdlib.features import FeatureStore
from asdlib.method.augment import AugmentationParams, SpectrumAugmentation
from asdlib.method.contrastive import mean_and_deviation

HEARD_FRAMES = 96


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
