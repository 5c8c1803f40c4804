"""Experiments on a Dask cluster of real processes give what they give here, whatever dies."""

import gc
import os
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from study_stores import score_bytes
from warm_server import start_server

from asdlib.cli import console
from asdlib.errors import ConfigError, RunError
from asdlib.features import FeatureStore
from asdlib.study import Study, Variant, experiment
from asdlib.study.cluster import Scheduler, _do
from asdlib.study.study import SCHEDULER

VARIANTS = {
    f"{statistics}, {covariance}": Variant(
        "statistics", {"statistics": statistics, "covariance": covariance}
    )
    for statistics in ("mean", "mean+deviation", "mean+deviation+quantiles")
    for covariance in ("own", "pooled")
}
FIT_SECONDS = 0.3


def work(kind: str, log: str, *arguments: str) -> None:
    """Be a scheduler or a worker; a worker's trainings take a while and are written down."""
    sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115
    from distributed.cli import dask_scheduler, dask_worker

    from asdlib.baselines import TimeStatistics

    fit = TimeStatistics.fit

    def told(self: TimeStatistics, *given: Any, **named: Any) -> TimeStatistics:
        note = f"{os.getpid()} {self.params.statistics}, {self.params.covariance}"
        for event in ("begun", "done"):
            with open(log, "a") as sink:  # noqa: PTH123
                sink.write(f"{event} {note}\n")
            if event == "begun":
                time.sleep(FIT_SECONDS)
                fit(self, *given, **named)
        return self

    TimeStatistics.fit = told  # type: ignore[method-assign]
    main = {"scheduler": dask_scheduler, "worker": dask_worker}[kind].main
    main([*arguments, "--no-dashboard"], standalone_mode=False)


class Cluster:
    """A scheduler and two workers."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = str(free.getsockname()[1])
        self.folder, self.log = folder, folder / "log"
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.given = Scheduler(self.address, {"GPU": 1})
        self.workers: list[BaseProcess] = []
        self.start()

    def start(self) -> None:
        self.scheduler = self._process("scheduler", "--host", "127.0.0.1", "--port", self.port)
        of_worker = ("--nthreads", "1", "--no-nanny", "--resources", "GPU=1")
        place = ("--local-directory", str(self.folder))
        new = [self._process("worker", self.address, *of_worker, *place) for _ in range(2)]
        self.workers += new

    def _process(self, kind: str, *arguments: str) -> BaseProcess:
        told = (kind, str(self.log), *arguments)
        process = get_context("forkserver").Process(target=work, args=told)
        process.start()
        return process

    def lines(self, event: str) -> list[list[str]]:
        text = self.log.read_text() if self.log.exists() else ""
        return [line.split(" ", 2)[1:] for line in text.splitlines() if line.startswith(event)]

    def kill_a_busy_worker(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            busy = Counter(pid for pid, _ in self.lines("begun"))
            busy.subtract(pid for pid, _ in self.lines("done"))
            for process in self.workers:
                if busy[str(process.pid)]:
                    os.kill(process.pid or 0, signal.SIGKILL)
                    return
            time.sleep(0.01)

    def stop(self) -> None:
        for process in (self.scheduler, *self.workers):
            process.kill()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Cluster]:
    start_server()
    started = Cluster(tmp_path)
    yield started
    started.stop()


@pytest.mark.slow
def test_a_cluster_gives_what_this_machine_gives_whatever_dies(
    engine: Cluster, store: FeatureStore, tmp_path: Path
) -> None:
    told: list[tuple[int, int]] = []

    def disturb(name: str, made: Any, number: int, total: int) -> None:
        told.append((number, total))
        if number == 1:
            engine.kill_a_busy_worker()
        if number == 3:
            engine.scheduler.kill()
            engine.scheduler.join()
            engine.start()

    given: dict[str, Any] = {"train": store, "scheduler": engine.given}
    there = experiment(VARIANTS, tmp_path / "there", **given, on_done=disturb)
    assert told == [(i, 6) for i in range(1, 7)]
    done = Counter(name for _, name in engine.lines("done"))
    assert done == Counter(list(VARIANTS)), "each training came to its end once"
    assert len(engine.lines("begun")) > len(VARIANTS), "one was killed in the middle"

    # Two clients that ask for the same, one of them by other names, share the work.
    named = {f"also {name}": variant for name, variant in VARIANTS.items()}
    with ThreadPoolExecutor(2) as clients:
        sweeps = (VARIANTS, named)
        both = [clients.submit(experiment, v, tmp_path / "both", **given) for v in sweeps]
        first, second = (future.result() for future in both)
    done = Counter(name for _, name in engine.lines("done"))
    assert done == Counter(dict.fromkeys(VARIANTS, 2))

    here = experiment(VARIANTS, tmp_path / "here", train=store, processes=1)
    columns = [name for name in here if name not in ("run", "seconds")]
    for table in (there, first, second.replace({"variant": r"^also "}, "", regex=True)):
        pd.testing.assert_frame_equal(table[columns], here[columns], check_exact=True)
        for a, b in zip(table["run"], here["run"], strict=True):
            assert score_bytes(Path(a)) == score_bytes(Path(b))
            assert Path(a).name == Path(b).name


def test_notebooks_find_their_scheduler_in_the_environment(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Scheduler | None] = []

    def note(*_: Any, scheduler: Scheduler | None, **__: Any) -> pd.DataFrame:
        asked.append(scheduler)
        return pd.DataFrame()

    monkeypatch.setattr("asdlib.study.study.experiment", note)
    study = Study("toycar", tmp_path, store=store.path)
    for told in ("[]", '["tcp://10.0.0.1:8786"]', '["tcp://10.0.0.1:8786", {"GPU": 1}]'):
        monkeypatch.setenv(SCHEDULER, told)
        study.experiment({"reference": Variant("statistics")})
    alone, scheduler, with_gpu = asked
    assert alone is None
    assert scheduler == Scheduler("tcp://10.0.0.1:8786")
    assert with_gpu is not None
    assert with_gpu.needs == {"GPU": 1.0}


def test_what_a_cluster_cannot_do_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("tcp://127.0.0.1:1", "nowhere", "127.0.0.1:port"):
        said = f"^no scheduler answers at '{address}' within 0.2 s"
        with pytest.raises(ConfigError, match=said), Scheduler(address).connect(0.2):
            pass
        gc.collect()  # what is left of a client would wait for its thread, in that of the next
    with pytest.raises(ConfigError, match="^--resources needs a cluster; give --scheduler"):
        console.cluster(None, "GPU=1")
    for text in ("GPU", "GPU=one", "GPU=1=2"):
        with pytest.raises(ConfigError, match=f"^(resources are )?'{text}'.* (NAME|key)="):
            console.cluster("tcp://127.0.0.1:1", text)
    with pytest.raises(RunError, match=r"^the worker has version .*, expected another; install"):
        _do("another", len, [])
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ModuleNotFoundError, match="distributed"):
        console.cluster("tcp://127.0.0.1:1", None)
