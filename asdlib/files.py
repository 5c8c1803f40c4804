"""Writing files and folders so that a reader sees them whole or not at all.

Everything that asdlib writes appears under its final name only when it is complete: it is written
under a hidden name beside it and then renamed. A lock keeps two processes from writing the same
thing, and a full disk is reported in one line.
"""

import errno
import hashlib
import json
import multiprocessing
import os
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import platformdirs
from filelock import FileLock, Timeout

from asdlib.errors import AsdError, RunError, reason_of

_HIDDEN = re.compile(r"/\.([^/]+?)(?:\.\d+)?\.partial(?=/|$)")
"""The hidden name of a file or folder that is not complete yet, see `hidden_name`."""

_DEEPEST = 500
_NO_PLACE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.EINVAL),
}
"""Errors that another place helps against."""


def hidden_name(path: Path) -> Path:
    """Return the hidden name beside `path` that this process writes under.

    It holds the process number, so that two processes never write into the same file.
    """
    return path.with_name(f".{path.name}.{os.getpid()}.partial")


@contextmanager
def whole_file(path: str | Path, error: type[AsdError] = RunError) -> Iterator[Path]:
    """Yield a hidden path that is renamed to `path` on success and removed on failure.

    Parent folders are made, an existing file is replaced. A full disk, or a folder that cannot be
    written, is an error of the class `error`.
    """
    path = Path(path)
    partial = hidden_name(path)
    try:
        with writing(path, error):
            path.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            partial.replace(path)
    finally:
        with suppress(OSError):
            partial.unlink()


def write_text(path: str | Path, text: str, error: type[AsdError] = RunError) -> None:
    """Write `text` as UTF-8, whole or not at all; see `whole_file`."""
    write_bytes(path, text.encode(), error)


def write_bytes(path: str | Path, content: bytes, error: type[AsdError] = RunError) -> None:
    """Write `content`, whole or not at all; see `whole_file`."""
    with whole_file(path, error) as partial:
        partial.write_bytes(content)


@contextmanager
def whole_folder(
    path: str | Path, error: type[AsdError] = RunError, *, resume: bool = False
) -> Iterator[Path]:
    """Yield a hidden folder that is renamed to `path` on success.

    Parameters
    ----------
    path
        The folder to write. It must not exist, or be an empty folder.
    error
        Raised if the place cannot be written.
    resume
        Keep what an interrupted writer has left in the hidden folder, whose name then does not
        hold the process number, and leave it there on failure. The caller holds a lock.

    Raises
    ------
    AsdError
        Of the class `error`, if `path` is taken, the disk is full or the place cannot be written.
    """
    path = Path(path)
    check_named(path, error)
    if is_taken(path):
        raise error(f"'{path}' exists; choose another output folder or remove it")
    partial = path.with_name(f".{path.name}.partial") if resume else hidden_name(path)
    if not resume:
        shutil.rmtree(partial, ignore_errors=True)
    try:
        with writing(path, error):
            partial.mkdir(parents=True, exist_ok=True)
            yield partial
            if path.is_dir():
                path.rmdir()
            partial.replace(path)
    finally:
        if not resume:
            shutil.rmtree(partial, ignore_errors=True)


def remove_left(path: Path) -> None:
    """Remove what killed writers of `path` have left beside it; the caller holds its lock."""
    for left in path.parent.iterdir():
        if re.fullmatch(rf"\.{re.escape(path.name)}\.\d+\.partial", left.name):
            shutil.rmtree(left, ignore_errors=True)


def check_named(path: Path, error: type[AsdError] = RunError) -> None:
    """Refuse an output that lies too deep, has no name (``.``) or one that cannot be printed."""
    if path.name in ("", ".."):
        raise error(f"output '{path}' has no name of its own; name a folder to make, e.g. 'out'")
    if not path.name.isprintable():
        raise error(f"output {path.name!r} has characters that are not printable; rename it")
    if len(path.parts) > _DEEPEST:
        raise error(f"output '{path}' lies {len(path.parts)} folders deep; choose another place")


def is_taken(path: Path) -> bool:
    """Return whether something lies at `path`; a link does, an empty folder does not."""
    if path.is_symlink():
        return True
    return os.path.lexists(path) and (not path.is_dir() or any(path.iterdir()))


