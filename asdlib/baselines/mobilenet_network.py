"""MobileNetV2 as Keras builds it, in PyTorch.

Architecture: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks", CVPR 2018,
table 2; details as in ``keras.applications.MobileNetV2``: widths rounded to multiples of eight,
1280 features at the end even for alpha below 1, batch normalisation with momentum 0.999 (0.001 in
PyTorch's way of counting) and epsilon 1e-3, ReLU6, "same" padding, no convolution biases, global
mean, one dense layer.

Shape legend: B batch, W frames of a window, F mel bins, C classes.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class Stage(NamedTuple):
    """Blocks of one width: `n_blocks` blocks, of which the first has `stride`."""

    expansion: int
    width: int
    n_blocks: int
    stride: int


STAGES = (
    Stage(1, 16, 1, 1),
    Stage(6, 24, 2, 2),
    Stage(6, 32, 3, 2),
    Stage(6, 64, 4, 2),
    Stage(6, 96, 3, 1),
    Stage(6, 160, 3, 2),
    Stage(6, 320, 1, 1),
)
"""Table 2 of the paper, widths for alpha = 1."""

_FIRST_WIDTH = 32
_LAST_WIDTH = 1280


def scaled_width(width: int, alpha: float) -> int:
    """Width times alpha, rounded to a multiple of 8 but not down by more than a tenth."""
    wanted = width * alpha
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


class SameConv2d(nn.Conv2d):
    """3 × 3 convolution with the "same" padding of Keras.

    With stride 2 and an even size the odd pixel of padding goes to the end, where PyTorch's own
    symmetric padding would shift the grid by one.
    """

    def __init__(self, n_in: int, n_out: int, stride: int, groups: int = 1) -> None:
        super().__init__(n_in, n_out, 3, stride=stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, W, F); each side shrinks to its size over the stride, rounded up."""
        step = self.stride[0]
        total = [max((-(-size // step) - 1) * step + 3 - size, 0) for size in x.shape[-2:]]
        (top, left), (height, width) = [n // 2 for n in total], total
        return super().forward(pad(x, (left, width - left, top, height - top)))


def _normalise(n_channels: int, momentum: float) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(n_channels, eps=1e-3, momentum=momentum)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow without activation; add the input if the shape is kept."""

    def __init__(
        self, n_in: int, n_out: int, *, stride: int, expansion: int, momentum: float
    ) -> None:
        super().__init__()
        inner = n_in * expansion
        layers: list[nn.Module] = []
        if expansion != 1:
            layers += [
                nn.Conv2d(n_in, inner, 1, bias=False),
                _normalise(inner, momentum),
                nn.ReLU6(inplace=True),
            ]
        layers += [
            SameConv2d(inner, inner, stride, groups=inner),
            _normalise(inner, momentum),
            nn.ReLU6(inplace=True),
            nn.Conv2d(inner, n_out, 1, bias=False),
            _normalise(n_out, momentum),
        ]
        self.layers = nn.Sequential(*layers)
        self.adds_input = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, W, F) to (B, n_out, W / stride, F / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.adds_input else y


class MobileNetV2Network(nn.Module):
    """Windows of log-mel frames in, logits of the classes out.

    Parameters
    ----------
    n_classes
        Classes, C.
    alpha
        Factor of all widths but the last.
    momentum
        Share of a batch in the running statistics.

    Attributes
    ----------
    features
        The convolutions. For alpha 0.5 they hold 706,224 numbers as Keras counts them (weights and
        running statistics of batch normalisation), the published size of the network without top.
    classifier
        The dense layer.
    """

    def __init__(self, n_classes: int, alpha: float = 0.5, momentum: float = 0.001) -> None:
        super().__init__()
        n_in = scaled_width(_FIRST_WIDTH, alpha)
        layers: list[nn.Module] = [
            SameConv2d(3, n_in, 2),
            _normalise(n_in, momentum),
            nn.ReLU6(inplace=True),
        ]
        for expansion, width, n_blocks, first_stride in STAGES:
            n_out = scaled_width(width, alpha)
            for stride in (first_stride, *[1] * (n_blocks - 1)):
                layers.append(
                    InvertedResidual(
                        n_in, n_out, stride=stride, expansion=expansion, momentum=momentum
                    )
                )
                n_in = n_out
        n_last = scaled_width(_LAST_WIDTH, max(alpha, 1.0))
        layers += [
            nn.Conv2d(n_in, n_last, 1, bias=False),
            _normalise(n_last, momentum),
            nn.ReLU6(inplace=True),
        ]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(n_last, n_classes)
        # Two thirds of the time of the usual layout on a CPU.
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, windows: Tensor) -> Tensor:
        """Logits (B, C) of `windows` (B, W, F), which go in as three equal channels."""
        image = windows[:, None].expand(-1, 3, -1, -1)
        image = image.contiguous(memory_format=torch.channels_last)
        features: Tensor = self.features(image)
        logits: Tensor = self.classifier(features.mean(dim=(2, 3)))
        return logits
