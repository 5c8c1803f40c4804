"""Unpacking of an archive into the official layout, safely.

An archive is checked as a whole before its first byte is written, then unpacked into a scratch
folder on the same disk, and complete folders are renamed to their final place. A process that is
killed leaves a scratch folder, which the next call removes.

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

__all__ = ["RefusedError", "unpack"]

MAX_ENTRIES = 200_000  # the largest official archives hold some thousands
MAX_TOTAL = 200 << 30
MAX_RATIO = 20.0  # unpacked by packed size; recorded 16-bit audio stays below 3
SLACK = 16 << 20  # unpacked size that no ratio is asked of

_LITTER = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


class RefusedError(DownloadError):
    """The archive itself is damaged or unsafe; unpacking it again cannot help."""

    def __init__(self, archive: Path, reason: str) -> None:
        super().__init__(f"{archive.name} is refused: {reason}; nothing of it was put in place")


def unpack(
    archive: Path,
    destination: Path,
    machine: str,
    scratch: Path,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Unpack an archive below `destination`; return folder → number of files put there.

    `machine` is the folder that the files must be in; if it is empty, the paths are taken as they
    are. `scratch` lies on the same disk; it is emptied first. `on_bytes` is called with the bytes
    written so far and those to write.

    Raises
    ------
    RefusedError
        If the archive is damaged, unsafe, too large or not in the official layout.
    DownloadError
        If the disk is full or the folder cannot be written. In no case is anything half-written
        left under a final name.
    """
    try:
        with writing(destination, DownloadError), zipfile.ZipFile(archive) as bundle:
            places = _places(archive, bundle.infolist(), machine)
            total, done = sum(info.file_size for info in places.values()), 0
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
            free = shutil.disk_usage(scratch).free
            if total > free:
                raise DownloadError(
                    f"{archive.name} unpacks to {total} bytes, {free} are free; free some room and "
                    "call again"
                ) from OSError(errno.ENOSPC, "too little room")
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


def _places(
    archive: Path, entries: list[zipfile.ZipInfo], machine: str
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Check all entries of an archive; return place below the destination → entry."""
    if len(entries) > MAX_ENTRIES:
        raise RefusedError(archive, f"{len(entries)} entries, at most {MAX_ENTRIES} are allowed")
    total = sum(info.file_size for info in entries)
    allowed = min(MAX_TOTAL, SLACK + MAX_RATIO * archive.stat().st_size)
    if total > allowed:
        raise RefusedError(
            archive, f"it unpacks to {total} bytes, at most {allowed:.0f} are allowed"
        )
    places: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in entries:
        name, parts = info.filename, PurePosixPath(info.filename).parts
        odd = "\\" in name or name[1:2] == ":" or any(ord(letter) < 32 for letter in name)
        if odd or not parts or parts[0].startswith("/") or ".." in parts:
            raise RefusedError(
                archive, f"entry {name!r} points outside the folder or has no valid name"
            )
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise RefusedError(archive, f"entry {name!r} is a link or a device")
        if info.is_dir() or _LITTER.intersection(parts) or parts[-1].startswith("._"):
            continue
        if machine in parts[:-1]:
            parts = parts[parts.index(machine) :]
        elif machine and len(parts) > 1 and parts[0] not in SPLIT_FOLDERS:
            raise RefusedError(archive, f"entry {name!r} is not below '{machine}/'")
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


def _install(source: Path, destination: Path) -> None:
    """Rename complete folders; merge only where a folder of that name is there already."""
    destination.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.iterdir()):
        target = destination / path.name
        if path.is_dir() and target.is_dir():
            _install(path, target)
        else:
            path.replace(target)
