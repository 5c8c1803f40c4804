"""What a download will do, before it does it: files, sizes, licences, disk.

A plan reads the lock file of the data root and, where checksum, size or the list of files is not
known yet, the JSON of the Zenodo record.  It writes nothing; `asdlib.data.download` pins what the
plan has read.  A plan for what is already there needs no network.

Layout of a data root::

    asdlib-lock.json                     checksums and markers of all datasets
    dcase2020/archives/                  archives in transfer, or kept
    dcase2020/dev_data/<machine>/…       development
    dcase2020/eval_data/<machine>/…      additional training, evaluation
    dcase2020/ground_truth/…             labels of the evaluation

Sizes are in bytes.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from asdlib.data.archives import Archive, archives_for, check_machines, listed
from asdlib.data.fetch import Retry, part_size
from asdlib.data.lockfile import LockData, LockFile, Record
from asdlib.data.records import read_records
from asdlib.data.unpack import count_files
from asdlib.errors import DownloadError

__all__ = ["Item", "Plan", "archive_path", "free_bytes", "is_there", "part_path", "plan_download"]

# An estimate on the safe side: 16-bit recordings of noisy machines shrink little.  Before an
# archive is unpacked, its exact size is compared with the free space.
UNPACKED_BY_PACKED = 1.4


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a plan.

    Attributes
    ----------
    archive : Archive
        The file, with all that is known of it.
    there : bool
        Whether its content is in place already.
    fetched : int
        Bytes on disk that need not be fetched again.
    """

    archive: Archive
    there: bool
    fetched: int

    @property
    def to_fetch(self) -> int | None:
        """Bytes still to fetch; None if the size is not known."""
        if self.there:
            return 0
        size = self.archive.size
        return None if size is None else max(0, size - self.fetched)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a download will do.

    Attributes
    ----------
    dataset : str
        For example ``"dcase2020"``.
    root : Path
        The data root.
    items : tuple of Item
        All files, also those already in place.
    records : dict
        What Zenodo records said, to be pinned by the download.
    notes : tuple of str
        What the user should know, one line each.
    base_url : str or None
        Mirror the plan was made with.
    """

    dataset: str
    root: Path
    items: tuple[Item, ...]
    records: dict[str, Record]
    notes: tuple[str, ...]
    base_url: str | None

    @property
    def missing(self) -> tuple[Item, ...]:
        """Files that are not in place."""
        return tuple(item for item in self.items if not item.there)

    @property
    def bytes_to_fetch(self) -> int:
        """Bytes to fetch, without the files of unknown size."""
        return sum(item.to_fetch or 0 for item in self.items)

    @property
    def unknown_sizes(self) -> int:
        """Number of missing files whose size is not known."""
        return sum(item.to_fetch is None for item in self.items)

    @property
    def licences(self) -> tuple[str, ...]:
        """Licences of all files, each once."""
        names = (item.archive.licence or "not stated" for item in self.items)
        return tuple(dict.fromkeys(names))

    def disk_needed(self, *, keep: bool = False, jobs: int = 2) -> int:
        """Estimate the free disk space that the download needs at its peak.

        Parameters
        ----------
        keep : bool
            Whether the archives stay.
        jobs : int
            Archives in work at once.

        Returns
        -------
        int
            Unpacked size, taken as 1.4 times the packed size, and the archives that are on disk
            at the same time, less what is there already.
        """
        zips = [item for item in self.missing if item.archive.is_zip]
        packed = sorted((item.archive.size or 0 for item in zips), reverse=True)
        beside = sum(packed) if keep else sum(packed[:jobs])
        needed = int(sum(packed) * UNPACKED_BY_PACKED) + beside
        return max(0, needed - sum(item.fetched for item in zips))


def free_bytes(root: Path) -> int:
    """Free space on the disk that holds `root`, which need not exist yet."""
    path = root.absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def archive_path(root: Path, archive: Archive) -> Path:
    """Give the final name of a file: of an archive, or of a ground truth file itself."""
    folder = "archives" if archive.is_zip else archive.folder
    return root / archive.dataset / folder / archive.file


def part_path(path: Path) -> Path:
    """Name of a file while it is being fetched."""
    return path.with_name(f"{path.name}.part")


def is_there(root: Path, archive: Archive, data: LockData) -> bool:
    """Whether the content of a file is in place, told by its marker and a count of files.

    The recordings themselves are not read: damaged or missing ones are found by the check of
    the whole dataset.
    """
    if not archive.is_zip:
        pin = data.files.get(archive.key)
        path = archive_path(root, archive)
        return pin is not None and path.is_file() and path.stat().st_size == pin.size
    done = data.unpacked.get(archive.key)
    if done is None or (archive.md5 is not None and done.checksum != f"md5:{archive.md5}"):
        return False
    base = root / archive.dataset / archive.folder
    return all(count_files(base / folder) >= count for folder, count in done.placed.items())


def plan_download(
    dataset: str,
    machines: Sequence[str] | None = None,
    subsets: Sequence[str] | None = None,
    root: str | Path = "data",
    *,
    base_url: str | None = None,
    retry: Retry | None = None,
) -> Plan:
    """Say what a download will do.  Nothing is written.

    Parameters
    ----------
    dataset : str
        For example ``"dcase2020"``.
    machines : sequence of str, optional
        Only these machines.
    subsets : sequence of str, optional
        Only these of `asdlib.data.archives.SUBSETS`.
    root : path
        The data root.
    base_url : str, optional
        Address of a mirror that serves the same paths.
    retry : Retry, optional
        Patience with the server.

    Returns
    -------
    asdlib.data.plan.Plan
        What will be fetched, what is there, sizes, licences, disk.

    Raises
    ------
    DownloadError
        If dataset, machine or subset are not known, or if a record that is needed cannot be
        read or contradicts a declared or pinned checksum.
    """
    root = Path(root)
    data = LockFile(root).read()
    rows = archives_for(dataset, machines, subsets)
    records = {key: data.records[key] for row in rows if (key := row.record) in data.records}
    unread = dict.fromkeys(
        row.record
        for row in rows
        if row.record not in records and _needs_record(row) and not is_there(root, row, data)
    )
    read, notes = read_records(unread, rows, base_url, retry) if unread else ({}, [])
    archives = [full for row in rows for full in _resolved(row, (records | read).get(row.record))]
    check_machines(dataset, machines, archives)
    items = tuple(
        Item(archive, is_there(root, archive, data), _fetched(root, archive))
        for archive in archives
        if not machines or archive.machine in ("", *machines)
    )
    labelled = any(item.archive.subset == "ground_truth" for item in items)
    if not labelled and (not subsets or "evaluation" in subsets):
        notes.append(f"labels of the evaluation set of {dataset} are not part of this download")
    return Plan(dataset, root, items, read, tuple(notes), base_url)


def _needs_record(row: Archive) -> bool:
    return row.on_zenodo and (not row.is_listed or row.md5 is None or row.size is None)


def _fetched(root: Path, archive: Archive) -> int:
    path = archive_path(root, archive)
    return max(part_size(path), part_size(part_path(path)))


def _resolved(row: Archive, record: Record | None) -> list[Archive]:
    """Fill in a row, or replace ``*`` by the archives that the record lists."""
    if record is None:
        return [row]
    names = [row.file] if row.is_listed else [n for n in record.files if n.endswith(".zip")]
    if not names or not set(names) <= set(record.files):
        held = ", ".join(record.files) or "no files"
        msg = f"record {row.record} has no {row.file if row.is_listed else 'archives'}"
        raise DownloadError(f"{msg} (it lists: {held})")
    said = [(name, record.files[name]) for name in names]
    return [listed(row, name, file.md5, file.size, record.licence) for name, file in said]
