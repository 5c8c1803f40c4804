from .augment import (
    AugmentationParams as AugmentationParams,
    SpectrumAugmentation as SpectrumAugmentation,
)
from .backends import (
    BACKENDS as BACKENDS,
    SHARES as SHARES,
    Backend as Backend,
    PooledMahalanobis as PooledMahalanobis,
    build_backend as build_backend,
    divide as divide,
    held_out_scores as held_out_scores,
)
from .contrastive import (
    Contrastive as Contrastive,
    ContrastiveParams as ContrastiveParams,
    mean_and_deviation as mean_and_deviation,
)
from .crop import draw_crops as draw_crops, resize_crop as resize_crop
from .encoders import (
    ENCODERS as ENCODERS,
    Encoder as Encoder,
    Network as Network,
    ProjectionHead as ProjectionHead,
    build_encoder as build_encoder,
)
from .losses import (
    ArcFaceHead as ArcFaceHead,
    supervised_contrastive_loss as supervised_contrastive_loss,
)
from .mixing import (
    InputBank as InputBank,
    first_bin_above as first_bin_above,
    log_mixup_exp as log_mixup_exp,
)
from .normalise import PreNorm as PreNorm, post_normalise as post_normalise
from .pretraining import pretrain as pretrain
