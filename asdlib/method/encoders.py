"""Encoders: from a normalised log-mel spectrogram to one embedding.

Every encoder is a stack of convolutions whose feature map is averaged over *time only*: the mel
axis stays apart up to the last layer, because where on the frequency axis something sounds is
what tells machines apart. Any number of frames goes in, so that crops are used in training and
whole clips at test.

The paper pre-trains on AudioSet [P] and refers to MobileFaceNet; training a small network from
scratch is open [O].

Shapes: B batch, F mel bins, T frames, C' channels, F' reduced mel bins, T' reduced frames,
D embedding size.
"""

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from asdlib.errors import ConfigError


class Encoder(nn.Module):
    """What all encoders share: feature map → mean over time → embedding.

    A subclass sets `body`, `last` and the sizes.
    """

    body: nn.Module
    last: nn.Module
    n_mels: int
    embedding_size: int
    time_mean_size: int

    def forward(self, x: Tensor) -> Tensor:
        """Embed.

        Parameters
        ----------
        x
            Normalised log-mel spectrograms, shape (B, F, T).

        Returns
        -------
        Tensor
            Embeddings, shape (B, D).
        """
        return self.embed(self.time_mean(x))

    def feature_map(self, x: Tensor) -> Tensor:
        """Give the last feature map, shape (B, C', F', T'), of spectrograms (B, F, T)."""
        if x.dim() != 3 or x.shape[1] != self.n_mels:
            raise ConfigError(
                f"the encoder got input of shape {tuple(x.shape)}, expected (batch, {self.n_mels} "
                "mel bins, frames)"
            )
        image = x.unsqueeze(1).contiguous(memory_format=torch.channels_last)
        output: Tensor = self.body(image)
        return output

    def time_mean(self, x: Tensor) -> Tensor:
        """Average the feature map over time only, shape (B, C'·F')."""
        return self.feature_map(x).mean(dim=3).flatten(1)

    def embed(self, time_mean: Tensor) -> Tensor:
        """Turn what `time_mean` gives, (B, C'·F'), into the embedding (B, D)."""
        output: Tensor = self.last(time_mean)
        return output


class SmallCNN(Encoder):
    """About 0.24 million parameters: trains in minutes on two CPU cores.

    Four stages, each a convolution with stride 2 and one without; then a linear layer on all
    channels and mel bins of the time mean.

    Parameters
    ----------
    n_mels
        F.
    width
        Channels of the first stage; the later ones have 2, 4 and 4 times as many.
    embedding_size
        D.
    """

    def __init__(self, n_mels: int = 128, *, width: int = 16, embedding_size: int = 128) -> None:
        super().__init__()
        _check_positive(n_mels=n_mels, width=width, embedding_size=embedding_size)
        self.n_mels = n_mels
        self.embedding_size = embedding_size
        channels = (width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        previous, n_bins = 1, n_mels
        for stage, size in enumerate(channels):
            layers.append(_convolution(previous, size, stride=2))
            if stage > 0:
                layers.append(_convolution(size, size))
            previous, n_bins = size, _halved(n_bins)
        self.body = nn.Sequential(*layers)
        self.time_mean_size = previous * n_bins
        self.last = nn.Linear(self.time_mean_size, embedding_size)


class ProjectionHead(nn.Module):
    """Two linear layers with a ReLU between, then unit length: where the contrastive loss acts.

    Parameters
    ----------
    embedding_size
        D of the encoder.
    projection_size
        Size of the output.
    hidden_size
        Size of the inner layer; by default `embedding_size`.

    Notes
    -----
    T. Chen et al., SimCLR, ICML 2020, arXiv 2002.05709, Section 4.2: the layer before the head is
    the better representation.
    """

    def __init__(
        self, embedding_size: int, projection_size: int = 128, *, hidden_size: int | None = None
    ) -> None:
        super().__init__()
        hidden_size = hidden_size or embedding_size
        _check_positive(projection_size=projection_size, hidden_size=hidden_size)
        self.layers = nn.Sequential(
            nn.Linear(embedding_size, hidden_size),
            nn.ReLU(),
            nn.Linear(hidden_size, projection_size),
        )

    def forward(self, embedding: Tensor) -> Tensor:
        """Project embeddings (B, D) to unit vectors (B, `projection_size`), float32."""
        return functional.normalize(self.layers(embedding).float(), dim=1)


ENCODERS: dict[str, Callable[..., Encoder]] = {"small_cnn": SmallCNN}
"""Encoders by name, for configurations."""


def build_encoder(name: str, n_mels: int, **kwargs: Any) -> Encoder:
    """Build an encoder by name.

    Parameters
    ----------
    name
        Key of `ENCODERS`.
    n_mels
        Mel bins of the input.
    **kwargs
        Parameters of the encoder.

    Returns
    -------
    Encoder
        With fresh random weights from torch's global generator.

    Raises
    ------
    ConfigError
        If the name or a parameter is not known.
    """
    if name not in ENCODERS:
        raise ConfigError(f"encoder '{name}' is not known (known: {', '.join(sorted(ENCODERS))})")
    known = [key for key in inspect.signature(ENCODERS[name]).parameters if key != "n_mels"]
    for key in kwargs:
        if key not in known:
            raise ConfigError(
                f"parameter '{key}' is not known to encoder '{name}' (known: {', '.join(known)})"
            )
    return ENCODERS[name](n_mels, **kwargs)


def _convolution(previous: int, size: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(previous, size, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(size),
        nn.ReLU(inplace=True),
    )


def _halved(n_bins: int) -> int:
    return (n_bins + 1) // 2


def _check_positive(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"{name} is {size}, expected at least 1")
