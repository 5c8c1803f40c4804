"""One run: a configuration and two stores in, a folder with scores, metrics and model out.

The folder appears under its name only when everything in it is whole. A second call with the same
key finds it there and computes nothing; a call with another key refuses to overwrite it. What an
interrupted training needs to go on lies in the user's cache folder, under the key of the run.

A trained network can be scored in another way, or on other clips, without being trained again: what
is embedded, and how embeddings become scores, does not enter training. Two runs that differ in
nothing else, or only in their test clips, have the same network: one of them is trained, the other
takes its network and fits a back-end of its own. The result is that of a complete run, under the
same key (a test compares both). A network that another version of the code trained can be taken
too: training may have changed in between, so that run has a key of its own and names both versions.
"""

import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from filelock import FileLock, Timeout

from asdlib.data import detect_year
from asdlib.errors import RunError
from asdlib.evaluation import evaluate, write_score_folder
from asdlib.features import FeatureStore, Rows, check_same_front_end
from asdlib.files import (
    cache_folder,
    is_taken,
    lock_file,
    only_process,
    path_key,
    whole_folder,
    writing,
)
from asdlib.study.config import RunConfig, code_version, device_kind, make_system
from asdlib.study.result import (
    RUN_JSON,
    Clips,
    RunRecord,
    RunResult,
    Seconds,
    describe_environment,
    load_run,
)

if TYPE_CHECKING:
    from asdlib.system import Progress, System

SCORING = ("backend", "backend_params", "embedding", "score_batch_size", "segment")
"""Parameters of the contrastive system that do not enter training."""

SLOTS = "ASDLIB_SLOTS"
"""Environment variable: folder with a lock file for each core."""

PROCESSES = "ASDLIB_PROCESSES"
"""Environment variable: processes that a notebook may start."""


@dataclass(frozen=True)
class Plan:
    """A run that is checked and has a key, but is not computed yet."""

    detector: "System[Any]"
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
    from asdlib.system import check_sections, section_keys

    detector = make_system(system, params, seed=seed)
    train_store, test_store = FeatureStore.open(train), FeatureStore.open(test)
    check_same_front_end(train_store, test_store)
    train_rows = training_rows(train_store, machines)
    test_rows = _rows(test_store, "test", machines)
    check_sections(section_keys(train_rows.manifest), test_rows.manifest)
    # What cannot be written or evaluated is better found now than after hours of training.
    evaluate_scores(test_rows.manifest.assign(anomaly_score=0.0), _year(test_rows))
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
    network_of: str | Path | None = None,
    progress: "Progress | None" = None,
) -> RunResult:
    """Train and score one system, or return the result if it is there already.

    Parameters
    ----------
    system
        Name of the system, see `asdlib.study.config.SYSTEMS`.
    train, test
        Stores whose normal training rows are trained on, and whose test rows are scored; the same
        front end, lengths may differ.
    out
        Folder of the run, made by it.
    params, seed
        Parameters of the system that differ from its defaults; seed of everything random.
    machines
        Machine types to keep, by default all.
    network_of
        Folder of a finished run whose network is taken instead of training one.
    progress
        Called as the work advances.

    Raises
    ------
    AsdError
        If parameters, stores or rows do not fit; nothing is left behind.
    RunError
        If `out` holds something else, another process is at work on it, or the network of
        `network_of` was trained in another way.
    """
    planned = plan(system, train, test, params=params, seed=seed, machines=machines)
    if network_of is None:
        return execute(planned, out, progress=progress)
    donor = load_run(network_of)
    # A network that was taken itself is named by the run that trained it.
    origin = donor.record.config.network_of
    if origin is None and donor.record.config.code_version != planned.config.code_version:
        origin = donor.record.network_of or donor.record.key
    config = planned.config.model_copy(update={"network_of": origin})
    return execute(replace(planned, config=config), out, progress=progress, donor=donor)


def execute(
    planned: Plan,
    out: str | Path,
    *,
    progress: "Progress | None" = None,
    wait: bool = False,
    donor: RunResult | None = None,
) -> RunResult:
    """Do a planned run, unless `out` already holds it; see `run`.

    With `wait`, another process that is at work on `out` is waited for instead of refused. With
    `donor`, its network is taken instead of training one.
    """
    out = Path(out)
    detector, config = planned.detector, planned.config
    with only_process(out, RunError, lock=lock_file(out), wait=wait):
        if is_taken(out):
            return reuse(out, config.key)
        # Two processes may do the same run for two folders; each has its own training.
        workdir = cache_folder() / "training" / f"{config.key[:32]}-{path_key(out)}"
        with core_slot(), run_folder(out) as folder:
            started = time.perf_counter()
            if donor is None:
                with writing(workdir, RunError):
                    detector.fit(planned.train_rows, workdir=workdir, progress=progress)
            else:
                detector = _take_network(planned, donor, progress)
            fitted = time.perf_counter()
            scores = planned.test_rows.manifest.assign(
                anomaly_score=detector.score(planned.test_rows)
            )
            scored = time.perf_counter()
            detector.save(folder / "model")
            year = _year(planned.test_rows)
            write_score_folder(scores, folder, year)
            metrics, notices = evaluate_scores(scores, year)
            metrics.to_csv(folder / "metrics.csv", index=False)
            if detector.history_ is not None:
                detector.history_.to_csv(folder / "training.csv", index=False)
            taken: dict[str, Any] = {}
            if donor is not None:
                by = donor.record.network_trained_by or donor.record.config.code_version
                taken["network_trained_by"] = by
                taken["network_of"] = config.network_of or donor.record.key
            record = RunRecord(
                key=config.key,
                config=config,
                train=_clips(planned.train_rows),
                test=_clips(planned.test_rows),
                year=year,
                notices=tuple(notices),
                seconds=Seconds(fit=fitted - started, score=scored - fitted),
                finished=datetime.now(UTC).isoformat(timespec="seconds"),
                environment=describe_environment(),
                **taken,
            )
            record.write(folder)
        shutil.rmtree(workdir, ignore_errors=True)
    return RunResult(out, record, metrics, cached=False)


