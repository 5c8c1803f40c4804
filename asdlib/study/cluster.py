"""The runs of an experiment on a Dask cluster, in the place of this machine's processes.

All machines see the same files under the same names, and have the same code and packages. A task's
key is made from its content, so that a run that two clients ask for is one task. Dask gives the run
of a lost worker to another one. A scheduler that was started anew is sent what is not done yet: a
worker that finds the folder of a run does not compute it again.
"""

import hashlib
import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from asdlib.errors import ConfigError, RunError
from asdlib.study.config import code_version

if TYPE_CHECKING:
    from distributed import Client

T = TypeVar("T")

SCHEDULER = "ASDLIB_SCHEDULER"
"""Environment variable: address of the scheduler that experiments send their runs to."""

RESOURCES = "ASDLIB_RESOURCES"
"""Environment variable: what a run takes of its worker, such as ``GPU=1``."""

_PATIENCE_AT_START, _PATIENCE_LATER = 15.0, 600.0  # seconds that a scheduler is waited for
_alone = threading.Lock()  # torch's random numbers belong to the process: one run at a time


@contextmanager
def connect(address: str, patience: float = _PATIENCE_AT_START) -> "Iterator[Client]":
    """Connect with the scheduler at `address`, which is waited for up to `patience` seconds.

    Raises
    ------
    ConfigError
        If no scheduler answers, or the package that talks to it is not installed.
    """
    if importlib.util.find_spec("distributed") is None:
        raise ConfigError(
            "a scheduler needs the package distributed, not installed here; install asdlib with "
            "the extra 'scale'"
        )
    from distributed import Client

    # What it reports of a lost connection, we report ourselves, or mend.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    try:
        client = Client(address, timeout=patience, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(
            f"no scheduler answers at '{address}' within {patience:g} s; start one (dask "
            "scheduler) and give its address, such as tcp://HOST:8786, or leave it out"
        ) from error
    with client:
        yield client


def parse_resources(text: str) -> dict[str, float]:
    """Read ``NAME=NUMBER``, or several with commas between; a ConfigError says what is wrong."""
    try:
        pairs = [part.split("=") for part in text.split(",") if part]
        return {name.strip(): float(number) for name, number in pairs}
    except ValueError:
        raise ConfigError(f"resources are '{text}', expected NAME=NUMBER such as GPU=1") from None


def send(
    address: str, function: Callable[..., T], calls: Sequence[tuple[Any, ...]]
) -> Generator[tuple[int, Callable[[], T]]]:
    """Call a function on the workers, with each of several arguments, the first ones first.

    Parameters
    ----------
    address
        Of the scheduler.
    function
        Any of a module.
    calls
        Arguments of each call; those that look the same (``repr``) are one task.

    Yields
    ------
    place, outcome
        Place of the call in `calls`, as it is done; ``outcome()`` returns its result, or raises
        what it raised.
    """
    version, resources = code_version(), parse_resources(os.environ.get(RESOURCES, ""))
    waiting: dict[str, list[int]] = {}
    for place, arguments in enumerate(calls):
        content = f"{version} {function.__qualname__} {arguments!r}"
        key = f"asdlib-{hashlib.sha256(content.encode()).hexdigest()[:32]}"
        waiting.setdefault(key, []).append(place)
    patience = _PATIENCE_AT_START
    while waiting:
        with connect(address, patience) as client:
            from distributed import as_completed

            futures = []
            for key, (place, *_) in waiting.items():
                options = {"key": key, "priority": -place, "resources": resources}
                futures.append(client.submit(_do, version, function, *calls[place], **options))
            # This ends early when the scheduler is lost.
            for future in as_completed(futures, loop=client.loop):
                if not future.cancelled():
                    for place in waiting.pop(future.key):
                        yield place, partial(_outcome, future)
        patience = _PATIENCE_LATER


def _do(version: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function on a worker, which must have the code of the client."""
    if code_version() != version:
        raise RunError(
            f"the worker has version {code_version()} of the code, expected {version}; install "
            "the same on all machines and start the workers anew"
        )
    with _alone:
        use_one_thread()
        return function(*arguments)


def use_one_thread() -> None:
    """Let torch, in this thread, and the libraries for arrays compute on one core each."""
    import scipy.linalg  # noqa: F401  (its threads can be limited only once it is loaded)
    import torch
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch.set_num_threads(1)
    threadpool_limits(1)


def _outcome(future: Any) -> Any:
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise RunError(
            "the run has ended each of the workers that tried it; is their memory too small? The "
            "log of the worker says more"
        ) from error
