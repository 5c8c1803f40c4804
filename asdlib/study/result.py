"""A finished run, as it lies in its folder."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from asdlib.errors import RunError
from asdlib.evaluation import label_scores, read_score_folder

RUN_JSON = "run.json"


@dataclass(frozen=True)
class RunResult:
    """A finished run.

    Attributes
    ----------
    path
        Folder of the run.
    record
        Content of ``run.json``.
    metrics
        Content of ``metrics.csv``; empty if the test clips carry no labels.
    cached
        Whether the run had been there before.
    """

    path: Path
    record: dict[str, Any]
    metrics: pd.DataFrame
    cached: bool

    @property
    def history(self) -> pd.DataFrame:
        """Course of the training, `System.history_`; empty for systems that keep none."""
        path = self.path / "training.csv"
        return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["step", "loss"])

    @property
    def auc(self) -> float:
        """Mean AUC over machines, 0 to 1."""
        return self._average("auc")

    @property
    def pauc(self) -> float:
        """Mean pAUC over machines, 0 to 1."""
        return self._average("pauc")

    def _average(self, column: str) -> float:
        rows = self.metrics[self.metrics["machine"] == "Average"]
        return float(rows[column].iloc[0]) if len(rows) else float("nan")


def load_run(path: str | Path) -> RunResult:
    """Read a finished run back.

    Raises
    ------
    RunError
        If there is no finished run at `path`, or it is damaged.
    """
    path = Path(path)
    if not (path / RUN_JSON).is_file():
        what = "no such folder" if not path.exists() else f"it lacks {RUN_JSON}"
        what = "it is a file" if path.is_file() else what
        raise RunError(f"'{path}' holds no finished run ({what}); give the folder of one")
    try:
        record = json.loads((path / RUN_JSON).read_text(encoding="utf-8"))
        if not isinstance(record, dict) or not {"config", "key", "year"} <= record.keys():
            raise ValueError(f"{RUN_JSON} lacks config, key or year")
        # Every digit counts: a run that is found gives the very numbers of the one that was made.
        metrics = pd.read_csv(
            path / "metrics.csv",
            dtype={"machine": str, "section": str},
            float_precision="round_trip",
        )
    except (OSError, ValueError) as error:
        raise RunError(
            f"'{path}' holds no finished run, it is damaged ({error}); remove it and run it again"
        ) from None
    return RunResult(path, record, metrics, cached=True)


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read the clip scores of a finished run, with label and domain where the names tell them."""
    result = load_run(path)
    year = int(result.record["year"])
    scores: pd.DataFrame = label_scores(read_score_folder(result.path, year), year)
    return scores
