"""The interactive figure: move the threshold, watch hits, false alarms, ROC, AUC and pAUC.

This module writes the scores of a real run into the page; ``book/_static/threshold.js`` draws
them. Where no script runs, a table of a few thresholds stands in its place.
"""

import html
import json
from typing import Any

import numpy as np
import pandas as pd

from asdlib.errors import ScoreError
from asdlib.evaluation import auc, pauc
from asdlib.plots.sound import show_html

FALSE_ALARM_RATES = (0.0, 0.1, 0.25, 0.5)


def section_scores(scores: pd.DataFrame) -> list[dict[str, Any]]:
    """Scores of each section by label, with AUC and pAUC as Python computes them.

    Parameters
    ----------
    scores
        Columns ``machine, section, label, anomaly_score``.

    Returns
    -------
    One entry a section that has both labels: ``name, normal, anomaly, auc, pauc, axis``. Scores
    are divided by the median of the section's normal clips, so that sections share an axis; where
    that median is not positive, they are told from it, in quartile distances.

    Raises
    ------
    ScoreError
        If no section has normal and anomalous clips.
    """
    sections = []
    for (machine, section), part in scores.groupby(["machine", "section"]):
        label, score = part["label"].to_numpy(), part["anomaly_score"].to_numpy(dtype=float)
        normal, anomaly = score[label == "normal"], score[label == "anomaly"]
        if not (len(normal) and len(anomaly)):
            continue
        zero, unit, axis = _scale(normal)
        truth = (np.concatenate([normal, anomaly]), np.repeat([0, 1], [len(normal), len(anomaly)]))
        sections.append(
            {
                "name": f"{machine} {section}",
                "normal": _rounded((normal - zero) / unit),
                "anomaly": _rounded((anomaly - zero) / unit),
                "axis": axis,
                "auc": auc(truth[1], truth[0]),
                "pauc": pauc(truth[1], truth[0]),
            }
        )
    if not sections:
        raise ScoreError("no section has normal and anomalous clips; score a labelled test set")
    return sections


def threshold_table(section: dict[str, Any]) -> pd.DataFrame:
    """Hit rate at a few false-alarm rates, the lowest threshold that keeps each."""
    normal, anomaly = np.sort(section["normal"])[::-1], np.asarray(section["anomaly"])
    rows = []
    for rate in FALSE_ALARM_RATES:
        threshold = normal[int(np.floor(rate * len(normal)))]
        rows.append(
            (threshold, 100 * (normal > threshold).mean(), 100 * (anomaly > threshold).mean())
        )
    return pd.DataFrame(rows, columns=["alarm above", "false alarms (%)", "hits (%)"])


def explore_threshold(scores: pd.DataFrame) -> Any:
    """Show the interactive figure for all sections of a run; it opens on the median AUC."""
    sections = section_scores(scores)
    start = int(np.argsort([section["auc"] for section in sections])[len(sections) // 2])
    shown = sections[start]
    data = json.dumps({"sections": sections, "start": start}).replace("</", "<\\/")
    table = threshold_table(shown).to_html(
        index=False,
        border=0,
        classes="table",
        justify="left",
        float_format=lambda value: f"{value:.2f}",
    )
    return show_html(
        '<div class="threshold-explorer">'
        f'<script type="application/json">{data}</script>'
        f'<div class="threshold-fallback"><p>{html.escape(shown["name"])}: AUC '
        f"{100 * shown['auc']:.1f} %, pAUC {100 * shown['pauc']:.1f} %. In the rendered book this "
        f"table is a figure with a threshold that moves.</p>{table}</div></div>"
    )


def _scale(normal: np.ndarray) -> tuple[float, float, str]:
    """Zero, unit and label of the axis; a unit is positive, so that the order stays."""
    middle = float(np.median(normal))
    if middle > 0:
        return 0.0, middle, "score / median of the normal clips"
    spread = float(np.subtract(*np.quantile(normal, [0.75, 0.25])))
    return middle, spread or 1.0, "score − median of the normal clips, in quartile distances"


def _rounded(values: np.ndarray) -> list[float]:
    """Sorted, with six digits: enough to keep the order of scores that differ."""
    return [float(f"{value:.6g}") for value in np.sort(values)]