@contextmanager
def core_slot() -> Iterator[None]:
    """Hold one of the cores that notebooks running at the same time share, once one is free.

    A training begins when it holds a lock file of the folder that ``asd study`` names in the
    environment. A process that dies gives its lock back. Without the folder nothing waits.
    """
    folder = os.environ.get(SLOTS)
    if not folder or not Path(folder).is_dir():
        yield
        return
    locks = [FileLock(path) for path in sorted(Path(folder).glob("*.slot"))]
    held: FileLock | None = None
    while locks and held is None:
        for lock in locks:
            with suppress(Timeout):
                lock.acquire(timeout=0)
                held = lock
                break
        else:
            time.sleep(0.05)
    try:
        yield
    finally:
        if held is not None:
            held.release()


@contextmanager
def run_folder(out: Path) -> Iterator[Path]:
    """Yield a folder that is renamed to `out` when it is whole; the caller holds the lock of `out`.

    What a process that was killed has left there is removed.
    """
    if out.parent.is_dir():
        for left in out.parent.iterdir():
            if re.fullmatch(rf"\.{re.escape(out.name)}\.\d+\.partial", left.name):
                shutil.rmtree(left, ignore_errors=True)
    with whole_folder(out) as folder:
        yield folder


def reuse(out: Path, key: str) -> RunResult:
    """Return the finished run in `out`; an error if there is none, or one with another key."""
    if out.is_file() or not (out / RUN_JSON).exists():
        raise RunError(f"'{out}' exists and holds no run; choose another --out or remove it")
    result = load_run(out)
    if result.record.key != key:
        raise RunError(
            f"'{out}' holds another run ({result.record.key[:12]}, this is {key[:12]}); "
            "choose another --out or remove it"
        )
    return result


def _take_network(planned: Plan, donor: RunResult, progress: "Progress | None") -> "System[Any]":
    """Return a system with the network of a finished run and a back-end of its own."""
    from asdlib.method.contrastive import Contrastive

    mine, theirs = _training(planned.config), _training(donor.record.config)
    differ = sorted(key for key in mine if mine[key] != theirs[key])
    if not isinstance(planned.detector, Contrastive) or differ:
        what = f"another {', '.join(differ)}" if differ else f"the system '{planned.config.system}'"
        raise RunError(
            f"the network of '{donor.path.name}' cannot be taken: {what}; only contrastive runs "
            f"that differ in {', '.join(SCORING)} or in the test clips share a network"
        )
    taken = Contrastive.load(donor.path / "model")
    taken.params = planned.detector.params
    taken.history_ = donor.history
    return taken.fit_backend(planned.train_rows, progress=progress)


def _training(config: RunConfig) -> dict[str, Any]:
    """Return what decides the network of a run, apart from the version of the code."""
    ignored = {"test_fingerprint", "code_version", "network_of"}
    content = config.model_dump(mode="json", exclude=ignored)
    content["params"] = {k: v for k, v in content["params"].items() if k not in SCORING}
    return content


def _clips(rows: Rows) -> Clips:
    return Clips(store=rows.store.path.absolute().name, clips=len(rows))


def training_rows(store: FeatureStore, machines: Sequence[str] | None = None) -> Rows:
    """Return the normal training clips of a store, by default of all machines."""
    rows = _rows(store, "train", machines)
    return rows.select((rows.manifest["label"] != "anomaly").to_numpy())


def _rows(store: FeatureStore, split: str, machines: Sequence[str] | None) -> Rows:
    if split not in set(store.manifest["split"]):
        splits = ", ".join(sorted(set(store.manifest["split"])))
        raise RunError(
            f"store '{store.path}' has no {split} rows (it has: {splits}); give one that has, of "
            "recordings in an official layout (a store by --any-layout serves asd pretrain only)"
        )
    where = {"machine": list(machines)} if machines else {}
    rows = store.rows(split=split, **where)
    if not len(rows):
        raise RunError(f"store '{store.path}' has no {split} rows of {', '.join(machines or ())}")
    return rows


def _year(rows: Rows) -> int:
    """Year whose formats apply: from the manifest, or from the grammar of the names."""
    manifest = rows.manifest
    years = sorted(set(manifest["year"])) if "year" in manifest else [""]
    if years == [""]:
        return detect_year(manifest["clip"].tolist())
    if len(years) > 1 or not years[0].isdecimal():
        raise RunError(
            f"the test rows of '{rows.store.path}' are of the years "
            f"{', '.join(map(repr, years))}; expected one; choose machines of one year (--machine)"
        )
    return int(years[0])


def evaluate_scores(scores: pd.DataFrame, year: int) -> tuple[pd.DataFrame, list[str]]:
    """Compute metrics and notices of scores; clips with the label "" are left out."""
    labelled = scores[scores["label"] != ""]
    if labelled.empty:
        empty = pd.DataFrame(columns=["machine", "section", "auc", "pauc"])
        return empty, ["the test clips carry no labels: scores only, no metrics"]
    evaluation = evaluate(labelled, year)
    notices = list(evaluation.notices)
    if len(labelled) < len(scores):
        bare = len(scores) - len(labelled)
        notices.append(f"{bare} of {len(scores)} test clips carry no label and are left out")
    return evaluation.frame, notices
