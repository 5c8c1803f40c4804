"""Published figures, each with its source, as tables.

Conventions
-----------
- The files in ``published/`` hold percent, as printed by their sources. The loaders return
  fractions, like every metric of this package.
- A field that the source does not state reads "not stated"; a figure that it does not give is NaN.
- A per-ID figure counts as published only where its status says "read" or "confirmed".
- "Meng et al. 2024" is arXiv:2509.15570, known through its abstract and summaries only; which
  split its figures are from is not certain.
- The omega of both 2022 baselines comes from another report than their other figures and does not
  follow from them (harmonic means of the rows: 53.5 and 55.2), so it is of other runs.
- IDNN on the 2020 development set: the average in its source (AUC 75.44) is not the mean of its
  machine rows (75.52).
"""

from __future__ import annotations

from importlib import resources
from typing import Literal

import pandas as pd

from asdlib.errors import ScoreError

Table = Literal["dcase2020", "dcase2020_per_id", "dcase2020_mean", "dcase2022"]

TABLES: dict[str, tuple[str, ...]] = {
    "dcase2020": ("auc", "pauc"),
    "dcase2020_per_id": ("auc", "pauc"),
    "dcase2020_mean": ("development", "evaluation"),
    "dcase2022": ("auc_source", "auc_target", "pauc", "omega"),
}
"""Name of each table, and its columns of figures."""


def load_published(table: Table) -> pd.DataFrame:
    """Load one published table.

    Parameters
    ----------
    table
        ``dcase2020``: AUC and pAUC per machine type, with rows ``machine="average"``;
        ``dcase2020_per_id``: the official autoencoder per machine ID, with the status of each
        figure; ``dcase2020_mean``: mean of AUC and pAUC per split; ``dcase2022``: means over
        machines and sections.

    Returns
    -------
    DataFrame
        Figures as fractions (NaN: not given), all other columns str; ``source`` is never empty.

    Raises
    ------
    ScoreError
        The table is not known.
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


def is_published(status: str) -> bool:
    """Tell whether a status says that the figure was read in, or confirmed by, its source."""
    return status.startswith(("read", "confirmed"))


def published_per_id(*, only_published: bool = True) -> pd.DataFrame:
    """Figures of the official 2020 autoencoder per machine ID.

    Parameters
    ----------
    only_published
        Replace figures by NaN whose status is not "read" or "confirmed", and drop rows without
        any figure left. False: all figures; show them only together with their status.

    Returns
    -------
    DataFrame
        ``system``, ``machine``, ``section``, ``auc``, ``pauc``, ``auc_status``, ``pauc_status``,
        ``source``.
    """
    df = load_published("dcase2020_per_id")
    if not only_published:
        return df
    for column in ("auc", "pauc"):
        df[column] = df[column].where(df[f"{column}_status"].map(is_published))
    return df.dropna(subset=["auc", "pauc"], how="all").reset_index(drop=True)
