"""Comparisons as text, in percent."""

import numpy as np
import pandas as pd

from asdlib.evaluation.compare import BOUNDS, FIGURES


def to_markdown(table: pd.DataFrame) -> str:
    """Write a comparison as a Markdown table in percent, intervals in brackets."""
    shown = in_percent(table)
    lines: list[list[str]] = [[str(name) for name in shown], ["---"] * shown.shape[1]]
    lines += shown.to_numpy(dtype=str).tolist()
    cells = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells) + "\n"


def for_terminal(table: pd.DataFrame) -> pd.DataFrame:
    """Give a comparison for a narrow screen: figures, and in one column what the row is."""
    shown = in_percent(table)
    figures = [name for name in FIGURES if name in shown and not name.startswith("pooled")]
    told = shown["origin"] + ", " + shown["data_kind"] + "; " + shown["data"] + "; "
    told += shown["split"] + "; trained on: " + shown["training_data"] + "; selection: "
    told += shown["selection"] + "; seeds: " + shown["seeds"] + "; source: " + shown["source"]
    return shown[["system", *figures]].assign(row=told)


def in_percent(table: pd.DataFrame) -> pd.DataFrame:
    """Turn the figures of a comparison into text, in percent; bounds stand behind their figure."""
    shown = table.drop(columns=[name for name in BOUNDS if name in table]).astype(object)
    for name in (figure for figure in FIGURES if figure in table):
        columns = [name, f"{name}_low", f"{name}_high"]
        numbers = table.reindex(columns=columns).to_numpy(dtype=float)
        shown[name] = [
            "" if np.isnan(mean) else f"{100 * mean:.2f}" + _bounds(low, high)
            for mean, low, high in numbers
        ]
    return shown


def _bounds(low: float, high: float) -> str:
    return "" if np.isnan(low) else f" [{100 * low:.2f}, {100 * high:.2f}]"
