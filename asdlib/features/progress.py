"""The record of which rows of a store under construction are on disk.

One line a finished batch: its first row and the CRC-32 checksum of each of its clips. A line is
written after the disk has its rows, so what the record says is true even after a power failure; a
last line that was cut is dropped. The waiting for the disk is done here, in the parent process, and
not in the processes that compute.
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

from asdlib.features.files import replace_text


class Done:
    """Context that reads what an earlier build recorded, and records what this one finishes.

    Attributes
    ----------
    count
        Number of finished rows.
    """

    def __init__(self, file: Path, array: Path, n_rows: int) -> None:
        self.file = file
        self.array = array
        self._checksums: list[int | None] = [None] * n_rows
        lines = file.read_text(encoding="ascii").splitlines(True) if file.exists() else []
        whole = [line for line in lines if line.endswith("\n")]
        for line in whole:
            first, *checksums = line.split()
            start = int(first)
            self._checksums[start : start + len(checksums)] = [int(c, 16) for c in checksums]
        if lines != whole:
            replace_text(file, "".join(whole))
        self.count = sum(checksum is not None for checksum in self._checksums)

    def __enter__(self) -> Self:
        self._stream = self.file.open("a", encoding="ascii")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    @property
    def checksums(self) -> list[int]:
        """Checksums of all finished rows, in order."""
        return [checksum for checksum in self._checksums if checksum is not None]

    def open_rows(self, at_most: int) -> list[range]:
        """List the rows that are still to be done, in ranges of `at_most` neighbours."""
        ranges: list[range] = []
        for row, checksum in enumerate(self._checksums):
            if checksum is not None:
                continue
            if ranges and ranges[-1].stop == row and len(ranges[-1]) < at_most:
                ranges[-1] = range(ranges[-1].start, row + 1)
            else:
                ranges.append(range(row, row + 1))
        return ranges

    def add(self, rows: range, checksums: list[int]) -> None:
        """Wait until the disk has `rows`, which were written, and record them."""
        with self.array.open("r+b") as written:
            os.fsync(written.fileno())
        self._checksums[rows.start : rows.stop] = checksums
        self.count += len(rows)
        text = " ".join(f"{checksum:08x}" for checksum in checksums)
        self._stream.write(f"{rows.start} {text}\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())
