"""Metrics of DCASE Task 2, 2020 to 2026, as pure functions.

Conventions
-----------
- ``y_true`` (N,) holds 0 for a normal and 1 for an anomalous clip. ``score`` (N,) is the anomaly
  score, higher = more anomalous. N is the number of clips.
- Metrics are fractions from 0 to 1, not percent.
- A *score table* is a DataFrame with one row a clip and the columns ``machine``, ``section``,
  ``domain`` ("source", "target" or "" for unknown), ``label`` ("normal" or "anomaly"), ``clip``
  and ``anomaly_score``. A *section table* has one row a section: ``machine``, ``section`` and the
  columns of :func:`metric_columns`.
- A metric that is not defined, because one of both classes is missing, is NaN in a section table,
  and :func:`evaluate` names it in a notice. Means skip NaN. Single functions raise instead.

Metrics
-------
:func:`auc`
    Area under the ROC curve.
:func:`pauc`
    McClish-standardised partial AUC up to a false-positive rate of 0.1: chance 0.5, floor 0.4737.
    The un-standardised formula in the task papers is not what any published table uses.
2020
    AUC and pAUC per machine ID.
2021
    AUC and pAUC within each domain. ``auc`` and ``pauc`` are the mean of both domains.
2022 to 2026
    ``auc_source`` sets the source normals against *all* anomalies of the section,
    ``auc_target`` the target normals. ``auc`` and ``pauc`` use all clips of the section.
:func:`omega`, :func:`mauc`, :func:`pooled`
    Official score; lowest AUC of a machine, averaged; all sections of a machine as one.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import roc_auc_score

from asdlib.errors import ScoreError

YEARS = tuple(range(2020, 2027))
MAX_FPR = 0.1
FLOOR = sys.float_info.epsilon
SCORE_COLUMNS = ("machine", "section", "domain", "label", "clip", "anomaly_score")

_LABELS = {"normal": 0, "anomaly": 1}
_DOMAINS = ("source", "target")


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


def validate(y_true: ArrayLike, score: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
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
    y = np.asarray(y_true)
    s = np.asarray(score, dtype=np.float64)
    if y.ndim != 1 or s.shape != y.shape:
        raise ScoreError(
            f"y_true has shape {y.shape} and score {s.shape}; give one label and one score a clip"
        )
    unknown = [value for value in y.tolist() if value not in (0, 1)]
    if unknown:
        raise ScoreError(f"y_true holds {unknown[0]!r}; expected 0 (normal) or 1 (anomaly)")
    if not np.isfinite(s).all():
        row = int(np.flatnonzero(~np.isfinite(s))[0])
        raise ScoreError(f"score {row} is {s[row]}; expected finite numbers")
    y = y.astype(np.int64)
    if y.size == 0 or y.min() == y.max():
        found = "no clips" if y.size == 0 else ("only anomalies" if y[0] else "only normal clips")
        raise ScoreError(f"y_true holds {found}; AUC needs normal and anomalous clips")
    return y, s


def auc(y_true: ArrayLike, score: ArrayLike) -> float:
    """Area under the ROC curve.

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
    """McClish-standardised partial AUC up to ``max_fpr``.

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


def validate_frame(df: pd.DataFrame) -> None:
    """Check a score table.

    Raises
    ------
    ScoreError
        No rows, a missing column, an unknown label or domain, a score that is not finite, or a
        clip that stands twice in one machine and section.
    """
    missing = [column for column in SCORE_COLUMNS if column not in df.columns]
    if missing:
        raise ScoreError(
            f"score table lacks the column '{missing[0]}' (needed: {', '.join(SCORE_COLUMNS)})"
        )
    if df.empty:
        raise ScoreError("score table has no rows; expected one row for each test clip")
    for column, known in (("label", tuple(_LABELS)), ("domain", (*_DOMAINS, ""))):
        bad = df.loc[~df[column].isin(known)]
        if not bad.empty:
            first = bad.iloc[0]
            raise ScoreError(
                f"clip '{first['clip']}' of '{first['machine']}' has {column} {first[column]!r} "
                f"(known: {', '.join(repr(k) for k in known)})"
            )
    scores = pd.to_numeric(df["anomaly_score"], errors="coerce").to_numpy(dtype=np.float64)
    if not np.isfinite(scores).all():
        first = df.iloc[int(np.flatnonzero(~np.isfinite(scores))[0])]
        raise ScoreError(
            f"clip '{first['clip']}' of '{first['machine']}' has anomaly score "
            f"{first['anomaly_score']!r}; expected a finite number"
        )
    twice = df.duplicated(["machine", "section", "clip"])
    if twice.any():
        first = df.loc[twice].iloc[0]
        raise ScoreError(
            f"clip '{first['clip']}' of '{first['machine']}' stands twice in section "
            f"'{first['section']}'; give one score a clip"
        )


def section_masks(y: NDArray[Any], domain: NDArray[Any], year: int) -> dict[str, NDArray[np.bool_]]:
    """Say which clips of one section each metric of ``year`` uses.

    Parameters
    ----------
    y : (N,) 0 = normal, 1 = anomaly
    domain : (N,) "source", "target" or ""

    Returns
    -------
    dict of str to (N,) bool
        One mask a metric. For 2021 ``auc`` and ``pauc`` are means of others and have no mask.
    """
    everything = np.ones(y.size, dtype=np.bool_)
    if year == 2020:
        return {"auc": everything, "pauc": everything}
    within = {d: np.asarray(domain == d, dtype=np.bool_) for d in _DOMAINS}
    if year == 2021:
        return {f"{kind}_{d}": within[d] for kind in ("auc", "pauc") for d in _DOMAINS}
    shared = {f"auc_{d}": within[d] | (y == 1) for d in _DOMAINS}
    return {"auc": everything, "pauc": everything, **shared}


def evaluate(df: pd.DataFrame, year: int) -> tuple[pd.DataFrame, list[str]]:
    """Evaluate a score table by the definitions of ``year``.

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
        y = group["label"].map(_LABELS).to_numpy(dtype=np.int64)
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


def evaluate_dcase2020(df: pd.DataFrame) -> pd.DataFrame:
    """Section table of 2020: AUC and pAUC per machine ID; see :func:`evaluate`."""
    return evaluate(df, 2020)[0]


def evaluate_dcase2021(df: pd.DataFrame) -> pd.DataFrame:
    """Section table of 2021: AUC and pAUC within each domain; see :func:`evaluate`."""
    return evaluate(df, 2021)[0]


def evaluate_dcase2022(df: pd.DataFrame) -> pd.DataFrame:
    """Section table of 2022 to 2026: normals of a domain against all anomalies of the section."""
    return evaluate(df, 2022)[0]


def pooled(df: pd.DataFrame) -> pd.DataFrame:
    """AUC and pAUC of each machine over the clips of all its sections together.

    Some papers (Noisy-ArcMix, OS-SCL) print these figures. They are not the official ones: they
    also depend on how the scores of different sections compare.

    Returns
    -------
    DataFrame
        Columns ``machine``, ``auc``, ``pauc``; NaN where a machine has only one class.
    """
    validate_frame(df)
    whole = df.assign(section="", clip=df["section"].astype(str) + "/" + df["clip"].astype(str))
    return evaluate(whole, 2020)[0].drop(columns="section")
