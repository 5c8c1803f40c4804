"""The network of the contrastive system: encoder, projection head, and perhaps a classifier.

A clip can be looked at on several levels of the network: its input, its last feature map, its
embedding. Each is averaged over time, so that any number of frames goes in.

Shapes: B batch, F mel bins, T frames, C'·F' channels and reduced mel bins, D embedding size.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from asdlib.features import Rows
from asdlib.method.encoders import ProjectionHead
from asdlib.method.losses import ArcFaceHead, SubClusterAdaCosHead
from asdlib.method.parameters import ContrastiveParams
from asdlib.method.pretrained import make_encoder


class Network(nn.Module):
    """Encoder and projection head; with a classification term, a classifier too.

    Parameters
    ----------
    params
        Parameters of the system.
    n_mels
        Number of mel bins F.
    description
        Of a saved encoder, whose weights are loaded afterwards; see `make_encoder`.
    n_classes
        Classes of the classification term, which only a classifier needs.
    """

    def __init__(
        self,
        params: ContrastiveParams,
        n_mels: int,
        description: dict[str, Any] | None = None,
        *,
        n_classes: int = 0,
    ) -> None:
        super().__init__()
        self.n_mels = n_mels
        self.projection_size = params.projection_size
        self.encoder = make_encoder(params.encoder, n_mels, params.pretrained, description)
        size = self.encoder.embedding_size
        self.head = ProjectionHead(size, params.projection_size)
        self.classifier: nn.Module | None = None
        if params.classifier == "arcface":
            self.classifier = ArcFaceHead(
                size, n_classes, margin=params.arcface_margin, scale=params.arcface_scale
            )
        elif params.classifier == "sub_cluster_adacos":
            self.classifier = SubClusterAdaCosHead(
                size, n_classes, n_subclusters=params.subclusters
            )

    def forward(self, log_mel: Tensor) -> Tensor:
        """Project (B, F, T) to unit vectors (B, D)."""
        projected: Tensor = self.head(self.encoder(log_mel))
        return projected

    def embed(self, log_mel: Tensor, kind: str) -> Tensor:
        """Embed (B, F, T) as (B, D), with `kind` as in `ContrastiveParams.embedding`."""
        if kind == "spectrum":
            return log_mel.mean(dim=-1)
        time_mean = self.encoder.time_mean(log_mel)
        if kind == "feature_map":
            return time_mean
        embedding: Tensor = self.encoder.embed(time_mean)
        if kind == "levels":
            return torch.cat([log_mel.mean(dim=-1), time_mean, embedding], dim=1)
        if kind == "projection":
            embedding = self.head(embedding)
        return embedding

    def levels(self, kind: str) -> dict[str, int]:
        """Give the levels in what `embed` gives for `kind`: name → size, in their order."""
        sizes = {
            "spectrum": self.n_mels,
            "feature_map": self.encoder.time_mean_size,
            "encoder": self.encoder.embedding_size,
        }
        if kind == "levels":
            return sizes
        return {kind: (sizes | {"projection": self.projection_size})[kind]}


def class_names(sections: Sequence[str], classes: str) -> list[str]:
    """Give the names of the classes of sections ``machine/section``, sorted and each once."""
    names = sections if classes == "section" else [name.rpartition("/")[0] for name in sections]
    return sorted(set(names))


def measure_batch_norm(
    encoder: nn.Module,
    normalise: Callable[[Tensor], Tensor],
    rows: Rows,
    *,
    seed: int = 0,
    batch_size: int = 64,
) -> None:
    """Measure the statistics of batch normalisation anew, on whole clips without augmentation.

    Training leaves the statistics of augmented crops, which are not what the encoder sees at
    test. The clips come in random order, as the statistics of a batch need clips of all classes.
    An encoder without batch normalisation stays as it is.

    Parameters
    ----------
    encoder
        Changed in place.
    normalise
        What prepares log-mel spectrograms at test.
    rows
        Normal training clips.
    seed
        Seed of the order.
    batch_size
        Clips in a batch; a batch of one clip is left out, it may have no variance.

    Notes
    -----
    Y. Wu and J. Johnson, "Rethinking 'Batch' in BatchNorm", 2021, arXiv 2105.07576, Section 3: the
    mean over batches of means and variances, with the weights as they are ("precise BN").
    """
    layers = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    was_training = encoder.training
    device = next(encoder.parameters()).device
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None
    order = np.random.default_rng([seed, 2]).permutation(len(rows))
    # Only batch normalisation may behave as in training: dropout must not.
    encoder.eval()
    for layer in layers:
        layer.train()
    with torch.no_grad():
        for positions, log_mel in rows.select(order).batches(batch_size):
            if len(positions) > 1:
                encoder(normalise(torch.from_numpy(log_mel).to(device)))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    encoder.train(was_training)
