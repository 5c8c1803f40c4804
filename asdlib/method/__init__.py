"""The method: augmentation, encoders, losses, training, and from embeddings to anomaly scores.

In the order of the data: `PreNorm`, `log_mixup_exp` and `InputBank`, `draw_crops` and
`resize_crop`, `post_normalise` are the four steps that `SpectrumAugmentation` puts together;
`build_encoder` makes an encoder and `Network` adds the projection head;
`supervised_contrastive_loss` and its relatives compare the two views; `build_backend` makes a
back-end, which turns embeddings into anomaly scores. `Contrastive` is the complete system,
`pretrain` trains an encoder without labels.
"""

from asdlib.method.augment import AugmentationParams, SpectrumAugmentation
from asdlib.method.backends import (
    BACKENDS,
    SHARES,
    Backend,
    PooledMahalanobis,
    build_backend,
    held_out_scores,
    surprise_of_shares,
)
from asdlib.method.contrastive import Contrastive, ContrastiveParams, mean_and_deviation
from asdlib.method.crop import draw_crops, resize_crop
from asdlib.method.encoders import ENCODERS, Encoder, ProjectionHead, build_encoder
from asdlib.method.losses import (
    ArcFaceHead,
    SubClusterAdaCosHead,
    nt_xent_loss,
    supervised_contrastive_loss,
)
from asdlib.method.mixing import InputBank, first_bin_above, log_mixup_exp
from asdlib.method.network import Network
from asdlib.method.normalise import PreNorm, post_normalise
from asdlib.method.pretraining import pretrain

__all__ = [
    "BACKENDS",
    "ENCODERS",
    "SHARES",
    "ArcFaceHead",
    "AugmentationParams",
    "Backend",
    "Contrastive",
    "ContrastiveParams",
    "Encoder",
    "InputBank",
    "Network",
    "PooledMahalanobis",
    "PreNorm",
    "ProjectionHead",
    "SpectrumAugmentation",
    "SubClusterAdaCosHead",
    "build_backend",
    "build_encoder",
    "draw_crops",
    "first_bin_above",
    "held_out_scores",
    "log_mixup_exp",
    "mean_and_deviation",
    "nt_xent_loss",
    "post_normalise",
    "pretrain",
    "resize_crop",
    "supervised_contrastive_loss",
    "surprise_of_shares",
]
