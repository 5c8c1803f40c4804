"""Unpacking of an archive into the official layout, safely.

An archive is checked as a whole before its first byte is written: no absolute path, no ``..``,
no link or device, no encryption, a bounded number of entries, a bounded size and a bounded ratio
of unpacked to packed size.  Then it is unpacked into a scratch folder on the same disk, and only
complete folders are renamed to their final place.  A run that is killed leaves a scratch folder,
which the next call removes.

Layout: ``<machine>/<split>/<clip>`` below the destination.  Sizes are in bytes.
"""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from asdlib.data.fetch import DiskFullError, disk_full
from asdlib.errors import DownloadError

__all__ = ["Limits", "RefusedError", "count_files", "inspect_zip", "unpack"]

_SPLITS = frozenset({"train", "test", "supplemental", "source_test", "target_test"})
_LITTER = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})
_CHUNK = 1 << 20
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class RefusedError(DownloadError):
    """The archive itself is damaged or unsafe; unpacking it again cannot help."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What an archive may hold.

    Attributes
    ----------
    entries : int
        Number of entries.  The largest official archives hold some thousands.
    total : int
        Unpacked size.
    ratio : float
        Unpacked by packed size.  Recorded 16-bit audio stays below 3.
    slack : int
        Unpacked size that no ratio is asked of.
    """

    entries: int = 200_000
    total: int = 200 << 30
    ratio: float = 20.0
    slack: int = 16 << 20


def _refuse(archive: Path, what: str) -> RefusedError:
    return RefusedError(f"{archive.name} is refused: {what}; nothing of it was put in place")


def _safe_parts(archive: Path, name: str) -> tuple[str, ...]:
    parts = PurePosixPath(name).parts
    unsafe = (
        not parts
        or name.startswith("/")
        or ".." in parts
        or "\\" in name
        or (len(name) > 1 and name[1] == ":")
        or any(ord(letter) < 32 for letter in name)
    )
    if unsafe:
        raise _refuse(archive, f"entry {name!r} points outside the folder or has no valid name")
    return parts


def _check_kind(archive: Path, info: zipfile.ZipInfo) -> None:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _refuse(archive, f"entry {info.filename!r} is a link or a device")
    if info.flag_bits & 0x1:
        raise _refuse(archive, f"entry {info.filename!r} is encrypted")


def _place(archive: Path, parts: tuple[str, ...], machine: str) -> PurePosixPath | None:
    """Place of an entry below the destination; None for what file managers leave behind."""
    if _LITTER.intersection(parts) or parts[-1].startswith("._"):
        return None
    if not machine:
        return PurePosixPath(*parts)
    if machine in parts[:-1]:
        return PurePosixPath(*parts[parts.index(machine) :])
    if len(parts) == 1 or parts[0] in _SPLITS:
        return PurePosixPath(machine, *parts)
    raise _refuse(archive, f"entry '{'/'.join(parts)}' is not below '{machine}/'")


def inspect_zip(
    archive: Path, machine: str = "", limits: Limits | None = None
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Check every entry of an archive, and say where each file belongs.

    Parameters
    ----------
    archive : Path
        A zip archive.
    machine : str
        Machine folder that the files must be in; ``""`` takes the paths as they are.
    limits : Limits, optional
        Bounds.

    Returns
    -------
    dict
        Place below the destination → entry.

    Raises
    ------
    RefusedError
        If the archive is damaged, unsafe, too large or not in the official layout.
    """
    limits = limits or Limits()
    try:
        with zipfile.ZipFile(archive) as bundle:
            entries = bundle.infolist()
    except _BROKEN as error:
        raise _refuse(archive, f"it is damaged ({error})") from None
    if len(entries) > limits.entries:
        raise _refuse(archive, f"{len(entries)} entries, at most {limits.entries} are allowed")
    total = sum(info.file_size for info in entries)
    allowed = min(limits.total, limits.slack + limits.ratio * archive.stat().st_size)
    if total > allowed:
        raise _refuse(archive, f"it unpacks to {total} bytes, at most {allowed:.0f} are allowed")
    places: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in entries:
        parts = _safe_parts(archive, info.filename)
        _check_kind(archive, info)
        place = None if info.is_dir() else _place(archive, parts, machine)
        if place is None:
            continue
        if place in places:
            raise _refuse(archive, f"two entries are called '{place}'")
        places[place] = info
    for place in places:
        for parent in place.parents:
            if parent in places:
                raise _refuse(archive, f"'{parent}' is a file and a folder")
    if not places:
        raise _refuse(archive, "it holds no files")
    return places


def unpack(
    archive: Path,
    destination: Path,
    *,
    machine: str,
    scratch: Path,
    limits: Limits | None = None,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Unpack an archive below `destination`.

    Parameters
    ----------
    archive : Path
        A zip archive whose checksum was verified.
    destination : Path
        For example ``<root>/dcase2020/dev_data``.
    machine : str
        Machine folder, see `inspect_zip`.
    scratch : Path
        Folder for the work in progress, on the same disk.  What an interrupted call left there
        is removed first; it is gone at the end.
    limits : Limits, optional
        Bounds.
    on_bytes : callable
        Gets the bytes written so far and those to write.

    Returns
    -------
    dict
        Folder below `destination` → number of files put there.

    Raises
    ------
    RefusedError
        If the archive is damaged or unsafe.
    DownloadError
        If the disk is full or the folder cannot be written.  In no case is anything half-written
        left under a final name.
    """
    places = inspect_zip(archive, machine, limits)
    total = sum(info.file_size for info in places.values())
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        free = shutil.disk_usage(scratch).free
        if total > free:
            msg = f"{archive.name} unpacks to {total} bytes, {free} are free; free some space"
            raise DiskFullError(f"{msg} and call again")
        done = 0
        with zipfile.ZipFile(archive) as bundle:
            for place, info in places.items():
                target = scratch / place
                target.parent.mkdir(parents=True, exist_ok=True)
                with bundle.open(info) as source:
                    _copy(source, target)
                done += info.file_size
                on_bytes(done, total)
        _install(scratch, destination)
    except _BROKEN as error:
        raise _refuse(archive, f"it is damaged ({error})") from None
    except OSError as error:
        reason = DownloadError(f"{destination}: {error.strerror or error} ({error.filename})")
        raise (disk_full(error, destination) or reason) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return dict(Counter(place.parent.as_posix() for place in places))


def _copy(source: IO[bytes], target: Path) -> None:
    # "x": on a disk that ignores case, two names may be one file.
    with target.open("xb") as sink:
        while chunk := source.read(_CHUNK):
            sink.write(chunk)


def _install(source: Path, destination: Path) -> None:
    """Rename complete folders; merge only where a folder of that name is there already."""
    destination.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        target = destination / path.name
        if path.is_dir() and target.is_dir():
            _install(path, target)
        else:
            path.replace(target)


def count_files(folder: Path) -> int:
    """Count the files directly in a folder; 0 if the folder is missing."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.is_file() for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return 0
