"""Where the recordings come from: one declared table of sources for all years.

The table is the package file ``archives.csv``, one row a file.  It states only what is known
for certain.  Three kinds of row exist:

- a *listed* file: its name is known, its MD5 and size may be empty;
- ``file = *``: the file list of that Zenodo record is not declared here.  It is read from the
  record's JSON at the first download and pinned in the lock file of the data root;
- an empty ``file``: the source is named, but it cannot be fetched (ground truth in a repository
  of which no commit is pinned).

An empty MD5 of a Zenodo file is read from the record's JSON too.  A file of a Git repository is
pinned by the commit in its address, and by its SHA-256 from the first download on.

Conventions
-----------
A dataset is called ``dcase<year>``.  Its subsets are ``development``, ``additional``,
``evaluation`` and ``ground_truth``; ``evaluation`` brings the ground truth along where it can be
fetched, because evaluation recordings without labels cannot be scored.  Sizes are in bytes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import PurePosixPath
from urllib.parse import quote, urlsplit

from asdlib.errors import DownloadError

__all__ = [
    "SUBSETS",
    "Archive",
    "all_archives",
    "archives_for",
    "check_machines",
    "datasets",
    "machine_of",
    "record_url",
]

SUBSETS = ("development", "additional", "evaluation", "ground_truth")
ANY = "*"
_PREFIXES = ("dev_data_", "dev_", "eval_data_train_", "eval_data_test_", "eval_data_")
_SUFFIXES = ("_train", "_test", "_train_r2", "_test_r2")
_ZENODO = "https://zenodo.org"


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of one dataset, as declared.

    Attributes
    ----------
    year : int
        Year of the challenge, 2020 … 2026.
    subset : str
        One of `SUBSETS`.
    machine : str
        Machine of the recordings; ``""`` for a file about all machines, ``"*"`` if the list of
        files is not declared.
    record : str
        Zenodo record, or ``owner/name/commit`` of a Git repository.
    file : str
        File name, for a repository its path; ``"*"`` if the list is not declared; ``""`` if the
        source cannot be fetched.
    pattern : str
        Address with ``{record}`` and ``{file}`` to fill in.
    md5 : str or None
        MD5 as 32 hexadecimal digits, None if it is not declared.
    size : int or None
        Size in bytes, None if it is not declared.
    licence : str
        Licence of the file, ``""`` if it is not declared.
    source : str
        Where the row can be looked up.
    """

    year: int
    subset: str
    machine: str
    record: str
    file: str
    pattern: str
    md5: str | None
    size: int | None
    licence: str
    source: str

    @property
    def dataset(self) -> str:
        """Name of the dataset, for example ``"dcase2020"``."""
        return f"dcase{self.year}"

    @property
    def key(self) -> str:
        """Name of the file in the lock file: ``dataset/subset/file``."""
        return f"{self.dataset}/{self.subset}/{self.file}"

    @property
    def is_listed(self) -> bool:
        """Whether the name of the file is known."""
        return self.file not in ("", ANY)

    @property
    def is_zip(self) -> bool:
        """Whether the file is an archive to unpack."""
        return PurePosixPath(self.file).suffix.lower() == ".zip"

    @property
    def on_zenodo(self) -> bool:
        """Whether a record's JSON tells checksum and size."""
        return self.pattern.startswith(_ZENODO)

    @property
    def folder(self) -> str:
        """Folder of the official layout below the dataset's folder."""
        return {"development": "dev_data", "ground_truth": "ground_truth"}.get(
            self.subset, "eval_data"
        )

    def url(self, base_url: str | None = None) -> str:
        """Address of the file.

        Parameters
        ----------
        base_url : str, optional
            Address of a mirror.  It replaces scheme and host; the path stays.

        Raises
        ------
        DownloadError
            If the file is not listed.
        """
        if not self.is_listed:
            msg = f"{self.dataset} {self.subset} names no single file; look at {self.source}"
            raise DownloadError(msg)
        address = self.pattern.format(record=self.record, file=quote(self.file))
        return on_mirror(address, base_url)


def on_mirror(address: str, base_url: str | None) -> str:
    """Replace scheme and host of an address by those (and the path prefix) of a mirror."""
    if base_url is None:
        return address
    if urlsplit(base_url).scheme not in ("http", "https"):
        msg = f"base URL '{base_url}' is not an http(s) address, e.g. https://mirror.example/dcase"
        raise DownloadError(msg)
    parts = urlsplit(address)
    query = f"?{parts.query}" if parts.query else ""
    return base_url.rstrip("/") + parts.path + query


