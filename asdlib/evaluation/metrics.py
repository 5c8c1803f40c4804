"""Metrics of DCASE Task 2, 2020 to 2026, as pure functions.

Conventions
-----------
- ``y_true`` (N,) is 0 for a normal and 1 for an anomalous clip. ``score`` (N,) is the anomaly
  score, higher = more anomalous; ``decision`` (N,) is 1 where a system reports an anomaly, else 0.
  N is the number of clips.
- Metrics are fractions from 0 to 1, not percent.
- A *score table* is a DataFrame with one row per clip and the columns ``machine``, ``section``,
  ``domain`` ("source", "target" or "" for unknown), ``label`` ("normal" or "anomaly"), ``clip``
  and ``anomaly_score``. A *section table* has one row per section: ``machine``, ``section`` and the
  columns of :func:`metric_columns`.
- A metric is not defined where one of the two classes is missing. It is then NaN in a section
  table, and :func:`section_metrics` names it in a notice. Means skip NaN; a mean of nothing is NaN.
  The functions of arrays raise :class:`~asdlib.errors.ScoreError` instead.

Metrics
-------
:func:`auc`
    Area under the ROC curve.
:func:`pauc`
    McClish-standardised partial AUC up to a false-positive rate of 0.1: chance 0.5, floor 0.4737.
    The un-standardised formula in the task papers is not what any published table uses.
2020
    AUC and pAUC per machine ID, averaged over the IDs of a machine, then over machines.
2021
    AUC and pAUC within each domain. ``auc`` and ``pauc`` are the mean of both domains.
2022 to 2026
    ``auc_source`` sets the source normals against *all* anomalies of the section,
    ``auc_target`` the target normals. ``auc`` and ``pauc`` use all clips of the section.
:func:`omega`
    Official score since 2021, a harmonic mean over machines and sections. Averages since 2021 are
    over all sections of all machines at once.
:func:`mauc`, :func:`pooled`
    Lowest AUC of a machine, averaged; all sections of a machine as one.
:func:`precision_recall_f1`
    Of decisions, each domain within itself (anomalies are not shared, unlike the AUC since 2022).

Values below float eps are raised to it before a harmonic mean, and so is a denominator of zero of
precision, recall or F1, as in the official code (Kota-Dohi/dcase2022_evaluator, commit de8719b).
"""

from __future__ import annotations

import sys
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from asdlib.errors import ScoreError

Floats = NDArray[np.float64]
Mean = Literal["arithmetic", "harmonic"]

YEARS = tuple(range(2020, 2027))
MAX_FPR = 0.1
FLOOR = sys.float_info.epsilon
SCORE_COLUMNS = ("machine", "section", "domain", "label", "clip", "anomaly_score")
DOMAINS = ("source", "target")

_OF_DECISIONS = ("precision", "recall", "f1")


def check_year(year: int) -> int:
    """Return ``year``, or raise :class:`ScoreError` if it has no metric definition here."""
    if year not in YEARS:
        raise ScoreError(f"year {year!r} has no metrics (known: {YEARS[0]} to {YEARS[-1]})")
    return year


def metric_columns(year: int) -> tuple[str, ...]:
    """Return the metric columns of a section table of ``year``."""
    check_year(year)
    if year == 2020:
        return ("auc", "pauc")
    if year == 2021:
        return ("auc", "pauc", "auc_source", "auc_target", "pauc_source", "pauc_target")
    return ("auc", "pauc", "auc_source", "auc_target")


def decision_columns(year: int) -> tuple[str, ...]:
    """Return the columns of :func:`decision_metrics`, from 2021 on one per domain."""
    if check_year(year) == 2020:
        return _OF_DECISIONS
    return tuple(f"{name}_{domain}" for name in _OF_DECISIONS for domain in DOMAINS)


def _binary(values: ArrayLike, name: str) -> NDArray[np.int64]:
    array = np.asarray(values)
    unknown = [value for value in array.ravel().tolist() if value not in (0, 1)]
    if unknown:
        raise ScoreError(f"{name} holds {unknown[0]!r}; expected 0 (normal) or 1 (anomaly)")
    return array.astype(np.int64)


