"""Where the recordings come from: one declared table of sources for all years.

The table is the package file ``archives.csv``, one row per file. It states only what is known for
certain: MD5 and size may be empty. A Zenodo record whose files are not declared has ``file = *``;
its list of files is read from the record at the first download. A source that is not fetched has
an empty ``file``: ground truth in a repository of which no commit is pinned, or whose licence
forbids passing it on. An archive that was replaced stays in the table; the one that counts has its
name with ``_r2`` (`newest`).

A dataset is called ``dcase<year>``; its subset ``evaluation`` brings the ground truth along where
it can be fetched. Sizes are in bytes.
"""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

from asdlib.errors import DownloadError

_FOLDERS = {"development": "dev_data", "ground_truth": "ground_truth"}
_MACHINE = re.compile(
    r"(?:dev_data|dev|eval_data_train|eval_data_test|eval_data)_"
    r"([A-Za-z0-9]+)(?:_train|_test)?(?:_r2)?\.zip"
)


@dataclass(frozen=True, slots=True)
class Archive:
    """One file of a dataset: what the table declares, and how much of it is on disk."""

    year: int
    subset: str
    machine: str
    """Empty for a file about all machines; ``*`` if the list of files is not declared."""
    record: str
    """Zenodo record, or ``owner/name/commit`` of a Git repository."""
    file: str
    """File name, for a repository its path; or ``*`` or empty."""
    md5: str
    """Empty if it is not declared; so is the size None."""
    size: int | None
    licence: str
    url: str
    """Address with ``{record}`` and ``{file}`` to fill in."""
    source: str
    """Where the row can be looked up."""
    there: bool = False
    """Whether the content is in place."""
    fetched: int = 0
    """Bytes on disk that need not be fetched again."""

    @property
    def key(self) -> str:
        """Name of the file in the lock file."""
        return f"dcase{self.year}/{self.subset}/{self.file}"

    @property
    def address(self) -> str:
        """Address of the file."""
        return self.url.format(record=self.record, file=quote(self.file))

    @property
    def is_zip(self) -> bool:
        """Whether the file is to be unpacked."""
        return self.file.endswith(".zip")

    def folder(self, root: Path) -> Path:
        """Return the folder of the official layout, below a data root, that the content is for."""
        return root / f"dcase{self.year}" / _FOLDERS.get(self.subset, "eval_data")

    def path(self, root: Path) -> Path:
        """Return the final name of the file itself below a data root."""
        folder = self.folder(root)
        return (folder.with_name("archives") if self.is_zip else folder) / self.file

    def filled(self, file: str, md5: str, size: int, licence: str) -> "Archive":
        """Return the row with what its Zenodo record says about `file`; declared values are kept.

        A record that contradicts a declared checksum or size is a `DownloadError`.
        """
        for what, declared, said in (("MD5", self.md5, md5), ("size", self.size, size)):
            if declared and declared != said:
                raise DownloadError(
                    f"{self.record}/{file}: the record says {what} {said}, declared is {declared}"
                )
        match = _MACHINE.fullmatch(file)
        machine = self.machine if self.machine != "*" else match[1] if match else ""
        licence = self.licence or licence
        return replace(self, file=file, machine=machine, md5=md5, size=size, licence=licence)


@cache
def all_archives() -> tuple[Archive, ...]:
    """Return every row of the declared table, in the order of the file."""
    text = files("asdlib.data").joinpath("archives.csv").read_text(encoding="utf-8")
    rows: Iterable[dict[str, Any]] = csv.DictReader(text.splitlines())
    return tuple(
        Archive(**row | {key: int(row[key] or 0) or None for key in ("year", "size")})
        for row in rows
    )


def newest(files: Sequence[str]) -> list[str]:
    """Leave out the files that were replaced: whose name with ``_r2`` is there, too."""
    return [name for name in files if name.replace(".zip", "_r2.zip") not in {*files} - {name}]


def where_truth_is(year: int) -> str:
    """Say how one gets the labels of the evaluation set of a year."""
    row = next(row for row in all_archives() if (row.year, row.subset) == (year, "ground_truth"))
    if row.file:
        return f"asd download dcase{year} --subset evaluation fetches it"
    because = f"licence: {row.licence}" if row.licence else "no commit is pinned"
    return f"it is not fetched for you ({because}); copy it from {row.source}"


def archives_for(dataset: str, subsets: Sequence[str] | None = None) -> list[Archive]:
    """List the declared files of a dataset, or of some subsets of it, that can be fetched.

    A dataset or subset that is not known, or cannot be fetched, is a `DownloadError`.
    """
    rows = [row for row in all_archives() if f"dcase{row.year}" == dataset]
    if not rows:
        known = ", ".join(dict.fromkeys(f"dcase{row.year}" for row in all_archives()))
        raise DownloadError(f"dataset '{dataset}' is not known (known: {known})")
    fetched = {row.subset: bool(row.file) for row in rows}
    for subset in subsets or ():
        if subset not in fetched:
            raise DownloadError(
                f"subset '{subset}' is not in {dataset} (known: {', '.join(fetched)})"
            )
        if not fetched[subset]:
            raise DownloadError(f"{dataset} '{subset}': {where_truth_is(rows[0].year)}")
    wanted = {*(subsets or fetched)}
    if "evaluation" in wanted:
        wanted.add("ground_truth")
    counting = newest([row.file for row in rows])
    return [row for row in rows if row.subset in wanted and row.file and row.file in counting]


def of_machines(archives: list[Archive], machines: Sequence[str] | None) -> list[Archive]:
    """Return the archives of some machines, all if None or empty; files about all machines stay.

    A machine that no archive holds is a `DownloadError`, if all archives are listed.
    """
    known = sorted({archive.machine for archive in archives} - {""}, key=str.lower)
    for machine in machines or ():
        if machine not in known and "*" not in known:
            raise DownloadError(
                f"machine '{machine}' is not in dcase{archives[0].year} with these subsets "
                f"(known: {', '.join(known) or 'none'})"
            )
    return [a for a in archives if not machines or a.machine in ("", "*", *machines)]
