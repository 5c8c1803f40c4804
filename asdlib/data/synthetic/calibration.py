"""How hard the synthetic machines are: reading and summing up the calibration.

``benchmarks/calibrate_synthetic.py --publish FOLDER`` writes ``calibration.csv``, one row for each
machine, section, seed, system, severity and band with its AUC in %, and ``calibration.json``, what
it was made by. Severity "corpus" are the faults of the corpus itself, drawn from its range.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from asdlib.errors import DataError

KEYS = ("machine", "system", "severity", "band")
CALIBRATION_COLUMNS = ("section", "seed", "auc", *KEYS)


def read_calibration(folder: str | Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Read a calibration and what it was made by.

    Raises
    ------
    DataError
        If there is none, or it lacks a column.
    """
    file = Path(folder) / "calibration.csv"
    again = f"make it by benchmarks/calibrate_synthetic.py --publish {folder}"
    try:
        table = pd.read_csv(file, dtype={"section": str, "severity": str}, keep_default_na=False)
        made_by = json.loads(file.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"calibration '{file}' cannot be read ({reason}); {again}") from error
    missing = [column for column in CALIBRATION_COLUMNS if column not in table]
    if missing:
        raise DataError(f"calibration '{file}' lacks {', '.join(missing)}; {again}")
    return table, dict(made_by)


def summarise_calibration(table: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Mean AUC over the seeds, with its interval.

    The sections of a seed are averaged first. The interval is Student's, over the seeds: it tells
    what other clips of the same machines would give, not what other machines would.

    Returns
    -------
    pandas.DataFrame
        Columns machine, system, severity, band, seeds, auc, low, high, in %; machine "all" are the
        means over the machines. The interval is as wide as 0 … 100 where there is one seed.
    """
    per_seed = table.groupby([*KEYS, "seed"], as_index=False)["auc"].mean()
    overall = per_seed.groupby([*KEYS[1:], "seed"], as_index=False)["auc"].mean()
    together = pd.concat([per_seed, overall.assign(machine="all")], ignore_index=True)
    found = (
        together.groupby(list(KEYS))["auc"]
        .agg(seeds="size", auc="mean", deviation="std")
        .reset_index()
    )
    seeds = found["seeds"].to_numpy()
    factor = student.ppf(0.5 + confidence / 2, np.maximum(seeds - 1, 1)) / np.sqrt(seeds)
    half = (factor * found["deviation"]).where(found["seeds"] > 1, 100.0)
    summary: pd.DataFrame = found.drop(columns="deviation").assign(
        low=(found["auc"] - half).clip(lower=0.0), high=(found["auc"] + half).clip(upper=100.0)
    )
    return summary


def wrong_way(summary: pd.DataFrame) -> pd.DataFrame:
    """Find where a calibration goes the wrong way, to be told and not hidden.

    Parameters
    ----------
    summary
        As `summarise_calibration` gives it.

    Returns
    -------
    pandas.DataFrame
        The rows, with a column ``why``: the whole interval lies below 50 %, so that faults seem
        more normal than normal clips; or the mean is lower than that of the next smaller severity
        of the same machine, system and band.
    """
    below = summary[summary["high"] < 50.0].assign(why="below chance")
    fixed = summary[summary["severity"] != "corpus"]
    fixed = fixed.assign(number=fixed["severity"].astype(float)).sort_values("number")
    step = fixed.groupby(["machine", "system", "band"])["auc"].diff()
    falls = fixed[step < 0].drop(columns="number").assign(why="lower than a smaller severity")
    return pd.concat([below, falls]).sort_values(list(KEYS)).reset_index(drop=True)
