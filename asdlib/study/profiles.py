"""Profiles: how much data and how much training, from a test's minute to the full study.

A profile fixes budgets, never what is compared: the same notebooks run on all of them.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from asdlib.errors import ConfigError


class Profile(BaseModel):
    """One profile of the study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="name of the profile")
    kind: Literal["synthetic", "real"] = Field(description="what the recordings are")
    source: Literal["synthetic", "store", "download"] = Field(description="where they come from")
    purpose: str = Field(description="one line for tables")
    budget: str = Field(description="time for the whole book on two CPU cores")
    preset: str = Field("dcase2020", description="front end of the 2020 layout")
    years: tuple[int, ...] = Field((2020, 2022), description="layouts that the profile has")
    seeds: tuple[int, ...] = Field((0, 1, 2), description="seeds of every claim")
    domain_seeds: tuple[int, ...] = Field((0, 1, 2), description="seeds of the domain study")
    ablation_seeds: tuple[int, ...] = Field((0, 1, 2), description="seeds of the ablation")
    ablation_machines: tuple[str, ...] | None = Field(
        None, description="machine types of the ablation, by default all"
    )
    params: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="system → parameters that differ from its defaults"
    )
    ablation_params: dict[str, Any] = Field(
        default_factory=dict, description="parameters of the ablation, on top of `params`"
    )

    def params_of(self, system: str, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Parameters of a system on this profile, with `changes` on top."""
        return merge(self.params.get(system, {}), changes or {})


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `changes` over `base`, level by level."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge(below, value)
        merged[key] = value
    return merged


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(
            name="smoke",
            kind="synthetic",
            source="synthetic",
            purpose="tests: every line runs, no number means anything",
            budget="under 7 minutes",
            seeds=(0, 1),
            ablation_seeds=(0, 1),
            params={
                "contrastive": {"epochs": 2, "crop_frames": 32, "batch_size": 16},
                "autoencoder": {"epochs": 2},
            },
        ),
        Profile(
            name="classroom",
            kind="synthetic",
            source="synthetic",
            purpose="the published book, teaching",
            budget="under 25 minutes",
            params={"contrastive": {"epochs": 10}, "autoencoder": {"epochs": 40}},
            ablation_machines=("fan", "ToyCar"),
            ablation_params={"epochs": 6},
        ),
        Profile(
            name="toycar",
            kind="real",
            source="store",
            purpose="real recordings of one machine type on a laptop",
            budget="under 60 minutes",
            years=(2020,),
            params={"autoencoder": {"epochs": 30}},
            ablation_params={"epochs": 12},
        ),
        Profile(
            name="dcase2020",
            kind="real",
            source="download",
            purpose="the study proper, DCASE 2020 Task 2, on a GPU",
            budget="not meant for a CPU",
            years=(2020,),
            seeds=(0, 1, 2, 3, 4),
            params={"contrastive": {"encoder": "small_cnn", "epochs": 100}},
            ablation_params={"epochs": 30},
        ),
        Profile(
            name="dcase2022",
            kind="real",
            source="download",
            purpose="the study proper, DCASE 2022 Task 2, on a GPU",
            budget="not meant for a CPU",
            preset="dcase2022",
            years=(2022,),
            seeds=(0, 1, 2, 3, 4),
            params={"contrastive": {"epochs": 100, "cross_domain": True}},
            ablation_params={"epochs": 30},
        ),
    )
}


def get_profile(name: str) -> Profile:
    """Look a profile up.

    Raises
    ------
    ConfigError
        If there is none of this name.
    """
    if name not in PROFILES:
        raise ConfigError(f"unknown profile '{name}' (known: {', '.join(PROFILES)})")
    return PROFILES[name]
