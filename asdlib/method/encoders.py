"""Encoders: from a normalised log-mel spectrogram to one embedding.

The feature map of an encoder is averaged over *time only*: where on the frequency axis something
sounds is what tells machines apart. Any number of frames goes in, crops in training and whole clips
at test. The paper pre-trains on AudioSet [P] and refers to MobileFaceNet; training a small network
from scratch is open [O].

Shapes: B batch, F mel bins, T frames, C' channels, F' reduced mel bins, T' reduced frames,
D embedding size.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

from asdlib.errors import ConfigError
from asdlib.features import Rows


class Encoder(nn.Module):
    """Base of all encoders: feature map → mean over time → embedding; a subclass sets all below.

    Attributes
    ----------
    level_names
        Levels, keys of `levels`, that a sum over levels takes.
    statistics
        Mean and deviation that the input was standardised by.
    config
        What it takes to build the encoder of a checkpoint again, as JSON.
    """

    config: dict[str, Any] | None = None
    statistics: tuple[float, float] = (0.0, 1.0)
    level_names: tuple[str, ...] = ("spectrum", "deviation", "feature_map", "encoder")
    body: nn.Module
    last: nn.Module
    n_mels: int
    embedding_size: int

    def train(self, mode: bool = True) -> Self:
        """Set the mode; where nothing is trained, running statistics are not either."""
        return super().train(mode and any(p.requires_grad for p in self.parameters()))

    def forward(self, x: Tensor) -> Tensor:
        """Embed normalised log-mel spectrograms (B, F, T) as (B, D)."""
        return self.embed(self.time_mean(x))

    def feature_map(self, x: Tensor) -> Tensor:
        """Compute the last feature map (B, C', F', T') of spectrograms (B, F, T)."""
        output: Tensor = self.body(self._image(x))
        return output

    def _image(self, x: Tensor) -> Tensor:
        """Turn spectrograms (B, F, T) into the images (B, 1, F, T) that `body` takes."""
        if x.dim() != 3 or x.shape[1] != self.n_mels:
            raise ConfigError(
                f"the encoder got input of shape {tuple(x.shape)}, expected (batch, {self.n_mels} "
                "mel bins, frames)"
            )
        return x.unsqueeze(1).contiguous(memory_format=torch.channels_last)

    def time_mean(self, x: Tensor) -> Tensor:
        """Average the feature map over time only, shape (B, C'·F')."""
        return self.feature_map(x).mean(dim=3).flatten(1)

    def embed(self, time_mean: Tensor) -> Tensor:
        """Turn the result of `time_mean`, (B, C'·F'), into the embedding (B, D)."""
        output: Tensor = self.last(time_mean)
        return output

    def levels(self, x: Tensor) -> dict[str, Tensor]:
        """Describe spectrograms (B, F, T) at several depths, each (B, D).

        The input by its mean ("spectrum") and its deviation over time, then "feature_map" and
        "encoder", the embedding.
        """
        time_mean = self.time_mean(x)
        return spectrum_levels(x) | {"feature_map": time_mean, "encoder": self.embed(time_mean)}


def spectrum_levels(x: Tensor) -> dict[str, Tensor]:
    """Mean and deviation over time of spectrograms (B, F, T), each (B, F)."""
    return {"spectrum": x.mean(dim=-1), "deviation": x.std(dim=-1, correction=0)}


class SmallCNN(Encoder):
    """About 0.24 million parameters with its projection head: trains in minutes on two CPU cores.

    A 5 × 5 convolution and three stages halve mel bins and frames four times; each stage is a
    convolution with stride 2 and one with a shortcut around it. Then a linear layer on all channels
    and mel bins of the time mean. `width` is that of the first stage.
    """

    def __init__(self, n_mels: int = 128, *, width: int = 32, embedding_size: int = 128) -> None:
        super().__init__()
        self.n_mels = n_mels
        self.embedding_size = embedding_size
        layers: list[nn.Module] = [convolution(1, width, 5, stride=2), nn.ReLU(inplace=True)]
        previous = width
        for size in (width, 2 * width, 2 * width):
            layers += [
                convolution(previous, size, 3, stride=2),
                nn.ReLU(inplace=True),
                Shortcut(convolution(size, size, 3)),
                nn.ReLU(inplace=True),
            ]
            previous = size
        self.body = nn.Sequential(*layers)
        self.last = nn.Linear(previous * -(-n_mels // 16), embedding_size)


class MobileFaceNet(Encoder):
    """About a million parameters in depthwise separable convolutions.

    The layers of the original for 112 × 112 faces, on one channel of F × T. Its global depthwise
    convolution weighs every position of the feature map; here it weighs mel bins only.

    Notes
    -----
    S. Chen et al., "MobileFaceNets: Efficient CNNs for Accurate Real-Time Face Verification on
    Mobile Devices", CCBR 2018, arXiv 1804.07573, Table 1.
    """

    def __init__(self, n_mels: int = 128, *, embedding_size: int = 128) -> None:
        super().__init__()
        self.n_mels = n_mels
        self.embedding_size = embedding_size
        layers: list[nn.Module] = [
            convolution(1, 64, 3, stride=2),
            nn.PReLU(64),
            convolution(64, 64, 3, groups=64),
            nn.PReLU(64),
        ]
        previous = 64
        for expansion, size, repeats, stride in (
            (2, 64, 5, 2),
            (4, 128, 1, 2),
            (2, 128, 6, 1),
            (4, 128, 1, 2),
            (2, 128, 2, 1),
        ):
            for repeat in range(repeats):
                first = stride if repeat == 0 else 1
                block = bottleneck(previous, size, expansion, stride=first)
                layers.append(Shortcut(block) if previous == size and first == 1 else block)
                previous = size
        layers += [convolution(128, 512, 1), nn.PReLU(512)]
        self.body = nn.Sequential(*layers)
        n_bins = -(-n_mels // 16)
        self.last = nn.Sequential(
            nn.Unflatten(1, (512, n_bins)),
            nn.Conv1d(512, 512, n_bins, groups=512, bias=False),
            nn.BatchNorm1d(512),
            nn.Flatten(),
            nn.Linear(512, embedding_size, bias=False),
            nn.BatchNorm1d(embedding_size),
        )
        # The layout of the input, for the weights as well: 0.7 of the time on a CPU.
        self.body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


class ProjectionHead(nn.Module):
    """Two linear layers with a ReLU between, then unit length: where the contrastive loss acts.

    Notes
    -----
    T. Chen et al., SimCLR, ICML 2020, arXiv 2002.05709, Section 4.2: the layer before the head is
    the better representation.
    """

    def __init__(self, embedding_size: int, projection_size: int = 128) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(embedding_size, embedding_size),
            nn.ReLU(),
            nn.Linear(embedding_size, projection_size),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """Project embeddings (B, D) to unit vectors (B, `projection_size`), float32."""
        return functional.normalize(self.layers(embedding).float(), dim=1)


class Network(nn.Module):
    """Encoder, projection head, and perhaps a classification loss on embeddings and classes."""

    def __init__(
        self, encoder: Encoder, head: ProjectionHead, classifier: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = head
        self.classifier = classifier

    def forward(self, log_mel: Tensor) -> Tensor:
        """Project (B, F, T) to unit vectors (B, D)."""
        projected: Tensor = self.head(self.encoder(log_mel))
        return projected

    def size_of(self, levels: Sequence[str]) -> list[int]:
        """Size D of each level, found by sending silence through the network for evaluation."""
        silence = torch.zeros(1, self.encoder.n_mels, 64, device=next(self.parameters()).device)
        with torch.inference_mode():
            return [self.eval().embed(silence, [level]).shape[1] for level in levels]

    def embed(self, log_mel: Tensor, levels: Sequence[str]) -> Tensor:
        """Embed (B, F, T) as (B, D): one level of the encoder, or several side by side.

        "projection", the output of the head, counts as a level.
        """
        if {*levels} <= {"spectrum", "deviation"}:
            found = spectrum_levels(log_mel)
        else:
            found = self.encoder.levels(log_mel)
        if "projection" in levels:
            found["projection"] = self.head(found["encoder"])
        return torch.cat([found[level] for level in levels], dim=1)


def measure_batch_norm(
    encoder: nn.Module,
    normalise: Callable[[Tensor], Tensor],
    rows: Rows,
    *,
    seed: int = 0,
    batch_size: int = 64,
) -> None:
    """Measure the statistics of batch normalisation anew, on whole clips without augmentation.

    Training leaves those of augmented crops, which are not what `encoder`, changed in place, sees
    at test. The normal clips `rows`, prepared by `normalise`, come in random order, so that a batch
    has clips of all classes; a last batch of one is left out.

    Notes
    -----
    Y. Wu and J. Johnson, "Rethinking 'Batch' in BatchNorm", 2021, arXiv 2105.07576, Section 3: the
    mean over batches of means and variances, with the weights as they are ("precise BN").
    """
    device = next(encoder.parameters()).device
    order = np.random.default_rng([seed, 2]).permutation(len(rows))

    def batches() -> Iterator[Tensor]:
        for module in encoder.modules():  # dropout must not behave as in training
            module.training = isinstance(module, _BatchNorm)
        for positions, log_mel in rows.select(order).batches(batch_size):
            if len(positions) > 1:
                yield normalise(torch.from_numpy(log_mel).to(device, non_blocking=True))

    update_bn(batches(), encoder)


ENCODERS: dict[str, Callable[[int], Encoder]] = {
    "small_cnn": SmallCNN,
    "mobilefacenet": MobileFaceNet,
}
"""Encoders by name, for configurations; called with the number of mel bins."""


def build_encoder(name: str, n_mels: int) -> Encoder:
    """Build the encoder `name` for `n_mels` mel bins, with weights from torch's global generator.

    Raises
    ------
    ConfigError
        If the name is not a key of `ENCODERS`.
    """
    if name not in ENCODERS:
        raise ConfigError(f"encoder '{name}' is not known (known: {', '.join(sorted(ENCODERS))})")
    return ENCODERS[name](n_mels)


class Shortcut(nn.Module):
    """Add the output of a layer to its input."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """Compute x + layer(x), of the shape of x."""
        output: Tensor = x + self.layer(x)
        return output


def convolution(
    previous: int, size: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """Convolution with zero padding and batch normalisation; a stride of 2 halves, rounding up."""
    padding = kernel // 2
    return nn.Sequential(
        nn.Conv2d(previous, size, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(size),
    )


def whole_width(size: float) -> int:
    """Round a number of channels to a multiple of 8, but not down by more than a tenth."""
    rounded = max(8, int(size + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * size else rounded + 8


def bottleneck(previous: int, size: int, expansion: int, *, stride: int = 1) -> nn.Sequential:
    """Expand the channels, convolve each by itself, and project back without activation."""
    inner = previous * expansion
    return nn.Sequential(
        convolution(previous, inner, 1),
        nn.PReLU(inner),
        convolution(inner, inner, 3, stride=stride, groups=inner),
        nn.PReLU(inner),
        convolution(inner, size, 1),
    )
