"""Parameters of the contrastive system.

What of them the paper states, what is inferred and what is open is marked: [P] stated, [I]
inferred from prior work, [O] open, our choice.
"""

from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from asdlib.method.augment import AugmentationParams
from asdlib.method.backends import BACKENDS
from asdlib.method.encoders import ENCODERS
from asdlib.method.pretrained_parameters import PRETRAINED_ONLY, PretrainedParams


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
    classes: Literal["section", "machine"] = Field(
        "section", description="a class is a machine type and its section, or the type alone [O]"
    )
    cross_domain: bool = Field(
        False, description="positives come from the other domain of the class where it has two [P]"
    )
    crop_frames: int = Field(64, ge=8, description="frames of a training crop [O]")
    crops: Literal["same", "different"] = Field(
        "same", description="both views from one crop of the clip, or each from its own [O]"
    )
    batch_size: int = Field(64, ge=2, description="clips in a batch; views are twice as many [O]")
    epochs: int = Field(24, ge=0, description="passes over the training clips, fixed [O]")
    learning_rate: float = Field(1e-3, gt=0, description="peak of AdamW's cosine schedule [O]")
    weight_decay: float = Field(1e-2, ge=0, description="weight decay of AdamW [O]")
    embedding: Literal["encoder", "projection", "feature_map"] = Field(
        "encoder",
        description="what is scored: before the head, after it, or the last feature map "
        "averaged over time with its frequency axis kept [O]",
    )
    backend: str = Field("mahalanobis", description="embedding → anomaly score, per section [O]")
    segment: Literal["clip", "sliding"] = Field(
        "clip", description="at test: the whole clip, or the mean over sliding windows [O]"
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

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
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
