"""Where each step of the block helps: the same six trainings under one condition after the other.

A step may help one machine and hurt another, help faults in one band, or only where clips are few.
So every step is taken out in turn, over seeds, under each of `CONDITIONS`: the synthetic corpus as
it is, a quarter of its training clips at as many training steps, coarser classes, and two domains.
Under the first condition the same networks also score faults that are heard in one band only.

The embedding alone scores: the default sum over levels contains the mean spectrum, which no step
of the block can change. The effect of a step is AUC with all steps minus AUC without it, paired
over seeds; a positive one says that the step helps.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from asdlib.errors import DataError
from asdlib.evaluation.intervals import t_interval
from asdlib.study.derived import share_of_training
from asdlib.study.profiles import merge
from asdlib.study.sweep import Done, Job, sweep
from asdlib.study.synthetic_stores import synthetic_store
from asdlib.study.verdicts import signed

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
    on_start: Callable[[int], None] | None = None,
) -> pd.DataFrame:
    """Train and score without each step under every condition; what is there is not done again.

    Parameters
    ----------
    spec
        Size of the study.
    root
        Folder for recordings, stores and runs.
    processes
        Runs at a time, see `asdlib.study.sweep.sweep`.
    on_done
        Called after every run.
    on_start
        Told the number of runs.

    Returns
    -------
    One row a machine, and one for their mean (``Average``): ``condition, band, without`` (the step
    that was left out, or ``full``), ``seed, machine, auc, pauc`` and, with two domains,
    ``auc_source, auc_target``; shares of 1.
    """
    root = Path(root)
    jobs: list[Job] = []
    for name, condition in CONDITIONS.items():
        jobs += _jobs(name, condition, spec, root, processes)
    if on_start:
        on_start(len(jobs))
    table = sweep(jobs, root / "runs", processes=processes, on_done=on_done)
    table = table[table["section"] == "Average"]
    told = table["variant"].str.split("|", expand=True)
    columns = [c for c in ("auc", "pauc", "auc_source", "auc_target") if c in table]
    named = table[["seed", "machine", *columns]].reset_index(drop=True)
    for place, column in enumerate(("condition", "band", "without")):
        named.insert(place, column, told[place].to_numpy())
    return named


def _jobs(
    name: str, condition: Condition, spec: ConditionsSpec, root: Path, processes: int | None
) -> list[Job]:
    tests = {
        band: synthetic_store(root, f"{condition.layout}-{band}", corpus, processes)
        for band, corpus in _tests(condition, spec).items()
    }
    whole = synthetic_store(
        root, f"{condition.layout}-train", _corpus(condition, spec, train=True), processes
    )
    epochs = {"epochs": round(spec.epochs / condition.share)}
    base = merge({**spec.params, **EMBEDDING_ALONE, **epochs}, condition.changes)
    jobs = []
    for seed in range(spec.seeds):
        train = whole
        if condition.share != 1:
            train = share_of_training(whole, condition.share, seed, root / "stores")
        for without, steps in {FULL: {}, **STEPS}.items():
            first: Job | None = None
            for band, test in tests.items():
                job = Job(
                    f"{name}|{band}|{without}",
                    "contrastive",
                    train.path,
                    test.path,
                    seed=seed,
                    params=merge(base, {"augmentation": steps} if steps else {}),
                    network_of=first,
                )
                first = first or job
                jobs.append(job)
    return jobs


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


class Level(NamedTuple):
    """One place to look: rows of the table, the metric, and the level that it is compared with."""

    question: str
    level: str
    condition: str
    band: str
    machine: str
    metric: str
    against: str


def levels_of(table: pd.DataFrame) -> list[Level]:
    """List the places that a table can be asked about, question by question."""
    base = table[table["condition"] == BASE]
    mean = "Average"
    machines = [m for m in base["machine"].unique() if m != mean]
    found = [Level("all machines", BASE, BASE, "natural", mean, "auc", "")]
    found += [Level("machine", m, BASE, "natural", m, "auc", "") for m in machines]
    found += [
        Level("band of the fault", band, BASE, band, mean, "auc", "high" if band == "low" else "")
        for band in ("low", "mid", "high")
    ]
    found += [
        Level("domain", where, "two domains", "natural", mean, f"auc_{where}", against)
        for where, against in (("source", ""), ("target", "source"))
    ]
    found += [
        Level("training clips", "all", BASE, "natural", mean, "auc", ""),
        Level(
            "training clips", "a quarter", "a quarter of the clips", "natural", mean, "auc", "all"
        ),
        Level("classes", "an ID each", BASE, "natural", mean, "auc", ""),
        Level(
            "classes", "a type each", "a class a machine type", "natural", mean, "auc", "an ID each"
        ),
    ]
    return found


def effects(table: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Tell what each step does at each place, and how that differs between places.

    Parameters
    ----------
    table
        Of `study_conditions`.
    confidence
        Of the Student-t intervals over seeds.

    Returns
    -------
    ``question, level, against, step, seeds, effect, low, high, shown`` in percentage points. Where
    ``against`` is not empty the row is a difference of effects between two levels of a question.
    ``shown`` says that the interval leaves out zero.

    Raises
    ------
    DataError
        If a level has not the same seeds with and without a step.
    """
    rows: list[tuple[Any, ...]] = []
    known: dict[tuple[str, str, str], pd.Series] = {}
    levels = levels_of(table)
    for level in levels:
        for step in STEPS:
            gain = _gain(table, level, step)
            known[level.question, level.level, step] = gain
            rows.append(_row(level.question, level.level, "", step, gain, confidence))
    for level in (one for one in levels if one.against):
        for step in STEPS:
            gain = known[level.question, level.level, step]
            other = known[level.question, level.against, step]
            rows.append(
                _row(level.question, level.level, level.against, step, gain - other, confidence)
            )
    columns = ["question", "level", "against", "step", "seeds", "effect", "low", "high", "shown"]
    return pd.DataFrame(rows, columns=columns)


