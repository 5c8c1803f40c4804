"""Run ``asd`` as a process of its own: it can be killed, and its exit code is the true one.

It comes from the server of `warm_server`, which has torch and Lightning imported already.
"""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on standard error; fails if there is any other."""
        assert self.code not in (0, None), self
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("error: "), self.err
        assert "Traceback" not in self.err + self.out
        return lines[0].removeprefix("error: ")

    @property
    def success(self) -> "Outcome":
        assert self.code == 0, self
        return self


def _main(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(f"{folder}/{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdout = os.fdopen(1, "w", closefd=False)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    os.environ.update(environment)
    sys.argv = ["asd", *arguments]
    from asdlib.cli import main

    try:
        main()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


class AsdProcess:
    """A started command."""

    def __init__(self, arguments: list[Any], folder: Path, **environment: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        told = ([str(word) for word in arguments], str(folder), environment)
        self.process = get_context("forkserver").Process(target=_main, args=told)
        self.process.start()

    def when(self, condition: Callable[[], Any], signal_number: int) -> Outcome:
        """Send a signal as soon as `condition` holds, and wait for the end."""
        deadline = time.monotonic() + 600
        while not condition():
            assert self.process.is_alive(), f"ended too early: {self._read()}"
            assert time.monotonic() < deadline, "nothing happened"
            time.sleep(0.005)
        assert self.process.pid is not None
        os.kill(self.process.pid, signal_number)
        return self.wait()

    def wait(self) -> Outcome:
        self.process.join(1200)
        code = self.process.exitcode
        assert code is not None, "still running"
        return self._read(code)

    def _read(self, code: int = 0) -> Outcome:
        texts = [(self.folder / name).read_text() for name in ("out", "err")]
        return Outcome(code, *texts)
