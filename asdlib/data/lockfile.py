"""What a data root knows about itself: the lock file ``asdlib-lock.json``.

It holds three things, all keyed by names that `asdlib.data.archives` defines:

- ``records``: what the JSON of a Zenodo record said at the first download (file → MD5, size).
  It is pinned: a file that differs later is an error, never a new truth;
- ``files``: SHA-256 and size of files without a published checksum, pinned on first use;
- ``unpacked``: what has been put in place, so that a second call has nothing to do.

The file is written to a temporary name and renamed, under a lock that other processes respect.
Sizes are in bytes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from asdlib.errors import DownloadError

__all__ = ["LOCK_NAME", "FilePin", "LockData", "LockFile", "Record", "RecordFile", "Unpacked"]

LOCK_NAME = "asdlib-lock.json"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RecordFile(_Model):
    """Checksum and size of one file of a Zenodo record."""

    md5: str
    size: int


class Record(_Model):
    """What a Zenodo record said when it was first read."""

    licence: str
    files: dict[str, RecordFile]


class FilePin(_Model):
    """Checksum of a file that was taken as it came the first time."""

    sha256: str
    size: int


class Unpacked(_Model):
    """What came out of an archive: folder below the dataset's folder → number of files."""

    checksum: str
    placed: dict[str, int]


class LockData(_Model):
    """Content of the lock file."""

    version: Literal[1] = 1
    records: dict[str, Record] = {}
    files: dict[str, FilePin] = {}
    unpacked: dict[str, Unpacked] = {}


class LockFile:
    """The lock file of a data root, safe for several threads and processes.

    Parameters
    ----------
    root : path
        The data root.  It is created at the first `update`.
    """

    def __init__(self, root: str | Path) -> None:
        self.path = Path(root) / LOCK_NAME
        self._mutex = threading.Lock()

    def read(self) -> LockData:
        """Content of the file; empty if there is none.

        Raises
        ------
        DownloadError
            If the file is not a lock file of this version.
        """
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return LockData()
        try:
            return LockData.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]["msg"]
            msg = f"'{self.path}' is damaged ({first}); delete it, and all checksums are read anew"
            raise DownloadError(msg) from None

    def update(self, change: Callable[[LockData], None]) -> LockData:
        """Read, change and write the file in one step.

        Parameters
        ----------
        change : callable
            Changes the data in place.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._mutex, FileLock(f"{self.path}.lock"):
            data = self.read()
            change(data)
            temporary = self.path.with_name(f"{LOCK_NAME}.part")
            with temporary.open("w", encoding="utf-8") as handle:
                handle.write(data.model_dump_json(indent=1))
                handle.flush()
                # Without it, a power cut after the rename can leave an empty file.
                os.fsync(handle.fileno())
            temporary.replace(self.path)
            return data

    def pin_record(self, record: str, said: Record) -> None:
        """Pin what a record says, or compare it with what is pinned.

        Raises
        ------
        DownloadError
            If the record now says something else about a file.
        """

        def change(data: LockData) -> None:
            pinned = data.records.setdefault(record, said)
            check_same(record, pinned, said, self.path)

        self.update(change)


def check_same(record: str, pinned: Record, said: Record, where: Path) -> None:
    """Refuse a record that contradicts its pin.

    Raises
    ------
    DownloadError
        Naming the first file that differs.
    """
    for file, pin in pinned.files.items():
        now = said.files.get(file)
        if now != pin:
            text = f"MD5 {now.md5}, {now.size} bytes" if now else "no such file"
            msg = (
                f"record {record} now says of {file}: {text}; pinned in {where} are "
                f"MD5 {pin.md5}, {pin.size} bytes; use another root for the new version"
            )
            raise DownloadError(msg)
