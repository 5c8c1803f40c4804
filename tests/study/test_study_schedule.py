"""The order of pieces of work, and the cores that they share."""

import os
import threading
import time
from pathlib import Path

import pytest

from asdlib.errors import ConfigError
from asdlib.study.schedule import in_order
from asdlib.study.slots import PROCESSES, SLOTS, core_slot, shared_cores


def test_each_piece_comes_after_what_it_needs_the_longest_first() -> None:
    needs = {"data": [], "short": ["data"], "long": ["data", "elsewhere"], "last": ["short"]}
    order: list[str] = []

    def work(name: str) -> str:
        order.append(name)
        return name.upper()

    results = in_order(needs, work, cost={"long": 9.0, "short": 1.0})
    assert order == ["data", "long", "short", "last"]
    assert results == {name: name.upper() for name in needs}
    assert list(results) == list(needs)


def test_no_more_pieces_at_a_time_than_workers() -> None:
    now, most, lock = 0, 0, threading.Lock()

    def work(name: str) -> None:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(0.05)
        with lock:
            now -= 1

    in_order({str(i): [] for i in range(6)}, work, workers=3)
    assert most == 3


def test_an_exception_stops_the_rest_and_asks_those_at_work_to_end() -> None:
    released, done = threading.Event(), []

    def work(name: str) -> None:
        if name == "bad":
            raise OSError("disk full")
        released.wait(20)
        done.append(name)

    with pytest.raises(OSError, match="disk full"):
        in_order({"slow": [], "bad": [], "never": ["bad"]}, work, workers=2, on_stop=released.set)
    assert done == ["slow"]


def test_a_circle_is_refused() -> None:
    with pytest.raises(ConfigError, match="notebooks wait for each other: a → b → a|b → a → b"):
        in_order({"a": ["b"], "b": ["a"]}, str)


def test_cores_are_shared_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    for name in (SLOTS, PROCESSES, "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    now, most, lock = 0, 0, threading.Lock()

    def work(name: str) -> None:
        nonlocal now, most
        with core_slot():
            with lock:
                now += 1
                most = max(most, now)
            time.sleep(0.05)
            with lock:
                now -= 1

    with shared_cores(4, 2):
        folder = Path(os.environ[SLOTS])
        assert len(list(folder.glob("*.slot"))) == 2
        assert os.environ[PROCESSES] == "2"
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert os.environ["MKL_NUM_THREADS"] == "1"
        in_order({str(i): [] for i in range(6)}, work, workers=6)
    assert most == 2
    assert not folder.exists()
    assert SLOTS not in os.environ
    assert "MKL_NUM_THREADS" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "7"


def test_one_worker_shares_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SLOTS, raising=False)
    with shared_cores(1, 2):
        assert SLOTS not in os.environ
        with core_slot():
            pass
