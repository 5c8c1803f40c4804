"""One run: a configuration and two stores in, a folder with scores, metrics and model out.

The folder appears under its name only when everything in it is whole. A second call with the same
key finds it there and computes nothing; a call with another key refuses to overwrite it. What an
interrupted training needs to go on lies in the user's cache folder, under the key of the run.

What is embedded, and how embeddings become scores, does not enter training. So two runs that differ
in nothing else, or only in their test clips, have the same network: one takes that of the other and
fits a back-end of its own, with the result of a complete run, under the same key. A network that
another version of the code trained can be taken too, under a key that names both versions.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd
from filelock import FileLock, Timeout

from asdlib.data import detect_year
from asdlib.errors import RunError
from asdlib.evaluation import evaluate, interval_frame, write_score_folder
from asdlib.evaluation.metrics import check_year
from asdlib.evaluation.scores import score_lines
from asdlib.features import FeatureStore, Rows
from asdlib.files import (
    cache_folder,
    is_taken,
    lock_file,
    only_process,
    path_key,
    remove_left,
    whole_folder,
    write_text,
    writing,
)
from asdlib.study.config import RunConfig, code_version, make_system
from asdlib.study.result import (
    INTERVALS_CSV,
    RUN_JSON,
    Clips,
    RunRecord,
    RunResult,
    Seconds,
    describe_environment,
    load_run,
    now,
    score_files,
)

if TYPE_CHECKING:
    from asdlib.method.contrastive import Contrastive
    from asdlib.system import Progress, System

SCORING = ("backend", "backend_params", "embedding", "score_batch_size", "segment")
"""Parameters of the contrastive system that do not enter training."""

_FORTNIGHT = 14 * 24 * 3600.0

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
    year: int
    config: RunConfig

    @property
    def name(self) -> str:
        """Name of its folder among the runs of a study."""
        return f"{self.config.system}-{self.config.key[:16]}"


def plan(
    system: str,
    train: str | Path,
    test: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    machines: Sequence[str] | None = None,
    year: int | None = None,
) -> Plan:
    """Check that a system can be trained on one store and score another; see `run`."""
    from asdlib.system import check_sections, choose_device, section_keys

    # Stores that do not serve are refused before a system has torch imported.
    train_store, test_store = FeatureStore.open(train), FeatureStore.open(test)
    train_store.check_front_end(test_store.described, f"store '{test_store.path}'")
    detector = make_system(system, params, seed=seed)
    train_rows = training_rows(train_store, machines)
    test_rows = _rows(test_store, "test", machines)
    check_sections(section_keys(train_rows.manifest), test_rows.manifest)
    # What cannot be written or evaluated is better found now than after hours of training.
    said = _year(test_rows)
    year = check_year(year or said)
    unscored = test_rows.manifest.assign(anomaly_score=0.0)
    score_lines(unscored, year)
    _evaluate(unscored, year)
    config = RunConfig(
        system=system,
        params=detector.params.model_dump(mode="json"),
        seed=seed,
        train_fingerprint=train_store.fingerprint,
        test_fingerprint=test_store.fingerprint,
        machines=tuple(sorted(machines)) if machines else None,
        code_version=code_version(),
        device=cast(Any, choose_device().type if detector.on_gpu else "cpu"),
        year=None if year == said else year,
    )
    return Plan(detector, train_rows, test_rows, year, config)


def run(
    system: str,
    train: str | Path,
    test: str | Path,
    out: str | Path,
    *,
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    machines: Sequence[str] | None = None,
    year: int | None = None,
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
    year
        Whose rules and file formats apply, 2020 to 2026; by default that of the test store.
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
    planned = plan(system, train, test, params=params, seed=seed, machines=machines, year=year)
    donor = None if network_of is None else load_run(network_of)
    return execute(planned, out, progress=progress, donor=donor)


def execute(
    planned: Plan,
    out: str | Path,
    *,
    progress: "Progress | None" = None,
    wait: bool = False,
    donor: RunResult | None = None,
) -> RunResult:
    """Carry out a planned run, unless `out` already holds it; see `run`.

    With `wait`, another process that is at work on `out` is waited for instead of refused. With
    `donor`, its network is taken instead of training one.
    """
    if donor is not None:
        # A network that was taken itself is named by the run that trained it.
        origin = donor.record.config.network_of
        if origin is None and donor.record.config.code_version != planned.config.code_version:
            origin = donor.record.network_of or donor.record.key
        config = planned.config.model_copy(update={"network_of": origin})
        planned = replace(planned, config=config)
    out, config = Path(out), planned.config
    # Two processes may do the same run for two folders; each has its own training.
    workdir = cache_folder() / "training" / f"{config.key[:32]}-{path_key(out)}"

    def make(folder: Path) -> None:
        detector, taken = planned.detector, {}
        with core_slot():
            started = time.perf_counter()
            if donor is None:
                with writing(workdir, RunError):
                    detector.fit(planned.train_rows, workdir=workdir, progress=progress)
            else:
                detector = _take_network(planned, donor, progress)
                by = donor.record.network_trained_by or donor.record.config.code_version
                taken["network_of"] = config.network_of or donor.record.key
                taken["network_trained_by"] = by
            fitted = time.perf_counter()
            scores = detector.score(planned.test_rows)
            seconds = Seconds(fit=fitted - started, score=time.perf_counter() - fitted)
            detector.save(folder / "model")
            if detector.history_ is not None:
                detector.history_.to_csv(folder / "training.csv", index=False)
            write_run(
                folder,
                planned.test_rows.manifest.assign(anomaly_score=scores),
                key=config.key,
                config=config,
                train=_clips(planned.train_rows),
                test=_clips(planned.test_rows),
                year=planned.year,
                seconds=seconds,
                of_training=detector.notices_,
                **taken,
            )

    result = find_or_make(out, config.key, make, wait=wait)
    shutil.rmtree(workdir, ignore_errors=True)
    for left in workdir.parent.glob("*"):  # trainings that nobody has gone on with
        with suppress(OSError):  # another process may have just removed it
            newest = max(path.stat().st_mtime for path in (left, *left.glob("*")))
            if newest < time.time() - _FORTNIGHT:
                shutil.rmtree(left)
    return result


def find_or_make(
    out: Path, key: str, make: Callable[[Path], None], *, wait: bool = False
) -> RunResult:
    """Return the run of this key in `out`; if there is nothing, let `make` fill its folder."""
    with only_process(out, RunError, lock=lock_file(out), wait=wait):
        if is_taken(out):
            result = load_run(out)
            if result.record.key != key:
                raise RunError(
                    f"'{out}' holds another run ({result.record.key[:12]}, this is {key[:12]}); "
                    "choose another --out or remove it"
                )
            return result
        remove_left(out)
        with whole_folder(out) as folder:
            make(folder)
    return replace(load_run(out), cached=False)


def write_run(
    folder: Path, scores: pd.DataFrame, *, year: int, of_training: Iterable[str] = (), **facts: Any
) -> None:
    """Write score files, metrics and the record of a run; `facts` are those of `RunRecord`.

    `scores` has the columns ``machine, section, clip, label, domain, anomaly_score``; `of_training`
    are notices of the training.
    """
    write_score_folder(scores, folder, year)
    metrics, notices = _evaluate(scores, year)
    metrics.to_csv(folder / "metrics.csv", index=False)
    labelled = scores[scores["label"] != ""]
    if len(labelled):
        interval_frame([labelled], year).to_csv(folder / INTERVALS_CSV, index=False)
    record = RunRecord(
        year=year,
        scores=score_files(folder),
        notices=(*of_training, *notices),
        finished=now(),
        environment=describe_environment(),
        **facts,
    )
    write_text(folder / RUN_JSON, json.dumps(record.as_json(), indent=2) + "\n")


@contextmanager
def core_slot() -> Iterator[None]:
    """Hold one of the cores that notebooks running at the same time share, once one is free.

    It is a lock file of the folder that ``asd study`` names in the environment.
    """
    folder = os.environ.get(SLOTS)
    slots = sorted(Path(folder).glob("*.slot")) if folder else []
    with ExitStack() as held:
        for slot in cycle(slots):
            with suppress(Timeout):
                held.enter_context(FileLock(slot).acquire(timeout=0))
                break
            time.sleep(0.05 / len(slots))
        yield


def _take_network(planned: Plan, donor: RunResult, progress: "Progress | None") -> "Contrastive":
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
    ignored = {"test_fingerprint", "code_version", "network_of", "year"}
    content = config.model_dump(mode="json", exclude=ignored)
    content["params"] = {k: v for k, v in content["params"].items() if k not in SCORING}
    return content


def _clips(rows: Rows) -> Clips:
    name = rows.store.path.absolute().name.encode(errors="replace").decode()
    return Clips(store=name, clips=len(rows))


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


def _evaluate(scores: pd.DataFrame, year: int) -> tuple[pd.DataFrame, list[str]]:
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
