"""Pictures and tables of how hard the synthetic machines are."""

from collections.abc import Hashable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from asdlib.data.synthetic.calibration import wrong_way
from asdlib.plots.intervals import draw_whiskers
from asdlib.plots.style import BLUE, GREEN, GREY, VERMILION, WIDTH

_BANDS = {
    "natural": (GREY, "D"),
    "low": (BLUE, "o"),
    "mid": (GREEN, "s"),
    "high": (VERMILION, "^"),
}


def plot_calibration(summary: pd.DataFrame) -> Figure:
    """Draw AUC against the severity of the faults, a panel a system, a line a band.

    Parameters
    ----------
    summary
        Of `asdlib.data.synthetic.calibration.summarise_calibration`; the means over machines are
        drawn, whiskers are intervals over seeds.
    """
    chosen = _fixed(summary[summary["machine"] == "all"])
    severities = sorted(set(chosen["severity"]), key=float)
    systems = sorted(chosen["system"].unique(), reverse=True)
    figure, grid = plt.subplots(
        1, len(systems), figsize=(WIDTH, 3.6), sharex=True, sharey=True, squeeze=False
    )
    at = np.arange(len(severities), dtype=float)
    for axes, system in zip(grid[0], systems, strict=True):
        for i, (band, (colour, marker)) in enumerate(_BANDS.items()):
            part = chosen[(chosen["system"] == system) & (chosen["band"] == band)]
            line = part.set_index("severity").reindex(severities).rename(columns={"auc": "mean"})
            x = at + 0.09 * (i - (len(_BANDS) - 1) / 2)
            axes.plot(x, line["mean"], color=colour, linewidth=1)
            draw_whiskers(axes, x, line, colour, marker, label=band)
        axes.axhline(50, color=GREY, linestyle=":", linewidth=1)
        axes.set_title(system)
        axes.set_xticks(at, severities)
        axes.set_xlim(-0.4, len(severities) - 0.6)
        axes.set_xlabel("severity of the fault")
    bottom, top = grid[0, 0].get_ylim()
    grid[0, 0].set_ylim(max(0.0, bottom), min(101.0, top))
    grid[0, 0].set_ylabel("AUC, mean over machines (%)")
    handles, labels = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4, title="band")
    return figure


def calibration_table(summary: pd.DataFrame, system: str) -> pd.DataFrame:
    """Give a row for each machine and band, a column for each severity: AUC and interval in %.

    Parameters
    ----------
    summary
        Of `asdlib.data.synthetic.calibration.summarise_calibration`.
    system
        Which system's figures.
    """
    part = _fixed(summary[summary["system"] == system])
    cells = part.assign(cell=[_cell(row) for row in part.to_dict("records")])
    wide = cells.pivot_table(
        index=["machine", "band"], columns="severity", values="cell", aggfunc="first"
    )
    severities = sorted(set(part["severity"]), key=float)
    wide = wide[severities].add_prefix("severity ")
    machines = [*sorted(set(part["machine"]) - {"all"}), "all"]
    order = [
        (machine, band) for machine in machines for band in _BANDS if (machine, band) in wide.index
    ]
    return wide.loc[order].rename_axis(columns=None).reset_index()


def corpus_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Give a row a machine, a column a system: AUC of the faults of the corpus itself, in %."""
    part = summary[summary["severity"] == "corpus"]
    cells = part.assign(cell=[_cell(row) for row in part.to_dict("records")])
    wide = cells.pivot_table(index="machine", columns="system", values="cell", aggfunc="first")
    wide = wide[sorted(wide.columns, reverse=True)]
    order = [*sorted(set(wide.index) - {"all"}), "all"]
    return wide.loc[order].rename_axis(columns=None).reset_index()


def calibration_verdict(summary: pd.DataFrame) -> str:
    """Say, as Markdown, where the calibration goes the wrong way, and where it is too easy."""
    wrong = wrong_way(summary)
    single = summary[summary["machine"] != "all"]
    lines = []
    for why, part in wrong[wrong["machine"] != "all"].groupby("why", sort=False):
        places = [
            f"{row['machine']}, {row['system']}, {row['band']}, {row['severity']} "
            f"({row['auc']:.0f})"
            for row in part.to_dict("records")
        ]
        lines.append(f"- AUC is {why}: {'; '.join(places)}.")
    if not lines:
        lines.append("- Nowhere is AUC below chance, or lower for a more severe fault.")
    easy = int((single["auc"] > 99).sum())
    hard = int(((single["low"] < 50) & (single["high"] > 50)).sum())
    lines.append(
        f"- Of {len(single)} cells (machine, system, severity, band), {easy} are above 99 % and "
        f"{hard} cannot be told from chance: neither can rank two systems."
    )
    return "\n".join(lines)


def _fixed(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows of fixed severities."""
    return summary[summary["severity"] != "corpus"]


def _cell(row: Mapping[Hashable, Any]) -> str:
    if row["seeds"] < 2:
        return f"{row['auc']:.0f}"
    return f"{row['auc']:.0f} [{row['low']:.0f}, {row['high']:.0f}]"
