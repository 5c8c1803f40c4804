"""Finished runs, score files of others and published figures in one table that says what they are.

Runs of one system with different seeds become one row: means, and Student-t intervals over seeds. A
single run has bootstrap intervals over its clips instead; a column says which. What the runs cannot
know (what the recordings are, how parameters were chosen) is told by the caller.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from asdlib.errors import ConfigError, ScoreError
from asdlib.evaluation.compare import (
    NOT_STATED,
    ComparisonRow,
    comparison_table,
    mean_row,
    measured_row,
    published_rows,
)
from asdlib.evaluation.delong import delong_frame
from asdlib.evaluation.frame_intervals import bootstrap_frame, paired_groups
from asdlib.evaluation.tables import Evaluation, evaluate_folder
from asdlib.study.labels import label_of
from asdlib.study.result import load_run

Kind = Literal["real", "synthetic"]
RESAMPLES = 2000


@dataclass(frozen=True)
class Entry:
    """One folder of scores: a run, or score files by anybody.

    Attributes
    ----------
    name
        Name of the system in the table; entries of one name are seeds of one system.
    path
        The folder.
    evaluation
        Its figures.
    record
        Content of ``run.json``; None for score files.
    """

    name: str
    path: Path
    evaluation: Evaluation
    record: Mapping[str, Any] | None = None

    @property
    def seed(self) -> int | None:
        """Seed of the run; None for score files."""
        return None if self.record is None else int(self.record["config"]["seed"])


@dataclass(frozen=True)
class Story:
    """What the rows of a comparison say about themselves.

    Attributes
    ----------
    data_kind
        Whether the recordings are real or synthetic.
    data, split, selection
        What was scored, which part of it, how epoch and parameters were chosen; by default what the
        runs know.
    """

    data_kind: Kind
    data: str | None = None
    split: str = "test rows of the store"
    selection: str = "last epoch, parameters given in advance"


def read_run(text: str, ground_truth: str | Path | None = None) -> Entry:
    """Read a run, ``PATH`` or ``NAME=PATH``; without a name it is that of its system.

    Raises
    ------
    RunError
        If there is no finished run.
    """
    name, path = named(text)
    run = load_run(path)
    evaluation = evaluate_folder(run.path, int(run.record["year"]), ground_truth)
    return Entry(name or label_of(run.record), run.path, evaluation, run.record)


def read_score_files(text: str, year: int, ground_truth: str | Path | None = None) -> Entry:
    """Read a folder of official score files, ``NAME=FOLDER``.

    Raises
    ------
    ConfigError
        If the name is missing.
    """
    name, path = named(text)
    if not name:
        raise ConfigError(f"'{text}' is not of the form NAME=FOLDER, e.g. --scores theirs=scores/")
    return Entry(name, path, evaluate_folder(path, year, ground_truth))


def named(text: str) -> tuple[str, Path]:
    """Split ``NAME=PATH``; what exists as a path is one."""
    name, equals, path = text.partition("=")
    return ("", Path(text)) if not equals or Path(text).exists() else (name.strip(), Path(path))


def groups_of(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Put entries of one name together, in the order given.

    Raises
    ------
    ConfigError
        If one name stands for two runs of the same seed, or for runs and score files.
    """
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.name, []).append(entry)
    for name, members in groups.items():
        seeds = [member.seed for member in members]
        if len(set(seeds)) < len(seeds):
            twice = next(seed for seed in seeds if seeds.count(seed) > 1)
            raise ConfigError(f"'{name}' has two runs of seed {twice}; name them apart (NAME=RUN)")
    return groups


