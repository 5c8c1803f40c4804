"""A system of one's own: how far the level of a clip is from that of its section."""

import json
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from pydantic import BaseModel

from asdlib.features import Rows
from asdlib.study.config import SYSTEMS
from asdlib.system import Progress, check_sections, section_keys


class LevelParams(BaseModel, frozen=True, extra="forbid"):
    """Parameters; unknown names are refused by pydantic."""

    quantile: float = 0.5


class Level:
    """|level − mean level| / deviation; the level is a quantile of all log-mel values."""

    name = "level"
    Params = LevelParams

    def __init__(self, params: LevelParams | None = None, *, seed: int = 0) -> None:
        self.params = params or LevelParams()
        self.seed = seed

    def fit(
        self, rows: Rows, *, workdir: Path | None = None, progress: Progress | None = None
    ) -> Self:
        """Keep mean and deviation of the level of each section."""
        levels = pd.Series(self._levels(rows)).groupby(section_keys(rows.manifest))
        self.sections_ = {key: (part.mean(), part.std()) for key, part in levels}
        return self

    def score(self, rows: Rows) -> np.ndarray:
        """Give anomaly scores, shape (N,)."""
        check_sections(self.sections_, rows.manifest)
        mean, deviation = np.array([self.sections_[key] for key in section_keys(rows.manifest)]).T
        return np.abs(self._levels(rows) - mean) / deviation

    def save(self, folder: Path) -> None:
        """Write ``model.json``."""
        folder.mkdir(parents=True, exist_ok=True)
        told = {"params": self.params.model_dump(), "sections": self.sections_}
        (folder / "model.json").write_text(json.dumps(told))

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote."""
        told = json.loads((folder / "model.json").read_text())
        system = cls(LevelParams(**told["params"]))
        system.sections_ = told["sections"]
        return system

    def _levels(self, rows: Rows) -> np.ndarray:
        levels = np.empty(len(rows))
        for positions, log_mel in rows.batches(64):
            levels[positions] = np.quantile(log_mel, self.params.quantile, axis=(1, 2))
        return levels


SYSTEMS["level"] = f"{__name__}:Level"
