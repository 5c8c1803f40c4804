"""Experiments: named variants × seeds → one tidy table.

A variant says what differs: the system, its parameters, the clips that it is trained on or scored
on. Every variant is run with every seed, several runs at a time, each cached by its key.

The ablation is one of them: variants of the contrastive system that change one thing each, against
``full``.

Runs that are trained alike, and differ only in how or what they score, share one network: the first
of them trains, the others take its network (see `asdlib.study.run`), with the same results.
"""

import json
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asdlib.errors import AsdError, ConfigError, RunError, StoreError
from asdlib.evaluation import official_score
from asdlib.features import FeatureStore, subset_store
from asdlib.files import end_with_parent, lock_file, only_process
from asdlib.study.cluster import Scheduler, use_one_thread
from asdlib.study.config import make_system, merge
from asdlib.study.report import adjusted, describe_difference, over_seeds, pairwise, scores_of
from asdlib.study.result import RunResult, load_run
from asdlib.study.run import PROCESSES, SCORING, execute, plan

Store = str | Path | FeatureStore
"""A feature store, or where one lies."""


@dataclass(frozen=True)
class Variant:
    """What differs in one line of an experiment.

    Attributes
    ----------
    system
        Name of the system.
    params
        Its parameters that differ from the defaults (in `Study.experiment`: from the profile's).
    train, test
        Stores to train on and to score, by default those of the experiment.
    share
        Share of the normal training clips of each section, drawn with the seed of the run. Epochs
        are multiplied by its inverse, so that the number of training steps stays the same.
    seeds
        By default those of the experiment; a system that is not random is run once.
    columns
        More columns for the table, such as ``{"band": "low"}``.
    """

    system: str = "contrastive"
    params: Mapping[str, Any] = field(default_factory=dict)
    train: Store | None = None
    test: Store | None = None
    share: float = 1.0
    seeds: Sequence[int] | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)


Done = Callable[[str, "RunResult | str", int, int], None]
"""Called after each run: with its name, its result or why it failed, runs done, and runs in all."""


def experiment(
    variants: Mapping[str, Variant],
    root: str | Path,
    *,
    train: Store | None = None,
    test: Store | None = None,
    seeds: Sequence[int] = (0,),
    machines: Sequence[str] | None = None,
    year: int | None = None,
    processes: int | None = None,
    scheduler: Scheduler | None = None,
    failures: list[str] | None = None,
    on_done: Done | None = None,
) -> pd.DataFrame:
    """Run every variant with every seed; what is there already is not computed again.

    Parameters
    ----------
    variants
        By name.
    root
        Folder for runs (``runs``) and derived stores (``stores``).
    train, test, seeds
        Stores and seeds of the variants that name none; `test` is `train` by default.
    machines
        Machine types to keep, by default all.
    year
        Whose rules apply, by default that of the stores.
    processes
        Runs at a time, one thread each; by default as many as there are cores. With a GPU, 1.
    scheduler
        Its cluster carries out the runs, instead of processes here.
    failures
        If given, takes one line for each run that failed, whatever the reason, and the others are
        returned. Without it a failure is an error.
    on_done
        Called after every run.

    Returns
    -------
    Columns of the variants, then ``variant, system, seed, machine, section, auc, pauc`` and, with
    two domains, ``auc_source, auc_target, omega`` (0 to 1; means are rows named ``Average``, of
    which the last has Ω), ``seconds`` of training and ``run``, the folder.

    Raises
    ------
    ConfigError
        If a parameter is not valid; before the first run.
    RunError
        If a run failed, after all others are done; naming the first failure. With `failures`, only
        if all runs failed.
    """
    root = Path(root).absolute()
    for name, own in variants.items():
        make_system(own.system, own.params)
        if None in (own.train or train, own.test or test or train):
            raise ConfigError(f"variant '{name}' has no store; give the experiment train=STORE")
    jobs: list[tuple[str, dict[str, Any]]] = []
    for name, own in variants.items():
        # What is not random is run once.
        for seed in own.seeds or ((0,) if own.system == "statistics" else seeds):
            params, store = dict(own.params), own.train or train
            if own.share != 1:
                epochs = make_system(own.system, params).params.model_dump()["epochs"]
                params["epochs"] = round(epochs / own.share)
                whole = FeatureStore.open(_path(store))
                store = share_of_training(whole, own.share, seed, root / "stores")
            stores = {"train": _path(store), "test": _path(own.test or test or train)}
            of_all = {"machines": tuple(machines or ()) or None, "year": year}
            asked = {"system": own.system, **stores, "params": params, "seed": seed, **of_all}
            jobs.append((name, asked))
    if not jobs:
        raise ConfigError("nothing to run; give at least one variant and one seed")
    how = processes, scheduler, failures, on_done
    tables = []
    for i, result in sorted(_run_all(jobs, root / "runs", *how).items()):
        (name, asked), table = jobs[i], result.metrics.copy()
        if len(result.intervals) and result.record.year != 2020:
            score = official_score(result.intervals, result.record.year)["omega"].estimate
            table["omega"] = np.where(table["machine"] == "Average", score, np.nan)
        front = {"variant": name, "system": asked["system"], "seed": asked["seed"]}
        for place, (column, value) in enumerate({**variants[name].columns, **front}.items()):
            table.insert(place, column, value)
        tables.append(table.assign(seconds=result.record.seconds.fit, run=str(result.path)))
    return pd.concat(tables, ignore_index=True)


