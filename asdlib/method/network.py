"""The network of the contrastive system: encoder, projection head, and perhaps a classifier.

A clip can be looked at on several levels of the network: its input, its last feature map, its
embedding. Each is averaged over time, so that any number of frames goes in.

Shapes: B batch, F mel bins, T frames, C'·F' channels and reduced mel bins, D embedding size.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from asdlib.features import Rows
from asdlib.method.encoders import Encoder, ProjectionHead


class Network(nn.Module):
    """Encoder and projection head; with a classification term, a classifier too.

    Parameters
    ----------
    encoder
        Maps spectrograms (B, F, T) to embeddings (B, D).
    head
        Projects embeddings; the contrastive loss acts on its unit vectors.
    classifier
        Classification loss on embeddings (B, D) and classes (B,).
    """

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

    @property
    def level_sizes(self) -> dict[str, int]:
        """Levels that stand side by side in an embedding of the kind "levels": name → size."""
        encoder = self.encoder
        sizes = (encoder.n_mels, encoder.time_mean_size, encoder.embedding_size)
        return dict(zip(("spectrum", "feature_map", "encoder"), sizes, strict=True))

    def embed(self, log_mel: Tensor, kind: str) -> Tensor:
        """Embed (B, F, T) as (B, D), with `kind` as in `ContrastiveParams.embedding`."""
        found = {"spectrum": log_mel.mean(dim=-1)}
        if kind != "spectrum":
            found["feature_map"] = self.encoder.time_mean(log_mel)
        if kind not in ("spectrum", "feature_map"):
            found["encoder"] = self.encoder.embed(found["feature_map"])
        if kind == "projection":
            found["projection"] = self.head(found["encoder"])
        return torch.cat(list(found.values()), dim=1) if kind == "levels" else found[kind]


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
