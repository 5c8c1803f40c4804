"""Threshold metrics: precision, recall and F1 from decisions.

Conventions
-----------
- A decision is 0 (normal) or 1 (anomaly). The official baselines decide ``score > threshold``.
- Each domain is evaluated within itself; anomalies are not shared (unlike AUC from 2022 on).
- A denominator of zero is raised to float eps, as in the official code
  (Kota-Dohi/dcase2022_evaluator, commit de8719b), so that no detection at all gives 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from asdlib.errors import ScoreError
from asdlib.evaluation.metrics import FLOOR, check_year


class ThresholdMetrics(NamedTuple):
    """Precision, recall and F1 of one set of decisions."""

    precision: float
    recall: float
    f1: float


def decide(score: ArrayLike, threshold: float) -> NDArray[np.int64]:
    """Decide 1 (anomaly) where ``score`` (N,) is above ``threshold``, else 0."""
    if not np.isfinite(threshold):
        raise ScoreError(f"threshold {threshold!r} is not finite; give a number")
    return (np.asarray(score, dtype=np.float64) > threshold).astype(np.int64)


def precision_recall_f1(y_true: ArrayLike, decision: ArrayLike) -> ThresholdMetrics:
    """Precision, recall and F1 of decisions.

    Parameters
    ----------
    y_true : (N,) 0 = normal, 1 = anomaly
    decision : (N,) 0 or 1

    Raises
    ------
    ScoreError
        Shapes differ, no clips, or values other than 0 and 1.
    """
    y, d = np.asarray(y_true), np.asarray(decision)
    if y.ndim != 1 or y.shape != d.shape or y.size == 0:
        raise ScoreError(
            f"y_true has shape {y.shape} and decision {d.shape}; give one decision a clip"
        )
    for name, array in (("y_true", y), ("decision", d)):
        unknown = [value for value in array.tolist() if value not in (0, 1)]
        if unknown:
            raise ScoreError(f"{name} holds {unknown[0]!r}; expected 0 or 1")
    true_positives = float(np.sum((y == 1) & (d == 1)))
    precision = true_positives / max(float(np.sum(d == 1)), FLOOR)
    recall = true_positives / max(float(np.sum(y == 1)), FLOOR)
    f1 = 2.0 * precision * recall / max(precision + recall, FLOOR)
    return ThresholdMetrics(precision, recall, f1)


def apply_thresholds(df: pd.DataFrame, thresholds: Mapping[str, float] | float) -> pd.DataFrame:
    """Add the column ``decision`` to a score table.

    Parameters
    ----------
    df : score table
    thresholds : one threshold, or one for each machine

    Raises
    ------
    ScoreError
        A machine has no threshold.
    """
    out = df.copy()
    out["decision"] = 0
    for machine, rows in df.groupby("machine").groups.items():
        if isinstance(thresholds, Mapping):
            if machine not in thresholds:
                known = ", ".join(map(str, thresholds))
                raise ScoreError(f"no threshold for '{machine}' (known: {known})")
            threshold = thresholds[str(machine)]
        else:
            threshold = thresholds
        out.loc[rows, "decision"] = decide(df.loc[rows, "anomaly_score"], threshold)
    return out


def decision_columns(year: int) -> tuple[str, ...]:
    """Return the columns of :func:`evaluate_decisions` in the order of the official result.csv."""
    if check_year(year) == 2020:
        return ThresholdMetrics._fields
    return tuple(f"{name}_{d}" for name in ThresholdMetrics._fields for d in ("source", "target"))


def evaluate_decisions(df: pd.DataFrame, year: int) -> pd.DataFrame:
    """Precision, recall and F1 of every section, from 2021 on for each domain.

    Parameters
    ----------
    df : table with ``machine``, ``section``, ``domain``, ``label`` and ``decision``
    year : 2020 to 2026

    Returns
    -------
    DataFrame
        ``machine``, ``section`` and :func:`decision_columns`; NaN where a domain has no clips.
    """
    columns = decision_columns(year)
    bad = df.loc[~df["label"].isin(("normal", "anomaly"))]
    if not bad.empty:
        raise ScoreError(
            f"clip '{bad.iloc[0]['clip']}' has label {bad.iloc[0]['label']!r} "
            "(known: 'normal', 'anomaly')"
        )
    rows: list[dict[str, object]] = []
    for (machine, section), group in df.groupby(["machine", "section"], sort=True):
        values = dict.fromkeys(columns, float("nan"))
        for domain in ("",) if year == 2020 else ("source", "target"):
            part = group if year == 2020 else group.loc[group["domain"] == domain]
            if part.empty:
                continue
            y = (part["label"] == "anomaly").to_numpy(dtype=np.int64)
            result = precision_recall_f1(y, part["decision"].to_numpy())
            for name, value in result._asdict().items():
                values[f"{name}_{domain}" if domain else name] = value
        rows.append({"machine": str(machine), "section": str(section), **values})
    return pd.DataFrame(rows, columns=["machine", "section", *columns])
