"""The ablation as one declared table.

A variant changes one thing of the contrastive system, or the data that it is trained on, and is
compared with ``full`` on the same test clips and seeds. The command line and the notebook take
their variants from here; `asdlib.study.ablate` runs them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from asdlib.errors import ConfigError
from asdlib.study.networks import SCORING

FULL = "full"


@dataclass(frozen=True)
class Variant:
    """One variant of the ablation.

    Attributes
    ----------
    group
        What kind of question it answers, one of `GROUPS`.
    name
        Its name in tables and figures.
    changes
        Parameters of the contrastive system that differ from ``full``.
    front_end
        ``store``: that of the store; ``half-bins``: derived from it, see `derived.half_bins`; else
        a preset, which needs the recordings.
    share
        Share of the training clips. Epochs are multiplied by its inverse, so that the number of
        training steps stays the same.
    """

    group: str
    name: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    front_end: str = "store"
    share: float = 1.0

    @property
    def shares_network(self) -> bool:
        """Whether it is scored with the network of ``full`` and needs no training."""
        return self.front_end == "store" and self.share == 1 and set(self.changes) <= set(SCORING)


def _steps(**steps: Any) -> dict[str, Any]:
    return {"augmentation": steps}


_BACKENDS = (
    *("mahalanobis", "pooled_mahalanobis", "selective_mahalanobis", "knn"),
    *("local_density_knn", "class_mean", "gaussian_mixture"),
)

VARIANTS: tuple[Variant, ...] = (
    Variant("steps", "no pre-norm", _steps(pre_norm=False)),
    Variant("steps", "no mixup", _steps(mixup=False)),
    Variant("steps", "no RRC", _steps(rrc=False)),
    Variant("steps", "no post-norm", _steps(post_norm=False)),
    Variant("steps", "only mixup", _steps(rrc=False, post_norm=False)),
    Variant("steps", "only RRC", _steps(mixup=False, post_norm=False)),
    Variant("steps", "only post-norm", _steps(mixup=False, rrc=False)),
    Variant("steps", "none", _steps(mixup=False, rrc=False, post_norm=False)),
    Variant(
        "steps",
        "none, not even pre-norm",
        _steps(pre_norm=False, mixup=False, rrc=False, post_norm=False),
    ),
    *(
        Variant("mixing", f"mixing above {hz / 1000:g} kHz", _steps(mixing="high", cutoff_hz=hz))
        for hz in (500.0, 1000.0, 2000.0, 4000.0)
    ),
    Variant("front-ends", "half as many mel bins", front_end="half-bins"),
    Variant("front-ends", "byola front end", front_end="byola"),
    Variant("losses", "contrast alone", {"classifier": "none"}),
    Variant("losses", "contrast of views only (NT-Xent)", {"loss": "nt_xent"}),
    Variant("losses", "contrast and ArcFace", {"classifier": "arcface"}),
    Variant("losses", "contrast and sub-cluster AdaCos", {"classifier": "sub_cluster_adacos"}),
    Variant("losses", "ArcFace alone", {"classifier": "arcface", "contrast_weight": 0.0}),
    Variant("losses", "no training at all", {"epochs": 0}),
    Variant("encoders", "encoder: mobilefacenet", {"encoder": "mobilefacenet"}),
    *(
        Variant("back-ends", f"encoder, {name}", {"embedding": "encoder", "backend": name})
        for name in _BACKENDS
    ),
    *(
        Variant(
            "embeddings",
            f"{embedding.replace('_', ' ')}, {backend}",
            {"embedding": embedding, "backend": backend},
        )
        for embedding, backends in (
            ("spectrum", ("mahalanobis", "pooled_mahalanobis", "knn")),
            ("feature_map", ("mahalanobis", "knn")),
            ("projection", ("mahalanobis", "knn")),
        )
        for backend in backends
    ),
    Variant("embeddings", "all levels", {"embedding": "levels", "backend": "level_sum"}),
    Variant("segments", "sliding window at test", {"segment": "sliding"}),
    Variant("segments", "each view a crop of its own", {"crops": "different"}),
    Variant("segments", "batch norm of training crops", {"batch_norm": "training"}),
    Variant("data", "half of the training clips", share=0.5),
    Variant("data", "a quarter of the training clips", share=0.25),
    Variant("classes", "a class is a machine type", {"classes": "machine"}),
)
""""only …" and "none" keep pre-norm: without it nothing is standardised, which "no pre-norm" and
"none, not even pre-norm" show on their own."""

GROUPS: tuple[str, ...] = tuple(dict.fromkeys(variant.group for variant in VARIANTS))

_BOOK = ("only post-norm", "none, not even pre-norm")
ABLATION: dict[str, dict[str, Any]] = {FULL: {}} | {
    variant.name: dict(variant.changes)
    for variant in VARIANTS
    if (variant.group == "steps" and variant.name not in _BOOK)
    or variant.name == "mixing above 2 kHz"
}
"""The variants of the notebook, a selection of the table: name → changes."""


def choose(groups: Sequence[str] | None, *, with_recordings: bool) -> list[Variant]:
    """Give the variants of some groups, by default of all; presets only with recordings.

    Raises
    ------
    ConfigError
        If a group is not known.
    """
    for name in groups or ():
        if name not in GROUPS:
            raise ConfigError(f"unknown group '{name}' (known: {', '.join(GROUPS)})")
    return [
        variant
        for variant in VARIANTS
        if variant.group in (groups or GROUPS)
        and (with_recordings or variant.front_end in ("store", "half-bins"))
    ]
