"""Published figures, each with its source, as tables.

Conventions
-----------
- The files in ``published/`` hold percent, as printed by their sources. :func:`load_published`
  returns fractions, like every metric of this package.
- A field that the source does not state reads "not stated"; a figure that it does not give is NaN.
- A figure of ``dcase2020_per_id`` counts as published only if its status says "read" or
  "confirmed"; show any other only together with its status.
- "Meng et al. 2024" is arXiv:2509.15570, known through its abstract and summaries only; which
  split its figures are from is not certain.
- The omega of both 2022 baselines comes from another report than their other figures and does not
  follow from them (harmonic means of the rows: 53.5 and 55.2), so it is of other runs.
- IDNN on the 2020 development set: the average in its source (AUC 75.44) is not the mean of its
  machine rows (75.52).
"""

from importlib import resources

import pandas as pd

from asdlib.errors import ScoreError

TABLES: dict[str, tuple[str, ...]] = {
    "dcase2020": ("auc", "pauc"),
    "dcase2020_per_id": ("auc", "pauc"),
    "dcase2020_mean": ("development", "evaluation"),
    "dcase2022": ("auc_source", "auc_target", "pauc", "omega"),
}
"""Name of each table, and its columns of figures."""


def load_published(table: str) -> pd.DataFrame:
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
