"""Add the seeds to the kept intervals: ``python results/toycar/confirmation/differences.py``.

The scores of the clips are not kept, so `asdlib.evaluation.paired_frame` cannot be asked. What it
adds up is here: the variance over clips is read off the width of the bootstrap interval in
``paired.csv``, which is about clips alone and has no p-value below 0.001; that over seeds comes
from ``sections.csv``. As there, equal numbers of seeds are paired.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

HERE = Path(__file__).parent
RECIPES = {
    "statistics": "statistics",
    "statistics, pooled": "statistics-pooled",
    "autoencoder, 30 epochs": "autoencoder",
    "contrastive": "contrastive",
    "contrastive, encoder alone": "encoder",
    "no augmentation": "none",
    "no augmentation, encoder alone": "none-encoder",
    "contrast and ArcFace": "arcface",
}


def main() -> None:
    """Write ``differences.csv`` beside this file."""
    sections = pd.read_csv(HERE / "sections.csv")
    seeds = sections.groupby(["recipe", "seed"])[["auc", "pauc"]].mean()
    table = pd.read_csv(HERE / "paired.csv")
    mirrored = table.rename(columns={"system": "reference", "reference": "system"})
    mirrored[["difference", "low", "high"]] = -table[["difference", "high", "low"]].to_numpy()
    table = pd.concat([table, mirrored]).drop_duplicates(["system", "reference", "metric"])
    rows = []
    for row in table.itertuples():
        a, b = (seeds.loc[RECIPES[name], row.metric] for name in (row.system, row.reference))
        parts = [a.to_numpy() - b.to_numpy()] if len(a) == len(b) else [a, b]
        several = [part for part in parts if len(part) > 1]
        of_seeds = np.array([stats.sem(part) ** 2 for part in several])
        of_clips = ((row.high - row.low) / (2 * stats.norm.ppf(0.975))) ** 2
        total = of_clips + of_seeds.sum()
        spread = (of_seeds**2 / [len(part) - 1 for part in several]).sum()
        freedom = total**2 / spread if spread else np.inf
        reach = stats.t.ppf(0.975, freedom) * np.sqrt(total)
        p_value = 2 * stats.t.sf(abs(row.difference) / np.sqrt(total), freedom)
        rows.append((row.difference - reach, row.difference + reach, p_value))
    table[["low", "high", "p_value"]] = rows
    numbers = {"low": "{:.4f}", "high": "{:.4f}", "p_value": "{:.3g}"}
    for name, form in numbers.items():
        table[name] = table[name].map(form.format)
    table.to_csv(HERE / "differences.csv", index=False, lineterminator="\n")


if __name__ == "__main__":
    main()
