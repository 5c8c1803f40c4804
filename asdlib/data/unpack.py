"""Unpacking of an archive into the official layout, safely.

An archive is checked as a whole before its first byte is written: no absolute path, no ``..``, no
link or device, no encryption, a bounded number of entries, size and ratio of compression. Then it
is unpacked into a scratch folder on the same disk, and complete folders are renamed to their final
place. A process that is killed leaves a scratch folder, which the next call removes.

Layout: ``<machine>/<split>/<clip>`` below the destination. Sizes are in bytes.
"""

import errno
import shutil
import stat
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from asdlib.data.naming import SPLIT_FOLDERS
from asdlib.errors import DownloadError
from asdlib.files import writing

__all__ = ["RefusedError", "inspect_zip", "unpack"]

MAX_ENTRIES = 200_000  # the largest official archives hold some thousands
MAX_TOTAL = 200 << 30
MAX_RATIO = 20.0  # unpacked by packed size; recorded 16-bit audio stays below 3
SLACK = 16 << 20  # unpacked size that no ratio is asked of

_LITTER = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


class RefusedError(DownloadError):
    """The archive itself is damaged or unsafe; unpacking it again cannot help."""

    def __init__(self, archive: Path, reason: str) -> None:
        super().__init__(f"{archive.name} is refused: {reason}; nothing of it was put in place")


def inspect_zip(archive: Path, machine: str) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Check every entry of an archive; return place below the destination → entry.

    Parameters as in `unpack`, which this is the first part of.

    Raises
    ------
    RefusedError
        If the archive is damaged, unsafe, too large or not in the official layout.
    """
    try:
        with zipfile.ZipFile(archive) as bundle:
            entries = bundle.infolist()
    except _BROKEN as error:
        raise RefusedError(archive, f"it is damaged ({error})") from None
    if len(entries) > MAX_ENTRIES:
        reason = f"{len(entries)} entries, at most {MAX_ENTRIES} are allowed"
        raise RefusedError(archive, reason)
    total = sum(info.file_size for info in entries)
    allowed = min(MAX_TOTAL, SLACK + MAX_RATIO * archive.stat().st_size)
    if total > allowed:
        reason = f"it unpacks to {total} bytes, at most {allowed:.0f} are allowed"
        raise RefusedError(archive, reason)
    places: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in entries:
        if reason := _unsafe(info):
            raise RefusedError(archive, f"entry {info.filename!r} {reason}")
        parts = PurePosixPath(info.filename).parts
        if info.is_dir() or _LITTER.intersection(parts) or parts[-1].startswith("._"):
            continue
        if machine in parts[:-1]:
            parts = parts[parts.index(machine) :]
        elif machine and len(parts) > 1 and parts[0] not in SPLIT_FOLDERS:
            raise RefusedError(archive, f"entry {info.filename!r} is not below '{machine}/'")
        elif machine:
            parts = (machine, *parts)
        place = PurePosixPath(*parts)
        if place in places:
            raise RefusedError(archive, f"two entries are called '{place}'")
        places[place] = info
    for place in places:
        if parent := next((parent for parent in place.parents if parent in places), None):
            raise RefusedError(archive, f"'{parent}' is a file and a folder")
    if not places:
        raise RefusedError(archive, "it holds no files")
    return places


def _unsafe(info: zipfile.ZipInfo) -> str:
    """Return why an entry must not be unpacked; empty if it may."""
    name = info.filename
    parts = PurePosixPath(name).parts
    drive_or_control = name[1:2] == ":" or any(ord(letter) < 32 for letter in name)
    if not parts or parts[0] == "/" or ".." in parts or "\\" in name or drive_or_control:
        return "points outside the folder or has no valid name"
    if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or a device"
    return "is encrypted" if info.flag_bits & 0x1 else ""


def unpack(
    archive: Path,
    destination: Path,
    machine: str,
    scratch: Path,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Unpack an archive below `destination`.

    Parameters
    ----------
    archive
        A zip archive whose checksum was verified.
    destination
        For example ``<root>/dcase2020/dev_data``.
    machine
        Machine folder that the files must be in; empty: the paths are taken as they are.
    scratch
        Folder for the work in progress, on the same disk; what an interrupted call left there is
        removed.
    on_bytes
        Called with the bytes written so far and those to write.

    Returns
    -------
    dict
        Folder below `destination` → number of files put there.

    Raises
    ------
    RefusedError
        If the archive is damaged or unsafe.
    DownloadError
        If the disk is full or the folder cannot be written. In no case is anything half-written
        left under a final name.
    """
    places = inspect_zip(archive, machine)
    total, done = sum(info.file_size for info in places.values()), 0
    try:
        with writing(destination, DownloadError):
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            free = shutil.disk_usage(scratch).free
            if total > free:
                raise DownloadError(
                    f"{archive.name} unpacks to {total} bytes, {free} are free; free some room "
                    "and call again"
                ) from OSError(errno.ENOSPC, "too little room")
            with zipfile.ZipFile(archive) as bundle:
                for place, info in places.items():
                    target = scratch / place
                    target.parent.mkdir(parents=True, exist_ok=True)
                    # "x": on a disk that ignores case, two names may be one file.
                    with bundle.open(info) as source, target.open("xb") as sink:
                        shutil.copyfileobj(source, sink, 1 << 20)
                    done += info.file_size
                    on_bytes(done, total)
            _install(scratch, destination)
    except _BROKEN as error:
        raise RefusedError(archive, f"it is damaged ({error})") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return dict(Counter(place.parent.as_posix() for place in places))


def _install(source: Path, destination: Path) -> None:
    """Rename complete folders; merge only where a folder of that name is there already."""
    destination.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        target = destination / path.name
        if path.is_dir() and target.is_dir():
            _install(path, target)
        else:
            path.replace(target)
