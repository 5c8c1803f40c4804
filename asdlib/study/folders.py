"""The folder of a run: made by one process, seen whole or not at all, never overwritten."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from asdlib import files
from asdlib.errors import RunError
from asdlib.study.paths import lock_file
from asdlib.study.result import RUN_JSON, RunResult, load_run


def is_taken(out: Path) -> bool:
    """Tell whether `out` holds something already; an empty folder does not count."""
    return out.exists() and (not out.is_dir() or any(out.iterdir()))


def reuse(out: Path, key: str) -> RunResult:
    """Give the finished run in `out`.

    Raises
    ------
    RunError
        If it is none, or one with another key.
    """
    if not (out / RUN_JSON).is_file():
        raise RunError(f"'{out}' exists and holds no run; choose another --out or remove it")
    result = load_run(out)
    there = str(result.record.get("key", "none"))
    if there != key:
        raise RunError(
            f"'{out}' holds another run ({there[:12]}, this is {key[:12]}); "
            "choose another --out or remove it"
        )
    return result


@contextmanager
def only_process(out: Path, wait: bool) -> Iterator[None]:
    """Hold the lock of a run; with `wait`, wait for another process instead of refusing."""
    with files.only_process(out, RunError, lock=lock_file(out), wait=wait):
        yield


@contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Give a hidden folder beside `out` that takes its name at the end, or vanishes."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        raise RunError(
            f"'{out}' cannot be written ({error.strerror}); choose another --out"
        ) from error
    try:
        yield partial
        if out.exists():
            out.rmdir()
        partial.replace(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
