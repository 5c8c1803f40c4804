"""Headers of audio files: one short look at each, in threads, no audio decoded.

Plain 16-bit PCM in a RIFF file, which is what all DCASE recordings are, is understood here; its
header takes one read of some hundred bytes. Everything else is opened by libsndfile.
"""

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from typing import NamedTuple

import soundfile

_CHUNK = 256
_AGAIN = "fetch or record it again"


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a sound file says, and the state of the file."""

    rate: int
    """Sample rate in Hz."""
    channels: int
    frames: int
    """Number of samples in each channel."""
    pcm16_at: int | None
    """Bytes before the first sample, where the samples are little-endian 16-bit integers, one after
    the other; None otherwise."""
    size: int
    mtime_ns: int
    """Time of the file's last change."""


class BadFile(NamedTuple):
    """Why a file is no sound recording: the kind of fault, and a text to follow its name."""

    kind: str
    what: str


def read_headers(
    paths: Sequence[str],
    *,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Iterator[Header | BadFile]:
    """Read the headers of files, in their order, in `jobs` threads.

    By default twice as many as processors, at most 16. ``on_progress(done, total)`` is called after
    every 256 files.
    """

    def scan(start: int) -> list[Header | BadFile]:
        return [read_header(path) for path in paths[start : start + _CHUNK]]

    with ThreadPoolExecutor(jobs or min(16, 2 * (os.cpu_count() or 1))) as pool:
        done = 0
        for found in pool.map(scan, range(0, len(paths), _CHUNK)):
            yield from found
            done += len(found)
            on_progress(done, len(paths))


def read_header(path: str) -> Header | BadFile:
    """Read the header of one file; what is wrong with it comes back, nothing is raised."""
    try:
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123
            state = os.fstat(stream.fileno())
            if state.st_size == 0:
                return BadFile("empty", f"is empty (0 bytes); {_AGAIN}")
            form, promised, at = _riff(stream, state.st_size)
    except OSError as error:
        what = f"cannot be read ({error.strerror}); check the file and its permissions"
        return BadFile("unreadable", what)
    held = state.st_size - at
    if promised == 0 and held > 0:
        what = f"has a header that was never completed (0 bytes promised); {_AGAIN}"
        return BadFile("unreadable", what)
    if promised is not None and promised > held:
        # libsndfile would silently read less.
        what = f"is truncated: its header promises {promised} bytes of audio, it holds {held}"
        return BadFile("truncated", f"{what}; {_AGAIN}")
    if promised and form:
        rate, channels = form
        frames, rest = divmod(promised, 2 * channels)
        if rest == 0:
            return Header(rate, channels, frames, at, state.st_size, state.st_mtime_ns)
    return _by_libsndfile(path, state, flac=promised is None)


def _by_libsndfile(path: str, state: os.stat_result, *, flac: bool) -> Header | BadFile:
    try:
        with soundfile.SoundFile(path) as sound:
            frames, rate, channels = sound.frames, sound.samplerate, sound.channels
            if flac and frames > 0:
                # FLAC promises no number of bytes; its last sample tells.
                sound.seek(frames - 1)
                if len(sound.read(1)) != 1:
                    return BadFile("truncated", f"ends before its {frames} samples; {_AGAIN}")
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        return BadFile("unreadable", f"is not readable as audio ({reason}); {_AGAIN}")
    if frames <= 0:
        return BadFile("empty", f"holds no audio (0 samples); {_AGAIN}")
    return Header(rate, channels, frames, None, state.st_size, state.st_mtime_ns)


def _riff(stream: FileIO, size: int) -> tuple[tuple[int, int] | None, int | None, int]:
    """Walk through the chunks of a RIFF file.

    Return (sample rate, channels) of 16-bit PCM, None for other formats; the bytes of audio that
    the ``data`` chunk promises, None if there is no such chunk; and the bytes before them.
    """
    head = stream.read(256)
    form, at = None, 12
    while head[:4] == b"RIFF" and head[8:12] == b"WAVE" and at + 8 <= size:
        chunk = head[at : at + 24]
        if at + 24 > len(head):
            stream.seek(at)
            chunk = stream.read(24)
            if len(chunk) < 8:
                break
        name, length = struct.unpack_from("<4sI", chunk)
        if name == b"data":
            return form, length, at + 8
        if name == b"fmt " and length >= 16 and len(chunk) == 24:
            kind, channels, rate, _, block, bits = struct.unpack_from("<HHIIHH", chunk, 8)
            if kind == 1 and bits == 16 and block == 2 * channels and channels and rate:
                form = rate, channels
        # Chunks are padded to an even number of bytes.
        at += 8 + length + length % 2
    return None, None, 0
