"""Share the cores among notebooks that run at the same time.

Each notebook trains with a pool of its own. ``asd study`` names one folder for all of them in
``ASDLIB_SLOTS``: it holds a lock file for each core, and a training begins when it has one. A
process that dies gives its lock back. Without the variable nothing is shared and nothing waits.
The folder is made by ``book.tools.execute``, which runs the notebooks.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

SLOTS = "ASDLIB_SLOTS"
"""Environment variable: folder with a lock file for each core."""

PROCESSES = "ASDLIB_PROCESSES"
"""Environment variable: processes that a notebook may start."""


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
