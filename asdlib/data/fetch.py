"""Transfer of one file over HTTP that goes on where a connection was cut.

The checksum that the caller computes afterwards is the judge of what was fetched. A transfer with
a known checksum is therefore continued with a plain ``Range`` request, whatever the server says
about the version of the file; one without a checksum always starts at byte 0.

Sizes are in bytes, times in seconds.
"""

import re
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing, suppress
from email.utils import parsedate_to_datetime
from typing import BinaryIO

import httpx

from asdlib.errors import DownloadError

TRIES = 5  # in a row that bring no new byte, before a transfer is given up
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # doubled with every further try
LONGEST_PAUSE = 900.0  # a server that asks for more ends the transfer
TIMEOUT = 30.0  # silence on a connection that counts as a cut
SLOWEST, PATIENCE = 1000.0, 60.0  # bytes a second that must come, once so many seconds are over
LARGEST = 64 << 30  # where no size is known

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_SPAN = re.compile(r"bytes (\d{1,15})-\d{1,15}/(?:(\d{1,15})|\*)", re.ASCII)
_NUMBER = re.compile(r"\d{1,12}", re.ASCII)

OnBytes = Callable[[int], None]


class _Again(Exception):  # noqa: N818 - a signal to try once more, not an error
    """The try failed in a way that another may mend, after the pause that the server asks for."""

    def __init__(self, reason: str, pause: float | None = None) -> None:
        super().__init__(reason)
        self.pause = pause