def compare(
    entries: Sequence[Entry],
    story: Story,
    *,
    published: bool = False,
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Make the table: a row for each system, then the published figures of the year.

    Parameters
    ----------
    entries
        Of `read_run` and `read_score_files`.
    story
        What the rows say about themselves.
    published
        Whether to add published figures: of the machine type if there is only one, else averages.
    rng
        For intervals over clips.

    Returns
    -------
    Columns of `asdlib.evaluation.compare.comparison_table`, as fractions.

    Raises
    ------
    ConfigError
        If there are no entries, or one name stands for two systems.
    ScoreError
        If entries are of different years, or nothing is published for it.
    """
    if not entries:
        raise ConfigError("nothing to compare; name runs, or score files by --scores NAME=FOLDER")
    years = sorted({entry.evaluation.year for entry in entries})
    if len(years) > 1:
        raise ScoreError(f"runs of the years {years} have different metrics; compare one year")
    rng = rng or np.random.default_rng(0)
    rows = [_row(name, members, story, rng) for name, members in groups_of(entries).items()]
    if published:
        machines = {m for entry in entries for m in entry.evaluation.sections["machine"]}
        only = next(iter(machines)) if years[0] == 2020 and len(machines) == 1 else None
        rows += published_rows(years[0], machine=only)
    return comparison_table(rows)


def _row(
    name: str, members: Sequence[Entry], story: Story, rng: np.random.Generator
) -> ComparisonRow:
    rows = []
    for entry in members:
        record = entry.record
        told = {"training_data": NOT_STATED, "selection": NOT_STATED, "data": entry.path.name}
        if record is not None:
            train, test = record["train"], record["test"]
            told["training_data"] = f"{train['clips']} normal clips of '{train['store']}'"
            told["data"] = f"'{test['store']}', {test['clips']} test clips"
            told["selection"] = story.selection
        rows.append(
            measured_row(
                entry.evaluation,
                system=name,
                data=story.data or told["data"],
                data_kind=story.data_kind,
                split=story.split,
                training_data=told["training_data"],
                selection=told["selection"],
                source="a run",
            )
        )
    kind = "run" if members[0].record is not None else "score files"
    row = mean_row(rows, source=f"{kind} {', '.join(e.path.absolute().name for e in members)}")
    return row if len(members) > 1 else _with_clip_interval(row, members[0].evaluation, rng)


def _with_clip_interval(
    row: ComparisonRow, evaluation: Evaluation, rng: np.random.Generator
) -> ComparisonRow:
    frame = bootstrap_frame(evaluation.scores, evaluation.year, n_resamples=RESAMPLES, rng=rng)
    overall = frame[frame["machine"] == "Average"].set_index("metric")
    bounds: dict[str, Any] = {
        f"{name}_{end}": float(overall.loc[name, end])  # type: ignore[arg-type]
        for name in ("auc", "pauc")
        for end in ("low", "high")
    }
    return replace(row, interval="clips", **bounds)


def pairwise(
    entries: Sequence[Entry],
    *,
    against: Sequence[str] = (),
    rng: np.random.Generator | None = None,
) -> pd.DataFrame:
    """Test every system against one or several of them, on the same clips.

    Parameters
    ----------
    entries
        Runs and score files.
    against
        Names of the systems to test against, by default the first one.
    rng
        Of the bootstrap.

    Returns
    -------
    ``system, reference, machine, section, metric, difference, low, high, p_value`` from the paired
    bootstrap over clips (`paired_groups`), as fractions, and ``delong_p``, DeLong's p-value of AUC
    where both systems have a single run.

    Raises
    ------
    ConfigError
        If there are fewer than two systems, or a name is not among them.
    ScoreError
        If they were not scored on the same clips.
    """
    groups = groups_of(entries)
    if len(groups) < 2:
        raise ConfigError(f"{len(groups)} system to test against others; name a second one")
    unknown = [name for name in against if name not in groups]
    if unknown:
        raise ConfigError(
            f"no system '{unknown[0]}' to test against (there are: {', '.join(groups)})"
        )
    rng = rng or np.random.default_rng(0)
    year = entries[0].evaluation.year
    scores = {name: [entry.evaluation.scores for entry in own] for name, own in groups.items()}
    tables = []
    for reference in dict.fromkeys(against or list(groups)[:1]):
        for name in (name for name in groups if name != reference):
            table = _paired(scores[name], scores[reference], year, rng)
            table.insert(0, "system", name)
            table.insert(1, "reference", reference)
            tables.append(table)
    return pd.concat(tables, ignore_index=True)


def _paired(
    own: list[pd.DataFrame], other: list[pd.DataFrame], year: int, rng: np.random.Generator
) -> pd.DataFrame:
    """Test the runs of one system against those of another."""
    table = paired_groups(own, other, year, n_resamples=RESAMPLES, rng=rng)
    table["delong_p"] = np.nan
    if len(own) == len(other) == 1:
        tests = delong_frame(own[0], other[0], year)[["machine", "section", "p_value"]]
        both = table.merge(tests, how="left", on=["machine", "section"], suffixes=("", "_auc"))
        table["delong_p"] = both["p_value_auc"].where(both["metric"] == "auc")
    return table


def tidy(entries: Sequence[Entry]) -> pd.DataFrame:
    """Give every figure of every run: a row for each system, seed, machine and section."""
    tables = []
    for entry in entries:
        table = entry.evaluation.frame.copy()
        table.insert(0, "system", entry.name)
        table.insert(1, "seed", entry.seed if entry.seed is not None else "")
        record = entry.record or {}
        table["fit_seconds"] = record.get("seconds", {}).get("fit", np.nan)
        table["run"] = entry.path.absolute().name
        table["key"] = str(record.get("key", ""))[:16]
        tables.append(table)
    return pd.concat(tables, ignore_index=True)
