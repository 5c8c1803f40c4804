"""The augmentation block, written a second time: one sample at a time, plain, slow.

Numbers that the block draws are arguments here, so that both can be compared. Written from the
description of the method alone; it shares no code with asdlib and makes the canvas for real.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional


@dataclass
class Draw:
    """What one view of one sample draws: six uniform numbers."""

    ratio: float
    partner: float
    height: float
    width: float
    top: float
    left: float


@dataclass
class SlowBlock:
    mean: float
    std: float
    alpha: float = 0.4
    bank_size: int = 2048
    first_bin: int = 0
    frequency_canvas: float = 1.0
    time_canvas: float = 1.5
    scale: tuple[float, float] = (0.6, 1.5)
    bank: list[Tensor] = field(default_factory=list)

    def mix(self, x: Tensor, draw: Draw) -> Tensor:
        if not self.bank:
            return x
        z = self.bank[math.floor(draw.partner * len(self.bank))]
        ratio = self.alpha * draw.ratio
        power = (1 - ratio) * torch.exp(x) + ratio * torch.exp(z)
        mixed = torch.log(power)
        return torch.cat((x[: self.first_bin], mixed[self.first_bin :]))

    def resize_crop(self, x: Tensor, draw: Draw) -> Tensor:
        n_mels, n_frames = x.shape
        canvas_height = math.floor(self.frequency_canvas * n_mels)
        canvas_width = math.floor(self.time_canvas * n_frames)
        canvas = torch.zeros(canvas_height, canvas_width, dtype=x.dtype)
        y, z = (canvas_height - n_mels) // 2, (canvas_width - n_frames) // 2
        canvas[y : y + n_mels, z : z + n_frames] = x
        low, high = self.scale
        height = math.floor((low + (high - low) * draw.height) * n_mels)
        height = min(max(height, 1), canvas_height)
        width = math.floor((low + (high - low) * draw.width) * n_frames)
        width = min(max(width, 1), canvas_width)
        top = math.floor(draw.top * (canvas_height - height + 1))
        left = math.floor(draw.left * (canvas_width - width + 1))
        crop = canvas[top : top + height, left : left + width]
        resized = functional.interpolate(
            crop[None, None], size=(n_mels, n_frames), mode="bicubic", align_corners=True
        )
        return resized[0, 0]

    def __call__(self, batch: list[Tensor], draws: list[list[Draw]]) -> list[list[Tensor]]:
        """Make two views; `draws` has a list for each view with one draw for each sample."""
        normed = [(x - self.mean) / self.std for x in batch]
        views = [
            [self.resize_crop(self.mix(x, d), d) for x, d in zip(normed, row, strict=True)]
            for row in draws
        ]
        for x in normed:
            self.bank.append(x)
            if len(self.bank) > self.bank_size:
                self.bank.pop(0)
        everything = torch.cat([view.flatten() for row in views for view in row])
        mean, std = everything.mean(), everything.std(correction=0)
        return [[(view - mean) / std for view in row] for row in views]