class Fetcher(httpx.Client):
    """Fetches files; from `mirror`, if it is given, an address that serves the same paths.

    User and password of the mirror, ``https://user:password@…``, are neither shown nor kept.
    """

    def __init__(self, mirror: str | None = None) -> None:
        url = httpx.URL() if mirror is None else _mirror(mirror)
        self.mirrored = mirror is not None
        login = (url.username, url.password) if url.userinfo else None
        # Compressed on the way, the bytes could neither be counted nor resumed.
        headers = {"Accept-Encoding": "identity", "User-Agent": "asdlib"}
        try:
            super().__init__(
                base_url=url.copy_with(userinfo=b""),
                auth=login,
                headers=headers,
                follow_redirects=True,
                timeout=TIMEOUT,
            )
        except (ImportError, ValueError, httpx.InvalidURL) as error:
            raise DownloadError(
                f"the proxy of the environment cannot be used ({error}); set HTTP_PROXY, "
                "HTTPS_PROXY and ALL_PROXY to http addresses, or to nothing"
            ) from None

    def fetch(
        self,
        url: str,
        sink: BinaryIO,
        *,
        size: int | None = None,
        resume: bool = False,
        largest: int = LARGEST,
        on_bytes: OnBytes = lambda done: None,
    ) -> bool:
        """Fetch a file of `size` bytes into `sink`, which was opened for appending.

        With `resume`, go on after the bytes in `sink`, now and after every cut. `on_bytes` is
        called with the number of bytes in `sink`, which may fall back to 0.

        Returns
        -------
        bool
            Whether any bytes of an earlier reply were continued.

        Raises
        ------
        DownloadError
            If the file cannot be had or has another size. What can be continued stays in `sink`.
        """
        if self.mirrored:
            url = f"{str(self.base_url).rstrip('/')}/{url.split('/', 3)[3]}"
        resumed, failures = False, 0
        while True:
            have = start = sink.tell()
            if not resume or have > (size or largest):
                have = start = _emptied(sink)
            if have and have == size:
                return True
            try:
                headers = {"Range": f"bytes={have}-"} if have else {}
                with closing(self._begin(url, headers)) as reply:
                    if reply.headers.get("content-range") == f"bytes */{have}":
                        return True
                    start, total = _span(reply)
                    if start != have:
                        _emptied(sink)
                    if start not in (0, have):
                        raise _Again("the server has other bytes than were asked for")
                    if (total or 0) > largest or (size and total and total != size):
                        _emptied(sink)
                        raise DownloadError(
                            f"{url} has {total} bytes, {size or f'at most {largest}'} were "
                            "expected; the file has changed there"
                        )
                    resumed = resumed or start > 0
                    self._receive(url, reply, sink, size or largest, on_bytes)
                    if sink.tell() < (size or total or 0):
                        raise _Again("the connection ended early")
                return resumed
            except (httpx.UnsupportedProtocol, httpx.InvalidURL, ValueError) as error:
                raise DownloadError(f"{url}: {error}; check the address and the base URL") from None
            except (_Again, httpx.HTTPError) as error:
                reason, pause = str(error) or type(error).__name__, getattr(error, "pause", None)
            # A server without ranges begins anew each time. That is no advance, or a connection
            # that is always cut would be retried for ever.
            failures = 0 if resume and start == have < sink.tell() else failures + 1
            if failures >= TRIES:
                raise DownloadError(f"{url}: {reason} ({failures} tries); call again to go on")
            if pause is None:
                pause = min(FIRST_WAIT * 2 ** max(0, failures - 1), LONGEST_WAIT)
            elif pause > LONGEST_PAUSE:
                raise DownloadError(
                    f"{url}: {reason} and asks for a pause of {pause:.0f} s; call again then"
                )
            time.sleep(pause)

    def _begin(self, url: str, headers: dict[str, str]) -> httpx.Response:
        """Return a reply whose body comes next; a server that is slow to begin is left behind."""
        begun: Future[httpx.Response] = Future()

        def ask() -> None:
            try:
                request = self.build_request("GET", url, headers=headers)
                begun.set_result(self.send(request, stream=True))
            except BaseException as error:
                begun.set_exception(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            return begun.result(PATIENCE)
        except TimeoutError:
            begun.add_done_callback(_discard)
            raise DownloadError(
                f"{url} does not begin within {PATIENCE:g} s; call again later to go on"
            ) from None

    def _receive(
        self, url: str, reply: httpx.Response, sink: BinaryIO, most: int, on_bytes: OnBytes
    ) -> None:
        """Write the body of a reply, up to the first chunk beyond `most` bytes."""
        since, first = time.monotonic(), sink.tell()
        on_bytes(first)
        for chunk in reply.iter_raw():
            sink.write(chunk)
            on_bytes(sink.tell())
            if sink.tell() > most:
                return
            past = time.monotonic() - since
            if past > PATIENCE and sink.tell() - first < SLOWEST * past:
                raise DownloadError(
                    f"{url} sends less than {SLOWEST / 1000:g} kB a second; call again later to go "
                    "on"
                )


def _mirror(address: str) -> httpx.URL:
    with suppress(httpx.InvalidURL, ValueError):
        url = httpx.URL(address)
        if url.host and url.scheme in ("http", "https") and not (url.query or url.fragment):
            return url
    shown = re.sub(r"^(\w+://)?.*@", r"\1***@", address, flags=re.DOTALL)
    raise DownloadError(
        f"base URL {shown!r} is not an http(s) address, e.g. https://mirror.example/asd"
    )


def _discard(late: Future[httpx.Response]) -> None:
    if late.exception() is None:
        late.result().close()


def _emptied(sink: BinaryIO) -> int:
    sink.seek(0)
    sink.truncate()
    return 0


def _span(reply: httpx.Response) -> tuple[int, int | None]:
    """Return the first byte of a reply (-1 if it does not say) and the size of the whole file."""
    code, headers = reply.status_code, reply.headers
    if code in (httpx.codes.PARTIAL_CONTENT, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE):
        match = _SPAN.fullmatch(headers.get("content-range", ""))
        return (int(match[1]), int(match[2] or 0) or None) if match else (-1, None)
    if code in _AGAIN:
        raise _Again(f"the server answers {code}", _pause(reply))
    if code != httpx.codes.OK:
        raise ValueError(f"{code} {reply.reason_phrase or 'error'}")
    if headers.get("content-encoding", "identity") != "identity":
        raise ValueError("it comes compressed")
    length = headers.get("content-length")
    return 0, int(length) if length else None


def _pause(reply: httpx.Response) -> float | None:
    """Return the pause that the server asks for: ``Retry-After``, or the end of a rate limit.

    Zenodo sends ``X-RateLimit-Reset`` (seconds since 1970) with its 429 replies.
    """
    after = reply.headers.get("retry-after", "").strip()
    reset = reply.headers.get("x-ratelimit-reset", "")
    if _NUMBER.fullmatch(after):
        return float(after)
    with suppress(ValueError, OverflowError):
        return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
    if reply.status_code == httpx.codes.TOO_MANY_REQUESTS and _NUMBER.fullmatch(reset):
        return max(0.0, float(reset) - time.time())
    return None
