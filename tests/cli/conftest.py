"""Fixtures of the command line's room."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from asd_process import AsdProcess, Outcome
from threadpoolctl import threadpool_limits

# The small stores and recordings of the study's room serve here, too.
sys.path.append(str(Path(__file__).parents[1] / "study"))

from study_stores import make_store
from warm_server import start_server

Asd = Callable[..., Outcome]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of interrupted trainings and locks, this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ASDLIB_CACHE", str(folder))
    return folder


@pytest.fixture
def asd(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Asd:
    """Run a command in this process."""
    from asdlib.cli import _main

    def run(*arguments: Any) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["asd", *map(str, arguments)])
        capfd.readouterr()
        code = _main()
        return Outcome(code, *capfd.readouterr())

    return run


@pytest.fixture(scope="session")
def _server() -> None:
    start_server()


@pytest.fixture
def asd_process(_server: None, tmp_path: Path, cache: Path) -> Iterator[Callable[..., AsdProcess]]:
    """Start a command as a process of its own."""
    started: list[AsdProcess] = []

    def start(*arguments: Any, **environment: str) -> AsdProcess:
        folder = tmp_path / "streams" / str(len(started))
        told = {"ASDLIB_CACHE": str(cache)} | environment
        started.append(AsdProcess(list(arguments), folder, **told))
        return started[-1]

    yield start
    for process in started:
        if process.process.is_alive():
            process.process.kill()
            process.process.join()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store").path
