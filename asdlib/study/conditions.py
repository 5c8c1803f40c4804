"""Where each step of the block helps: the same trainings under one condition after the other.

A step may help one machine and hurt another, help faults in one band, or only where clips are few.
So every step is taken out in turn, over seeds, under each of `CONDITIONS`; under the first one the
same networks also score faults that are heard in one band only. The embedding alone scores: the
default sum over levels contains the mean spectrum, which no step of the block can change. The
effect of a step is AUC with all steps minus AUC without it, paired over seeds.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pandas as pd
from pydantic import BaseModel, Field

from asdlib.errors import DataError
from asdlib.evaluation import t_interval
from asdlib.study.config import make_system, merge
from asdlib.study.experiment import Done, Variant, experiment
from asdlib.study.report import signed
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
    """What differs from the corpus as it is; ``bands`` are those of the faults, a test set each."""

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


class Place(NamedTuple):
    """One place to look for effects: which rows, and the level that they are compared with."""

    question: str
    level: str
    against: str = ""
    condition: str = BASE
    band: str = "natural"
    metric: str = "auc"
    machine: str = "Average"


_PLACES = (
    Place("band of the fault", "low", "high", band="low"),
    Place("band of the fault", "mid", band="mid"),
    Place("band of the fault", "high", band="high"),
    Place("domain", "source", condition="two domains", metric="auc_source"),
    Place("domain", "target", "source", condition="two domains", metric="auc_target"),
    Place("training clips", "all"),
    Place("training clips", "a quarter", "all", condition="a quarter of the clips"),
    Place("classes", "an ID each"),
    Place("classes", "a type each", "an ID each", condition="a class a machine type"),
)


class ConditionsSpec(BaseModel, frozen=True, extra="forbid"):
    """Size of the study."""

    machines: Mapping[str, tuple[str, ...] | None] = Field(
        default={"dcase2020": None, "dcase2022": None},
        description="machine types of each layout, None for its six",
    )
    n_sections: int = Field(3, ge=2, description="sections of each machine type")
    n_train: int = Field(48, ge=8, description="normal training clips of a section")
    n_test: int = Field(20, ge=2, description="normal test clips of a section, as many anomalous")
    target_share: float = Field(0.125, gt=0, lt=0.5, description="target clips of two domains")
    seconds: float = Field(4.0, gt=0, description="length of a clip in s")
    seeds: int = Field(5, ge=1, description="seeds of every training, from 0")
    epochs: int = Field(6, ge=1, description="passes over all training clips")
    params: Mapping[str, Any] = Field({}, description="other parameters of the contrastive system")


def study_conditions(
    spec: ConditionsSpec,
    root: str | Path,
    *,
    processes: int | None = None,
    on_done: Done | None = None,
) -> pd.DataFrame:
    """Train and score without each step under every condition; what is there is not done again.

    Recordings, stores and runs lie below `root`; for `processes` and `on_done` see
    `asdlib.study.experiment.experiment`.

    Returns
    -------
    One row a machine, and one for their mean (``Average``): ``condition, band, without`` (the step
    that was left out, or ``full``), ``seed, machine, auc, pauc`` and, with two domains,
    ``auc_source, auc_target``; shares of 1.
    """
    make_system("contrastive", spec.params)  # what is not valid is refused before recordings
    variants: dict[str, Variant] = {}
    for name, condition in CONDITIONS.items():
        variants |= _variants(name, condition, spec, Path(root), processes)
    seeds = range(spec.seeds)
    table = experiment(variants, root, seeds=seeds, processes=processes, on_done=on_done)
    table = table[table["section"] == "Average"]
    # Within a condition, all runs of a seed stand together.
    order = table["condition"].map(list(CONDITIONS).index)
    table = table.assign(order=order).sort_values(["order", "seed"], kind="stable")
    columns = [c for c in ("auc", "pauc", "auc_source", "auc_target") if c in table]
    table = table[["condition", "band", "without", "seed", "machine", *columns]]
    return table.reset_index(drop=True)


def _variants(
    name: str, condition: Condition, spec: ConditionsSpec, root: Path, processes: int | None
) -> dict[str, Variant]:
    def store(part: str, n_train: int, n_test: int, **more: Any) -> Any:
        corpus = spec.model_dump(include={"n_sections", "seconds", "target_share"}) | {
            "layout": condition.layout,
            "machines": spec.machines[condition.layout],
            "n_train": n_train,
            "n_test_normal": n_test,
            "n_test_anomaly": n_test,
        }
        return synthetic_store(root, f"{condition.layout}-{part}", corpus | more, processes)

    # The half of a corpus that is not used is as small as it may be.
    tests = {band: store(band, 2, spec.n_test, band=band) for band in condition.bands}
    train = store("train", spec.n_train, 2 if condition.layout == "dcase2022" else 1)
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


def effects_of(table: pd.DataFrame) -> pd.DataFrame:
    """Compute from a table of `study_conditions` what each step does at each place.

    Returns
    -------
    ``question, level, against, step, seeds, effect, low, high, shown``: percentage points with a
    95 % Student-t interval over seeds, and whether it leaves out zero. Where ``against`` is not
    empty, the row is a difference of effects between two levels of a question.

    Raises
    ------
    DataError
        If a level has not the same seeds with and without a step.
    """
    machines = [m for m in table[table["condition"] == BASE]["machine"].unique() if m != "Average"]
    of_machines = [Place("machine", machine, machine=machine) for machine in machines]
    places = [Place("all machines", BASE), *of_machines, *_PLACES]
    gains = {(p.question, p.level, ""): _gains(table, p) for p in places}
    for question, level, against, *_ in (p for p in places if p.against):
        difference = gains[question, level, ""] - gains[question, against, ""]
        gains[question, level, against] = difference
    rows = []
    for place, by_step in gains.items():
        for step in STEPS:
            mean, low, high = t_interval(by_step[step])
            rows.append((*place, step, len(by_step), mean, low, high, low > 0 or high < 0))
    columns = ["question", "level", "against", "step", "seeds", "effect", "low", "high", "shown"]
    return pd.DataFrame(rows, columns=columns)


def _gains(table: pd.DataFrame, place: Place) -> pd.DataFrame:
    """AUC with all steps minus AUC without each, in points: one row a seed, one column a step."""
    chosen = table[
        (table["condition"] == place.condition)
        & (table["band"] == place.band)
        & (table["machine"] == place.machine)
    ]
    by_seed = 100 * chosen.pivot(index="seed", columns="without", values=place.metric)
    by_seed = by_seed.reindex(columns=[FULL, *STEPS])
    for step in STEPS:
        seeds = [by_seed.index[by_seed[name].notna()].tolist() for name in (FULL, step)]
        if not seeds[0] or seeds[0] != seeds[1]:
            raise DataError(
                f"{place.question} '{place.level}': seeds {seeds[0]} with all steps, {seeds[1]} "
                f"without {step}; expected the same, at least one; run the study again"
            )
    return by_seed[list(STEPS)].rsub(by_seed[FULL], axis="index")


def conditions_verdict(found: pd.DataFrame) -> str:
    """Write as Markdown where `effects_of` shows a step to help or to hurt."""
    points = found[["effect", "low", "high"]].map(signed)
    figures = points["effect"] + " [" + points["low"] + ", " + points["high"] + "]"
    found = found.assign(figures=figures)
    places = found[found["against"] == ""].drop_duplicates(["step", "effect", "low", "high"])
    contrasts = found[found["against"] != ""]
    lines = []
    for step in STEPS:
        here = places[(places["step"] == step) & places["shown"]]
        where = here["question"] + " *" + here["level"] + "* (" + here["figures"] + ")"
        of = {"help": where[here["effect"] > 0], "hurt": where[here["effect"] <= 0]}
        parts = [f"shown to {word}: {', '.join(some)}" for word, some in of.items() if len(some)]
        lines.append(f"- **{step}** {'; '.join(parts) or 'is not shown to do anything anywhere'}.")
    for row in contrasts[contrasts["shown"]].itertuples():
        lines.append(
            f"- {str(row.question).capitalize()}: **{row.step}** does "
            f"{'more' if row.effect > 0 else 'less'} for *{row.level}* than for *{row.against}*: "
            f"{row.figures}."
        )
    of_block = contrasts[contrasts["step"] == list(STEPS)[-1]].set_index("level").loc["low"]
    words = "it is" if of_block["effect"] > 0 else "it is shown to be **the other way round**"
    words = words if of_block["shown"] else "that is not shown either way"
    lines.append(
        "- The premise would have the block do more for faults heard low than for those heard "
        f"high. Here {words}: {of_block['figures']}."
    )
    count, total = places["shown"].sum() + contrasts["shown"].sum(), len(places) + len(contrasts)
    lines.append(
        f"- {count} of {total} comparisons are shown; {0.05 * total:.0f} would be by chance alone."
    )
    return "\n".join(lines)
