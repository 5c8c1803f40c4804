"""One table of systems, measured and published, where every row says what it can be compared with.

Conventions: figures are fractions; NaN where a source gives none. Every row says its data, whether
these are real or synthetic, the split, the training data, how the model was selected and the
source; where a source does not say it, the field reads "not stated".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from asdlib.errors import ScoreError
from asdlib.evaluation import means
from asdlib.evaluation.intervals import t_interval
from asdlib.evaluation.published import load_published
from asdlib.evaluation.tables import Evaluation

NOT_STATED = "not stated"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonRow:
    """One system on one set of clips.

    Attributes
    ----------
    system : name of the system
    data : what was scored, for example "DCASE 2020 Task 2" or "real ToyCar store"
    data_kind : "real" or "synthetic"
    split : "development", "evaluation", or what else the clips are
    training_data : what the system was trained on
    selection : how epoch and parameters were chosen
    aggregate : over what the figures are means
    origin : "measured" (by the code at hand) or "published" (by others)
    source : run folder, paper or repository
    seeds : number of runs that the figures are means of
    auc, pauc, auc_source, auc_target, omega : fractions
    mauc : lowest AUC of a machine's sections, averaged over machines
    pooled_auc, pooled_pauc : over all clips of a machine together, averaged over machines
    interval : what the 95 % intervals speak about, "seeds" or "clips"; empty without intervals
    auc_low, auc_high, pauc_low, pauc_high : bounds of the intervals
    """

    system: str
    data: str
    data_kind: Literal["real", "synthetic"]
    split: str
    training_data: str
    selection: str
    aggregate: str
    origin: Literal["measured", "published"]
    source: str
    auc: float = float("nan")
    pauc: float = float("nan")
    auc_source: float = float("nan")
    auc_target: float = float("nan")
    omega: float = float("nan")
    mauc: float = float("nan")
    pooled_auc: float = float("nan")
    pooled_pauc: float = float("nan")
    seeds: str = NOT_STATED
    interval: str = ""
    auc_low: float = float("nan")
    auc_high: float = float("nan")
    pauc_low: float = float("nan")
    pauc_high: float = float("nan")


COMPARISON_COLUMNS = tuple(field.name for field in fields(ComparisonRow))
FIGURES = ("auc", "pauc", "auc_source", "auc_target", "omega", "mauc", "pooled_auc", "pooled_pauc")
BOUNDS = ("auc_low", "auc_high", "pauc_low", "pauc_high")
_ALLOWED = {"data_kind": ("real", "synthetic"), "origin": ("measured", "published")}


def comparison_table(rows: Iterable[ComparisonRow]) -> pd.DataFrame:
    """Put rows into one table, in the order given.

    Returns
    -------
    DataFrame
        ``COMPARISON_COLUMNS``, less the figures that no row has. ``data_kind`` is always there, so
        that real and synthetic results never stand together unmarked.

    Raises
    ------
    ScoreError
        No rows, an empty field, an unknown ``data_kind`` or ``origin``, or a figure outside [0, 1].
    """
    given = list(rows)
    if not given:
        raise ScoreError("comparison has no rows; give at least one run or published row")
    for row in given:
        values = asdict(row)
        for name in (n for n in COMPARISON_COLUMNS if n not in (*FIGURES, *BOUNDS, "interval")):
            known = _ALLOWED.get(name)
            if not str(values[name]).strip() or (known and values[name] not in known):
                expected = f"known: {', '.join(known)}" if known else f"write '{NOT_STATED}'"
                raise ScoreError(f"row '{row.system}' has {name} {values[name]!r} ({expected})")
        for name in FIGURES:
            if not (np.isnan(values[name]) or 0 <= values[name] <= 1):
                raise ScoreError(
                    f"row '{row.system}' has {name} {values[name]}; expected a fraction in [0, 1]"
                )
    df = pd.DataFrame([asdict(row) for row in given], columns=list(COMPARISON_COLUMNS))
    lacking = [name for name in (*FIGURES, *BOUNDS) if df[name].isna().all()]
    return df.drop(columns=[*lacking, *(["interval"] if (df["interval"] == "").all() else [])])


def measured_row(
    result: Evaluation,
    *,
    system: str,
    data: str,
    data_kind: Literal["real", "synthetic"],
    split: str,
    training_data: str,
    selection: str,
    source: str,
    kind: means.Kind = "arithmetic",
) -> ComparisonRow:
    """Make a row of an evaluation, ours or of somebody's score files.

    Parameters
    ----------
    result : what ``evaluate_folder`` or ``evaluate_frame`` returned
    kind : mean over sections and machines, "arithmetic" or "harmonic"
    """
    average = means.overall_metrics(result.sections, result.year, kind)
    figures = {name: average[name] for name in FIGURES if name in average}
    if result.year != 2020:
        figures["omega"] = means.omega(result.sections, result.year)
    figures["mauc"] = means.mauc(result.sections)
    for name in ("auc", "pauc"):
        figures[f"pooled_{name}"] = means.arithmetic_mean(result.pooled[name])
    over = "IDs, then machine types" if result.year == 2020 else "machine types and sections"
    return ComparisonRow(
        system=system,
        data=data,
        data_kind=data_kind,
        split=split,
        training_data=training_data,
        selection=selection,
        aggregate=f"{kind} mean over {over}",
        origin="measured",
        source=source,
        seeds="1",
        **cast(Any, figures),
    )


def mean_row(rows: Sequence[ComparisonRow], *, source: str) -> ComparisonRow:
    """Join the rows of one system with different seeds: means, and t-intervals over seeds.

    Raises
    ------
    ScoreError
        There are no rows, or they differ in what they say about the data or the training.
    """
    if not rows:
        raise ScoreError("no rows to join; give at least one run")
    told = [f.name for f in fields(ComparisonRow) if f.name not in (*FIGURES, *BOUNDS, "source")]
    for row in rows[1:]:
        differ = [name for name in told if getattr(row, name) != getattr(rows[0], name)]
        if differ:
            raise ScoreError(
                f"runs of '{rows[0].system}' differ in {', '.join(differ)}; give them two names"
            )
    values = {name: [getattr(row, name) for row in rows] for name in FIGURES}
    figures = {name: float(np.mean(column)) for name, column in values.items()}
    if len(rows) == 1:
        return replace(rows[0], source=source)
    for name in ("auc", "pauc"):
        if not np.isnan(figures[name]):
            _, low, high = t_interval(values[name])
            figures |= {f"{name}_low": low, f"{name}_high": high}
    return replace(
        rows[0], source=source, seeds=str(len(rows)), interval="seeds", **cast(Any, figures)
    )


def published_rows(
    year: int, *, split: str | None = None, machine: str | None = None
) -> list[ComparisonRow]:
    """Make rows of the published figures.

    Parameters
    ----------
    year : 2020 or 2022
    split : "development", "evaluation" or, for 2020, "uncertain"; None: all
    machine : 2020 only: the figures of one machine type instead of the averages

    Raises
    ------
    ScoreError
        Nothing is published for this choice here.
    """
    if year not in (2020, 2022) or (year == 2022 and machine):
        raise ScoreError(
            f"no published rows for year {year}"
            + (f" and machine '{machine}'" if machine else "")
            + " (known: 2020, with machines; 2022)"
        )
    df = load_published("dcase2020" if year == 2020 else "dcase2022")
    if year == 2020:
        df = _averages_2020(df) if machine is None else df.loc[df["machine"] == machine]
    if split is not None:
        df = df.loc[df["split"] == split]
    if df.empty:
        raise ScoreError(f"no published rows of {year} for split {split!r}, machine {machine!r}")
    rows = []
    for record in df.to_dict("records"):
        aggregate = record.get("aggregate", "") or record.get("pooling", NOT_STATED)
        source = str(record["source"])
        omega_source = str(record.get("omega_source", ""))
        if omega_source not in ("", source):
            source = f"{source}; omega: {omega_source}"
        rows.append(
            ComparisonRow(
                system=str(record["system"]),
                data=f"DCASE {year} Task 2" + (f" {machine}" if machine else ""),
                data_kind="real",
                split=str(record["split"]),
                training_data=str(record.get("training_data", NOT_STATED)),
                selection=str(record["selection"]),
                aggregate=str(aggregate),
                origin="published",
                source=source,
                **cast(Any, {name: float(record[name]) for name in FIGURES if name in record}),
            )
        )
    return rows


def _averages_2020(df: pd.DataFrame) -> pd.DataFrame:
    """Take the average a source prints; where it prints none, the mean of its machine rows."""
    keys = ["system", "split"]
    printed = df.loc[df["machine"] == "average"]
    told = set(zip(printed["system"], printed["split"], strict=True))
    lone = [pair not in told for pair in zip(df["system"], df["split"], strict=True)]
    rest = df.loc[lone]
    text = {c: "first" for c in df.columns if c not in ("auc", "pauc", *keys)}
    computed = rest.groupby(keys, sort=False, as_index=False).agg(
        {**text, "auc": "mean", "pauc": "mean"}
    )
    computed["source"] += " (mean of its machine rows)"
    return pd.concat([computed, printed], ignore_index=True)
