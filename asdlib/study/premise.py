"""The premise study: faults in one band after the other, against augmentation in all or some.

Synthetic machines can do what recordings cannot: the same normal clips, and the same faults at the
same severity, once in each frequency band. Training sees normal clips only, so one network serves
all bands; what differs between bands is nothing but the band of the anomalous test clips.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from asdlib.study.experiment import Variant, experiment
from asdlib.study.profiles import merge
from asdlib.study.stores import synthetic_store

BANDS = ("low", "mid", "high")
REFERENCE = "none"
STATISTICS = "statistics"


def _steps(**steps: Any) -> dict[str, Any]:
    return {"augmentation": steps}


AUGMENTATIONS: dict[str, dict[str, Any]] = {
    REFERENCE: _steps(mixup=False, rrc=False, post_norm=False),
    "full": {},
    "only RRC": _steps(mixup=False, post_norm=False),
    "mixing above 2 kHz": _steps(mixing="high", cutoff_hz=2000.0),
}
"""Changes of each variant; all keep pre-norm."""


class PremiseSpec(BaseModel):
    """Size of a premise study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machines: tuple[str, ...] = Field(description="machine types")
    n_sections: int = Field(ge=1, description="sections of each machine type")
    n_train: int = Field(ge=2, description="normal training clips of a section")
    n_test: int = Field(ge=1, description="normal test clips of a section, and as many anomalous")
    seconds: float = Field(gt=0, description="length of a clip in s")
    seeds: tuple[int, ...] = Field(description="seeds of every variant")
    params: dict[str, Any] = Field(description="parameters of the contrastive system")


PREMISE: dict[str, PremiseSpec] = {
    "smoke": PremiseSpec(
        machines=("fan",),
        n_sections=2,
        n_train=8,
        n_test=4,
        seconds=2.0,
        seeds=(0, 1),
        params={"epochs": 1, "crop_frames": 32, "batch_size": 16},
    ),
    "classroom": PremiseSpec(
        machines=("ToyCar", "fan", "pump"),
        n_sections=2,
        n_train=48,
        n_test=20,
        seconds=4.0,
        seeds=(0, 1, 2),
        params={"epochs": 6},
    ),
}
"""Studies by profile; profiles of real recordings take that of the classroom."""


def study_premise(
    spec: PremiseSpec, root: str | Path, *, processes: int | None = None
) -> pd.DataFrame:
    """Run every augmentation on faults of every band; what is there is not computed again.

    Parameters
    ----------
    spec
        Size of the study.
    root
        Folder for recordings, stores and runs.
    processes
        Runs at a time, see `asdlib.study.experiment.experiment`.

    Returns
    -------
    The columns of an experiment, with ``band`` in front; ``variant`` is the augmentation, or
    ``statistics`` for the statistical reference, which is not random and has one run.
    """
    root = Path(root)
    train = synthetic_store(root, "train", corpus_of(spec, "train"), processes)
    tests = {band: synthetic_store(root, band, corpus_of(spec, band), processes) for band in BANDS}
    told: dict[str, Variant] = {
        name: Variant(params=merge(spec.params, changes), seeds=spec.seeds)
        for name, changes in AUGMENTATIONS.items()
    }
    told[STATISTICS] = Variant(STATISTICS)
    variants = {
        f"{name}, faults {band}": replace(
            variant, train=train, test=test, columns={"band": band, "name": name}
        )
        for name, variant in told.items()
        for band, test in tests.items()
    }
    table = experiment(variants, root, processes=processes)
    return table.assign(variant=table.pop("name"))


def corpus_of(spec: PremiseSpec, part: str) -> Mapping[str, Any]:
    """Give the synthetic corpus of the training clips ("train") or of the test clips of a band."""
    told: dict[str, Any] = {
        "machines": spec.machines,
        "n_sections": spec.n_sections,
        "seconds": spec.seconds,
    }
    if part == "train":
        return told | {"n_train": spec.n_train, "n_test_normal": 1, "n_test_anomaly": 1}
    # The fewest training clips that a corpus may have; they are not used.
    return told | {
        "n_train": 2,
        "n_test_normal": spec.n_test,
        "n_test_anomaly": spec.n_test,
        "band": part,
    }
