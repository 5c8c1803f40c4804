"""Decisions of a finished run: a threshold for each section, from normal clips only.

The threshold is a quantile of a gamma distribution fitted to held-out scores of the section's
normal training clips. The official baselines fit it to the scores of the very clips that the model
was trained on, which are too low, and the 2022 MobileNetV2 baseline fits it to another score than
the one it is then compared with (see the chapter on baselines). Here both scores are the same, and
no clip is scored by what was fitted on it. One threshold serves both domains of a section, as
nothing says at test time which domain a clip is of.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from asdlib.baselines import gamma_threshold
from asdlib.errors import RunError, ScoreError
from asdlib.evaluation.decisions import evaluate_decisions
from asdlib.evaluation.labels import label_scores
from asdlib.evaluation.scores import (
    read_score_folder,
    write_decision_folder,
    write_score_folder,
    write_text_atomic,
)
from asdlib.study.held_out import check_training_store, held_out
from asdlib.study.result import load_run

RECORD = "decisions.json"
_SECTION = ["machine", "section"]


@dataclass(frozen=True)
class Decisions:
    """Decisions of a run.

    Attributes
    ----------
    thresholds
        ``machine, section, clips`` (held-out normal clips) and ``threshold``, in units of the
        score.
    metrics
        Precision, recall and F1 of each section, see
        `asdlib.evaluation.decisions.evaluate_decisions`; empty if the clips carry no labels.
    path
        Folder of the decision files.
    """

    thresholds: pd.DataFrame
    metrics: pd.DataFrame
    path: Path


def decide_run(
    run: str | Path,
    *,
    quantile: float = 0.9,
    out: str | Path | None = None,
    train: str | Path | None = None,
    folds: int | None = None,
) -> Decisions:
    """Set thresholds, write the official decision files, evaluate them.

    Parameters
    ----------
    run
        Folder of a finished run.
    quantile
        Share of normal clips to lie below the threshold.
    out
        Folder for decision files and ``decisions.json``, by default that of the run; another one
        gets the score files, too, so that it can be evaluated.
    train, folds
        See `asdlib.study.held_out.held_out`.

    Raises
    ------
    RunError
        If score files are missing, held-out scores are lacking or of another store, or those of a
        section give no gamma distribution.
    """
    result = load_run(run)
    folder = Path(out) if out is not None else result.path
    year = int(result.record["year"])
    # A fused run has no store of its own.
    if train is not None and "train_fingerprint" in result.record["config"]:
        check_training_store(result, train)
    normal = held_out(result, train, folds=folds)
    rows = []
    for (machine, section), part in normal.groupby(_SECTION, sort=True):
        values = part["anomaly_score"].to_numpy(dtype=np.float64)
        try:
            threshold = gamma_threshold(values, quantile)
        except RunError as error:
            raise RunError(f"{machine} {section}: {error}") from None
        rows.append((machine, section, len(values), threshold))
    thresholds = pd.DataFrame(rows, columns=[*_SECTION, "clips", "threshold"])
    scores = read_score_folder(result.path, year)
    expected = result.record["test"]["clips"]
    if len(scores) != expected:
        raise RunError(
            f"'{run}' has scores of {len(scores)} clips, expected {expected}: files are missing; "
            "remove it and run it again"
        )
    scores = scores.merge(thresholds, on=_SECTION)
    # One threshold a section: the same comparison as `asdlib.evaluation.decisions.decide`.
    scores["decision"] = (scores["anomaly_score"] > scores["threshold"]).astype("int64")
    try:
        metrics = evaluate_decisions(label_scores(scores, year), year)
    except ScoreError:
        metrics = pd.DataFrame()
    if folder != result.path:
        write_score_folder(scores, folder, year)
    write_decision_folder(scores, folder, year)
    told = {
        "run": result.record["key"],
        "quantile": quantile,
        "rule": "quantile of a gamma distribution fitted to held-out scores of normal clips",
        "thresholds": thresholds.to_dict("records"),
    }
    write_text_atomic(folder / RECORD, json.dumps(told, indent=2) + "\n")
    return Decisions(thresholds, metrics, folder)
