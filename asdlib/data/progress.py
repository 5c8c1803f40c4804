"""Progress of a download, handed to whoever draws it.

Sizes are in bytes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Progress", "Reporter"]

_TICK = 0.1  # seconds between two reports of one file


@dataclass(frozen=True, slots=True)
class Progress:
    """How far one file is.

    Attributes
    ----------
    file : str
        Name of the file; ``""`` for the download as a whole.
    stage : str
        ``"wait"`` (for another process), ``"fetch"``, ``"verify"``, ``"unpack"``, ``"done"``.
    done : int
        Bytes of this stage that are done.
    total : int or None
        Bytes of this stage; None if not known.
    """

    file: str
    stage: str
    done: int = 0
    total: int | None = None


class Reporter:
    """Hands progress to the caller from one thread at a time, not more often than needed."""

    def __init__(self, on_progress: Callable[[Progress], None] | None) -> None:
        self._call = on_progress
        self._mutex = threading.Lock()
        self._last: dict[str, tuple[str, float]] = {}

    def __call__(self, file: str, stage: str, done: int = 0, total: int | None = None) -> None:
        """Report one step, unless it follows too soon on one of the same stage."""
        if self._call is None:
            return
        now = time.monotonic()
        with self._mutex:
            last_stage, last_time = self._last.get(file, ("", 0.0))
            if stage == last_stage and now - last_time < _TICK and done != total:
                return
            self._last[file] = (stage, now)
            self._call(Progress(file, stage, done, total))
