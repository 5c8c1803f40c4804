"""Download of a dataset: fetch, verify, unpack, and remember that it is done.

Each file goes through the same steps, several files at once: transfer to a ``.part`` name,
checksum, rename, unpacking through a scratch folder, marker in the lock file, removal of the
archive.  Every step can be killed; the next call goes on from what is there.  A second call finds
the markers and does nothing.

Two processes may be told to download the same dataset: the second waits for the first and then
finds the work done.  Checksums are computed with pooch; the transfer is `asdlib.data.fetch`,
because pooch cannot resume.

Sizes are in bytes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pooch
from filelock import FileLock, Timeout

from asdlib.data.archives import Archive
from asdlib.data.fetch import DiskFullError, Fetcher, Retry, drop_part
from asdlib.data.lockfile import FilePin, LockData, LockFile, Unpacked
from asdlib.data.plan import (
    Item,
    Plan,
    archive_path,
    free_bytes,
    is_there,
    part_path,
    plan_download,
)
from asdlib.data.progress import Progress, Reporter
from asdlib.data.unpack import Limits, RefusedError, unpack
from asdlib.errors import DownloadError

__all__ = ["Item", "Limits", "Plan", "Progress", "Report", "Retry", "download", "plan_download"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a download did, by file name."""

    fetched: tuple[str, ...] = ()
    already_there: tuple[str, ...] = ()


class _Work:
    """The steps of one file."""

    def __init__(
        self, plan: Plan, base_url: str | None, keep: bool, limits: Limits, report: Reporter
    ) -> None:
        self.root, self.base_url = plan.root, base_url
        self.keep, self.limits, self.report = keep, limits, report
        self.lock = LockFile(plan.root)
        self.stop = threading.Event()

    def run(self, archive: Archive, fetcher: Fetcher) -> None:
        path = archive_path(self.root, archive)
        path.parent.mkdir(parents=True, exist_ok=True)
        expected = _expected(archive, self.lock.read())
        if not (expected and path.is_file() and self._matches(path, archive, expected)):
            self._fetch(archive, path, expected, fetcher)
        if archive.is_zip:
            self._unpack(archive, path)
        else:
            pin = FilePin(sha256=_hash(path, "sha256"), size=path.stat().st_size)
            self.lock.update(lambda data: data.files.update({archive.key: pin}))
        self.report(archive.file, "done", archive.size or 0, archive.size)

    def _matches(self, path: Path, archive: Archive, expected: str) -> bool:
        self.report(archive.file, "verify", 0, archive.size)
        algorithm, _, digest = expected.partition(":")
        return _hash(path, algorithm) == digest

    def _fetch(self, archive: Archive, path: Path, expected: str | None, fetcher: Fetcher) -> None:
        part = part_path(path)
        url = archive.url(self.base_url)

        def on_bytes(done: int) -> None:
            self.report(archive.file, "fetch", done, archive.size)

        while True:
            resumed = fetcher.file(
                url, part, size=archive.size, verified=expected is not None, on_bytes=on_bytes
            )
            if expected is None or self._matches(part, archive, expected):
                break
            found = _hash(part, expected.partition(":")[0])
            drop_part(part)
            # Bytes of two versions may have met in a part that was continued; a file that came
            # in one piece is what the server has.
            if not resumed:
                kind = expected.partition(":")[0].upper()
                msg = f"{url} has {kind} {found}, expected {expected.partition(':')[2]}"
                raise DownloadError(f"{msg}; it was deleted, try again later or another base URL")
        part.replace(path)
        drop_part(part)

    def _unpack(self, archive: Archive, path: Path) -> None:
        base = self.root / archive.dataset

        def on_bytes(done: int, total: int) -> None:
            if self.stop.is_set():
                raise DownloadError(f"stopped while unpacking {path}; call again to go on")
            self.report(archive.file, "unpack", done, total)

        try:
            placed = unpack(
                path,
                base / archive.folder,
                machine=archive.machine,
                scratch=base / ".unpack" / archive.subset / path.stem,
                limits=self.limits,
                on_bytes=on_bytes,
            )
        except RefusedError:
            path.unlink(missing_ok=True)
            raise
        done = Unpacked(checksum=f"md5:{archive.md5}", placed=placed)
        self.lock.update(lambda data: data.unpacked.update({archive.key: done}))
        if not self.keep:
            path.unlink()


