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
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from asdlib.study.report import adjusted, describe_difference, over_seeds, paired_differences
from asdlib.study.result import RunResult
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


@dataclass(frozen=True)
class Job:
    """One run of an experiment: a variant, its stores found, with a seed."""

    name: str
    variant: Variant
    seed: int
    machines: tuple[str, ...] | None
    year: int | None = None
    network_of: "Job | None" = None

    def bare(self) -> "Job":
        """Return the same run without names."""
        donor = self.network_of and self.network_of.bare()
        return replace(self, name="", variant=replace(self.variant, columns={}), network_of=donor)


Done = Callable[[Job, "RunResult | str", int, int], None]
"""Called after each run: with it, its result or why it failed, runs done, and runs in all."""


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
        Its cluster does the runs, in the place of processes here.
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
    chosen = {}
    for name, own in variants.items():
        make_system(own.system, own.params)
        stores = own.train or train, own.test or test or train
        if None in stores:
            raise ConfigError(f"variant '{name}' has no store; give the experiment train=STORE")
        chosen[name] = replace(own, train=_path(stores[0]), test=_path(stores[1]))
    jobs = [
        Job(
            name, _with_share(own, seed, root / "stores"), seed, tuple(machines or ()) or None, year
        )
        for name, own in chosen.items()
        # What is not random is run once.
        for seed in own.seeds or ((0,) if own.system == "statistics" else seeds)
    ]
    if not jobs:
        raise ConfigError("nothing to run; give at least one variant and one seed")
    how = processes, scheduler, failures, on_done
    results = _run_all(_share_networks(jobs), root / "runs", *how)
    return pd.concat([_tidy(jobs[i], results[i]) for i in sorted(results)], ignore_index=True)


def _with_share(variant: Variant, seed: int, folder: Path) -> Variant:
    """Return the variant with its share of the training clips as its store to train on."""
    if variant.share == 1:
        return variant
    epochs = make_system(variant.system, variant.params).params.model_dump()["epochs"]
    params = {**variant.params, "epochs": round(epochs / variant.share)}
    whole = FeatureStore.open(str(variant.train))
    train = share_of_training(whole, variant.share, seed, folder).path
    return replace(variant, params=params, train=train)


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
    return (store.path if isinstance(store, FeatureStore) else Path(store)).absolute()


def _share_networks(jobs: Iterable[Job]) -> list[Job]:
    """Let the first of the jobs that are trained alike train, and the others take its network."""
    trained: dict[str, Job] = {}
    shared = []
    for job in jobs:
        if job.variant.system == "contrastive":
            params = make_system("contrastive", job.variant.params).params
            training = params.model_dump(mode="json", exclude=set(SCORING))
            alike = json.dumps([training, str(job.variant.train), job.seed])
            first = trained.setdefault(alike, job)
            job = job if first is job else replace(job, network_of=first)
        shared.append(job)
    return shared


def _run_all(
    jobs: Sequence[Job],
    folder: Path,
    processes: int | None,
    scheduler: Scheduler | None,
    failures: list[str] | None,
    on_done: Done | None,
) -> dict[int, RunResult]:
    """Do all runs, several at a time; return the results by their place in `jobs`."""
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[int, RunResult] = {}
    failed: list[str] = []

    def collect(i: int, outcome: Callable[[], RunResult]) -> None:
        made: RunResult | str
        try:
            made = results[i] = outcome()
        except Exception as error:
            foreseen = isinstance(error, AsdError) and not isinstance(error, ConfigError)
            if failures is None and not foreseen:
                raise
            made = str(error) if isinstance(error, AsdError) else repr(error)
            failed.append(f"{jobs[i].name}, seed {jobs[i].seed}: {made}")
        if on_done:
            on_done(jobs[i], made, len(results) + len(failed), len(jobs))

    # Those that take a network come last, when it is there, instead of waiting for it.
    order = sorted(range(len(jobs)), key=lambda i: jobs[i].network_of is not None)
    workers = min(processes or default_processes(), len(jobs))
    if scheduler:
        with closing(scheduler.send(_do, [(jobs[i].bare(), folder) for i in order])) as done:
            for place, outcome in done:
                collect(order[place], outcome)
    elif workers == 1:
        for i in order:
            collect(i, partial(_do, jobs[i], folder))
    else:
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)
        try:
            futures = {pool.submit(_do, jobs[i], folder): i for i in order}
            for future in as_completed(futures):
                collect(futures[future], future.result)
        finally:
            # After Ctrl-C or a wrong parameter, what has not begun is not begun any more.
            pool.shutdown(wait=True, cancel_futures=True)
    if failures is not None:
        failures += failed
    if failed and (failures is None or not results):
        raise RunError(f"{len(failed)} of {len(jobs)} runs failed; the first: {failed[0]}")
    return results


def default_processes() -> int:
    """Choose how many runs at a time: one on a GPU, else ``$ASDLIB_PROCESSES`` or one a core."""
    import torch

    asked = os.environ.get(PROCESSES, "")
    cores = int(asked) if asked.isdecimal() else os.cpu_count() or 1
    return 1 if torch.cuda.is_available() else max(1, cores)


