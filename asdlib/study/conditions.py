"""Where each step of the block helps: the same six trainings under one condition after the other.

A step may help one machine and hurt another, help faults in one band, or only where clips are few.
So every step is taken out in turn, over seeds, under each of `CONDITIONS`: the synthetic corpus as
it is, a quarter of its training clips at as many training steps, coarser classes, and two domains.
Under the first condition the same networks also score faults that are heard in one band only.

The embedding alone scores: the default sum over levels contains the mean spectrum, which no step
of the block can change. `asdlib.study.effects` turns the outcome into effects and words.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from asdlib.study.config import make_system
from asdlib.study.experiment import Done, Variant, experiment
from asdlib.study.profiles import merge
from asdlib.study.stores import synthetic_store

FULL = "full"
EMBEDDING_ALONE = {"embedding": "encoder", "backend": "mahalanobis"}

STEPS: dict[str, dict[str, Any]] = {
    "pre-norm": {"pre_norm": False},
    "mixup": {"mixup": False},
    "RRC": {"rrc": False},
    "post-norm": {"post_norm": False},
    "all but pre-norm": {"mixup": False, "rrc": False, "post_norm": False},
}
"""Parameters of the augmentation without a step."""


class Condition(NamedTuple):
    """What differs from the corpus as it is."""

    layout: Literal["dcase2020", "dcase2022"] = "dcase2020"
    bands: tuple[str, ...] = ("natural",)
    share: float = 1.0
    changes: Mapping[str, Any] = {}


BASE = "as it is"
CONDITIONS: dict[str, Condition] = {
    BASE: Condition(bands=("natural", "low", "mid", "high")),
    "a quarter of the clips": Condition(share=0.25),
    "a class a machine type": Condition(changes={"classes": "machine"}),
    "two domains": Condition(layout="dcase2022"),
}
"""By name; ``bands`` are those of the faults, one test set each."""


class ConditionsSpec(BaseModel):
    """Size of the study."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    machines: Mapping[str, tuple[str, ...] | None] = Field(
        default={"dcase2020": None, "dcase2022": None},
        description="machine types of each layout, None for its six",
    )
    n_sections: int = Field(default=3, ge=2, description="sections of each machine type")
    n_train: int = Field(default=48, ge=8, description="normal training clips of a section")
    n_test: int = Field(
        default=20, ge=2, description="normal test clips of a section, and as many anomalous"
    )
    target_share: float = Field(
        default=0.125, gt=0, lt=0.5, description="share of target clips where there are two domains"
    )
    seconds: float = Field(default=4.0, gt=0, description="length of a clip in s")
    seeds: int = Field(default=5, ge=1, description="seeds of every training, from 0")
    epochs: int = Field(default=6, ge=1, description="passes over all training clips")
    params: Mapping[str, Any] = Field(
        default={}, description="other parameters of the contrastive system"
    )


def study_conditions(
    spec: ConditionsSpec,
    root: str | Path,
    *,
    processes: int | None = None,
    on_done: Done | None = None,
) -> pd.DataFrame:
    """Train and score without each step under every condition; what is there is not done again.

    Parameters
    ----------
    spec
        Size of the study.
    root
        Folder for recordings, stores and runs.
    processes, on_done
        See `asdlib.study.experiment.experiment`.

    Returns
    -------
    One row a machine, and one for their mean (``Average``): ``condition, band, without`` (the step
    that was left out, or ``full``), ``seed, machine, auc, pauc`` and, with two domains,
    ``auc_source, auc_target``; shares of 1.

    Raises
    ------
    ConfigError
        If a parameter is not known; at once.
    """
    # What is wrong is said before recordings are made.
    make_system("contrastive", spec.params)
    root = Path(root)
    variants: dict[str, Variant] = {}
    for name, condition in CONDITIONS.items():
        variants |= _variants(name, condition, spec, root, processes)
    seeds = range(spec.seeds)
    table = experiment(variants, root, seeds=seeds, processes=processes, on_done=on_done)
    table = table[table["section"] == "Average"]
    # Within a condition, all runs of a seed stand together.
    parts = [table[table["condition"] == name] for name in CONDITIONS]
    table = pd.concat([part.sort_values("seed", kind="stable") for part in parts])
    columns = [c for c in ("auc", "pauc", "auc_source", "auc_target") if c in table]
    table = table[["condition", "band", "without", "seed", "machine", *columns]]
    return table.reset_index(drop=True)


def _variants(
    name: str, condition: Condition, spec: ConditionsSpec, root: Path, processes: int | None
) -> dict[str, Variant]:
    tests = {
        band: synthetic_store(root, f"{condition.layout}-{band}", corpus, processes)
        for band, corpus in _tests(condition, spec).items()
    }
    train = synthetic_store(
        root, f"{condition.layout}-train", _corpus(condition, spec, train=True), processes
    )
    base = merge({**spec.params, **EMBEDDING_ALONE, "epochs": spec.epochs}, condition.changes)
    return {
        f"{name}, faults {band}, without {without}": Variant(
            params=merge(base, {"augmentation": steps} if steps else {}),
            train=train,
            test=test,
            share=condition.share,
            columns={"condition": name, "band": band, "without": without},
        )
        for without, steps in {FULL: {}, **STEPS}.items()
        for band, test in tests.items()
    }


def _corpus(condition: Condition, spec: ConditionsSpec, *, train: bool) -> dict[str, Any]:
    """Give the parameters of a corpus; the half that is not used is as small as may be."""
    two_domains = condition.layout == "dcase2022"
    fewest = 2 if two_domains else 1
    return {
        "layout": condition.layout,
        "machines": spec.machines[condition.layout],
        "n_sections": spec.n_sections,
        "seconds": spec.seconds,
        "target_share": spec.target_share,
        "n_train": spec.n_train if train else 2,
        "n_test_normal": fewest if train else spec.n_test,
        "n_test_anomaly": fewest if train else spec.n_test,
    }


def _tests(condition: Condition, spec: ConditionsSpec) -> dict[str, dict[str, Any]]:
    corpus = _corpus(condition, spec, train=False)
    return {band: corpus | {"band": band} for band in condition.bands}
