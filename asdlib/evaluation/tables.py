"""From scores to tables: :func:`evaluate`, :func:`evaluate_folder`; published figures as tables.

Conventions
-----------
- A *metrics frame* has the section rows of every machine, then its row ``section="Average"``, and
  as last row ``machine="Average", section="Average"``. Averages are arithmetic (see
  :mod:`asdlib.evaluation.metrics`) and skip NaN.
- The files in ``published/`` hold percent, as printed by their sources; :func:`load_published`
  returns fractions. A figure of ``dcase2020_per_id`` counts as published only if its status says
  "read" or "confirmed". "Meng et al. 2024" is arXiv:2509.15570, known through its abstract and
  summaries only. The omega of both 2022 baselines is of other runs than their other figures, whose
  harmonic means are 53.5 and 55.2. IDNN on the 2020 development set: the average in its source
  (AUC 75.44) is not the mean of its machine rows (75.52).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Any

import pandas as pd

from asdlib.errors import ScoreError
from asdlib.evaluation import metrics
from asdlib.evaluation.scores import align_clips, label_scores, read_score_folder, read_truth

AVERAGE = "Average"

TABLES: dict[str, tuple[str, ...]] = {
    "dcase2020": ("auc", "pauc"),
    "dcase2020_per_id": ("auc", "pauc"),
    "dcase2022": ("auc_source", "auc_target", "pauc", "omega"),
    "official_score": ("development", "evaluation"),
}
"""Name of each table, and its columns of figures."""


@dataclass(frozen=True)
class Evaluation:
    """Metrics, decisions and notices computed from one set of scores.

    Attributes
    ----------
    year : whose definitions were used
    scores : the labelled score table
    frame : metrics frame, sections and averages
    pooled : ``machine``, ``auc``, ``pauc`` over all clips of a machine
    notices : what is not defined, missing or skipped; one line each
    decisions : precision, recall and F1 of every section, if decisions were given
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
        return self.frame.loc[self.frame["section"] != AVERAGE].reset_index(drop=True)

    def to_json_dict(self) -> dict[str, Any]:
        """Return all figures as plain numbers for JSON; what is not defined is None.

        ``year``; ``machines`` → machine → ``sections``, ``average``, ``pooled`` and, from 2021 on,
        ``harmonic_mean``; overall ``average`` and, from 2021 on, ``harmonic_mean``, ``omega`` and
        ``omega_terms`` (how many numbers it is the mean of); 2020: ``mauc``; ``notices``.
        """
        rows = sections = self.sections
        if self.decisions is not None:
            rows = sections.merge(self.decisions, on=["machine", "section"])
        pooled = self.pooled.set_index("machine").to_dict("index")
        out: dict[str, Any] = {"year": self.year, "machines": {}}
        for machine, group in rows.groupby("machine", sort=True):
            figures = group.set_index("section").drop(columns="machine").to_dict("index")
            out["machines"][str(machine)] = {
                "sections": {str(section): _plain(row) for section, row in figures.items()},
                **self._means(group),
                "pooled": _plain(pooled[machine]),
            }
        out |= self._means(sections)
        if self.year == 2020:
            out |= _plain({"mauc": metrics.mauc(sections)})
        else:
            out |= _plain({"omega": metrics.omega(sections, self.year)})
            out["omega_terms"] = int(metrics.omega_terms(sections, self.year).size)
        return out | {"notices": list(self.notices)}

    def _means(self, rows: pd.DataFrame) -> dict[str, dict[str, float | None]]:
        out = {"average": _plain(metrics.mean_metrics(rows, self.year))}
        if self.year != 2020:
            out["harmonic_mean"] = _plain(metrics.mean_metrics(rows, self.year, "harmonic"))
        return out


def _plain(values: Mapping[Any, Any]) -> dict[str, float | None]:
    numbers = {str(name): float(value) for name, value in values.items()}
    return {name: None if math.isnan(value) else value for name, value in numbers.items()}


