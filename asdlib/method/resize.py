"""Random resize crop on log-mel spectrograms: exact bicubic zooming of a whole batch at once.

A crop of a (virtual) zero canvas is resized to the size of the input. Bicubic resizing is
separable and linear, so that it is two small matrices a sample, rows · input · columnsᵀ: a whole
batch becomes two batched matrix products. The canvas is never made, because its zeros
contribute nothing to the products. Unlike ``grid_sample``, taps beyond the crop repeat the
border of the crop, as ``torch.nn.functional.interpolate`` does.

Shapes: B batch, F mel bins, T frames.
"""

import torch
from torch import Tensor

CUBIC_A = -0.75
"""Parameter of Keys' cubic kernel, the value that ``interpolate(mode="bicubic")`` uses."""


def cubic_weights(fraction: Tensor) -> Tensor:
    """Weigh the four neighbours of a point between two samples.

    Parameters
    ----------
    fraction
        Position between the second and the third neighbour, 0 to 1, shape (…).

    Returns
    -------
    Tensor
        Weights that sum to 1, shape (…, 4).

    Notes
    -----
    R. Keys, "Cubic convolution interpolation for digital image processing", IEEE Trans. ASSP 29(6),
    1981, with a = −0.75.
    """
    near = torch.stack((fraction, 1 - fraction), dim=-1)
    inner = ((CUBIC_A + 2) * near - (CUBIC_A + 3)) * near * near + 1
    away = near + 1
    outer = ((CUBIC_A * away - 5 * CUBIC_A) * away + 8 * CUBIC_A) * away - 4 * CUBIC_A
    return torch.stack((outer[..., 0], inner[..., 0], inner[..., 1], outer[..., 1]), dim=-1)


def interpolation_matrix(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Build the matrices that cut `length` samples from `start` on and stretch them to `size`.

    Parameters
    ----------
    start
        First sample of each crop in coordinates of the input, shape (B,), int64. Crops may reach
        beyond the input, where the input counts as zero.
    length
        Number of samples of each crop, at least 1, shape (B,), int64.
    size
        Number of samples of the input and of the output.

    Returns
    -------
    Tensor
        Shape (B, output `size`, input `size`), float32.
    """
    device = start.device
    out = torch.arange(size, device=device)
    # Corners are aligned: output 0 and `size` − 1 are the first and the last sample of the crop.
    source = (out * (length - 1)[:, None]).to(torch.float32) / max(size - 1, 1)
    base = source.floor()
    weights = cubic_weights(source - base)
    taps = base.to(torch.int64)[..., None] + torch.arange(-1, 3, device=device)
    taps = taps.clamp(min=0).minimum((length - 1)[:, None, None]) + start[:, None, None]
    weights = weights * ((taps >= 0) & (taps < size))
    taps = taps.clamp(0, size - 1)
    matrix = torch.zeros(len(start), size, size, device=device)
    # One tap at a time: no cell is written twice in a call, hence the same sums on every device.
    for tap in range(4):
        matrix.scatter_add_(2, taps[..., tap : tap + 1], weights[..., tap : tap + 1])
    return matrix


def resize_crop(x: Tensor, top: Tensor, left: Tensor, height: Tensor, width: Tensor) -> Tensor:
    """Cut a rectangle out of every sample and resize it to the sample's size, bicubic.

    Parameters
    ----------
    x
        Spectrograms, shape (B, F, T), float32.
    top, left
        First mel bin and first frame of each crop in coordinates of the input, shape (B,), int64;
        negative where the crop begins in the zeros around the input.
    height, width
        Size of each crop in mel bins and frames, shape (B,), int64.

    Returns
    -------
    Tensor
        Shape (B, F, T), float32.
    """
    rows = interpolation_matrix(top, height, x.shape[1])
    columns = interpolation_matrix(left, width, x.shape[2])
    return torch.bmm(torch.bmm(rows, x), columns.transpose(1, 2))


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