def validate(y_true: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    """Check the input of a metric and return it as arrays.

    Parameters
    ----------
    y_true : (N,) 0 = normal, 1 = anomaly
    score : (N,) anomaly scores

    Raises
    ------
    ScoreError
        Other shapes, other labels, a score that is not finite, or only one class.
    """
    s = np.asarray(score, dtype=np.float64)
    if np.ndim(y_true) != 1 or s.shape != np.shape(y_true):
        raise ScoreError(
            f"y_true has shape {np.shape(y_true)} and score {s.shape}; give one label and one "
            "score per clip"
        )
    y = _binary(y_true, "y_true")
    if not np.isfinite(s).all():
        row = int(np.flatnonzero(~np.isfinite(s))[0])
        raise ScoreError(f"score {row} is {s[row]}; expected finite numbers")
    if y.size == 0 or y.min() == y.max():
        found = "no clips" if y.size == 0 else ("only anomalies" if y[0] else "only normal clips")
        raise ScoreError(f"y_true holds {found}; AUC needs normal and anomalous clips")
    return y, s


def auc(y_true: ArrayLike, score: ArrayLike) -> float:
    """Compute the area under the ROC curve.

    Parameters
    ----------
    y_true : (N,) 0 = normal, 1 = anomaly
    score : (N,) anomaly scores

    Returns
    -------
    float
        Probability that an anomaly scores higher than a normal clip; ties count one half.

    Raises
    ------
    ScoreError
        See :func:`validate`.
    """
    y, s = validate(y_true, score)
    return float(roc_auc_score(y, s))


def pauc(y_true: ArrayLike, score: ArrayLike, max_fpr: float = MAX_FPR) -> float:
    """Compute the McClish-standardised partial AUC up to ``max_fpr``.

    Parameters
    ----------
    y_true : (N,) 0 = normal, 1 = anomaly
    score : (N,) anomaly scores
    max_fpr : highest false-positive rate, in (0, 1]

    Returns
    -------
    float
        1 for a perfect ranking, 0.5 for chance.

    Raises
    ------
    ScoreError
        See :func:`validate`; or ``max_fpr`` outside (0, 1].

    References
    ----------
    D. K. McClish, Medical Decision Making 9(3), 1989; scikit-learn ``roc_auc_score(max_fpr=…)``,
    as the official DCASE evaluators call it.
    """
    if not 0 < max_fpr <= 1:
        raise ScoreError(f"max_fpr {max_fpr!r} is out of range; expected 0 < max_fpr <= 1")
    y, s = validate(y_true, score)
    return float(roc_auc_score(y, s, max_fpr=max_fpr))


def precision_recall_f1(y_true: ArrayLike, decision: ArrayLike) -> tuple[float, float, float]:
    """Compute precision, recall and F1 of decisions.

    Parameters
    ----------
    y_true : (N,) 0 = normal, 1 = anomaly
    decision : (N,) 0 or 1

    Raises
    ------
    ScoreError
        Shapes differ, no clips, or values other than 0 and 1.
    """
    if np.ndim(y_true) != 1 or np.shape(y_true) != np.shape(decision) or not np.size(y_true):
        raise ScoreError(
            f"y_true has shape {np.shape(y_true)} and decision {np.shape(decision)}; give one "
            "decision per clip"
        )
    y, d = _binary(y_true, "y_true"), _binary(decision, "decision")
    true_positives = float(np.sum((y == 1) & (d == 1)))
    precision = true_positives / max(float(np.sum(d == 1)), FLOOR)
    recall = true_positives / max(float(np.sum(y == 1)), FLOOR)
    return precision, recall, 2.0 * precision * recall / max(precision + recall, FLOOR)


def validate_frame(df: pd.DataFrame) -> None:
    """Check a score table.

    Raises
    ------
    ScoreError
        No rows, a missing column, an unknown label or domain, a score that is not finite, or a
        clip that occurs twice in one machine and section.
    """
    missing = [column for column in SCORE_COLUMNS if column not in df.columns]
    if missing:
        raise ScoreError(
            f"score table lacks the column '{missing[0]}' (needed: {', '.join(SCORE_COLUMNS)})"
        )
    if df.empty:
        raise ScoreError("score table has no rows; expected one row for each test clip")
    scores = pd.to_numeric(df["anomaly_score"], errors="coerce").to_numpy(dtype=np.float64)
    faults = {
        "label": (~df["label"].isin(("normal", "anomaly")), "known: 'normal', 'anomaly'"),
        "domain": (~df["domain"].isin((*DOMAINS, "")), "known: 'source', 'target', ''"),
        "anomaly_score": (~np.isfinite(scores), "expected a finite number"),
    }
    for column, (bad, expected) in faults.items():
        if bad.any():
            first = df.loc[bad].iloc[0]
            raise ScoreError(
                f"clip '{first['clip']}' of '{first['machine']}' has {column.replace('_', ' ')} "
                f"'{first[column]}' ({expected})"
            )
    twice = df.duplicated(["machine", "section", "clip"])
    if twice.any():
        first = df.loc[twice].iloc[0]
        raise ScoreError(
            f"clip '{first['clip']}' of '{first['machine']}' occurs twice in section "
            f"'{first['section']}'; give one score per clip"
        )


def labels_of(df: pd.DataFrame) -> NDArray[np.int64]:
    """Return the labels of a score table as ``y_true`` (N,)."""
    return np.asarray(df["label"] == "anomaly", dtype=np.int64)


def section_masks(y: NDArray[Any], domain: NDArray[Any], year: int) -> dict[str, NDArray[np.bool_]]:
    """Return which clips of one section each metric of ``year`` uses.

    Parameters
    ----------
    y : (N,) 0 = normal, 1 = anomaly
    domain : (N,) "source", "target" or ""

    Returns
    -------
    dict of str to (N,) bool
        One mask per metric. For 2021 ``auc`` and ``pauc`` are means of others and have no mask.
    """
    everything = np.ones(y.size, dtype=np.bool_)
    if year == 2020:
        return {"auc": everything, "pauc": everything}
    within = {d: np.asarray(domain == d, dtype=np.bool_) for d in DOMAINS}
    if year == 2021:
        return {f"{kind}_{d}": within[d] for kind in ("auc", "pauc") for d in DOMAINS}
    shared = {f"auc_{d}": within[d] | (y == 1) for d in DOMAINS}
    return {"auc": everything, "pauc": everything, **shared}


def section_metrics(df: pd.DataFrame, year: int) -> tuple[pd.DataFrame, list[str]]:
    """Compute the metrics of every section of a score table by the definitions of ``year``.

    Parameters
    ----------
    df : score table
    year : 2020 to 2026

    Returns
    -------
    sections : DataFrame
        Section table: ``machine``, ``section`` and :func:`metric_columns`, sorted.
    notices : list of str
        One line for each metric that is not defined (its value is NaN).

    Raises
    ------
    ScoreError
        See :func:`validate_frame`; or an unknown year.
    """
    columns = metric_columns(year)
    validate_frame(df)
    rows: list[dict[str, object]] = []
    notices: list[str] = []
    for (machine, section), group in df.groupby(["machine", "section"], sort=True):
        y = labels_of(group)
        score = group["anomaly_score"].to_numpy(dtype=np.float64)
        values = dict.fromkeys(columns, float("nan"))
        masks = section_masks(y, group["domain"].to_numpy(dtype=np.str_), year)
        for name, mask in masks.items():
            n_normal, n_anomaly = int((y[mask] == 0).sum()), int((y[mask] == 1).sum())
            if n_normal and n_anomaly:
                metric = pauc if name.startswith("pauc") else auc
                values[name] = metric(y[mask], score[mask])
            else:
                notices.append(
                    f"{name} of {machine}/{section} is not defined: "
                    f"{n_normal} normal and {n_anomaly} anomalous clips"
                )
        if year == 2021:
            for kind in ("auc", "pauc"):
                values[kind] = (values[f"{kind}_source"] + values[f"{kind}_target"]) / 2
        rows.append({"machine": str(machine), "section": str(section), **values})
    return pd.DataFrame(rows, columns=["machine", "section", *columns]), notices


def decision_metrics(df: pd.DataFrame, year: int) -> pd.DataFrame:
    """Compute precision, recall and F1 of every section, from 2021 on for each domain.

    Parameters
    ----------
    df : score table with the column ``decision`` (0 or 1)
    year : 2020 to 2026

    Returns
    -------
    DataFrame
        ``machine``, ``section`` and :func:`decision_columns`; NaN where a domain has no clips.
    """
    rows: list[dict[str, object]] = []
    for (machine, section), group in df.groupby(["machine", "section"], sort=True):
        row: dict[str, object] = {"machine": str(machine), "section": str(section)}
        for domain in ("",) if year == 2020 else DOMAINS:
            part = group if year == 2020 else group.loc[group["domain"] == domain]
            if not part.empty:
                names = [f"{name}_{domain}" if domain else name for name in _OF_DECISIONS]
                figures = precision_recall_f1(labels_of(part), part["decision"].to_numpy())
                row.update(zip(names, figures, strict=True))
        rows.append(row)
    return pd.DataFrame(rows, columns=["machine", "section", *decision_columns(year)])


def pooled(df: pd.DataFrame) -> pd.DataFrame:
    """Compute AUC and pAUC of each machine over the clips of all its sections together.

    Some papers (Noisy-ArcMix, OS-SCL) print these figures. They are not the official ones: they
    also depend on how the scores of different sections compare.

    Returns
    -------
    DataFrame
        Columns ``machine``, ``auc``, ``pauc``; NaN where a machine has only one class.
    """
    validate_frame(df)
    whole = df.assign(section="", clip=df["section"].astype(str) + "/" + df["clip"].astype(str))
    return section_metrics(whole, 2020)[0].drop(columns="section")


def _defined(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[~np.isnan(array)]


def arithmetic_mean(values: ArrayLike) -> float:
    """Return the arithmetic mean of the values that are not NaN."""
    array = _defined(values)
    return float(array.mean()) if array.size else float("nan")


def harmonic_mean(values: ArrayLike) -> float:
    """Return the harmonic mean of the values that are not NaN, each raised to at least eps."""
    array = np.maximum(_defined(values), FLOOR)
    return float(array.size / np.sum(1.0 / array)) if array.size else float("nan")


def mean_metrics(sections: pd.DataFrame, year: int, kind: Mean = "arithmetic") -> dict[str, float]:
    """Return the mean of each of :func:`metric_columns` over all rows of a section table."""
    mean = arithmetic_mean if kind == "arithmetic" else harmonic_mean
    means = {}
    for column in metric_columns(year):
        # In 2021 each domain is a row of the official table, so both enter the mean of "auc".
        split = year == 2021 and column in ("auc", "pauc")
        names = [f"{column}_{domain}" for domain in DOMAINS] if split else [column]
        means[column] = mean(sections[names].to_numpy(dtype=np.float64))
    return means


def overall_metrics(
    sections: pd.DataFrame, year: int, kind: Mean = "arithmetic"
) -> dict[str, float]:
    """Return the mean of each metric over all machines: of their means in 2020, later of sections.

    Both agree if all machines have the same number of sections.
    """
    if check_year(year) != 2020:
        return mean_metrics(sections, year, kind)
    machines = [
        {"machine": machine, **mean_metrics(group, year, kind)}
        for machine, group in sections.groupby("machine", sort=True)
    ]
    return mean_metrics(pd.DataFrame(machines), year, kind)


def omega_terms(sections: pd.DataFrame, year: int) -> Floats:
    """Return the defined numbers of which the official score of ``year`` is the mean.

    Raises
    ------
    ScoreError
        2020 has no such score.
    """
    if check_year(year) == 2020:
        raise ScoreError("omega is not defined for 2020; use the averages of auc and pauc")
    names = ["auc_source", "auc_target"]
    names += ["pauc_source", "pauc_target"] if year == 2021 else ["pauc"]
    return _defined(sections[names].to_numpy(dtype=np.float64))


def omega(sections: pd.DataFrame, year: int = 2022) -> float:
    """Compute the official score: a harmonic mean over machines and sections.

    2022 to 2026: of every AUC (source), AUC (target) and pAUC (2022: 7 × 3 × 3 = 63 numbers).
    2021: of every AUC and pAUC of both domains.

    Parameters
    ----------
    sections : section table of all machines
    year : 2021 to 2026

    Raises
    ------
    ScoreError
        2020 has no such score.
    """
    return harmonic_mean(omega_terms(sections, year))


def mauc(sections: pd.DataFrame) -> float:
    """Compute the lowest AUC among the sections of a machine, averaged over machines."""
    lowest = sections.groupby("machine")["auc"].min()
    return arithmetic_mean(lowest.to_numpy(dtype=np.float64))
