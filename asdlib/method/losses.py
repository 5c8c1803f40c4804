"""Losses: what the encoder is trained to do with the embeddings of augmented views.

The supervised contrastive loss pulls views and clips of one class together and pushes other classes
away. ArcFace classifies instead, an extension that is not in the paper.
Everything is computed in float32, also inside autocast.

Shapes: N embeddings in a batch (clips times views), D embedding size, C classes.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from asdlib.errors import ConfigError


def supervised_contrastive_loss(
    embeddings: Tensor,
    labels: Tensor,
    temperature: float = 0.1,
    *,
    domains: Tensor | None = None,
    clips: Tensor | None = None,
    cross_domain: bool = False,
) -> Tensor:
    """Compare every embedding with all others of the batch: own class near, other classes far.

    The mean over anchors i of −1/|P(i)| Σ_p log(exp(zᵢ·z_p/τ) / Σ_a exp(zᵢ·z_a/τ)), with p over
    the positives P(i) of the anchor and a over its positives and its negatives. Negatives are all
    embeddings of other classes [P]. Positives are all other embeddings of the class [I], or, with
    `cross_domain`, those of the class from another domain and the anchor's own other views [P];
    embeddings of its own class and domain are then neither. Anchors without positives are left out.
    With clips instead of classes this is NT-Xent (T. Chen et al., arXiv 2002.05709, Eq. 1).

    Parameters
    ----------
    embeddings
        Shape (N, D), scaled to unit length here.
    labels
        Class of each embedding, shape (N,), integer.
    temperature
        τ > 0; 0.1 as Khosla et al., 0.07 is common too [O].
    domains, clips
        Domain of each embedding and number of the clip behind it, shape (N,), integer; needed by
        `cross_domain`.
    cross_domain
        Take positives from other domains.

    Returns
    -------
    Tensor
        Scalar, float32; 0 if no anchor has a positive.

    Raises
    ------
    ConfigError
        If the temperature is not positive, `domains` or `clips` are missing, or lengths differ.

    Notes
    -----
    P. Khosla et al., "Supervised Contrastive Learning", NeurIPS 2020, arXiv 2004.11362, Eq. 2
    (L_out). Positives across domains of one class: Meng et al., arXiv 2509.15570.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise ConfigError(f"temperature is {temperature}, expected a number above 0, such as 0.1")
    for name, column in (("labels", labels), ("domains", domains), ("clips", clips)):
        if column is not None and column.shape != embeddings.shape[:1]:
            raise ConfigError(
                f"{name} have shape {tuple(column.shape)}, expected ({len(embeddings)},), one for "
                "each embedding"
            )
    same_class = labels[:, None] == labels[None, :]
    positive = same_class & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    if cross_domain:
        if domains is None or clips is None:
            raise ConfigError("cross_domain positives need domains and clips; give both")
        positive &= (domains[:, None] != domains[None, :]) | (clips[:, None] == clips[None, :])
    with torch.autocast(embeddings.device.type, enabled=False):
        similarity = cosines(embeddings, embeddings) / temperature
        n_positive = positive.sum(dim=1)
        anchor = n_positive > 0
        # A sum over nothing has no logarithm; such rows compare with all and then weigh nothing.
        compared = positive | ~same_class | ~anchor[:, None]
        total = torch.logsumexp(similarity.masked_fill(~compared, -torch.inf), dim=1)
        own = (similarity * positive).sum(dim=1) / n_positive.clamp(min=1)
        return ((total - own) * anchor).sum() / anchor.sum().clamp(min=1)


class ArcFaceHead(nn.Module):
    """Classification with an additive angular margin (an extension, not in the paper).

    Parameters
    ----------
    embedding_size, n_classes
        D and C.
    margin, scale
        Angle in radians added to that between an embedding and its class; factor of the cosines.

    Notes
    -----
    J. Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", CVPR 2019,
    arXiv 1801.07698, Eq. 3.
    """

    def __init__(
        self, embedding_size: int, n_classes: int, *, margin: float = 0.5, scale: float = 30.0
    ) -> None:
        super().__init__()
        if not (0 <= margin < math.pi / 2 and scale > 0):
            raise ConfigError(
                f"ArcFace with margin {margin} and scale {scale} is not possible, expected "
                "0 <= margin < 1.57 and scale > 0"
            )
        self.margin = margin
        self.scale = scale
        self.centres = nn.Parameter(torch.empty(n_classes, embedding_size))
        nn.init.xavier_uniform_(self.centres)

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Compute the mean cross-entropy of embeddings (N, D) and classes (N,), float32."""
        with torch.autocast(embeddings.device.type, enabled=False):
            cosine = cosines(embeddings, self.centres)
            angle = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6))
            with_margin = torch.cos(angle + self.margin)
            # Beyond π − margin the cosine would rise again; go on falling with the slope there.
            beyond = cosine - self.margin * math.sin(self.margin)
            with_margin = torch.where(angle < math.pi - self.margin, with_margin, beyond)
            own = functional.one_hot(labels, len(self.centres)).bool()
            return functional.cross_entropy(
                self.scale * torch.where(own, with_margin, cosine), labels
            )


def cosines(embeddings: Tensor, centres: Tensor) -> Tensor:
    """Compute the cosines (N, C) between embeddings (N, D) and centres (C, D), float32."""
    return functional.normalize(embeddings.float(), dim=1) @ (
        functional.normalize(centres.float(), dim=1).T
    )
