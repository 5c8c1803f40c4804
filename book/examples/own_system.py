"""A system of one's own: how far the level of a clip is from that of its section."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel

from asdlib.features import Rows
from asdlib.study.config import SYSTEMS
from asdlib.system import Progress, System, section_keys


class LevelParams(BaseModel, frozen=True, extra="forbid"):
    """Parameters; unknown names are refused."""

    quantile: float = 0.5


class Level(System[LevelParams]):
    """|level − mean level| / deviation; the level is a quantile of all log-mel values."""

    name = "level"
    Params = LevelParams

    def _fit(self, rows: Rows, workdir: Path | None, progress: Progress) -> None:
        """Keep mean and deviation of the level of each section, in the order of `sections_`."""
        levels = pd.Series(self._levels(rows)).groupby(section_keys(rows.manifest))
        self.usual_ = np.stack([levels.mean(), levels.std()])

    def _score(self, rows: Rows) -> np.ndarray:
        section = np.searchsorted(self.sections_, section_keys(rows.manifest).astype(str))
        mean, deviation = self.usual_[:, section]
        return np.abs(self._levels(rows) - mean) / deviation

    def _state(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        return {"usual": torch.from_numpy(self.usual_)}, {}

    def _restore(self, tensors: dict[str, torch.Tensor], facts: dict[str, Any]) -> None:
        self.usual_ = tensors["usual"].numpy()

    def _levels(self, rows: Rows) -> np.ndarray:
        levels = np.empty(len(rows))
        for positions, log_mel in rows.batches(64):
            levels[positions] = np.quantile(log_mel, self.params.quantile, axis=(1, 2))
        return levels


SYSTEMS["level"] = f"{__name__}:Level"
