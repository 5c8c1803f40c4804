"""Means over sections and machines: arithmetic, harmonic, official score, lowest AUC.

Conventions
-----------
- Input is a section table of :mod:`asdlib.evaluation.metrics`: one row a section.
- NaN (a metric that is not defined) is skipped; a mean of nothing is NaN.
- 2020 averages over the IDs of a machine and then over machines. From 2021 on the official code
  averages over all sections of all machines at once; both agree when all machines have the same
  number of sections.
- Values below float eps are raised to it before a harmonic mean, as in the official code
  (Kota-Dohi/dcase2022_evaluator, commit de8719b).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from asdlib.errors import ScoreError
from asdlib.evaluation.metrics import FLOOR, check_year, metric_columns

Kind = Literal["arithmetic", "harmonic"]


def _defined(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64).ravel()
    return array[~np.isnan(array)]


def arithmetic_mean(values: ArrayLike) -> float:
    """Arithmetic mean of the values that are not NaN."""
    array = _defined(values)
    return float(array.mean()) if array.size else float("nan")


def harmonic_mean(values: ArrayLike) -> float:
    """Harmonic mean of the values that are not NaN, each raised to float eps at least."""
    array = np.maximum(_defined(values), FLOOR)
    return float(array.size / np.sum(1.0 / array)) if array.size else float("nan")


def _values(sections: pd.DataFrame, column: str, year: int) -> NDArray[np.float64]:
    # In 2021 each domain is a row of the official table, so both enter the mean of "auc".
    both = [f"{column}_source", f"{column}_target"]
    names = both if year == 2021 and column in ("auc", "pauc") else [column]
    return sections[names].to_numpy(dtype=np.float64)


def mean_metrics(sections: pd.DataFrame, year: int, kind: Kind = "arithmetic") -> dict[str, float]:
    """Mean of every metric over the rows of a section table, all rows alike.

    Parameters
    ----------
    sections : section table, of one machine or of all
    year : 2020 to 2026
    kind : "arithmetic" or "harmonic"

    Returns
    -------
    dict
        One value for each of :func:`asdlib.evaluation.metrics.metric_columns`.
    """
    mean = arithmetic_mean if kind == "arithmetic" else harmonic_mean
    return {column: mean(_values(sections, column, year)) for column in metric_columns(year)}


def overall_metrics(
    sections: pd.DataFrame, year: int, kind: Kind = "arithmetic"
) -> dict[str, float]:
    """Mean of every metric over all machines: over their averages in 2020, over sections later."""
    if check_year(year) != 2020:
        return mean_metrics(sections, year, kind)
    machines = [
        {"machine": machine, **mean_metrics(group, year, kind)}
        for machine, group in sections.groupby("machine", sort=True)
    ]
    return mean_metrics(pd.DataFrame(machines), year, kind)


def omega_terms(sections: pd.DataFrame, year: int) -> NDArray[np.float64]:
    """Return the defined numbers that enter the official score of ``year``.

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
    """Official score: harmonic mean over machines and sections.

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
    """Lowest AUC among the sections of a machine, averaged over machines."""
    lowest = sections.groupby("machine")["auc"].min()
    return arithmetic_mean(lowest.to_numpy(dtype=np.float64))
