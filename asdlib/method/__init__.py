"""The method: augmentation, encoders, losses, training, and from embeddings to anomaly scores.

In the order of the data: `PreNorm`, `log_mixup_exp` and `InputBank`, `draw_crops` and
`resize_crop`, `post_normalise` are the four steps that `SpectrumAugmentation` puts together;
`build_encoder` makes an encoder and `Network` adds the projection head;
`supervised_contrastive_loss` and its relatives compare the two views; `build_backend` makes a
back-end, which turns embeddings into anomaly scores. `Contrastive` is the complete system,
`pretrain` trains an encoder without labels.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
