"""Many runs: over systems, parameters and seeds, in parallel, each cached by its key."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd

from asdlib.errors import AsdError, ConfigError, RunError
from asdlib.method.allocator import give_back_memory
from asdlib.study.result import RunResult
from asdlib.study.run import execute, plan
from asdlib.study.slots import PROCESSES
from asdlib.system import Progress
from asdlib.workers import end_with_parent


@dataclass(frozen=True)
class Job:
    """One run of a sweep.

    Attributes
    ----------
    variant
        Name under which its results are shown, e.g. ``"no mixup"``.
    system
        Name of the system.
    train, test
        Stores.
    seed
        Seed of the run.
    params
        Parameters that differ from the system's defaults.
    machines
        Machine types to keep, by default all.
    network_of
        Job whose network this one takes, see `asdlib.study.networks`; by default it trains its own.
    """

    variant: str
    system: str
    train: Path
    test: Path
    seed: int = 0
    params: Mapping[str, Any] = field(default_factory=dict)
    machines: tuple[str, ...] | None = None
    network_of: "Job | None" = None


def with_one_network(jobs: Iterable[Job]) -> list[Job]:
    """Let the first job train; the others, which differ in their test clips, take its network."""
    first, *others = jobs
    return [first, *(replace(job, network_of=first) for job in others)]


Done = Callable[[Job, "RunResult | str"], None]
"""Called after each run with its job, and with its result or the reason why it failed."""


def sweep(
    jobs: Iterable[Job],
    root: str | Path,
    *,
    processes: int | None = None,
    progress: Progress | None = None,
    failures: list[str] | None = None,
    on_done: Done | None = None,
) -> pd.DataFrame:
    """Do all runs and give their metrics as one tidy table.

    Parameters
    ----------
    jobs
        What to run.
    root
        Folder of the runs; what is already there under the same key is not computed again.
    processes
        Runs at a time, one thread each; by default as many as there are cores. With a GPU, 1.
    progress
        Told after every run.
    failures
        If given, takes a line for every run that failed, whatever the reason; the others are
        returned. Without it a failure is an error.
    on_done
        Called after every run.

    Returns
    -------
    Columns ``variant, system, seed, machine, section, auc, pauc`` and, with domains, ``auc_source,
    auc_target``; averages as in ``metrics.csv``; ``seconds`` of fitting; ``run``, the folder.

    Raises
    ------
    ConfigError
        If a job's parameters are not valid; at once.
    RunError
        If a run failed, after all others are done; naming the first failure. With `failures`, only
        if all runs failed.
    """
    todo = list(jobs)
    root = Path(root)
    root.mkdir(parents=True, exist_ok=True)
    processes = processes or default_processes()
    outcome = _Outcome(todo, [] if failures is None else failures, failures is not None)
    outcome.listeners = (progress, on_done)
    # Those that take a network come last, when it is there, instead of waiting for it.
    order = sorted(range(len(todo)), key=lambda i: todo[i].network_of is not None)
    if processes == 1 or len(todo) == 1:
        for i in order:
            outcome.collect(i, partial(_do, todo[i], root))
    else:
        workers = min(processes, len(todo))
        pool = ProcessPoolExecutor(workers, get_context("spawn"), _start_worker)
        try:
            futures = {pool.submit(_do, todo[i], root): i for i in order}
            for future in as_completed(futures):
                outcome.collect(futures[future], future.result)
        finally:
            # After Ctrl-C or a wrong parameter, what has not begun is not begun any more.
            pool.shutdown(wait=True, cancel_futures=True)
    failed, results = outcome.failures, outcome.results
    if failed and (failures is None or not results):
        raise RunError(f"{len(failed)} of {len(todo)} runs failed; the first: {failed[0]}")
    return pd.concat([_tidy(todo[i], results[i]) for i in sorted(results)], ignore_index=True)


def variants_over_seeds(
    variants: Mapping[str, Mapping[str, Any]], seeds: Sequence[int], template: Job
) -> list[Job]:
    """Cross named parameter changes with seeds, on the data and system of `template`."""
    return [
        Job(
            variant=name,
            system=template.system,
            train=template.train,
            test=template.test,
            seed=seed,
            params={**template.params, **changes},
            machines=template.machines,
        )
        for name, changes in variants.items()
        for seed in seeds
    ]


def default_processes() -> int:
    """Choose the runs at a time: one on a GPU, else ``$ASDLIB_PROCESSES`` or one a core."""
    import torch

    told = os.environ.get(PROCESSES, "")
    cores = int(told) if told.isdecimal() else os.cpu_count() or 1
    return 1 if torch.cuda.is_available() else max(1, cores)


def _do(job: Job, root: Path) -> RunResult:
    planned = plan(
        job.system,
        job.train,
        job.test,
        params=job.params,
        seed=job.seed,
        machines=job.machines,
    )
    out = root / f"{job.system}-{planned.config.key[:16]}"
    donor = None
    if job.network_of is not None and not out.exists():
        donor = _do(job.network_of, root)
    # Two variants may be the same run: the second one waits for the first and finds it.
    result = execute(planned, out, wait=True, donor=donor)
    if not result.cached:
        give_back_memory()
    return result


def _start_worker() -> None:
    end_with_parent()
    import scipy.linalg  # noqa: F401  (its threads can be limited only once it is loaded)
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch.set_num_threads(1)
    threadpool_limits(1)


@dataclass
class _Outcome:
    """What came of the runs so far."""

    todo: list[Job]
    failures: list[str]
    tolerant: bool
    results: dict[int, RunResult] = field(default_factory=dict)
    listeners: tuple[Progress | None, Done | None] = (None, None)

    def collect(self, i: int, result: Callable[[], RunResult]) -> None:
        job = self.todo[i]
        told: RunResult | str
        try:
            told = self.results[i] = result()
        except Exception as error:
            if not self.tolerant and (
                isinstance(error, ConfigError) or not isinstance(error, AsdError)
            ):
                raise
            told = str(error) if isinstance(error, AsdError) else repr(error)
            self.failures.append(f"{job.variant}, seed {job.seed}: {told}")
        progress, on_done = self.listeners
        if progress:
            progress("runs", len(self.results) + len(self.failures), len(self.todo))
        if on_done:
            on_done(job, told)


def _tidy(job: Job, result: RunResult) -> pd.DataFrame:
    table = result.metrics.copy()
    table.insert(0, "variant", job.variant)
    table.insert(1, "system", job.system)
    table.insert(2, "seed", job.seed)
    table["seconds"] = result.record["seconds"]["fit"]
    table["run"] = str(result.path)
    return table
