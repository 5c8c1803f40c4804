"""Step 3 of the augmentation: random resize crop, bicubic zooming of a whole batch at once.

Every output row is a weighted sum of four input rows, and the same for columns: one
``embedding_bag`` over all rows of the batch each, several times faster than products with
interpolation matrices. The zero canvas is never made, its zeros contribute nothing. Taps beyond
the crop repeat its border as in ``torch.nn.functional.interpolate``, unlike ``grid_sample``.

Shapes: B batch, F mel bins, T frames.
"""

import torch
from torch import Tensor
from torch.nn import functional

CUBIC_A = -0.75
"""Parameter of Keys' cubic kernel, the value that ``interpolate(mode="bicubic")`` uses."""


def draw_crops(
    uniform: Tensor,
    size: tuple[int, int],
    canvas: tuple[int, int],
    frequency_scale: tuple[float, float],
    time_scale: tuple[float, float],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Turn uniform numbers into crop rectangles on a zero canvas with the input in its centre.

    Parameters
    ----------
    uniform
        Numbers in [0, 1): height, width, top, left; shape (B, 4), float64.
    size
        Mel bins and frames of the input.
    canvas
        Mel bins and frames of the canvas, not smaller than `size`.
    frequency_scale, time_scale
        Range of the crop's height and width as a multiple of `size`.

    Returns
    -------
    tuple of Tensor
        Top, left, height, width of each crop in coordinates of the input, shape (B,), int64.
    """
    sides, offsets = [], []
    for axis, (low, high) in enumerate((frequency_scale, time_scale)):
        scale = low + (high - low) * uniform[:, axis]
        side = (scale * size[axis]).floor().to(torch.int64).clamp(1, canvas[axis])
        room = canvas[axis] - side + 1
        offset = (uniform[:, 2 + axis] * room).floor().to(torch.int64)
        sides.append(side)
        offsets.append(offset - (canvas[axis] - size[axis]) // 2)
    return offsets[0], offsets[1], sides[0], sides[1]


def resize_crop(x: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Cut a rectangle out of every sample and resize it to the sample's size, bicubic.

    Parameters
    ----------
    x
        Spectrograms, shape (B, F, T), float32, as the result.
    top, left
        First mel bin and frame of each crop, shape (B,), int64; negative where the crop begins in
        the zeros around the input.
    height, width
        Size of each crop in mel bins and frames, shape (B,), int64.
    """
    columns = _resample(x.transpose(1, 2), left, width).transpose(1, 2)
    return _resample(columns, top, height)


def _resample(x: Tensor, start: Tensor, length: Tensor) -> Tensor:
    """Stretch crops of the second axis of x, shape (B, size, row length)."""
    n_samples, size, row_length = x.shape
    taps, weights = _interpolation_taps(start, length, size)
    taps = taps + size * torch.arange(n_samples, device=x.device)[:, None, None]
    rows = functional.embedding_bag(
        taps.reshape(-1, 4),
        x.reshape(-1, row_length),
        per_sample_weights=weights.reshape(-1, 4),
        mode="sum",
    )
    return rows.reshape(x.shape)


def _interpolation_taps(start: Tensor, length: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Find samples and weights (B, size, 4) that stretch crops to `size`, corners aligned."""
    device = start.device
    out = torch.arange(size, device=device)
    # Whole numbers: a float32 position in a long crop would leave its fraction few digits.
    numerator, steps = out * (length - 1)[:, None], max(size - 1, 1)
    base = numerator // steps
    weights = _cubic_weights((numerator - base * steps).to(torch.float32) / steps)
    taps = base[..., None] + torch.arange(-1, 3, device=device)
    taps = taps.clamp(min=0).minimum((length - 1)[:, None, None]) + start[:, None, None]
    weights = weights * ((taps >= 0) & (taps < size))
    return taps.clamp(0, size - 1), weights


def _cubic_weights(fraction: Tensor) -> Tensor:
    """Weigh the four neighbours (…, 4) of points between the second and the third, 0 to 1, (…).

    R. Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP 29(6),
    1981.
    """
    near = torch.stack((fraction, 1 - fraction), dim=-1)
    inner = ((CUBIC_A + 2) * near - (CUBIC_A + 3)) * near * near + 1
    away = near + 1
    outer = ((CUBIC_A * away - 5 * CUBIC_A) * away + 8 * CUBIC_A) * away - 4 * CUBIC_A
    return torch.stack((outer[..., 0], inner[..., 0], inner[..., 1], outer[..., 1]), dim=-1)
