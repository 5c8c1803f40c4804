"""What a server's reply says about a file: identity, span of bytes, pause, refusal.

Pure functions over `httpx.Response`, used by `asdlib.data.fetch`.  Sizes are in bytes, times in
seconds.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path

import httpx

from asdlib.errors import DownloadError

__all__ = ["Again", "Identity", "check_status", "pause", "span"]

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class Again(Exception):  # noqa: N818 - a signal to try once more, not an error
    """The try failed in a way that another try may mend.

    Parameters
    ----------
    reason : str
        What happened.
    wait : float, optional
        Pause that the server asks for.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Identity:
    """What the server said about the version of a file, None where it said nothing.

    Attributes
    ----------
    etag, modified : str or None
        Headers ``ETag`` and ``Last-Modified``.
    total : int or None
        Size of the whole file.
    """

    etag: str | None = None
    modified: str | None = None
    total: int | None = None

    @classmethod
    def of(cls, response: httpx.Response, total: int | None) -> Identity:
        """Identity of the file that a response carries."""
        return cls(response.headers.get("etag"), response.headers.get("last-modified"), total)

    @classmethod
    def read(cls, path: Path) -> Identity:
        """Read what `write` wrote; nothing is known if the file is missing or cut short."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return cls()

    def write(self, path: Path) -> None:
        """Keep the identity beside a part."""
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @property
    def is_known(self) -> bool:
        """Whether the server named the version at all."""
        return bool(self.etag or self.modified)

    @property
    def condition(self) -> str | None:
        """Value for ``If-Range``; a weak ETag is not allowed there (RFC 9110, 13.1.5)."""
        if self.etag and not self.etag.startswith("W/"):
            return self.etag
        return None if self.etag else self.modified

    def differs(self, other: Identity) -> bool:
        """Whether both cannot speak of the same bytes."""
        pairs = zip(asdict(self).values(), asdict(other).values(), strict=True)
        return any(a != b for a, b in pairs if a is not None and b is not None)


def span(response: httpx.Response) -> tuple[int, int | None]:
    """First byte and size of the whole file, as a 200 or 206 response states them.

    Raises
    ------
    Again
        If a 206 response does not say which bytes it carries.
    """
    if response.status_code == httpx.codes.PARTIAL_CONTENT:
        match = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if not match or match[1] is None:
            raise Again("the server sent a part without saying which")
        return int(match[1]), None if match[3] == "*" else int(match[3])
    length = response.headers.get("content-length")
    return 0, int(length) if length else None


def check_status(response: httpx.Response, url: str) -> None:
    """Refuse a reply that carries no file.

    Raises
    ------
    Again
        On 408, 425, 429 and the passing kinds of 5xx, with the pause asked for.
    DownloadError
        On every other error, for example 404.
    """
    code = response.status_code
    if code in _AGAIN:
        raise Again(f"the server answers {code}", pause(response))
    if code >= httpx.codes.BAD_REQUEST:
        reason = response.reason_phrase or "error"
        raise DownloadError(f"{url}: {code} {reason}; check the address and the base URL")


def pause(response: httpx.Response) -> float | None:
    """Pause that the server asks for: ``Retry-After``, else the reset time of its rate limit.

    Zenodo sends ``X-RateLimit-Reset`` (seconds since 1970) with its 429 replies.
    """
    after = response.headers.get("retry-after", "").strip()
    if after.isdigit():
        return float(after)
    if after:
        try:
            return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
        except ValueError:
            return None
    reset = response.headers.get("x-ratelimit-reset", "")
    if response.status_code == httpx.codes.TOO_MANY_REQUESTS and reset.isdigit():
        return max(0.0, float(reset) - time.time())
    return None
