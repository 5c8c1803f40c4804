"""Transfer of one file over HTTP: resumable, patient, and never under its final name.

Bytes go to ``<name>.part``; what the server said about them goes to ``<name>.part.json``.  The
caller verifies the part and renames it.  pooch, which hashes the files elsewhere in this room,
does not do the transfer: its downloaders always begin at byte 0 and throw away what a cut
connection has brought.  httpx gives the status, the headers and the raw stream that a resumed
transfer needs.

A part is continued only if the server confirms that the file is still the same: by ``If-Range``
with a strong ETag (or the date of last change), by an equal weak ETag, or, if the server sends
none of these, by the size, in which case the caller's checksum has the last word.  Otherwise the
transfer starts again at byte 0.

Sizes are in bytes, times in seconds.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import httpx

from asdlib.data.replies import Again, Identity, check_status, span
from asdlib.errors import DownloadError

__all__ = ["DiskFullError", "Fetcher", "Retry", "disk_full", "drop_part", "part_size"]


@dataclass(frozen=True, slots=True)
class Retry:
    """How patient a transfer is.

    Attributes
    ----------
    tries : int
        Tries in a row that bring no new byte before giving up.
    first_wait, longest_wait : float
        Wait before the second try; it doubles with every try up to the longest wait.
    longest_retry_after : float
        A server that asks for a longer pause (``Retry-After``) ends the transfer.
    timeout : float
        Silence on the connection that counts as a cut.
    """

    tries: int = 5
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_retry_after: float = 900.0
    timeout: float = 30.0


def _note(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def part_size(part: Path) -> int:
    """Bytes fetched so far."""
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0


def drop_part(part: Path) -> None:
    """Forget what was fetched."""
    part.unlink(missing_ok=True)
    _note(part).unlink(missing_ok=True)


class DiskFullError(DownloadError):
    """The disk has no room left; what was fetched can be continued."""


def disk_full(error: OSError, where: Path) -> DiskFullError | None:
    """Say in one line that the disk is full; None if the error is another one."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return DiskFullError(
        f"disk full while writing {where}; free some space and call again, it goes on from here"
    )


def _write(handle: BinaryIO, chunk: bytes) -> None:
    handle.write(chunk)