def evaluate(df: pd.DataFrame, year: int) -> Evaluation:
    """Evaluate a labelled score table by the definitions of a year, for example that of a run.

    Parameters
    ----------
    df
        Score table: ``machine``, ``section``, ``domain``, ``label``, ``clip``, ``anomaly_score``;
        a column ``decision`` (0 or 1) is evaluated too.
    year : 2020 to 2026
    """
    sections, notices = metrics.section_metrics(df, year)
    if notices:
        notices.append("averages skip what is not defined")
    return Evaluation(
        year=year,
        scores=df,
        frame=_with_averages(sections, year),
        pooled=metrics.pooled(df),
        notices=tuple(notices),
        decisions=metrics.decision_metrics(df, year) if "decision" in df.columns else None,
    )


def _with_averages(sections: pd.DataFrame, year: int) -> pd.DataFrame:
    rows: list[dict[Any, Any]] = []
    for machine, group in sections.groupby("machine", sort=True):
        rows += group.sort_values("section").to_dict("records")
        average = metrics.mean_metrics(group, year)
        rows.append({"machine": machine, "section": AVERAGE, **average})
    overall = metrics.mean_metrics(sections, year)
    rows.append({"machine": AVERAGE, "section": AVERAGE, **overall})
    return pd.DataFrame(rows, columns=list(sections.columns))


def evaluate_folder(
    path: str | Path, year: int, ground_truth: str | Path | None = None
) -> Evaluation:
    """Evaluate a folder of official score files, whoever wrote them.

    Parameters
    ----------
    path : folder of ``anomaly_score_*.csv``; ``decision_result_*.csv`` in it are evaluated too
    year : 2020 to 2026
    ground_truth
        List CSV for 2020, a folder like the official evaluator's later; None: the labels are in the
        file names (development set).
    """
    scores = read_score_folder(path, year)
    truth = None if ground_truth is None else read_truth(ground_truth, year)
    labelled = label_scores(scores, year, truth)
    if any(Path(path).glob("decision_result_*.csv")):
        decided = read_score_folder(path, year, "decision_result")
        way_out = "give a decision for every score, or remove the decision files"
        labelled, decided = align_clips(labelled, decided, ("score", "decision"), way_out)
        labelled["decision"] = decided["decision"]
    result = evaluate(labelled, year)
    gaps = [] if truth is None else _unscored(labelled, truth)
    return replace(result, notices=(*result.notices, *gaps))


def _unscored(labelled: pd.DataFrame, truth: pd.DataFrame) -> list[str]:
    scored = set(zip(labelled["machine"], labelled["section"], strict=True))
    known = set(zip(truth["machine"], truth["section"], strict=True))
    if not scored & known:
        return ["the ground truth has none of the scored sections; labels come from file names"]
    lacking = sorted(f"{machine}/{section}" for machine, section in known - scored)
    return [f"no scores for {', '.join(lacking)} of the ground truth"] if lacking else []


def load_published(table: str) -> pd.DataFrame:
    """Load one published table.

    Parameters
    ----------
    table
        ``dcase2020``: AUC and pAUC per machine type, with rows ``machine="average"``;
        ``dcase2020_per_id``: the official autoencoder per machine ID, with the status of each
        figure; ``dcase2022``: means over machines and sections; ``official_score``: one figure for
        each split and year, in 2020 the mean of AUC and pAUC, later Ω.

    Returns
    -------
    DataFrame
        Figures as fractions (NaN: not given), all other columns str; ``source`` is never empty.
    """
    if table not in TABLES:
        raise ScoreError(f"published table '{table}' is not known (known: {', '.join(TABLES)})")
    file = resources.files("asdlib.evaluation").joinpath("published", f"{table}.csv")
    with file.open(encoding="utf-8") as lines:
        df = pd.read_csv(lines, dtype=str, keep_default_na=False)
    for column in TABLES[table]:
        # Rounded, so that 65.83 % is 0.6583 and not the neighbour that division gives.
        df[column] = (pd.to_numeric(df[column]) / 100).round(8)
    return df
