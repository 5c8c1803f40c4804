"""Draw the main result on real recordings: ``python results/toycar/confirmation/main_result.py``.

Every number comes from ``sections.csv`` beside this file: AUC and pAUC of each machine ID on clips
that took no part in any choice. A dot is the mean of the four IDs for one seed.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns

from asdlib.plots.style import BLUE, GREEN, INK, VERMILION, apply_style

HERE = Path(__file__).parent
ROWS = {
    "autoencoder": ("autoencoder of DCASE 2020, 30 epochs", BLUE),
    "statistics": ("mean spectrum, Mahalanobis distance", GREEN),
    "statistics-pooled": ("mean spectrum, pooled covariance", GREEN),
    "none-encoder": ("contrastive, no augmentation, encoder alone", VERMILION),
    "encoder": ("contrastive, encoder alone", VERMILION),
    "none": ("contrastive, no augmentation", VERMILION),
    "contrastive": ("contrastive, full method", VERMILION),
}


def by_seed() -> pd.DataFrame:
    """Return ``system, seed, auc, pauc``: means over the machine IDs, in percent."""
    sections = pd.read_csv(HERE / "sections.csv", dtype={"section": str})
    means = sections.groupby(["recipe", "seed"], as_index=False)[["auc", "pauc"]].mean()
    means = means[means["recipe"].isin(ROWS)]
    means[["auc", "pauc"]] *= 100
    return means.assign(system=means["recipe"].map(lambda recipe: ROWS[recipe][0]))


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw one panel for AUC and one for pAUC."""
    order = [label for label, _ in ROWS.values()]
    palette = dict(ROWS.values())
    figure, panels = plt.subplots(1, 2, figsize=(9.2, 3.3), sharey=True)
    for axes, metric, name in zip(panels, ("auc", "pauc"), ("AUC (%)", "pAUC (%)"), strict=True):
        sns.stripplot(
            table, x=metric, y="system", hue="system", order=order, palette=palette, size=5,
            alpha=0.55, jitter=False, legend=False, ax=axes,
        )  # fmt: skip
        means = table.groupby("system")[metric].mean()[order]
        axes.plot(means, range(len(order)), "|", color=INK, markersize=13, markeredgewidth=1.8)
        for row, value in enumerate(means):
            axes.annotate(
                f"{value:.1f}", (value, row), (0, 7), textcoords="offset points", ha="center",
                fontsize=9,
            )  # fmt: skip
        axes.set(xlabel=name, ylabel="")
        axes.grid(axis="x")
        axes.margins(y=0.12)
    return figure


if __name__ == "__main__":
    apply_style()
    plt.rcParams["svg.hashsalt"] = "asdlib"
    draw(by_seed()).savefig(HERE / "main_result.svg", metadata={"Date": None})
