"""Parameters of the contrastive system.

What of them the paper states, what is inferred and what is open is marked: [P] stated, [I]
inferred from prior work, [O] open, our choice.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from asdlib.method.augment import AugmentationParams
from asdlib.method.backends import BACKENDS
from asdlib.method.encoders import ENCODERS
from asdlib.method.pretrained import PRETRAINED_ONLY, PretrainedParams

CropFrames = Annotated[int, Field(ge=8)]


class ContrastiveParams(BaseModel):
    """Parameters of the contrastive system."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    augmentation: AugmentationParams = Field(
        AugmentationParams(), description="the four steps that make two views [I]"
    )
    encoder: str = Field("small_cnn", description="name of the encoder [O]")
    pretrained: PretrainedParams | None = Field(
        None, description="weights to start from, or their folder alone; by default random ones [O]"
    )
    projection_size: int = Field(128, ge=2, description="size of the projected embedding [O]")
    loss: Literal["supervised_contrastive", "nt_xent"] = Field(
        "supervised_contrastive", description="supervised contrast [I]; nt_xent: views only"
    )
    temperature: float = Field(
        0.1, gt=0, description="temperature of the loss [O]; 0.1 as in Khosla et al., 2020"
    )
    contrast_weight: float = Field(
        1.0, ge=0, description="weight of the contrastive loss; 0: classification alone"
    )
    classifier: Literal["none", "arcface", "sub_cluster_adacos"] = Field(
        "none", description="extension, not in the paper: a classification loss beside the contrast"
    )
    classifier_weight: float = Field(1.0, gt=0, description="weight of the classification loss")
    arcface_margin: float = Field(0.0, ge=0, lt=1.57, description="ArcFace: angle in radians")
    arcface_scale: float = Field(
        3.3, gt=0, description="ArcFace: factor of the cosines, the inverse of a temperature"
    )
    subclusters: int = Field(16, ge=1, description="sub-cluster AdaCos: centres a class")
    classes: Literal["section", "machine"] = Field(
        "section", description="a class is a machine type and its section, or the type alone [O]"
    )
    cross_domain: bool = Field(
        False, description="positives come from the other domain of the class where it has two [P]"
    )
    crop_frames: CropFrames | tuple[CropFrames, ...] = Field(
        64, description="frames of a training crop, or several lengths: each batch draws one [O]"
    )
    crops: Literal["same", "different"] = Field(
        "same", description="both views from one crop of the clip, or each from its own [O]"
    )
    batch_size: int = Field(64, ge=2, description="clips in a batch; views are twice as many [O]")
    epochs: int = Field(48, ge=0, description="passes over the training clips, fixed [O]")
    learning_rate: float = Field(1e-3, gt=0, description="peak of AdamW's cosine schedule [O]")
    weight_decay: float = Field(1e-2, ge=0, description="weight decay of AdamW [O]")
    batch_norm: Literal["clean", "training"] = Field(
        "clean",
        description="statistics of batch normalisation at test: measured anew on whole training "
        "clips without augmentation, or those left from the augmented crops [O]",
    )
    embedding: Literal["encoder", "projection", "feature_map", "spectrum", "levels"] = Field(
        "levels",
        description="what is scored: before the head, after it, the last feature map averaged "
        "over time with its frequency axis kept, the input averaged over time, or the levels "
        "spectrum, feature_map and encoder side by side [O]",
    )
    backend: str = Field("level_sum", description="embedding → anomaly score, per section [O]")
    segment: Literal["clip", "sliding"] = Field(
        "clip",
        description="at test: the whole clip, or the mean over sliding windows as long as the "
        "longest training crop [O]",
    )
    score_batch_size: int = Field(32, ge=1, description="clips embedded at a time")

    @field_validator("encoder", "backend")
    @classmethod
    def _is_known(cls, name: str, info: ValidationInfo) -> str:
        known = {*ENCODERS, *PRETRAINED_ONLY} if info.field_name == "encoder" else {*BACKENDS}
        if name not in known:
            raise ValueError(f"not known (known: {', '.join(sorted(known))})")
        return name

    @field_validator("pretrained", mode="before")
    @classmethod
    def _of_source(cls, given: Any) -> Any:
        return {"source": given} if isinstance(given, str) else given

    @property
    def crop_lengths(self) -> tuple[int, ...]:
        """Lengths of training crops in frames, ascending."""
        given = self.crop_frames
        return (given,) if isinstance(given, int) else tuple(sorted(set(given)))

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.crop_lengths:
            raise ValueError("crop_frames names no length, expected at least one")
        if self.classifier == "none" and self.contrast_weight == 0:
            raise ValueError("contrast_weight=0 leaves no loss; set classifier, e.g. to arcface")
        if self.encoder in PRETRAINED_ONLY and self.pretrained is None:
            raise ValueError(f"encoder {self.encoder} needs weights; set pretrained.source")
        if self.pretrained and self.pretrained.mode == "lora" and self.encoder in ENCODERS:
            raise ValueError(
                f"encoder {self.encoder} has no layers for adapters; set pretrained.mode to "
                "finetune or frozen"
            )
        if self.cross_domain and self.loss == "nt_xent":
            raise ValueError(
                "nt_xent knows no domains; set cross_domain=false or loss=supervised_contrastive"
            )
        return self
