"""What is written about results and read back: ``run.json``, metrics, tables, provenance.

``run.json`` is read through one model, `RunRecord`.
"""

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel

import asdlib
from asdlib.errors import RunError
from asdlib.evaluation import label_scores, read_score_folder, year_of
from asdlib.features import FeatureStore
from asdlib.files import (
    check_named,
    check_regular,
    hidden_name,
    read_json,
    reading,
    write_text,
    writing,
)
from asdlib.study.config import RunConfig, code_version

RUN_JSON, METRICS_CSV, PROVENANCE = "run.json", "metrics.csv", "provenance.json"
INTERVALS_CSV = "intervals.csv"
_PACKAGES = (
    *("lightning", "numpy", "pandas", "scikit-learn", "scipy", "soundfile"),
    *("torch", "torchaudio"),
)


class _Part(BaseModel, frozen=True, extra="forbid"):
    """A part of ``run.json``."""


class Clips(_Part):
    """Clips of a store that a run saw."""

    store: str
    clips: int


class Seconds(_Part):
    """How long a run took."""

    fit: float
    score: float


class Member(_Part):
    """A run that was fused with others."""

    run: str
    key: str
    system: str
    seed: int
    weight: float


class ScoreFile(_Part):
    """A file as the run wrote it, with its number of lines."""

    clips: int
    sha256: str


class RunRecord(_Part):
    """Content of ``run.json``."""

    key: str
    """SHA-256 of everything that decides the scores, see `RunConfig.key`."""
    config: RunConfig
    members: tuple[Member, ...] | None = None
    """Runs whose scores were fused, if it is a fusion."""
    train: Clips
    test: Clips
    year: int
    scores: dict[str, ScoreFile] | None = None
    """Score files, and ``metrics.csv``, by name; runs of version 0.2.0 and before do not say."""
    notices: tuple[str, ...]
    seconds: Seconds
    finished: str
    environment: dict[str, Any]
    network_of: str | None = None
    """Key of the run whose network was taken instead of training one."""
    network_trained_by: str | None = None
    """Version of the code that trained that network."""

    def as_json(self) -> dict[str, Any]:
        """Return the record as ``run.json`` holds it."""
        optional = ("members", "scores", "network_of", "network_trained_by")
        absent = {name for name in optional if getattr(self, name) is None}
        return self.model_dump(mode="json", exclude=absent)


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
    record: RunRecord
    metrics: pd.DataFrame
    cached: bool

    @property
    def history(self) -> pd.DataFrame:
        """Course of the training, `System.history_`; empty for systems that keep none."""
        path = self.path / "training.csv"
        return pd.read_csv(path) if path.is_file() else pd.DataFrame(columns=["step", "loss"])

    @property
    def intervals(self) -> pd.DataFrame:
        """Content of ``intervals.csv``, see `asdlib.evaluation.interval_frame`; may be empty."""
        path = self.path / INTERVALS_CSV
        return pd.read_csv(path, dtype={"section": str}) if path.is_file() else pd.DataFrame()

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
        If there is no finished run at `path`, it is damaged, or it cannot be read.
    """
    path = Path(path)
    if not (path / RUN_JSON).is_file():
        what = "it lacks run.json" if path.is_dir() else "no such folder"
        what = "it is a file" if path.is_file() else what
        raise RunError(f"'{path}' holds no finished run ({what}); name another folder")
    way_out = "damaged, or of another version of asdlib? Run it again with another --out"
    with reading(path, RunError, way_out):
        check_regular(path)
        record = RunRecord.model_validate_json((path / RUN_JSON).read_bytes())
        found = score_files(path)
        written = record.scores or found  # earlier versions do not say
        for name in sorted({*written, *found}):
            if written.get(name) != found.get(name):
                what = "is missing" if name not in found else "is not as the run wrote it"
                raise ValueError(f"{name} {what}")
        # Every digit counts: a run that is found gives the very numbers of the one that was made.
        types: dict[Any, Any] = {"machine": str, "section": str, "auc": float, "pauc": float}
        metrics = pd.read_csv(path / METRICS_CSV, dtype=types, float_precision="round_trip")
    return RunResult(path, record, metrics, cached=True)


def score_files(path: Path) -> dict[str, ScoreFile]:
    """Describe the score files of a folder, and its metrics, by name."""
    files = {
        p.name: p.read_bytes() for p in (*path.glob("anomaly_score_*.csv"), path / METRICS_CSV)
    }
    return {
        name: ScoreFile(clips=content.count(b"\n"), sha256=hashlib.sha256(content).hexdigest())
        for name, content in files.items()
    }


def year_of_folder(path: Path) -> int:
    """Tell the year of a finished run, or of a folder of score files by its names."""
    return load_run(path).record.year if (path / RUN_JSON).is_file() else year_of(path)


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read the clip scores of a finished run, with label and domain where the names give them."""
    year = load_run(path).record.year
    scores: pd.DataFrame = label_scores(read_score_folder(Path(path), year), year)
    return scores


