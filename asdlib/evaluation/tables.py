"""From labelled scores to tables: metrics.csv, the official result.csv, JSON.

Conventions
-----------
- A *metrics frame* has the section rows of every machine, then its row ``section="Average"``, and
  as last row ``machine="Average", section="Average"``. Averages are arithmetic (see
  :mod:`asdlib.evaluation.means`) and skip NaN.
- Numbers are written with full precision; NaN is an empty field in CSV and null in JSON.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from asdlib.data.naming import clip_key
from asdlib.errors import ScoreError
from asdlib.evaluation import means, metrics
from asdlib.evaluation.decisions import decision_columns, evaluate_decisions
from asdlib.evaluation.labels import label_scores, read_truth
from asdlib.evaluation.scores import (
    csv_text,
    read_decision_folder,
    read_score_folder,
    write_text_atomic,
)

AVERAGE = "Average"


@dataclass(frozen=True)
class Evaluation:
    """Everything that one set of scores gives.

    Attributes
    ----------
    year : int
    scores : DataFrame
        The labelled score table.
    frame : DataFrame
        Metrics frame: sections and averages.
    pooled : DataFrame
        ``machine``, ``auc``, ``pauc`` over all clips of a machine.
    notices : tuple of str
        What is not defined, missing or skipped; one line each.
    decisions : DataFrame or None
        Precision, recall and F1 of every section, if decisions were given.
    """

    year: int
    scores: pd.DataFrame
    frame: pd.DataFrame
    pooled: pd.DataFrame
    notices: tuple[str, ...] = ()
    decisions: pd.DataFrame | None = None

    @property
    def sections(self) -> pd.DataFrame:
        """The metrics frame without its average rows."""
        return section_rows(self.frame)

    def to_json_dict(self) -> dict[str, Any]:
        """Return :func:`to_json_dict` with pooled figures, decisions and notices added."""
        out = to_json_dict(self.frame, self.year)
        for row in self.pooled.to_dict("records"):
            out["machines"][row["machine"]]["pooled"] = _numbers(row, ("auc", "pauc"))
        if self.decisions is not None:
            names = decision_columns(self.year)
            for row in self.decisions.to_dict("records"):
                section = out["machines"][row["machine"]]["sections"][row["section"]]
                section.update(_numbers(row, names))
        out["notices"] = list(self.notices)
        return out


def section_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Drop the average rows of a metrics frame."""
    return frame.loc[frame["section"] != AVERAGE].reset_index(drop=True)


def metrics_frame(sections: pd.DataFrame, year: int) -> pd.DataFrame:
    """Add the average rows to a section table.

    Returns
    -------
    DataFrame
        ``machine``, ``section`` and :func:`asdlib.evaluation.metrics.metric_columns`.
    """
    columns = ["machine", "section", *metrics.metric_columns(year)]
    rows: list[dict[Any, Any]] = []
    for machine, group in sections.groupby("machine", sort=True):
        rows += group.sort_values("section").to_dict("records")
        average = means.mean_metrics(group, year)
        rows.append({"machine": machine, "section": AVERAGE, **average})
    overall = means.overall_metrics(sections, year)
    rows.append({"machine": AVERAGE, "section": AVERAGE, **overall})
    return pd.DataFrame(rows, columns=columns)


def evaluate_frame(df: pd.DataFrame, year: int) -> Evaluation:
    """Evaluate a labelled score table, for example of a run.

    Parameters
    ----------
    df : score table; a column ``decision`` (0 or 1) is evaluated too
    year : 2020 to 2026

    Raises
    ------
    ScoreError
        See :func:`asdlib.evaluation.metrics.validate_frame`.
    """
    sections, notices = metrics.evaluate(df, year)
    if notices:
        notices.append("averages skip what is not defined")
    decisions = evaluate_decisions(df, year) if "decision" in df.columns else None
    return Evaluation(
        year=year,
        scores=df,
        frame=metrics_frame(sections, year),
        pooled=metrics.pooled(df),
        notices=tuple(notices),
        decisions=decisions,
    )


