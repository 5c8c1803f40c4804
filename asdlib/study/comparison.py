"""Finished runs, score files of others and published figures in one table.

Figures are fractions; NaN where a source gives none. Every row states its data, whether these are
real or synthetic, the split, the training data, how the model was selected and the source; "not
stated" where a source does not say it. Runs of one name are seeds of one system and become one row
of means. Intervals are about other clips and, with several runs, other seeds; the column
``interval`` says which.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asdlib.errors import ConfigError, ScoreError
from asdlib.evaluation import (
    Evaluation,
    evaluate_folder,
    interval_frame,
    mauc,
)
from asdlib.evaluation.metrics import MEANS, mean
from asdlib.files import is_taken
from asdlib.study.config import SYSTEMS, RunConfig, system_class
from asdlib.study.report import with_bounds
from asdlib.study.result import RunRecord, load_run, year_of_folder

NOT_STATED = "not stated"
WORDS = (
    *("system", "data", "data_kind", "split", "training_data"),
    *("selection", "aggregate", "origin", "source"),
)
FIGURES = ("auc", "pauc", "auc_source", "auc_target", "omega", "mauc", "pooled_auc", "pooled_pauc")
BOUNDS = tuple(f"{name}_{bound}" for name in FIGURES[:5] for bound in ("low", "high"))
COLUMNS = [*WORDS, *FIGURES, "seeds", "interval", *BOUNDS]


@dataclass(frozen=True)
class Entry:
    """A folder of scores under the name of its system: a run, or score files without a record."""

    name: str
    path: Path
    evaluation: Evaluation
    record: RunRecord | None = None

    @property
    def seed(self) -> int | None:
        """Seed of the run; None for score files."""
        return None if self.record is None else self.record.config.seed

    @property
    def folder(self) -> str:
        """Name of the folder."""
        return self.path.absolute().name


def read_entry(
    text: str,
    year: int | None = None,
    ground_truth: str | Path | None = None,
    *,
    only_scores: bool = False,
) -> Entry:
    """Read a run, ``PATH`` or ``NAME=PATH``; by default it has the name of its system.

    With `only_scores`, the official score files of any folder, ``NAME=FOLDER``.
    """
    name, equals, path = text.partition("=")
    if not equals or is_taken(Path(text)):  # what exists as a path is one
        name, path = "", text
    if name and (not name.strip() or not name.isprintable() or len(name) > 200):
        raise ConfigError(f"{name!r} is no name of a system; give one line of 1 to 200 characters")
    if only_scores and not name:
        raise ConfigError(f"'{text}' is not of the form NAME=FOLDER, e.g. --scores theirs=scores/")
    record = None if only_scores else load_run(path).record
    year = year or (record.year if record else year_of_folder(Path(path)))
    evaluation = evaluate_folder(path, year, ground_truth)
    name = name.strip() or (label_of(record.config) if record else "")
    return Entry(name, Path(path), evaluation, record)


def label_of(config: RunConfig) -> str:
    """Name the system of a run with the parameters that differ from its defaults."""
    system = config.system
    if system not in SYSTEMS:
        return system
    defaults = _flat(system_class(system).Params().model_dump(mode="json"))
    changed = [
        f"{name}={str(value).lower() if isinstance(value, bool) else value}"
        for name, value in _flat(config.params).items()
        if name not in defaults or defaults[name] != value
    ]
    return f"{system} ({', '.join(changed)})" if changed else system


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in params.items():
        nested = isinstance(value, Mapping)
        flat |= _flat(value, f"{prefix}{key}.") if nested else {prefix + key: value}
    return flat


def by_name(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Group the runs of each system, which are its seeds."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        members = groups.setdefault(entry.name, [])
        if entry.seed in [member.seed for member in members]:
            raise ConfigError(
                f"'{entry.name}' has two runs of seed {entry.seed}; name them apart (NAME=RUN)"
            )
        members.append(entry)
    return groups


def compare(
    entries: Sequence[Entry],
    *,
    data_kind: str,
    data: str | None = None,
    split: str = "test rows of the store",
    selection: Sequence[str] = (),
    published: bool = False,
) -> pd.DataFrame:
    """Make the table: rows of each system, then the published figures of the year.

    `data_kind` is "real" or "synthetic"; `data`, `split` and `selection` say what was scored, which
    part of it, and how epoch and parameters were chosen, of a single system as ``NAME=TEXT``. The
    published figures are those of the machine type if there is only one, else averages. The table
    has the `COLUMNS` that any row has.

    Raises
    ------
    ConfigError, ScoreError
        If there are no entries, one name stands for two systems or different data, entries are of
        different years, a description is empty, or nothing is published for the year or machine.
    """
    if not entries:
        raise ConfigError("nothing to compare; name runs, or score files by --scores NAME=FOLDER")
    years = sorted({entry.evaluation.year for entry in entries})
    if len(years) > 1:
        raise ScoreError(f"runs of the years {years} have different metrics; compare one year")
    groups = by_name(entries)
    chosen = dict.fromkeys(groups, "last epoch, parameters given in advance")
    common = [text for text in selection if text.partition("=")[0] not in groups]
    if len(common) > 1:
        raise ConfigError(
            f"selection is '{common[0]}' and '{common[1]}'; give one, and others as NAME=TEXT "
            f"of a system (there are: {', '.join(groups)})"
        )
    chosen |= dict.fromkeys(groups, common[0]) if common else {}
    chosen |= dict(text.split("=", 1) for text in selection if text not in common)
    given = {"data": data, "data_kind": data_kind, "split": split}
    for name, text in [*given.items(), *(("selection", text) for text in chosen.values())]:
        if text is not None and not text.strip():
            raise ScoreError(f"{name} is {text!r} (write '{NOT_STATED}')")
    rows = []
    for name, members in groups.items():
        rows += _measured(members, given | {"selection": chosen[name]})
    if published:
        machines = {m for entry in entries for m in entry.evaluation.sections["machine"]}
        only = machines.pop() if years[0] == 2020 and len(machines) == 1 else None
        rows += published_rows(years[0], only).to_dict("records")
    return pd.DataFrame(rows, columns=COLUMNS).dropna(axis="columns", how="all")


def _measured(members: Sequence[Entry], given: Mapping[str, str | None]) -> list[dict[Any, Any]]:
    """Join the runs of one name into a row of arithmetic means, and since 2021 one of harmonic."""
    words, *others = (_words(entry, given) for entry in members)
    differ = [key for key in words if any(one[key] != words[key] for one in others)]
    if differ:
        raise ScoreError(
            f"runs of '{members[0].name}' differ in {', '.join(differ)}; give them two names"
        )
    evaluations = [entry.evaluation for entry in members]
    year = evaluations[0].year
    frame = interval_frame([evaluation.scores for evaluation in evaluations], year)
    kind = "run" if members[0].record is not None else "score files"
    words |= {
        "origin": "measured",
        "source": f"{kind} {', '.join(entry.folder for entry in members)}",
        "seeds": str(len(members)),
        "interval": "clips and seeds" if len(members) > 1 else "clips",
    }
    over = "IDs, then machine types" if year == 2020 else "machine types and sections"
    rows: list[dict[Any, Any]] = []
    for kind_of_mean, machine in MEANS.items():
        row: dict[Any, Any] = {**words, "aggregate": f"{kind_of_mean} mean over {over}"}
        # Ω is a harmonic mean of its own, the same in both rows.
        own = frame[(frame["machine"] == machine) | (frame["metric"] == "omega")]
        for name, *figures in own[["metric", "estimate", "low", "high"]].to_numpy():
            row |= zip((name, f"{name}_low", f"{name}_high"), figures, strict=True)
        if any(frame["machine"] == machine):
            rows.append(row)
    rows[0]["mauc"] = np.mean([mauc(evaluation.sections) for evaluation in evaluations])
    for name in ("auc", "pauc"):
        pooled = [mean(evaluation.pooled[name]) for evaluation in evaluations]
        rows[0][f"pooled_{name}"] = np.mean(pooled)
    return rows


def _words(entry: Entry, given: Mapping[str, str | None]) -> dict[str, str]:
    """Describe an entry by what is given and what its run knows."""
    words = {"data": entry.path.name, "training_data": NOT_STATED, "selection": NOT_STATED}
    if entry.record is not None:
        train, test = entry.record.train, entry.record.test
        words["data"] = f"'{test.store}', {test.clips} test clips"
        words["training_data"] = f"{train.clips} normal clips of '{train.store}'"
        words["selection"] = given["selection"] or NOT_STATED
    said = {name: text for name, text in given.items() if text and name != "selection"}
    return {"system": entry.name, **words, **said}


def read_published(table: str) -> pd.DataFrame:
    """Read a table of ``asdlib/evaluation/published``: figures as fractions, all else as text.

    A figure of ``dcase2020_per_id`` counts as published only if its status says "read" or
    "confirmed". "Meng et al. 2024" is arXiv:2509.15570, known through its abstract and summaries
    only. The omega of both 2022 baselines is of other runs than their other figures, whose harmonic
    means are 53.5 and 55.2. IDNN on the 2020 development set: the average in its source (AUC 75.44)
    is not the mean of its machine rows (75.52).
    """
    file = resources.files("asdlib.evaluation") / "published" / f"{table}.csv"
    with file.open(encoding="utf-8") as lines:
        df = pd.read_csv(lines, dtype=str, keep_default_na=False)
    for name in df.columns.intersection([*FIGURES, "development", "evaluation"]):
        # Rounded, so that 65.83 % is 0.6583 and not the neighbour that division gives.
        df[name] = (pd.to_numeric(df[name]) / 100).round(8)
    return df


def published_rows(year: int, machine: str | None = None) -> pd.DataFrame:
    """Make rows (`COLUMNS`) of the published figures of a year.

    For 2020 these are those of one machine type, or the averages: the one that the source prints;
    where it prints none, the mean of its machine rows. After 2022 they are official scores.
    """
    df = read_published(f"dcase{year}" if year in (2020, 2022) else "official_score")
    if year not in (2020, 2022):
        df = df[df["year"] == str(year)].rename(columns={"protocol": "selection"})
        splits = ["development", "evaluation"]
        df = df.melt(["system", "selection", "source"], splits, "split", "omega").dropna()
        df = df.assign(aggregate="harmonic mean").replace({"selection": {"": NOT_STATED}})
    elif year == 2020:
        df = df.rename(columns={"pooling": "aggregate"})
        df = _averages(df) if machine is None else df.loc[df["machine"] == machine]
    else:
        other = (df["omega_source"] != "") & (df["omega_source"] != df["source"])
        df.loc[other, "source"] += "; omega: " + df["omega_source"]
    if df.empty:
        what = f"machine {machine!r}" if machine else "any system"
        raise ScoreError(f"no published rows of {year} for {what}")
    data = f"DCASE {year} Task 2" + (f" {machine}" if machine else "")
    words = {"data": data, "data_kind": "real", "origin": "published"}
    df = df.assign(**words, seeds=NOT_STATED, interval="").reindex(columns=COLUMNS)
    return df.fillna({"training_data": NOT_STATED})


def _averages(df: pd.DataFrame) -> pd.DataFrame:
    keys = ["system", "split"]
    printed = df.loc[df["machine"] == "average"]
    lone = ~df.set_index(keys).index.isin(printed.set_index(keys).index)
    how = {c: "mean" if c in ("auc", "pauc") else "first" for c in df.columns if c not in keys}
    computed = df.loc[lone].groupby(keys, sort=False, as_index=False).agg(how)
    computed["source"] += " (mean of its machine rows)"
    return pd.concat([computed, printed], ignore_index=True)


def tidy(entries: Sequence[Entry]) -> pd.DataFrame:
    """Return every figure of every run: a row for each system, seed, machine and section.

    With a single machine, its mean is that of all, and stands there once (``Average``).
    """
    tables = []
    for entry in entries:
        record = entry.record
        table = entry.evaluation.frame.copy()
        if table["machine"].nunique() == 2:
            table = table[(table["section"] != "Average") | (table["machine"] == "Average")]
        table.insert(0, "system", entry.name)
        table.insert(1, "seed", "" if entry.seed is None else entry.seed)
        table["fit_seconds"] = record.seconds.fit if record else np.nan
        table["run"] = entry.folder
        table["key"] = record.key[:16] if record else ""
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def in_percent(table: pd.DataFrame) -> pd.DataFrame:
    """Turn the figures of a comparison into text, in percent, followed by their bounds."""
    shown = table.drop(columns=[name for name in BOUNDS if name in table]).astype(object)
    for name in (figure for figure in FIGURES if figure in table):
        numbers = table.reindex(columns=[name, f"{name}_low", f"{name}_high"]).astype(float)
        shown[name] = [with_bounds(*row) for row in numbers.to_numpy()]
    return shown


def to_markdown(table: pd.DataFrame) -> str:
    """Write a comparison as a Markdown table in percent, intervals in brackets."""
    shown = in_percent(table)
    lines: list[list[str]] = [[str(name) for name in shown], ["---"] * shown.shape[1]]
    lines += shown.to_numpy(dtype=str).tolist()
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"