@contextmanager
def writing(path: Path, error: type[AsdError]) -> Iterator[None]:
    """Report a full disk or a place that cannot be written as one line of the class `error`.

    A file within a hidden folder is named as it would be called in the end.
    """
    try:
        yield
    except OSError as reason:
        final = _HIDDEN.sub(r"/\1", str(path))
        if is_disk_full(reason):
            raise error(
                f"the disk of '{final}' is full; free some room or choose another place; nothing "
                "half-written was left"
            ) from reason
        hidden = reason.errno == errno.ENOENT and _HIDDEN.search(str(reason.filename))
        if hidden or reason.errno in _NO_PLACE:
            raise error(
                f"'{final}' cannot be written ({reason.strerror}); choose another place"
            ) from reason
        raise


@contextmanager
def reading(file: Path, error: type[AsdError], way_out: str) -> Iterator[None]:
    """Report a file that cannot be read, or is damaged, as one line of the class `error`.

    `way_out` says what to do about a damaged file; one without permission is not damaged.
    """
    try:
        yield
    except ImportError:  # of a package that is not installed: no fault of the file
        raise
    except Exception as reason:  # whatever is wrong with a file, it is one line
        file = Path(getattr(reason, "filename", None) or file)
        way_out = "check it and its permissions" if isinstance(reason, OSError) else way_out
        raise error(f"'{file}' cannot be read ({reason_of(reason)}); {way_out}") from reason


def read_json(file: Path, error: type[AsdError], way_out: str) -> dict[str, Any]:
    """Read a JSON object; see `reading` for what is reported."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    with reading(file, error, way_out):
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)
        if not isinstance(content, dict):
            raise ValueError("it holds no JSON object")
    return content


def check_regular(folder: Path) -> None:
    """Refuse, by a `ValueError`, pipes and devices in a folder: to read them may never end."""
    for file in sorted(folder.iterdir()) if folder.is_dir() else ():
        if file.exists() and not (file.is_file() or file.is_dir()):
            raise ValueError(f"{file.name} is no regular file")


def is_disk_full(error: BaseException | None) -> bool:
    """Return whether `error` means that a disk or a quota has no room left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def only_process(
    path: Path,
    error: type[AsdError] = RunError,
    doing: str = "at work on",
    *,
    lock: Path | None = None,
    wait: bool = False,
) -> Iterator[None]:
    """Hold the lock of `path`, a file or folder that only one process may write.

    An error of the class `error` says that another process is `doing` something with it, such as
    "building", or that the place cannot be written; with `wait`, the other process is waited for.
    The lock file, by default ``.<name>.lock`` beside `path`, is removed at the end.
    """
    check_named(path, error)
    held = FileLock(lock or path.with_name(f".{path.name}.lock"), timeout=-1 if wait else 0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout:
        raise error(
            f"another process is {doing} '{path}'; wait for it or choose another folder"
        ) from None
    except OSError as reason:
        raise error(
            f"'{path}' cannot be written ({reason.filename}: {reason.strerror}); choose another "
            "folder"
        ) from reason
    try:
        yield
    finally:
        with suppress(OSError):
            # Removed while still held: whoever waits sees that and makes a new one.
            Path(held.lock_file).unlink()
        held.release()


def cache_folder() -> Path:
    """Return the user's cache folder of this package, or ``$ASDLIB_CACHE``."""
    named = os.environ.get("ASDLIB_CACHE")
    return Path(named) if named else platformdirs.user_cache_path("asdlib")


def path_key(path: Path) -> str:
    """Return a short name for a path, the same however the path is written."""
    return hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:24]


def lock_file(path: Path) -> Path:
    """Return the lock file for work on `path`, in the cache folder and not beside the result."""
    folder = cache_folder() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"the cache folder '{folder}' cannot be written ({error.strerror}); set "
            "ASDLIB_CACHE to one that can"
        ) from error
    return folder / f"{path_key(path)}.lock"


def end_with_parent() -> None:
    """End this worker process as soon as the process that started it is gone.

    A parent that was killed cannot end its workers; they would finish what they do and then wait
    for ever. What they were writing has no final name yet, as after any kill.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, name="end with parent", daemon=True).start()