def _hash(path: Path, algorithm: str) -> str:
    return str(pooch.file_hash(str(path), alg=algorithm))


def _expected(archive: Archive, data: LockData) -> str | None:
    """Checksum that a file must have; None if it is to be taken as it comes this once."""
    if archive.md5 is not None:
        return f"md5:{archive.md5}"
    pin = data.files.get(archive.key)
    return f"sha256:{pin.sha256}" if pin else None


@contextmanager
def _alone(folder: Path, report: Reporter) -> Iterator[None]:
    """Hold the lock of a dataset's folder; the system frees it if the process dies."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".download.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        report("", "wait")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _check_disk(plan: Plan, keep: bool, jobs: int) -> None:
    needed, free = plan.disk_needed(keep=keep, jobs=jobs), free_bytes(plan.root)
    if needed > free:
        msg = f"about {needed / 1e9:.1f} GB are needed in {plan.root}, {free / 1e9:.1f} GB are free"
        raise DiskFullError(f"{msg}; free some space, choose another root or fewer machines")


def download(
    plan: Plan,
    *,
    base_url: str | None = None,
    jobs: int = 2,
    keep: bool = False,
    on_progress: Callable[[Progress], None] | None = None,
    retry: Retry | None = None,
    limits: Limits | None = None,
) -> Report:
    """Carry out a plan.

    Parameters
    ----------
    plan : asdlib.data.plan.Plan
        From `plan_download`.
    base_url : str, optional
        Address of a mirror; the plan's own if None.
    jobs : int
        Files in work at once.  Zenodo answers many parallel downloads with 429.
    keep : bool
        Whether to keep the archives after unpacking.
    on_progress : callable, optional
        Gets a `Progress` at every step, from one thread at a time.
    retry : Retry, optional
        Patience with the server.
    limits : Limits, optional
        Bounds on what an archive may hold.

    Returns
    -------
    Report
        What was fetched and what was there.

    Raises
    ------
    DownloadError
        If a file cannot be fetched, verified or unpacked.  The other files are finished first,
        unless the disk is full.
    """
    if jobs < 1:
        raise DownloadError(f"jobs is {jobs}, at least 1 is needed")
    names = {item.archive.key: item.archive.file for item in plan.items}
    if not plan.missing:
        return Report(already_there=tuple(names.values()))
    report, lock = Reporter(on_progress), LockFile(plan.root)
    with _alone(plan.root / plan.dataset, report):
        for record, said in plan.records.items():
            lock.pin_record(record, said)
        data = lock.read()
        items = [
            replace(item, there=is_there(plan.root, item.archive, data)) for item in plan.items
        ]
        plan = replace(plan, items=tuple(items))
        _check_disk(plan, keep, jobs)
        work = _Work(plan, base_url or plan.base_url, keep, limits or Limits(), report)
        _run_all(work, [item.archive for item in plan.missing], jobs, retry)
        _tidy(plan.root / plan.dataset)
    missing = {item.archive.key for item in plan.missing}
    return Report(
        fetched=tuple(name for key, name in names.items() if key in missing),
        already_there=tuple(name for key, name in names.items() if key not in missing),
    )


def _run_all(work: _Work, archives: list[Archive], jobs: int, retry: Retry | None) -> None:
    failed: dict[str, DownloadError] = {}
    with Fetcher(retry, work.stop) as fetcher, ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(work.run, archive, fetcher): archive for archive in archives}
        try:
            for future in as_completed(futures):
                try:
                    future.result()
                except DiskFullError:
                    raise
                except DownloadError as error:
                    failed[futures[future].file] = error
        except BaseException:
            work.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    if failed:
        first, *others = failed
        rest = f" (failed too: {', '.join(others)})" if others else ""
        raise DownloadError(f"{failed[first]}{rest}")


def _tidy(base: Path) -> None:
    """Remove working folders that are empty."""
    for folder in (*base.glob(".unpack/*"), base / ".unpack", base / "archives"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
