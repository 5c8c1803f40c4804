"""Draw the main result on real recordings: ``python results/main_result.py``.

Every number comes from tables beside this file. ToyCar is measured on clips that took part in no
choice (``toycar/confirmation/sections.csv``), slide rails on clips whose labels took part in some
(``machines/slider/systems.csv``). So each machine has panels of its own, and marks of its own:
filled for unseen clips, open for the others. A mark is the mean of four IDs for one training.
"""

from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

from asdlib.plots.figures import BLUE, GREEN, INK, PURPLE, VERMILION, apply_style

HERE = Path(__file__).parent
PICTURE = HERE.parent / "book" / "_static" / "main_result.svg"
ROWS = {
    "autoencoder": ("DCASE 2020 autoencoder, 30 of 100 epochs", BLUE),
    "statistics": ("mean spectrum, own covariance", GREEN),
    "statistics, pooled": ("mean spectrum, pooled covariance", GREEN),
    "no augmentation": ("contrastive, no augmentation", VERMILION),
    "contrastive": ("contrastive", VERMILION),
    "AudioSet network, frozen": ("AudioSet network, frozen", PURPLE),
}
"""Name in the tables: name in the picture, colour."""
RECIPES = {"statistics-pooled": "statistics, pooled", "none": "no augmentation"}
MACHINES = {
    "ToyCar": "ToyCar, unseen clips: they took part in no choice",
    "slider": "Slide rail, given clips: their labels took part in choices",
}


def main_result() -> pd.DataFrame:
    """Return ``machine, system, seed, auc, pauc``: means over the machine IDs, in percent."""
    toycar = pd.read_csv(HERE / "toycar" / "confirmation" / "sections.csv")
    toycar["system"] = toycar.pop("recipe").replace(RECIPES)
    slider = pd.read_csv(HERE / "machines" / "slider" / "systems.csv")
    slider = slider[(slider["machine"] == "slider") & (slider["section"] != "Average")]
    both = pd.concat([toycar.assign(machine="ToyCar"), slider])
    both[["auc", "pauc"]] *= 100
    means = both.groupby(["machine", "system", "seed"])[["auc", "pauc"]].mean().reset_index()
    return means[means["system"].isin(ROWS)]


def draw(table: pd.DataFrame) -> plt.Figure:
    """Draw two panels, AUC and pAUC, for each machine."""
    figure = plt.figure(figsize=(8.6, 6.2))
    parts = figure.subfigures(2, 1, hspace=0.04, height_ratios=[5.4, 6])
    for part, (machine, title) in zip(parts, MACHINES.items(), strict=True):
        part.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
        own = table[table["machine"] == machine]
        shown = [name for name in ROWS if name in set(own["system"])]
        panels = part.subplots(1, 2, sharey=True)
        for axes, metric, label in zip(
            panels, ("auc", "pauc"), ("AUC (%)", "pAUC (%)"), strict=True
        ):
            for row, name in enumerate(shown):
                values, colour = own.loc[own["system"] == name, metric], ROWS[name][1]
                face = colour if machine == "ToyCar" else "white"
                axes.plot(
                    values, [row] * len(values), "o", color=colour, markerfacecolor=face,
                    markersize=5.5, alpha=0.75, clip_on=False,
                )  # fmt: skip
                mean = values.mean()
                axes.plot([mean], [row], "|", color=INK, markersize=10, markeredgewidth=1.6)
                axes.annotate(
                    f"{mean:.1f}", (mean, row), (0, 6), textcoords="offset points", ha="center",
                    fontsize=9.5,
                )  # fmt: skip
            axes.set(xlabel=label, xlim=(50, 100), ylim=(-0.5, len(shown) - 0.15))
            axes.set_yticks(range(len(shown)), [ROWS[name][0] for name in shown])
            axes.grid(axis="x")
    return figure


if __name__ == "__main__":
    apply_style()
    plt.rcParams["svg.hashsalt"] = "asdlib"
    draw(main_result()).savefig(PICTURE, metadata={"Date": None})