def describe_environment() -> dict[str, Any]:
    """Return versions and hardware, for ``run.json``."""
    import torch

    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": platform.machine(),
        "cpu_count": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "packages": {"asdlib": asdlib.__version__} | {name: version(name) for name in _PACKAGES},
    }


def now() -> str:
    """Return the time as records hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV."""
    write_text(path, table.to_csv(index=False, lineterminator="\n"))


@contextmanager
def all_files(out: Path, *, replace: bool) -> Iterator[Path]:
    """Yield a hidden folder in `out`, whose files appear in `out` once all are written.

    With `replace`, they may replace others of their names.
    """
    hidden, made = hidden_name(out / "results"), not out.exists()
    try:
        with writing(out, RunError):
            hidden.mkdir(parents=True, exist_ok=True)
            yield hidden
            files = sorted(hidden.iterdir())
            taken = [out / file.name for file in files if (out / file.name).exists()]
            if taken and not replace:
                raise RunError(f"'{taken[0]}' exists; choose another --out")
            for file in files:
                file.replace(out / file.name)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)
        with suppress(OSError):
            if made:
                out.rmdir()  # only if nothing is in it


class Results:
    """A folder of tables, and the ``provenance.json`` that says how they were made.

    Parameters
    ----------
    out
        The folder; it may hold results of the very same call, and other files.
    stores
        Stores that the results are of, by name.
    **facts
        What was asked for: the same facts give the same results.

    Raises
    ------
    RunError
        If `out` holds results of another call.
    """

    def __init__(self, out: Path, stores: Mapping[str, FeatureStore], **facts: Any) -> None:
        check_named(out)
        if out.is_symlink() or (out.exists() and not out.is_dir()):
            raise RunError(f"'{out}' is no folder; choose another --out")
        about = {
            name: {
                "name": store.path.absolute().name,
                "fingerprint": store.fingerprint,
                "clips": len(store),
                "front_end": store.front_end,
            }
            for name, store in stores.items()
        }
        self.out, self.facts = out, json.loads(json.dumps({**facts, "stores": about}))
        self.again = (out / PROVENANCE).exists()
        if self.again:
            way_out = "choose another --out or remove it"
            before = read_json(out / PROVENANCE, RunError, way_out)
            differ = [name for name, fact in self.facts.items() if before.get(name) != fact]
            if differ:
                raise RunError(
                    f"'{out}' holds results of another call (other {', '.join(differ)}); {way_out}"
                )

    @contextmanager
    def writing(self, **more: Any) -> Iterator[Path]:
        """Yield a folder for the files, which appear in `out` together with ``provenance.json``."""
        about = {
            "code_version": code_version(),
            "finished": now(),
            "environment": describe_environment(),
        }
        with all_files(self.out, replace=self.again) as folder:
            yield folder
            content = json.dumps({**self.facts, **more, **about}, indent=2)
            write_text(folder / PROVENANCE, content + "\n")
