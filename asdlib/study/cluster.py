"""The runs of an experiment on a Dask cluster instead of in processes of this machine.

All machines see the same files under the same names, and have the same code and packages. A task's
key is made from its content, so that a run that two clients ask for is one task. Dask gives the run
of a lost worker to another one. A scheduler that was started anew is sent what is not done yet: a
worker that finds the folder of a run does not compute it again.
"""

import hashlib
import logging
import threading
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from asdlib.errors import ConfigError, RunError
from asdlib.study.config import code_version

if TYPE_CHECKING:
    from distributed import Client

_PATIENCE = 15.0, 600.0  # seconds that a scheduler is waited for: at the start, and once it is lost
_alone = threading.Lock()  # torch's random numbers belong to the process: one run at a time


@dataclass(frozen=True)
class Scheduler:
    """Address of a scheduler, and what a run takes of its worker, such as ``{"GPU": 1}``."""

    address: str
    needs: Mapping[str, float] = field(default_factory=dict)

    @contextmanager
    def connect(self, patience: float = _PATIENCE[0]) -> "Iterator[Client]":
        """Connect, waiting for up to `patience` seconds; a ConfigError says that none answers."""
        from distributed import Client

        try:
            # What it reports of a lost connection, we report ourselves, or mend.
            logging.getLogger("distributed").setLevel(logging.CRITICAL)
            client = Client(self.address, timeout=patience, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(
                f"no scheduler answers at '{self.address}' within {patience:g} s; start one (dask "
                "scheduler) and give its address, such as tcp://HOST:8786, or leave it out"
            ) from error
        with client:
            yield client

    def send(
        self, function: Callable[..., Any], calls: Sequence[tuple[Any, ...]]
    ) -> Generator[tuple[int, Callable[[], Any]]]:
        """Call a function of a module on the workers, with each of several arguments.

        Calls with arguments that look the same (``repr``) are one task. Yields the place of each
        call as it finishes, and a function that returns its result or raises its error.
        """
        from distributed import as_completed

        version, waiting, patience = code_version(), dict[str, list[int]](), _PATIENCE[0]
        for place, arguments in enumerate(calls):
            content = f"{version} {function.__qualname__} {arguments!r}"
            key = f"asdlib-{hashlib.sha256(content.encode()).hexdigest()[:32]}"
            waiting.setdefault(key, []).append(place)
        while waiting:
            with self.connect(patience) as client:
                futures = []
                for key, (place, *_) in waiting.items():
                    options = {"key": key, "priority": -place, "resources": self.needs}
                    futures.append(client.submit(_do, version, function, *calls[place], **options))
                # This ends early when the scheduler is lost.
                for future in as_completed(futures, loop=client.loop):
                    if not future.cancelled():
                        yield from ((place, future.result) for place in waiting.pop(future.key))
            patience = _PATIENCE[1]


def _do(version: str, function: Callable[..., Any], *arguments: Any) -> Any:
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
