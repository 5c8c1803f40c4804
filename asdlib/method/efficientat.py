"""The MobileNetV3 of AudioSet that EfficientAT publishes, mn01 to mn40, as an encoder.

F. Schmid, K. Koutini and G. Widmer, "Efficient Large-Scale Audio Tagging via Transformer-to-CNN
Knowledge Distillation", ICASSP 2023, arXiv 2211.04772. The layers are those of the large network of
A. Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv 1905.02244, Table 1, with one input
channel and all channels times a width.

Shapes: B batch, C channels, F mel bins, T frames.
"""

from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from asdlib.errors import RunError
from asdlib.features import PRESETS
from asdlib.method.encoders import Encoder, convolution, spectrum_levels
from asdlib.method.weights import PretrainedParams, add_adapters, weight_files
from asdlib.system import with_prefix

_BLOCKS = (  # kernel, expanded channels, channels, squeeze and excitation, activation, stride
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    (5, 120, 40, True, nn.ReLU, 1),
    (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2),
    (5, 960, 160, True, nn.Hardswish, 1),
    (5, 960, 160, True, nn.Hardswish, 1),
)
_LAST = "features.16.0.weight"  # of shape (960 · width, C, 1, 1)
_DEPTHS = (3, 6, 12, 15)  # the last block of each resolution, of at most 512 numbers for mn04


class EfficientAT(Encoder):
    """Encoder for the front end ``efficientat``; one million parameters at width 0.4 (mn04).

    The embedding is what the published classifier reads: the mean of the last feature map over time
    and frequency, 960 · width numbers.

    Parameters
    ----------
    config
        ``width`` of the network: 0.4 for mn04, 1.0 for mn10.
    params
        What is trained.
    published
        Published weights by name; without them, random ones, to be loaded afterwards.

    Notes
    -----
    The encoder undoes the standardisation by `statistics`, and does what the network was trained
    with: (log-mel + 4.5) / 5.
    """

    level_names = (
        "spectrum",
        "deviation",
        *(f"map_{depth}{statistic}" for depth in _DEPTHS for statistic in ("", "_deviation")),
    )

    def __init__(
        self,
        config: dict[str, Any],
        params: PretrainedParams,
        published: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.n_mels = PRESETS["efficientat"].n_mels
        width = config["width"]
        previous = _channels(16 * width)
        layers: list[nn.Module] = [convolution(1, previous, 3, stride=2).append(nn.Hardswish())]
        for kernel, expanded, size, excited, activation, stride in _BLOCKS:
            inner, size = _channels(expanded * width), _channels(size * width)
            block = nn.Sequential()
            if inner != previous:
                block.append(convolution(previous, inner, 1).append(activation()))
            depthwise = convolution(inner, inner, kernel, stride=stride, groups=inner)
            block.append(depthwise.append(activation()))
            if excited:
                block.append(_Excitation(inner))
            block.append(convolution(inner, size, 1))
            layers.append(_Block(block, shortcut=stride == 1 and previous == size))
            previous = size
        self.embedding_size = 6 * previous
        layers.append(convolution(previous, self.embedding_size, 1).append(nn.Hardswish()))
        self.body = nn.Sequential(*layers)
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 1e-3, 0.01
        n_bins = -(-self.n_mels // 32)
        over_frequency = nn.Unflatten(1, (self.embedding_size, n_bins)), nn.AdaptiveAvgPool1d(1)
        self.last = nn.Sequential(*over_frequency, nn.Flatten())
        if published:
            renamed = {k.replace("conc_se_layers.0.", ""): v for k, v in published.items()}
            self.body.load_state_dict(with_prefix(renamed, "features."))
        if params.mode == "lora":
            pointwise = [
                name
                for name, module in self.body.named_modules()
                if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
            ]
            add_adapters(self.body, params, pointwise)
        self.body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _image(self, x: Tensor) -> Tensor:
        mean, deviation = self.statistics
        return super()._image((x * deviation + mean + 4.5) / 5.0)

    def levels(self, x: Tensor) -> dict[str, Tensor]:
        """See `Encoder.levels`; also mean and deviation over time of maps at four depths."""
        found = spectrum_levels(x)
        image = self._image(x)
        for depth, block in enumerate(self.body.children()):
            image = block(image)
            if depth in _DEPTHS:
                found[f"map_{depth}"] = image.mean(dim=3).flatten(1)
                found[f"map_{depth}_deviation"] = image.std(dim=3, correction=0).flatten(1)
        found["feature_map"] = image.mean(dim=3).flatten(1)
        return found | {"encoder": self.embed(found["feature_map"])}

    @staticmethod
    def front_end(folder: Path) -> dict[str, Any]:
        """Return the front end of all networks of the main line, as in stores."""
        return PRESETS["efficientat"].describe()

    @classmethod
    def from_folder(cls, folder: Path, params: PretrainedParams) -> Self:
        """Read the published weights in `folder`, in the safetensors format.

        Raises
        ------
        RunError
            If weights are missing or damaged, or of another network.
        """
        files = weight_files(folder)
        try:
            published = load_file(files[0])
            return cls({"width": len(published[_LAST]) / 960}, params, published)
        except (OSError, SafetensorError, RuntimeError, KeyError) as error:
            raise RunError(
                f"weights '{files[0]}' are damaged or not those of a MobileNetV3 of EfficientAT; "
                "fetch or copy them again"
            ) from error


class _Block(nn.Module):
    """Layers, around which the input may pass."""

    def __init__(self, block: nn.Sequential, *, shortcut: bool) -> None:
        super().__init__()
        self.block = block
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.block(x)
        return x + output if self.shortcut else output


class _Excitation(nn.Module):
    """Weigh each channel of (B, C, F, T) by what all channels hold on average.

    J. Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv 1709.01507.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(n_channels, _channels(n_channels // 4))
        self.fc2 = nn.Linear(_channels(n_channels // 4), n_channels)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.fc2(self.fc1(x.mean(dim=(2, 3))).relu()).sigmoid()
        return x * weights[:, :, None, None]


def _channels(size: float) -> int:
    """Round to the nearest multiple of 8, but not more than 10 % down."""
    rounded = max(8, int(size + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * size else rounded + 8