def evaluate_folder(
    path: str | Path, year: int, ground_truth: str | Path | None = None
) -> Evaluation:
    """Evaluate a folder of official score files, whoever wrote them.

    Parameters
    ----------
    path : folder of ``anomaly_score_*.csv``; ``decision_result_*.csv`` in it are evaluated too
    year : 2020 to 2026
    ground_truth
        List CSV for 2020, a folder like the official evaluator's later; None: the labels stand in
        the file names (development set).

    Raises
    ------
    ScoreError
        The files or the ground truth are not what they should be.
    """
    scores = read_score_folder(path, year)
    truth = None if ground_truth is None else read_truth(ground_truth, year)
    labelled = label_scores(scores, year, truth)
    decided = read_decision_folder(path, year)
    if decided is not None:
        labelled = _with_decisions(labelled, decided)
    result = evaluate_frame(labelled, year)
    if truth is None:
        return result
    gaps = _unscored(labelled, truth)
    return Evaluation(**{**vars(result), "notices": (*result.notices, *gaps)})


def _with_decisions(labelled: pd.DataFrame, decided: pd.DataFrame) -> pd.DataFrame:
    keys = ["machine", "section", "key"]
    left = labelled.assign(key=labelled["clip"].map(clip_key))
    right = decided.assign(key=decided["clip"].map(clip_key))[[*keys, "decision"]]
    both = left.merge(right, on=keys, how="outer", indicator=True)
    lone = both.loc[both["_merge"] != "both"]
    if not lone.empty:
        first = lone.iloc[0]
        kind = "decision" if first["_merge"] == "left_only" else "score"
        raise ScoreError(
            f"clip '{first['key']}' of {first['machine']}/{first['section']} has no {kind}; "
            "give a decision for every score, or remove the decision files"
        )
    return both.drop(columns=["key", "_merge"])


def _unscored(labelled: pd.DataFrame, truth: pd.DataFrame) -> list[str]:
    scored = set(zip(labelled["machine"], labelled["section"], strict=True))
    known = set(zip(truth["machine"], truth["section"], strict=True))
    if not scored & known:
        return ["the ground truth has none of the scored sections; labels come from file names"]
    lacking = sorted(f"{machine}/{section}" for machine, section in known - scored)
    return [f"no scores for {', '.join(lacking)} of the ground truth"] if lacking else []


def _numbers(row: Any, names: tuple[str, ...]) -> dict[str, float | None]:
    values = {name: float(row[name]) for name in names}
    return {name: None if math.isnan(value) else value for name, value in values.items()}


def to_json_dict(df: pd.DataFrame, year: int) -> dict[str, Any]:
    """Return a metrics frame (or section table) as plain numbers for JSON.

    Returns
    -------
    dict
        ``year``; ``machines`` → machine → ``sections``, ``average`` and, from 2021 on,
        ``harmonic_mean``; overall ``average`` and, from 2021 on, ``harmonic_mean``, ``omega`` and
        ``omega_terms`` (how many numbers it is the mean of); 2020: ``mauc``. What is not defined
        is None.
    """
    names = metrics.metric_columns(year)
    sections = section_rows(df)
    out: dict[str, Any] = {"year": year, "machines": {}}
    for machine, group in sections.groupby("machine", sort=True):
        entry: dict[str, Any] = {
            "sections": {row["section"]: _numbers(row, names) for row in group.to_dict("records")},
            "average": _numbers(means.mean_metrics(group, year), names),
        }
        if year != 2020:
            harmonic = means.mean_metrics(group, year, "harmonic")
            entry["harmonic_mean"] = _numbers(harmonic, names)
        out["machines"][str(machine)] = entry
    out["average"] = _numbers(means.overall_metrics(sections, year), names)
    if year == 2020:
        out.update(_numbers({"mauc": means.mauc(sections)}, ("mauc",)))
        return out
    out["harmonic_mean"] = _numbers(means.overall_metrics(sections, year, "harmonic"), names)
    out.update(_numbers({"omega": means.omega(sections, year)}, ("omega",)))
    out["omega_terms"] = int(means.omega_terms(sections, year).size)
    return out


def write_metrics_csv(frame: pd.DataFrame, path: str | Path) -> Path:
    """Write a metrics frame as ``metrics.csv``, under a temporary name first."""
    rows = [[_field(value) for value in row] for row in frame.itertuples(index=False)]
    return write_text_atomic(path, csv_text([list(frame.columns), *rows]))


def _field(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return "" if math.isnan(value) else repr(float(value))
