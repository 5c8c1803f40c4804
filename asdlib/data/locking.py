"""One process at a time works on a folder; any other is told so in one line."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from asdlib.errors import AsdError


@contextmanager
def only_process(
    out: Path,
    error: type[AsdError],
    doing: str = "at work on",
    *,
    lock: Path | None = None,
    wait: bool = False,
) -> Iterator[None]:
    """Hold the lock of the folder `out`, whose parents are made.

    Parameters
    ----------
    out
        Folder that only one process may write.
    error
        What to raise.
    doing
        What another process does with it, in words: "building", "writing".
    lock
        Lock file. By default ``.<name>.lock`` beside `out`, which is removed at the end; a given
        one stays.
    wait
        Wait for another process instead of refusing.

    Raises
    ------
    AsdError
        Of the class `error`, if another process holds the lock or the place cannot be written.
    """
    held = FileLock(lock or out.with_name(f".{out.name}.lock"), timeout=-1 if wait else 0)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout:
        raise error(
            f"another process is {doing} '{out}'; wait for it or choose another folder"
        ) from None
    except OSError as reason:
        raise error(
            f"'{out}' cannot be written ({reason.filename}: {reason.strerror}); choose another "
            "folder"
        ) from reason
    try:
        yield
    finally:
        if lock is None:
            with suppress(OSError):
                # Removed while still held: who waits for it sees that, and makes a new one.
                Path(held.lock_file).unlink()
        held.release()
