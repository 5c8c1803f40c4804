"""One run: a configuration and two stores in, a folder with scores, metrics and model out.

The folder appears under its name only when everything in it is whole. A second call with the same
key finds it there and computes nothing; a call with another key refuses to overwrite it. What an
interrupted training needs to go on lies in the user's cache folder, under the key of the run.
"""

import json
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from asdlib.data.naming import detect_year
from asdlib.errors import RunError
from asdlib.evaluation.labels import label_scores
from asdlib.evaluation.scores import read_score_folder, write_score_folder
from asdlib.evaluation.tables import evaluate_frame, write_metrics_csv
from asdlib.features import FeatureStore, Rows, check_same_front_end
from asdlib.study.config import RunConfig, code_version, make_system
from asdlib.study.paths import cache_folder, lock_file
from asdlib.study.provenance import describe_environment, device_kind
from asdlib.system import AnomalyDetector, Progress, check_sections, section_keys

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
        """Columns ``step`` and ``loss`` of the training; empty for systems that keep none."""
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


@dataclass(frozen=True)
class Plan:
    """A run that is checked and has a key, but is not computed yet."""

    detector: AnomalyDetector
    train_rows: Rows
    test_rows: Rows
    config: RunConfig


def plan(
    system: str,
    train: str | Path,
    test: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    machines: Sequence[str] | None = None,
) -> Plan:
    """Check that a system can be trained on one store and score another; see `run`."""
    detector = make_system(system, params, seed=seed)
    train_store, test_store = FeatureStore.open(train), FeatureStore.open(test)
    check_same_front_end(train_store, test_store)
    train_rows = _rows(train_store, "train", machines)
    train_rows = train_rows.select((train_rows.manifest["label"] != "anomaly").to_numpy())
    test_rows = _rows(test_store, "test", machines)
    check_sections(section_keys(train_rows.manifest), test_rows.manifest)
    config = RunConfig(
        system=system,
        params=detector.params.model_dump(mode="json"),
        seed=seed,
        train_fingerprint=train_store.fingerprint,
        test_fingerprint=test_store.fingerprint,
        machines=tuple(sorted(machines)) if machines else None,
        code_version=code_version(),
        device=device_kind(),
    )
    return Plan(detector, train_rows, test_rows, config)


def run(
    system: str,
    train: str | Path,
    test: str | Path,
    out: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    machines: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Train a system on one store and score the test clips of another, or of the same.

    Parameters
    ----------
    system
        Name of the system, see `asdlib.study.config.SYSTEMS`.
    train
        Store whose normal training rows are trained on.
    test
        Store whose test rows are scored; the same front end, lengths may differ.
    out
        Folder of the run, made by it.
    params
        Parameters of the system that differ from its defaults.
    seed
        Seed of everything random.
    machines
        Machine types to keep, by default all.
    progress
        Told how far the work is.

    Raises
    ------
    AsdError
        If parameters, stores or rows do not fit; nothing is left behind.
    RunError
        If `out` holds something else, or another process is at work on it.
    """
    planned = plan(system, train, test, params=params, seed=seed, machines=machines)
    return execute(planned, out, progress=progress)


def execute(planned: Plan, out: str | Path, *, progress: Progress | None = None) -> RunResult:
    """Do a planned run, unless `out` already holds it; see `run`."""
    out = Path(out)
    detector, config = planned.detector, planned.config
    with _only_process(out):
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            return _reuse(out, config.key)
        with _folder_that_appears_whole(out) as folder:
            workdir = cache_folder() / "training" / config.key
            started = time.perf_counter()
            detector.fit(planned.train_rows, workdir=workdir, progress=progress)
            fitted = time.perf_counter()
            scores = planned.test_rows.manifest.assign(
                anomaly_score=detector.score(planned.test_rows)
            )
            scored = time.perf_counter()
            detector.save(folder / "model")
            year = _year(scores)
            write_score_folder(scores, folder, year)
            metrics, notices = _evaluate(scores, year)
            write_metrics_csv(metrics, folder / "metrics.csv")
            history = getattr(detector, "history_", None)
            if isinstance(history, pd.DataFrame):
                history.to_csv(folder / "training.csv", index=False)
            record = {
                "key": config.key,
                "config": config.model_dump(mode="json"),
                "train": _describe(planned.train_rows),
                "test": _describe(planned.test_rows),
                "year": year,
                "notices": notices,
                "seconds": {"fit": fitted - started, "score": scored - fitted},
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
                "environment": describe_environment(),
            }
            (folder / RUN_JSON).write_text(json.dumps(record, indent=2) + "\n")
        shutil.rmtree(workdir, ignore_errors=True)
    return RunResult(out, record, metrics, cached=False)


def _describe(rows: Rows) -> dict[str, Any]:
    return {"store": rows.store.path.absolute().name, "clips": len(rows)}


def load_run(path: str | Path) -> RunResult:
    """Read a finished run back.

    Raises
    ------
    RunError
        If there is no finished run at `path`.
    """
    path = Path(path)
    try:
        record = json.loads((path / RUN_JSON).read_text())
        metrics = pd.read_csv(path / "metrics.csv", dtype={"machine": str, "section": str})
    except (OSError, ValueError) as error:
        raise RunError(f"'{path}' holds no finished run ({error}); run it first") from None
    return RunResult(path, record, metrics, cached=True)


def read_scores(path: str | Path) -> pd.DataFrame:
    """Read the clip scores of a finished run, with label and domain where the names tell them."""
    result = load_run(path)
    year = int(result.record["year"])
    scores: pd.DataFrame = label_scores(read_score_folder(result.path, year), year)
    return scores


def _rows(store: FeatureStore, split: str, machines: Sequence[str] | None) -> Rows:
    if split not in set(store.manifest["split"]):
        raise RunError(f"store '{store.path}' has no {split} rows; give one that has")
    where = {"machine": list(machines)} if machines else {}
    rows = store.rows(split=split, **where)
    if not len(rows):
        raise RunError(f"store '{store.path}' has no {split} rows of {', '.join(machines or ())}")
    return rows


def _year(manifest: pd.DataFrame) -> int:
    """Year whose formats apply: told by the manifest, or by the grammar of the names."""
    if "year" in manifest and manifest["year"].iloc[0]:
        return int(manifest["year"].iloc[0])
    return detect_year(manifest["clip"].tolist())


def _evaluate(scores: pd.DataFrame, year: int) -> tuple[pd.DataFrame, list[str]]:
    labelled = scores[scores["label"] != ""]
    if labelled.empty:
        empty = pd.DataFrame(columns=["machine", "section", "auc", "pauc"])
        return empty, ["the test clips carry no labels: scores only, no metrics"]
    evaluation = evaluate_frame(labelled, year)
    return evaluation.frame, list(evaluation.notices)


def _reuse(out: Path, key: str) -> RunResult:
    if not (out / RUN_JSON).is_file():
        raise RunError(f"'{out}' exists and holds no run; choose another --out or remove it")
    result = load_run(out)
    if result.record["key"] != key:
        raise RunError(
            f"'{out}' holds another run ({result.record['key'][:12]}, this is {key[:12]}); "
            "choose another --out or remove it"
        )
    return result


@contextmanager
def _only_process(out: Path) -> Iterator[None]:
    lock = FileLock(lock_file(out), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunError(
            f"another process is at work on '{out}'; wait for it or choose another --out"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _folder_that_appears_whole(out: Path) -> Iterator[Path]:
    """Give a hidden folder beside `out` that takes its name at the end, or vanishes."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        if out.exists():
            out.rmdir()
        partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
