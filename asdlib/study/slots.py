"""Share the cores among notebooks that run at the same time.

Each notebook trains with a pool of its own. ``asd study`` names one folder for all of them in
``ASDLIB_SLOTS``: it holds a lock file for each core, and a training begins when it has one. A
process that dies gives its lock back. Without the variable nothing is shared and nothing waits.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

SLOTS = "ASDLIB_SLOTS"
PROCESSES = "ASDLIB_PROCESSES"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_MOST_PROCESSES = 16  # of one notebook: each one takes some 400 MB


@contextmanager
def core_slot() -> Iterator[None]:
    """Hold one of the shared cores, as soon as one is free."""
    folder = os.environ.get(SLOTS)
    if not folder or not Path(folder).is_dir():
        yield
        return
    locks = [FileLock(path) for path in sorted(Path(folder).glob("*.slot"))]
    lock = _first_free(locks)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


@contextmanager
def shared_cores(workers: int, cores: int) -> Iterator[None]:
    """Let processes that are started meanwhile, `workers` at a time, compute on `cores` together.

    Each gets its share of threads, unless the user's environment says how many, and as many
    processes as there are cores, of which only those with a slot compute.
    """
    if workers == 1:
        yield
        return
    before = {name: os.environ.get(name) for name in (SLOTS, PROCESSES, *_THREADS)}
    with tempfile.TemporaryDirectory(prefix="asdlib-slots-") as folder:
        for i in range(cores):
            (Path(folder) / f"{i:03d}.slot").touch()
        os.environ[SLOTS] = folder
        os.environ.setdefault(PROCESSES, str(min(cores, _MOST_PROCESSES)))
        for name in _THREADS:
            os.environ.setdefault(name, str(max(1, cores // workers)))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def _first_free(locks: list[FileLock]) -> FileLock | None:
    while locks:
        for lock in locks:
            try:
                lock.acquire(timeout=0)
            except Timeout:
                continue
            return lock
        time.sleep(0.05)
    return None
