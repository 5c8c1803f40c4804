"""Reading the JSON of Zenodo records: file names, sizes, MD5s, licence.

Used where the declared table has a gap.  What is read here is pinned in the lock file of the
data root.  Sizes are in bytes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from asdlib.data.archives import Archive, record_url
from asdlib.data.fetch import Fetcher, Retry
from asdlib.data.lockfile import Record, RecordFile
from asdlib.errors import DownloadError

__all__ = ["read_record", "read_records"]

# Names from the network become names on the disk.
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]*")


def read_record(record: str, fetcher: Fetcher, base_url: str | None) -> Record:
    """Read what a Zenodo record says of its files.

    Raises
    ------
    DownloadError
        If the record cannot be read or has another form.
    """
    url = record_url(record, base_url)
    said: Any = fetcher.json(url)
    try:
        files = {
            entry["key"]: RecordFile(
                md5=entry["checksum"].removeprefix("md5:").lower(), size=int(entry["size"])
            )
            for entry in said["files"]
        }
        for name in files:
            if not _PLAIN_NAME.fullmatch(name):
                raise ValueError(f"file name {name!r}")
        licence = (said.get("metadata") or {}).get("license") or {}
        return Record(licence=str(licence.get("id", "")), files=files)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        kind = type(error).__name__
        msg = f"{url} is not the JSON of a record ({kind}: {error}); files[] with key, size"
        raise DownloadError(f"{msg}, checksum were expected; check the base URL") from None


def read_records(
    unread: Iterable[str], rows: list[Archive], base_url: str | None, retry: Retry | None
) -> tuple[dict[str, Record], list[str]]:
    """Read several records.

    Parameters
    ----------
    unread : iterable of str
        Zenodo records.
    rows : list of Archive
        Declared files; a record that cannot be read is an error if one of its files has no
        declared checksum.
    base_url : str or None
        Address of a mirror.
    retry : Retry or None
        Patience with the server.

    Returns
    -------
    read : dict
        Record → what it says.
    notes : list of str
        One line for each record that could not be read.

    Raises
    ------
    DownloadError
        See `read_record`.
    """
    read: dict[str, Record] = {}
    notes = []
    with Fetcher(retry) as fetcher:
        for record in unread:
            try:
                read[record] = read_record(record, fetcher, base_url)
            except DownloadError as error:
                # With every checksum declared, only the sizes are lost: worth a note, no more.
                if any(row.record == record and row.md5 is None for row in rows):
                    raise
                notes.append(f"sizes of record {record} are not known: {error}")
    return read, notes