def share_of_training(store: FeatureStore, share: float, seed: int, folder: Path) -> FeatureStore:
    """Keep a share of the normal training clips of each section and domain, drawn at random.

    The clips of a smaller share are among those of a larger one with the same seed. At least two
    clips of each section and domain are kept, or all of them where there are fewer.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share of training clips is {share}, expected above 0 and at most 1")
    out = folder / f"share-{share:g}-seed-{seed}-{store.fingerprint[:12]}"
    with only_process(out, StoreError, lock=lock_file(out), wait=True):
        if out.exists():
            return FeatureStore.open(out)
        table = store.manifest
        rng = np.random.default_rng(seed)
        mask = np.zeros(len(store), dtype=bool)
        training = table[(table["split"] == "train") & (table["label"] != "anomaly")]
        for _, rows in training.groupby(["machine", "section", "domain"], sort=True):
            n = max(round(share * len(rows)), min(2, len(rows)))
            mask[rng.permutation(rows.index.to_numpy())[:n]] = True
        return subset_store(store, out, mask)


def _path(store: Any) -> Path:
    return Path(getattr(store, "path", store)).absolute()


def _donors(asked: Sequence[dict[str, Any]]) -> list[dict[str, Any] | None]:
    """Return for each run the first of those that are trained like it, if it is another one."""
    trained: dict[str, dict[str, Any]] = {}
    donors = []
    for run in asked:
        first = run
        if run["system"] == "contrastive":
            params = make_system("contrastive", run["params"]).params
            training = params.model_dump(mode="json", exclude=set(SCORING))
            first = trained.setdefault(json.dumps([training, str(run["train"]), run["seed"]]), run)
        donors.append(None if first is run else first)
    return donors


def _run_all(
    jobs: Sequence[tuple[str, dict[str, Any]]],
    folder: Path,
    processes: int | None,
    scheduler: Scheduler | None,
    failures: list[str] | None,
    on_done: Done | None,
) -> dict[int, RunResult]:
    """Carry out all runs, several at a time; return their results by position in `jobs`."""
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[int, RunResult] = {}
    failed: list[str] = []
    asked = [run for _, run in jobs]
    calls = [(folder, *pair) for pair in zip(asked, _donors(asked), strict=True)]
    # Those that take a network come last, when it is there, instead of waiting for it.
    order = sorted(range(len(calls)), key=lambda i: calls[i][2] is not None)
    workers = min(processes or default_processes(), len(calls))
    with closing(_outcomes([calls[i] for i in order], workers, scheduler)) as outcomes:
        for place, outcome in outcomes:
            i = order[place]
            label = f"{jobs[i][0]}, seed {asked[i]['seed']}"
            made: RunResult | str
            try:
                made = results[i] = outcome()
            except Exception as error:
                if failures is None and not isinstance(error, AsdError):
                    raise
                made = str(error) if isinstance(error, AsdError) else repr(error)
                failed.append(f"{label}: {made}")
            if on_done:
                on_done(label, made, len(results) + len(failed), len(calls))
    if failures is not None:
        failures += failed
    if failed and (failures is None or not results):
        raise RunError(f"{len(failed)} of {len(calls)} runs failed; the first: {failed[0]}")
    return results


def _outcomes(
    calls: Sequence[tuple[Any, ...]], workers: int, scheduler: Scheduler | None
) -> Generator[tuple[int, Callable[[], RunResult]]]:
    """Yield the place of each run as it finishes, and a function that returns its result."""
    if scheduler:
        yield from scheduler.send(_do, calls)
    elif workers == 1:
        yield from ((i, partial(_do, *call)) for i, call in enumerate(calls))
    else:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)
        try:
            futures = {pool.submit(_do, *call): i for i, call in enumerate(calls)}
            yield from ((futures[future], future.result) for future in as_completed(futures))
        finally:
            # After Ctrl-C, no further run begins.
            pool.shutdown(wait=True, cancel_futures=True)


def default_processes() -> int:
    """Choose how many runs at a time: one on a GPU, else ``$ASDLIB_PROCESSES`` or one per core."""
    import torch

    asked = os.environ.get(PROCESSES, "")
    cores = int(asked) if asked.isdecimal() else os.cpu_count() or 1
    return 1 if torch.cuda.is_available() else max(1, cores)


def _do(folder: Path, asked: dict[str, Any], donor: dict[str, Any] | None = None) -> RunResult:
    from asdlib.method.training import give_back_memory

    planned = plan(**asked)
    out, taken = folder / planned.name, None
    if donor is not None and not out.exists():
        # If the other run fails, perhaps only when scoring, this one trains a network of its own.
        with suppress(AsdError):
            taken = _do(folder, donor)
    # Two variants may be the same run: the second one waits for the first and finds it.
    result = execute(planned, out, wait=True, donor=taken)
    if not result.cached:
        give_back_memory()
    return result


def _start_worker() -> None:
    end_with_parent()
    use_one_thread()


FULL = "full"


def _steps(**steps: Any) -> dict[str, Any]:
    return {"augmentation": steps}


def _scored(embedding: str, backend: str) -> dict[str, Any]:
    return {"embedding": embedding, "backend": backend}


_BACKENDS = (
    *("mahalanobis", "pooled_mahalanobis", "selective_mahalanobis", "knn"),
    *("local_density_knn", "class_mean"),
)

_TABLE: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "reference": {FULL: {}},
    # "only …" and "none" keep pre-norm: without it nothing is standardised, which "no pre-norm" and
    # "none, not even pre-norm" show on their own.
    "steps": {
        "no pre-norm": _steps(pre_norm=False),
        "no mixup": _steps(mixup=False),
        "no RRC": _steps(rrc=False),
        "no post-norm": _steps(post_norm=False),
        "only mixup": _steps(rrc=False, post_norm=False),
        "only RRC": _steps(mixup=False, post_norm=False),
        "only post-norm": _steps(mixup=False, rrc=False),
        "none": _steps(mixup=False, rrc=False, post_norm=False),
        "none, not even pre-norm": _steps(pre_norm=False, mixup=False, rrc=False, post_norm=False),
    },
    "mixing": {
        f"mixing above {hz / 1000:g} kHz": _steps(mixing="high", cutoff_hz=hz)
        for hz in (500.0, 1000.0, 2000.0, 4000.0)
    },
    "losses": {
        "contrast alone": {"classifier": "none"},
        "contrast of views only (NT-Xent)": {"loss": "nt_xent"},
        "contrast and ArcFace": {"classifier": "arcface"},
        "ArcFace alone": {"classifier": "arcface", "contrast_weight": 0.0},
        "no training at all": {"epochs": 0},
    },
    "encoders": {"encoder: mobilefacenet": {"encoder": "mobilefacenet"}},
    "back-ends": {f"encoder, {name}": _scored("encoder", name) for name in _BACKENDS},
    "embeddings": {
        f"{embedding.replace('_', ' ')}, {backend}": _scored(embedding, backend)
        for embedding, backends in (
            ("spectrum", ("mahalanobis", "pooled_mahalanobis", "knn")),
            ("feature_map", ("mahalanobis", "knn")),
            ("projection", ("mahalanobis", "knn")),
        )
        for backend in backends
    }
    | {"all levels": _scored("levels", "level_sum")},
    "segments": {
        "sliding window at test": {"segment": "sliding"},
        "each view a crop of its own": {"crops": "different"},
        "batch norm of training crops": {"batch_norm": "training"},
    },
    "data": {"half of the training clips": {}, "a quarter of the training clips": {}},
    "classes": {"a class is a machine type": {"classes": "machine"}},
}
_SHARES = {"half of the training clips": 0.5, "a quarter of the training clips": 0.25}


def _variant(group: str, name: str, params: Mapping[str, Any]) -> Variant:
    share = {"training_share": _SHARES[name]} if name in _SHARES else {}
    columns = {"group": group, "changes": json.dumps({**params, **share}, sort_keys=True)}
    return Variant(params=params, share=_SHARES.get(name, 1.0), columns=columns)


ABLATION: dict[str, Variant] = {
    name: _variant(group, name, params)
    for group, variants in _TABLE.items()
    for name, params in variants.items()
}
"""The variants of the ablation by name, ``full`` first."""

GROUPS = tuple(_TABLE)[1:]


def ablation(
    groups: Sequence[str] | None = None, params: Mapping[str, Any] | None = None
) -> dict[str, Variant]:
    """Choose variants of the ablation, for `experiment`.

    Parameters
    ----------
    groups
        Some of `GROUPS`, by default all; ``full`` belongs to each choice.
    params
        Parameters of all variants that differ from the system's defaults. A variant that then
        changes nothing is left out.

    Raises
    ------
    ConfigError
        If a parameter or a group is not known.
    """
    for name in groups or ():
        if name not in GROUPS:
            raise ConfigError(f"unknown group '{name}' (known: {', '.join(GROUPS)})")
    full = make_system("contrastive", params).params
    chosen = {}
    for name, variant in ABLATION.items():
        own = replace(variant, params=merge(params or {}, variant.params))
        differs = own.share != 1 or make_system("contrastive", own.params).params != full
        if name == FULL or (differs and variant.columns["group"] in (groups or GROUPS)):
            chosen[name] = own
    return chosen


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Compare every variant of an ablation with ``full``, by machine and on average.

    Returns
    -------
    ``group, variant, changes, machine, metric, seeds, mean, low, high`` (percent; over seeds), then
    ``difference, difference_low, difference_high`` in percentage points, about other clips and
    seeds, ``p_value, p_holm, p_bh`` and ``verdict`` in words. ``full`` has no difference. The mean
    over machines is named ``Average``; the comparisons of a machine, and those of the mean, are
    adjusted together.
    """
    rows, metrics = ["group", "variant", "changes", "machine"], ["auc", "pauc"]
    metrics += [name for name in ("auc_source", "auc_target", "omega") if name in table]
    means = table[table["section"] == "Average"].melt([*rows, "seed"], metrics, "metric", "value")
    means = pd.concat([part for _, part in means.groupby("machine", sort=False)])
    summary = over_seeds(means, [*rows, "metric"], "value")
    points = ["difference", "difference_low", "difference_high"]
    scores, year = scores_of(table), load_run(table["run"].iloc[0]).record.year
    tests = pd.DataFrame(columns=["variant", "machine", "metric", *points, "p_value"])
    if len(scores) > 1:
        found = pairwise(scores, [FULL], year).query("section == 'Average'")
        names = {"system": "variant", "low": points[1], "high": points[2]}
        tests = found.rename(columns=names)[list(tests)]
    tests[points] *= 100
    summary = summary.merge(tests, how="left", on=["variant", "machine", "metric"])
    summary = summary.astype(dict.fromkeys([*points, "p_value"], float))
    by_machine = summary.groupby("machine")["p_value"]
    summary = summary.join(pd.concat([adjusted(p_values) for _, p_values in by_machine]))
    summary["verdict"] = [
        "" if np.isnan(difference[0]) else describe_difference(*difference)
        for difference in summary[[*points, "p_holm"]].to_numpy(dtype=float)
    ]
    columns = ["metric", "seeds", "mean", "low", "high", *points, "p_value", "p_holm", "p_bh"]
    return summary[[*rows, *columns, "verdict"]]
