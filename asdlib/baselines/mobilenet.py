"""The MobileNetV2 of the DCASE 2022 Task 2 baselines.

One network per machine type learns to classify the machine's sections. A clip that does not sound
like its own section is anomalous.

Source: Kota-Dohi/dcase2022_task2_baseline_mobile_net_v2 (commit aaf3932, MIT). Kept: input,
network, initial weights, optimiser, loss, split, score. Not repeated: its threshold is fitted to
another score than the one tested (a misplaced parenthesis), and a section that was not in training
gets NaN. Kept although it looks odd: the windows are sorted by section, so the last tenth, for
validation, comes from the last section or two; set ``validation_fraction`` to 0 to train on all.

The network is that of ``keras.applications.MobileNetV2`` in PyTorch (Sandler et al., "MobileNetV2:
Inverted Residuals and Linear Bottlenecks", CVPR 2018, table 2): widths rounded to multiples of
eight, 1280 features at the end even for alpha below 1, batch normalisation with momentum 0.999
(0.001 in PyTorch's way of counting) and epsilon 1e-3, ReLU6, "same" padding, no convolution biases,
global mean, one dense layer.

Shapes: B batch, F mel bins, W frames of a window, C sections of a machine.
"""

import sys
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import pad

from asdlib.baselines.windows import WindowedBaseline, WindowParams
from asdlib.errors import RunError
from asdlib.features import Rows
from asdlib.method.encoders import whole_width
from asdlib.system import MOST, Count, Progress


class MobileNetV2Params(WindowParams):
    """Parameters of `MobileNetV2`; the defaults are the official ones."""

    epochs: Count = Field(default=20, description="passes over the training windows")
    batch_size: int = Field(default=32, ge=2, le=MOST, description="windows of a training step")
    learning_rate: float = Field(default=1e-5, gt=0.0, description="step size of Adam")
    score_batch_size: Count = Field(default=128, description="windows scored at once")
    n_frames: int = Field(default=64, ge=32, le=MOST, description="frames of a window")
    train_hop_frames: Count = Field(
        default=8, description="frames from one window to the next in training"
    )
    test_hop_frames: Count = Field(
        default=1, description="frames from one window to the next at test"
    )
    alpha: float = Field(default=0.5, gt=0.0, le=8.0, description="factor of the network's widths")
    batch_norm_momentum: float = Field(
        default=0.001,
        gt=0.0,
        le=1.0,
        description="share of a batch in the running statistics; the official value needs some "
        "thousand steps to settle, so raise it for small data",
    )


STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Table 2 of the paper: expansion, width for alpha = 1, blocks, stride of the first of them."""

_FIRST_WIDTH, _LAST_WIDTH = 32, 1280


class SameConv2d(nn.Conv2d):
    """3 × 3 convolution with the "same" padding of Keras: an odd pixel of it goes to the end."""

    def __init__(self, n_in: int, n_out: int, stride: int, groups: int = 1) -> None:
        super().__init__(n_in, n_out, 3, stride=stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C, W, F); each side shrinks to its size over the stride, rounded up."""
        step = self.stride[0]
        total = [max((-(-size // step) - 1) * step + 3 - size, 0) for size in x.shape[-2:]]
        (top, left), (height, width) = [n // 2 for n in total], total
        return super().forward(pad(x, (left, width - left, top, height - top)))


def _with_norm(convolution: nn.Conv2d, momentum: float, *, active: bool = True) -> list[nn.Module]:
    norm = nn.BatchNorm2d(convolution.out_channels, eps=1e-3, momentum=momentum)
    return [convolution, norm, *[nn.ReLU6(inplace=True)] * active]


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow without activation; add the input if the shape is kept."""

    def __init__(self, n_in: int, n_out: int, stride: int, expansion: int, momentum: float) -> None:
        super().__init__()
        inner = n_in * expansion
        widen = nn.Conv2d(n_in, inner, 1, bias=False)
        narrow = nn.Conv2d(inner, n_out, 1, bias=False)
        self.layers = nn.Sequential(
            *(_with_norm(widen, momentum) if expansion != 1 else []),
            *_with_norm(SameConv2d(inner, inner, stride, groups=inner), momentum),
            *_with_norm(narrow, momentum, active=False),
        )
        self.adds_input = stride == 1 and n_in == n_out

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, n_in, W, F) to (B, n_out, W / stride, F / stride)."""
        y: Tensor = self.layers(x)
        return x + y if self.adds_input else y


class MobileNetV2Network(nn.Module):
    """Windows of log-mel frames in, logits of the C classes out: `features`, then `classifier`.

    `alpha` scales all widths but the last; `momentum` is a batch's share of the running statistics.
    """

    def __init__(self, n_classes: int, alpha: float = 0.5, momentum: float = 0.001) -> None:
        super().__init__()
        n_in = whole_width(_FIRST_WIDTH * alpha)
        layers = _with_norm(SameConv2d(3, n_in, 2), momentum)
        for expansion, width, n_blocks, first_stride in STAGES:
            for stride in (first_stride, *[1] * (n_blocks - 1)):
                n_out = whole_width(width * alpha)
                layers.append(InvertedResidual(n_in, n_out, stride, expansion, momentum))
                n_in = n_out
        n_last = whole_width(_LAST_WIDTH * max(alpha, 1.0))
        layers += _with_norm(nn.Conv2d(n_in, n_last, 1, bias=False), momentum)
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


def section_score(probability: Tensor) -> Tensor:
    """Compute the log odds against the own section of windows, (B,), from its probability p (B,).

    ``log(max(1 - p, eps)) - log(max(p, eps))`` with the epsilon of double precision, computed in
    the precision of p as the original does: in single precision the score falls to log(eps) = -36
    as soon as p rounds to 1.
    """
    eps = sys.float_info.epsilon
    return (1.0 - probability).clamp_min(eps).log() - probability.clamp_min(eps).log()


class MobileNetV2(WindowedBaseline[MobileNetV2Params]):
    """The DCASE 2022 Task 2 MobileNetV2 baseline: a clip should sound like its own section.

    The score of a clip is the mean of `section_score` over its windows. The official features have
    the preset "dcase2022". See `MobileNetV2Params` and
    `asdlib.baselines.windows.WindowedBaseline`.
    """

    name = "mobilenetv2"
    Params = MobileNetV2Params
    sort_by = ("section", "clip")

    @property
    def hops(self) -> tuple[int, int]:
        """Frames between the starts of two windows in training and at test."""
        return self.params.train_hop_frames, self.params.test_hop_frames

    def build(self, n_mels: int, n_sections: int) -> nn.Module:
        """Return the network of one machine."""
        return MobileNetV2Network(n_sections, self.params.alpha, self.params.batch_norm_momentum)

    def loss(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Compute the cross-entropy of the sections with the numbers `section` (B,)."""
        return nn.functional.cross_entropy(network(windows), section)

    def window_scores(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Compute scores (B,) of `windows` (B, W, F) against their own `section` (B,)."""
        probability = torch.softmax(network(windows), dim=1)
        return section_score(probability.gather(1, section[:, None]).squeeze(1))

    def _fit(self, rows: Rows, workdir: Path | None, progress: Progress) -> None:
        for machine in sorted(set(rows.manifest["machine"])):
            sections = self._sections_of(machine)
            if len(sections) < 2:
                raise RunError(
                    f"machine '{machine}' has the one section '{sections[0].split('/')[1]}', "
                    "expected at least 2 to classify; add sections or use 'autoencoder2022'"
                )
        super()._fit(rows, workdir, progress)