def _do(job: Job, folder: Path) -> RunResult:
    from asdlib.method.training import give_back_memory

    own = job.variant
    stores = str(own.train), str(own.test)
    machines, year = job.machines, job.year
    planned = plan(
        own.system, *stores, params=own.params, seed=job.seed, machines=machines, year=year
    )
    out = folder / planned.name
    donor = None
    if job.network_of is not None and not out.exists():
        # If the other run fails, perhaps only in its way of scoring, this one trains by itself.
        with suppress(AsdError):
            donor = _do(job.network_of, folder)
    # Two variants may be the same run: the second one waits for the first and finds it.
    result = execute(planned, out, wait=True, donor=donor)
    if not result.cached:
        give_back_memory()
    return result


def _start_worker() -> None:
    end_with_parent()
    use_one_thread()


def _tidy(job: Job, result: RunResult) -> pd.DataFrame:
    front = {"variant": job.name, "system": job.variant.system, "seed": job.seed}
    table = result.metrics.copy()
    if len(result.intervals) and result.record.year != 2020:
        score = official_score(result.intervals, result.record.year)["omega"].estimate
        table["omega"] = np.where(table["machine"] == "Average", score, np.nan)
    for place, (name, value) in enumerate({**job.variant.columns, **front}.items()):
        table.insert(place, name, value)
    return table.assign(seconds=result.record.seconds.fit, run=str(result.path))


FULL = "full"
METRICS = ("auc", "pauc", "auc_source", "auc_target", "omega")


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

ABLATION: dict[str, Variant] = {
    name: Variant(params=params, share=_SHARES.get(name, 1.0), columns={"group": group})
    for group, variants in _TABLE.items()
    for name, params in variants.items()
}
"""The variants by name, ``full`` first."""

GROUPS: tuple[str, ...] = (
    *("steps", "mixing", "losses", "encoders", "back-ends", "embeddings", "segments", "data"),
    "classes",
)


def ablate(
    train: str | Path,
    test: str | Path,
    out: str | Path,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    groups: Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    year: int | None = None,
    processes: int | None = None,
    scheduler: Scheduler | None = None,
    failures: list[str] | None = None,
    on_done: Done | None = None,
) -> pd.DataFrame:
    """Run the ablation; what is there already is not computed again.

    Parameters
    ----------
    train, test, seeds, year, processes, scheduler, failures, on_done
        See `asdlib.study.experiment.experiment`.
    out
        Folder for derived stores (``stores``) and runs (``runs``).
    groups
        Some of `GROUPS`, by default all.
    params
        Parameters of all variants, ``full`` included, that differ from the system's defaults.

    Returns
    -------
    ``group, variant, changes`` (JSON), then the columns of an experiment; ``run`` is the name of
    the run's folder. A variant that changes nothing is left out.

    Raises
    ------
    ConfigError
        If a parameter or a group is not known; before the first run.
    """
    for name in groups or ():
        if name not in GROUPS:
            raise ConfigError(f"unknown group '{name}' (known: {', '.join(GROUPS)})")
    base = dict(params or {})
    full = make_system("contrastive", base).params
    chosen: dict[str, Variant] = {}
    for group in ("reference", *(g for g in GROUPS if g in (groups or GROUPS))):
        for name, variant in ABLATION.items():
            if variant.columns["group"] != group:
                continue
            merged = merge(base, variant.params)
            same = make_system("contrastive", merged).params == full
            if same and name != FULL and variant.share == 1:
                continue
            share = {} if variant.share == 1 else {"training_share": variant.share}
            changes = json.dumps({**variant.params, **share}, sort_keys=True)
            columns = {"group": group, "changes": changes}
            chosen[name] = replace(variant, params=merged, columns=columns)
    table = experiment(
        chosen,
        out,
        train=train,
        test=test,
        seeds=seeds,
        year=year,
        processes=processes,
        scheduler=scheduler,
        failures=failures,
        on_done=on_done,
    )
    table.insert(2, "changes", table.pop("changes"))
    return table.assign(run=[Path(run).name for run in table["run"]])


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Compare every variant of a table from `ablate` with ``full``, by machine and on average.

    Returns
    -------
    ``group, variant, changes, machine, metric, seeds, mean, low, high`` (percent), then
    ``difference, difference_low, difference_high`` in percentage points, paired over seeds,
    ``p_value, p_holm, p_bh`` and ``verdict`` in words. ``full`` has no difference. The mean over
    machines is named ``Average``; the comparisons of a machine, and those of the mean, are adjusted
    together.
    """
    table = table[table["section"] == "Average"]
    table = pd.concat([part for _, part in table.groupby("machine", sort=False)])
    rows = ["group", "variant", "changes", "machine"]
    bounds = {"low": "difference_low", "high": "difference_high"}
    parts = []
    for metric in (name for name in METRICS if name in table):
        gains = paired_differences(table, FULL, metric, by=["machine"])
        gains = gains.drop(columns=["seeds", "p_holm", "p_bh", "shown"])
        means = over_seeds(table, rows, metric)
        part = means.merge(gains.rename(columns=bounds), how="left", on=["machine", "variant"])
        parts.append(part.assign(metric=metric))
    summary = pd.concat(parts, ignore_index=True)
    by_machine = summary.groupby("machine")["p_value"]
    summary = summary.join(pd.concat([adjusted(p_values) for _, p_values in by_machine]))
    differences = ["difference", *bounds.values()]
    summary["verdict"] = [
        "" if np.isnan(difference[0]) else describe_difference(*difference)
        for difference in summary[[*differences, "p_holm"]].to_numpy(dtype=float)
    ]
    columns = ["metric", "seeds", "mean", "low", "high", *differences]
    return summary[[*rows, *columns, "p_value", "p_holm", "p_bh", "verdict"]]