class Fetcher:
    """Fetches files with one connection pool, from any number of threads.

    Parameters
    ----------
    retry : Retry
        Patience.
    stop : threading.Event, optional
        When it is set, every transfer ends at the next chunk with a `DownloadError`.
    """

    def __init__(self, retry: Retry | None = None, stop: threading.Event | None = None) -> None:
        self.retry = retry or Retry()
        self.stop = stop or threading.Event()
        self._client = httpx.Client(
            follow_redirects=True,
            timeout=self.retry.timeout,
            # Compressed on the way, the bytes could neither be counted nor resumed.
            headers={"Accept-Encoding": "identity", "User-Agent": "asdlib"},
        )

    def __enter__(self) -> Fetcher:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def json(self, url: str) -> Any:
        """Content of a JSON document.

        Raises
        ------
        DownloadError
            If it cannot be fetched or is not JSON.
        """

        def attempt() -> Any:
            response = self._client.get(url)
            check_status(response, url)
            try:
                return response.json()
            except ValueError:
                raise DownloadError(f"{url} is not JSON; check the base URL") from None

        return self._retrying(url, attempt, lambda: 0)

    def file(
        self,
        url: str,
        part: Path,
        *,
        size: int | None = None,
        verified: bool = False,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> bool:
        """Fetch a file into `part`, going on where an earlier call ended.

        Parameters
        ----------
        url : str
            Address.
        part : Path
            Where the bytes go; the folder exists.
        size : int, optional
            Size that the file must have.
        verified : bool
            Whether the caller knows a checksum.  Only then may a part be continued without the
            server's word that the file is the same.
        on_bytes : callable
            Gets the number of bytes in the part; it may fall back to 0.

        Returns
        -------
        bool
            Whether any earlier bytes were continued.

        Raises
        ------
        DownloadError
            If the file cannot be had, has another size, or the disk is full.  A part that can
            be continued is kept.
        """
        resumed, advances = False, 0

        def attempt() -> None:
            nonlocal resumed, advances
            before = part_size(part)
            positions: list[int] = []

            def watch(position: int) -> None:
                positions[:] = positions or [position]
                on_bytes(position)

            try:
                self._attempt(url, part, size, verified, watch)
            finally:
                start = positions[0] if positions else before
                resumed = resumed or start > 0
                # A server without ranges begins anew each time: that is no advance, or a
                # connection that is always cut would be tried for ever.
                advances += start == before and part_size(part) > before

        try:
            self._retrying(url, attempt, lambda: advances)
        except OSError as error:
            raise (disk_full(error, part) or DownloadError(f"{part}: {error.strerror}")) from None
        return resumed

    def _attempt(
        self,
        url: str,
        part: Path,
        size: int | None,
        verified: bool,
        on_bytes: Callable[[int], None],
    ) -> None:
        have, seen = part_size(part), Identity.read(_note(part))
        if have and ((size is not None and have > size) or not (verified or seen.is_known)):
            drop_part(part)
            have, seen = 0, Identity()
        if have and have == (size if size is not None else seen.total):
            return
        headers = {}
        if have:
            headers["Range"] = f"bytes={have}-"
            if seen.condition:
                headers["If-Range"] = seen.condition
        with self._client.stream("GET", url, headers=headers) as response:
            if response.status_code == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
                drop_part(part)
                raise Again("the server has fewer bytes than were fetched")
            check_status(response, url)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise DownloadError(f"{url} comes compressed; use a server that sends it as it is")
            start, total = span(response)
            now = Identity.of(response, total)
            if start and (start != have or seen.differs(now)):
                drop_part(part)
                raise Again("the file has changed since the last try")
            if size is not None and total is not None and total != size:
                drop_part(part)
                msg = f"{url} has {total} bytes, {size} were expected; the file has changed there"
                raise DownloadError(msg)
            self._store(response, part, start, now, size, on_bytes)
        if part_size(part) < (size or total or 0):
            raise Again("the connection ended early")

    def _store(
        self,
        response: httpx.Response,
        part: Path,
        start: int,
        now: Identity,
        size: int | None,
        on_bytes: Callable[[int], None],
    ) -> None:
        with part.open("ab" if start else "wb") as handle:
            # Written once the part is empty: the note never speaks of other bytes.
            now.write(_note(part))
            done = start
            on_bytes(done)
            for chunk in response.iter_raw():
                if self.stop.is_set():
                    raise DownloadError(f"stopped; {part} is kept, call again to go on")
                done += len(chunk)
                if size is not None and done > size:
                    break
                _write(handle, chunk)
                on_bytes(done)
        if size is not None and done > size:
            drop_part(part)
            raise DownloadError(f"{response.url} has more than the {size} bytes expected")

    def _retrying(self, url: str, attempt: Callable[[], Any], advances: Callable[[], int]) -> Any:
        """Try until it works; a try that brought new bytes does not count against it."""
        best, failures = 0, 0
        while True:
            wait: float | None = None
            try:
                return attempt()
            except Again as again:
                reason, wait = str(again), again.wait
            except httpx.TransportError as error:
                reason = str(error) or type(error).__name__
            except httpx.HTTPError as error:
                raise DownloadError(f"{url}: {error}") from None
            failures = 0 if advances() > best else failures + 1
            best = advances()
            if failures >= self.retry.tries:
                msg = f"{url}: {reason} ({failures} tries); call again to go on from here"
                raise DownloadError(msg)
            if wait is None:
                doubled = self.retry.first_wait * 2 ** max(0, failures - 1)
                wait = min(doubled, self.retry.longest_wait)
            elif wait > self.retry.longest_retry_after:
                msg = f"{url}: {reason} and asks for a pause of {wait:.0f} s; call again then"
                raise DownloadError(msg)
            if self.stop.wait(wait):
                raise DownloadError(f"stopped while waiting for {url}; call again to go on")
