"""Parameters of an encoder that starts from weights that somebody has trained before.

The paper pre-trains on AudioSet [P]; with which network, on which task and for how long it does not
say [O].
"""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

PRETRAINED_ONLY = ("ast",)
"""Encoders that exist only with weights trained before; `asdlib.method.pretrained` makes them."""


class PretrainedParams(BaseModel):
    """Where the weights of an encoder come from, and what the training may change of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str = Field(
        min_length=1,
        description="folder of a checkpoint, or owner/name of one that `asd weights` has fetched",
    )
    revision: str | None = Field(
        None, description="branch, tag or commit of a fetched checkpoint; by default its main one"
    )
    mode: Literal["frozen", "finetune", "lora"] = Field(
        "finetune",
        description="what is trained: the head alone, everything, or low-rank adapters [O]",
    )
    lora_rank: int = Field(8, ge=1, description="rank of the adapters, with mode=lora [O]")
    lora_alpha: float = Field(
        16.0, gt=0, description="the adapters' output is scaled by lora_alpha / lora_rank [O]"
    )
    pooling: Literal["patches", "tokens"] = Field(
        "patches",
        description="embedding of a transformer: mean over its patches, or over the class and "
        "distillation tokens that its own classifier reads [O]",
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the weights; found out where it is not given, so that it is part "
        "of what a run is known by",
    )
