"""One run: a configuration and two stores in, a folder with scores, metrics and model out.

The folder appears under its name only when everything in it is whole. A second call with the same
key finds it there and computes nothing; a call with another key refuses to overwrite it. What an
interrupted training needs to go on lies in the user's cache folder, under the key of the run.
"""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from asdlib.data.naming import detect_year
from asdlib.errors import RunError
from asdlib.evaluation import evaluate, write_score_folder
from asdlib.features import FeatureStore, Rows, check_same_front_end
from asdlib.study.config import RunConfig, code_version, make_system
from asdlib.study.folders import is_taken, only_process, reuse, whole_folder
from asdlib.study.networks import take_network, told_donor
from asdlib.study.paths import cache_folder, path_key
from asdlib.study.provenance import describe_environment, device_kind
from asdlib.study.result import RUN_JSON, RunResult, load_run
from asdlib.study.slots import core_slot

if TYPE_CHECKING:
    from asdlib.system import Progress, System


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
    network_of
        Folder of a finished run whose network is taken instead of training one; see
        `asdlib.study.networks`.
    progress
        Told how far the work is.

    Raises
    ------
    AsdError
        If parameters, stores or rows do not fit; nothing is left behind.
    RunError
        If `out` holds something else, another process is at work on it, or the network of
        `network_of` was trained in another way.
    """
    planned = plan(system, train, test, params=params, seed=seed, machines=machines)
    donor = load_run(network_of) if network_of is not None else None
    if donor is not None:
        planned = replace(planned, config=told_donor(planned.config, donor))
    return execute(planned, out, progress=progress, donor=donor)


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
    `donor`, its network is taken instead of training one, see `asdlib.study.networks`.
    """
    out = Path(out)
    detector, config = planned.detector, planned.config
    with only_process(out, wait):
        if is_taken(out):
            return reuse(out, config.key)
        with core_slot(), whole_folder(out) as folder:
            # Two processes may do the same run for two folders; each has its own training.
            workdir = cache_folder() / "training" / f"{config.key[:32]}-{path_key(out)}"
            started = time.perf_counter()
            rows = planned.train_rows
            if donor is None:
                detector.fit(rows, workdir=workdir, progress=progress)
            else:
                detector = take_network(detector, config, rows, donor, progress=progress)
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
            if donor is not None:
                record["network_of"] = config.network_of or donor.record["key"]
                record["network_trained_by"] = _trained_by(donor)
            (folder / RUN_JSON).write_text(json.dumps(record, indent=2) + "\n")
        shutil.rmtree(workdir, ignore_errors=True)
    return RunResult(out, record, metrics, cached=False)


def _trained_by(donor: RunResult) -> str:
    """Give the version of the code that trained the network of a run."""
    return str(donor.record.get("network_trained_by", donor.record["config"]["code_version"]))


def _describe(rows: Rows) -> dict[str, Any]:
    return {"store": rows.store.path.absolute().name, "clips": len(rows)}


def training_rows(store: FeatureStore, machines: Sequence[str] | None = None) -> Rows:
    """Give the normal training clips of a store, by default of all machines."""
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
    """Year whose formats apply: told by the manifest, or by the grammar of the names."""
    manifest = rows.manifest
    told = sorted(set(manifest["year"])) if "year" in manifest else [""]
    if told == [""]:
        return detect_year(manifest["clip"].tolist())
    if len(told) > 1 or not told[0].isdecimal():
        raise RunError(
            f"the test rows of '{rows.store.path}' are of the years {', '.join(map(repr, told))}; "
            "expected one; choose machines of one year (--machine)"
        )
    return int(told[0])


def evaluate_scores(scores: pd.DataFrame, year: int) -> tuple[pd.DataFrame, list[str]]:
    """Give metrics and notices of scores; clips with the label "" are left out."""
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
