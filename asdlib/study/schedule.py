"""Do pieces of work in threads, each after those that it needs, the longest first."""

import os
import signal
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from asdlib.errors import ConfigError

T = TypeVar("T")


def in_order(
    needs: Mapping[str, Collection[str]],
    work: Callable[[str], T],
    *,
    workers: int = 1,
    cost: Mapping[str, float] | None = None,
    on_stop: Callable[[], None] | None = None,
) -> dict[str, T]:
    """Do all pieces, up to `workers` at a time.

    Parameters
    ----------
    needs
        Name → names of those that come before it. Names that are no key are ignored.
    work
        Does one piece. It returns also when the piece failed: an exception stops everything.
    workers
        Pieces at a time.
    cost
        Expected seconds; of those that may begin, the longest begins first, ties in the order of
        `needs`.
    on_stop
        Called, again and again, until the pieces at work have ended after an exception or Ctrl-C.

    Returns
    -------
    Name → what `work` gave, in the order of `needs`.

    Raises
    ------
    ConfigError
        If pieces need each other in a circle.
    """
    sorter = TopologicalSorter(
        {n: [m for m in before if m in needs] for n, before in needs.items()}
    )
    try:
        sorter.prepare()
    except CycleError as error:
        raise ConfigError(f"notebooks wait for each other: {' → '.join(error.args[1])}") from None
    place = {name: i for i, name in enumerate(needs)}
    expected = cost or {}
    ready: list[str] = []
    running: dict[Future[T], str] = {}
    results: dict[str, T] = {}
    pool = ThreadPoolExecutor(workers)
    try:
        while sorter.is_active():
            ready += sorter.get_ready()
            ready.sort(key=lambda name: (-expected.get(name, 0.0), place[name]))
            while ready and len(running) < workers:
                name = ready.pop(0)
                running[pool.submit(work, name)] = name
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                name = running.pop(future)
                results[name] = future.result()
                sorter.done(name)
    finally:
        while on_stop and wait(running, timeout=0.2).not_done:
            on_stop()
        pool.shutdown(wait=True, cancel_futures=True)
    return {name: results[name] for name in needs}


def end_kernels() -> None:
    """End the Jupyter kernels that this process has started, with all their processes."""
    import psutil  # type: ignore[import-untyped]

    for child in psutil.Process().children():
        try:
            if any("ipykernel" in word for word in child.cmdline()):
                os.killpg(os.getpgid(child.pid), signal.SIGKILL)
        except (psutil.Error, ProcessLookupError):
            continue