def _gain(table: pd.DataFrame, level: Level, step: str) -> pd.Series:
    """AUC with all steps minus AUC without `step` in percentage points, by seed."""
    chosen = table[
        (table["condition"] == level.condition)
        & (table["band"] == level.band)
        & (table["machine"] == level.machine)
    ]
    with_it, without = (
        100 * chosen[chosen["without"] == name].set_index("seed")[level.metric]
        for name in (FULL, step)
    )
    if not len(with_it) or sorted(with_it.index) != sorted(without.index):
        raise DataError(
            f"{level.question} '{level.level}': seeds {sorted(with_it.index)} with all steps, "
            f"{sorted(without.index)} without {step}; expected the same, at least one; run the "
            "study again"
        )
    gain: pd.Series = with_it - without
    return gain


def _row(
    question: str, level: str, against: str, step: str, gain: pd.Series, confidence: float
) -> tuple[Any, ...]:
    mean, low, high = t_interval(gain.to_numpy(), confidence)
    shown = bool(low > 0 or high < 0) and bool(np.isfinite(low))
    return question, level, against, step, len(gain), mean, low, high, shown


def conditions_verdict(found: pd.DataFrame) -> str:
    """Say, as Markdown, where a step is shown to help or to hurt, by rule.

    Parameters
    ----------
    found
        Of `effects`.
    """
    places = found[found["against"] == ""].drop_duplicates(["step", "effect", "low", "high"])
    contrasts = found[found["against"] != ""]
    lines = []
    for step in STEPS:
        own = places[(places["step"] == step) & places["shown"]]
        helps, hurts = own[own["effect"] > 0], own[own["effect"] < 0]
        told = [
            f"shown to {word}: {_listed(part)}"
            for word, part in (("help", helps), ("hurt", hurts))
            if len(part)
        ]
        lines.append(f"- **{step}** {'; '.join(told) or 'is not shown to do anything anywhere'}.")
    for row in contrasts[contrasts["shown"]].to_dict("records"):
        more = "more" if row["effect"] > 0 else "less"
        lines.append(
            f"- {row['question'].capitalize()}: **{row['step']}** does {more} for "
            f"*{row['level']}* than for *{row['against']}*: {_figures(row)}."
        )
    everything = pd.concat([places, contrasts])
    shown, all_ = int(everything["shown"].sum()), len(everything)
    lines.append(
        f"- {shown} of {all_} comparisons are shown; {0.05 * all_:.0f} would be by chance alone."
    )
    return "\n".join(lines)


def _listed(part: pd.DataFrame) -> str:
    return ", ".join(
        f"{row['question']} *{row['level']}* ({_figures(row)})" for row in part.to_dict("records")
    )


def _figures(row: Mapping[Any, Any]) -> str:
    return f"{signed(row['effect'])} [{signed(row['low'])}, {signed(row['high'])}]"


def read_conditions(folder: Path) -> tuple[pd.DataFrame, Mapping[str, Any]]:
    """Read what ``asd conditions --out FOLDER`` wrote: the table and what it was made by.

    Raises
    ------
    DataError
        If there is none, or it lacks a column.
    """
    again = f"make it by asd conditions --out {folder}"
    file = folder / "conditions.csv"
    try:
        table = pd.read_csv(file)
        made_by = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"study '{file}' cannot be read ({reason}); {again}") from error
    needed: Sequence[str] = ("condition", "band", "without", "seed", "machine", "auc")
    missing = [column for column in needed if column not in table]
    if missing:
        raise DataError(f"study '{file}' lacks {', '.join(missing)}; {again}")
    return table, dict(made_by)
