"""What a synthetic corpus is made of, validated; the profiles' corpora."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from asdlib.data.synthetic.anomalies import CAUSES
from asdlib.data.synthetic.machines import LAYOUT_MACHINES, MACHINES, layout_sections

DEFAULT_2022 = ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "valve")


class SyntheticSpec(BaseModel):
    """Everything that decides the bytes of a synthetic corpus."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Literal["dcase2020", "dcase2022"] = Field(
        "dcase2020", description="official layout and file names"
    )
    machines: tuple[str, ...] | None = Field(
        None, description="machine types of the layout; by default six of them"
    )
    n_sections: int = Field(
        3, ge=1, le=6, description="IDs (2020) or sections (2022) of each machine type"
    )
    n_train: int = Field(50, ge=2, description="normal training clips of a section, both domains")
    n_test_normal: int = Field(
        20, ge=1, description="normal test clips of a section; in the 2022 layout half a domain"
    )
    n_test_anomaly: int = Field(
        20, ge=1, description="anomalous test clips of a section; in the 2022 layout half a domain"
    )
    target_share: float = Field(
        0.01,
        gt=0,
        lt=0.5,
        description="share of target clips in training (2022 layout; at least one clip)",
    )
    seconds: float = Field(10.0, ge=1.0, le=60.0, description="length of a clip in s")
    snr_db: float = Field(
        6.0, ge=-30, le=40, description="machine over factory noise at 1 m, in dB"
    )
    variation: float = Field(
        1.0, ge=0, le=3, description="scale of the natural variation between normal clips"
    )
    severity: tuple[float, float] = Field(
        (0.4, 1.0), description="range of the severity of anomalies, 0 (none) … 1, drawn uniformly"
    )
    band: Literal["natural", "low", "mid", "high"] = Field(
        "natural", description="frequency band in which anomalies are heard"
    )
    causes: tuple[str, ...] | None = Field(
        None, description="causes of anomaly, by default all that a machine can have"
    )
    seed: int = Field(0, ge=0, description="seed of the clips; the machines are the same for all")

    @property
    def machine_names(self) -> tuple[str, ...]:
        """Machine types of the corpus, sorted."""
        if self.machines is not None:
            return tuple(sorted(self.machines))
        return LAYOUT_MACHINES["dcase2020"] if self.layout == "dcase2020" else DEFAULT_2022

    def sections(self, machine: str) -> tuple[str, ...]:
        """Sections of a machine type, in the official order."""
        return layout_sections(self.layout, machine)[: self.n_sections]

    def causes_of(self, machine: str) -> tuple[str, ...]:
        """Causes of anomaly of a machine type in this corpus."""
        own = MACHINES[machine].causes
        return own if self.causes is None else tuple(c for c in own if c in self.causes)

    @model_validator(mode="after")
    def _check(self) -> Self:
        known = LAYOUT_MACHINES[self.layout]
        if self.machines is not None and not self.machines:
            raise ValueError(f"machines is empty; name some of {', '.join(known)} or leave it out")
        for machine in self.machine_names:
            if machine not in known:
                raise ValueError(
                    f"machine '{machine}' is not in layout {self.layout} "
                    f"(known: {', '.join(known)})"
                )
        if len(set(self.machine_names)) < len(self.machine_names):
            raise ValueError(f"machines names one type twice: {', '.join(self.machine_names)}")
        for cause in self.causes or ():
            if cause not in CAUSES:
                raise ValueError(f"unknown cause '{cause}' (known: {', '.join(CAUSES)})")
        for machine in self.machine_names:
            if not self.causes_of(machine):
                raise ValueError(
                    f"machine '{machine}' has none of the causes given "
                    f"(its own: {', '.join(MACHINES[machine].causes)})"
                )
        low, high = self.severity
        if not 0 <= low <= high <= 1:
            raise ValueError(f"severity {low:g} … {high:g} is not an ascending range within 0 … 1")
        if self.layout == "dcase2022" and (self.n_test_normal % 2 or self.n_test_anomaly % 2):
            raise ValueError(
                f"{self.n_test_normal} normal and {self.n_test_anomaly} anomalous test clips "
                "cannot be halved between source and target; use even numbers"
            )
        return self


SPECS: Mapping[str, SyntheticSpec] = MappingProxyType(
    {
        "smoke": SyntheticSpec(
            machines=("fan", "valve"),
            n_sections=2,
            n_train=10,
            n_test_normal=6,
            n_test_anomaly=6,
            target_share=0.2,
            seconds=2.0,
        ),
        "classroom": SyntheticSpec(
            n_sections=3,
            n_train=50,
            n_test_normal=20,
            n_test_anomaly=20,
            target_share=0.04,
            seconds=4.0,
        ),
    }
)
"""Corpora of the profiles, in the 2020 layout; ``model_copy(update={"layout": "dcase2022"})`` gives
them in the 2022 layout. Official shares of target clips would leave these small corpora with one
or none, so theirs are larger."""