def record_url(record: str, base_url: str | None = None) -> str:
    """Address of the JSON of a Zenodo record (``files[]`` with key, size, checksum)."""
    return on_mirror(f"{_ZENODO}/api/records/{record}", base_url)


def machine_of(file: str) -> str:
    """Machine named by an archive, for example ``"fan"`` of ``eval_data_fan_train_r2.zip``.

    Returns ``""`` if the name does not follow the official patterns.
    """
    name = PurePosixPath(file).stem
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            for suffix in sorted(_SUFFIXES, key=len, reverse=True):
                name = name.removesuffix(suffix)
            return name if name.isalnum() else ""
    return ""


@cache
def all_archives() -> tuple[Archive, ...]:
    """Every row of the declared table, in the order of the file."""
    text = files("asdlib.data").joinpath("archives.csv").read_text(encoding="utf-8")
    return tuple(
        Archive(
            year=int(row["year"]),
            subset=row["subset"],
            machine=row["machine"],
            record=row["record"],
            file=row["file"],
            pattern=row["url"],
            md5=row["md5"] or None,
            size=int(row["size"]) if row["size"] else None,
            licence=row["licence"],
            source=row["source"],
        )
        for row in csv.DictReader(text.splitlines())
    )


def datasets() -> tuple[str, ...]:
    """Names of the declared datasets, oldest first."""
    return tuple(dict.fromkeys(archive.dataset for archive in all_archives()))


def archives_for(
    dataset: str,
    machines: Sequence[str] | None = None,
    subsets: Sequence[str] | None = None,
) -> list[Archive]:
    """List the declared files of a dataset.

    Parameters
    ----------
    dataset : str
        For example ``"dcase2020"``.
    machines : sequence of str, optional
        Only these machines; files about all machines stay.  All if None or empty.
    subsets : sequence of str, optional
        Only these of `SUBSETS`; ``"evaluation"`` brings ``"ground_truth"`` along.  All if None
        or empty.

    Returns
    -------
    list of Archive
        Rows with ``file == "*"`` stand for a record whose list is read at download time.  Rows
        that cannot be fetched are left out.

    Raises
    ------
    DownloadError
        If the dataset, a machine or a subset is not known, or if a subset that was asked for by
        name cannot be fetched.
    """
    rows = [archive for archive in all_archives() if archive.dataset == dataset]
    if not rows:
        msg = f"dataset '{dataset}' is not known (known: {', '.join(datasets())})"
        raise DownloadError(msg)
    known = [subset for subset in SUBSETS if any(row.subset == subset for row in rows)]
    wanted = list(subsets or known)
    for subset in wanted:
        if subset not in known:
            msg = f"subset '{subset}' is not in {dataset} (known: {', '.join(known)})"
            raise DownloadError(msg)
        if subsets and all(row.file == "" for row in rows if row.subset == subset):
            where = next(row.source for row in rows if row.subset == subset)
            msg = f"{dataset} '{subset}' cannot be fetched, no commit is pinned; copy from {where}"
            raise DownloadError(msg)
    if "evaluation" in wanted:
        wanted.append("ground_truth")
    rows = [row for row in rows if row.subset in wanted and row.file]
    if all(row.is_listed for row in rows):
        check_machines(dataset, machines, rows)
    return [row for row in rows if not machines or row.machine in ("", ANY, *machines)]


def check_machines(
    dataset: str, machines: Sequence[str] | None, archives: Iterable[Archive]
) -> None:
    """Refuse a machine that no archive of the dataset holds.

    Raises
    ------
    DownloadError
        If one of `machines` is in none of `archives`.
    """
    known = sorted({archive.machine for archive in archives} - {"", ANY}, key=str.lower)
    for machine in machines or ():
        if machine not in known:
            listed = ", ".join(known) or "none"
            msg = f"machine '{machine}' is not in {dataset} with these subsets (known: {listed})"
            raise DownloadError(msg)


def listed(row: Archive, file: str, md5: str, size: int, licence: str) -> Archive:
    """Fill in a row from what the record itself says; declared values are kept.

    Raises
    ------
    DownloadError
        If the record contradicts a declared checksum or size.
    """
    for what, declared, said in (("MD5", row.md5, md5), ("size", row.size, size)):
        if declared is not None and declared != said:
            msg = f"{row.record}/{file}: the record says {what} {said}, declared is {declared}"
            raise DownloadError(msg)
    machine = machine_of(file) if row.machine == ANY else row.machine
    return replace(
        row, file=file, machine=machine, md5=md5, size=size, licence=row.licence or licence
    )
