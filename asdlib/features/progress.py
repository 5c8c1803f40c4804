"""The record of which rows of a store under construction are on disk.

One line a range of finished rows: its first row and their number. A line is written after the disk
has its rows, so what the record says is true even after a power failure; a last line that was cut
is dropped. The waiting for the disk is done by the thread that records, not by those that compute,
and not more than twice a second: what a power failure costs is half a second of work.
"""

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from asdlib.features.files import replace_text

_SECONDS_BETWEEN = 0.5


class Done:
    """Context that reads what an earlier build recorded, and records what this one finishes."""

    def __init__(self, file: Path, array: Path, n_rows: int) -> None:
        self.file = file
        self.array = array
        self._done = np.zeros(n_rows, dtype=bool)
        lines = file.read_text(encoding="ascii").splitlines(True) if file.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        for line in whole:
            start, number = map(int, line.split())
            self._done[start : start + number] = True
        if lines != whole:
            replace_text(file, "".join(whole))

    def __enter__(self) -> Self:
        self._stream = self.file.open("a", encoding="ascii")
        self._written: list[range] = []
        self._recorded_at = time.monotonic()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._stream, suppress(OSError) if error else nullcontext():
            self._record()

    @property
    def count(self) -> int:
        """Number of finished rows."""
        return int(self._done.sum())

    def open_rows(self, at_most: int) -> list[range]:
        """List the rows that are still to be done, in ranges of `at_most` neighbours."""
        ranges: list[range] = []
        for row in np.flatnonzero(~self._done).tolist():
            if ranges and ranges[-1].stop == row and len(ranges[-1]) < at_most:
                ranges[-1] = range(ranges[-1].start, row + 1)
            else:
                ranges.append(range(row, row + 1))
        return ranges

    def add(self, finished: Sequence[range]) -> None:
        """Take note of rows that were written, and record them when it is time."""
        for rows in finished:
            self._done[rows.start : rows.stop] = True
        self._written += finished
        if time.monotonic() - self._recorded_at >= _SECONDS_BETWEEN:
            self._record()

    def _record(self) -> None:
        """Wait until the disk has what was written, then write it down."""
        if self._written:
            with self.array.open("r+b") as written:
                os.fsync(written.fileno())
            self._stream.writelines(f"{rows.start} {len(rows)}\n" for rows in self._written)
            self._stream.flush()
            os.fsync(self._stream.fileno())
        self._written = []
        self._recorded_at = time.monotonic()
