"""Headers of audio files: one short look at each, in threads, no audio decoded.

Plain 16-bit PCM in a RIFF file, which is what all DCASE recordings are, is understood here; its
header takes one read of some hundred bytes. Everything else is opened by libsndfile.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO

import soundfile

_CHUNK = 256
_AGAIN = "fetch or record it again"


@dataclass(frozen=True, slots=True)
class Header:
    """What the header of a sound file says, and the state of the file.

    Attributes
    ----------
    rate
        Sample rate in Hz.
    channels, frames
        Number of channels, and of samples in each.
    pcm16_at
        Bytes before the first sample, where the samples are little-endian 16-bit integers, one
        after the other; None otherwise.
    size, mtime_ns
        Bytes of the file and time of its last change.
    """

    rate: int
    channels: int
    frames: int
    pcm16_at: int | None
    size: int
    mtime_ns: int


@dataclass(frozen=True, slots=True)
class BadFile:
    """Why a file is no sound recording.

    Attributes
    ----------
    kind
        unreadable, empty or truncated.
    what
        What is wrong and the way out, to follow the name of the file.
    """

    kind: str
    what: str


def read_headers(
    paths: Sequence[str],
    *,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Iterator[Header | BadFile]:
    """Read the headers of files, in their order.

    Parameters
    ----------
    paths
        The files.
    jobs
        Threads; by default twice the number of processors, at most 16.
    on_progress
        Called as ``on_progress(done, total)`` after every 256 files.
    """

    def scan(start: int) -> list[Header | BadFile]:
        return [read_header(path) for path in paths[start : start + _CHUNK]]

    workers = jobs or min(16, 2 * (os.cpu_count() or 1))
    starts = range(0, len(paths), _CHUNK)
    with ThreadPoolExecutor(max_workers=workers) as pool:
        for start, found in zip(starts, pool.map(scan, starts), strict=True):
            yield from found
            if on_progress:
                on_progress(min(start + _CHUNK, len(paths)), len(paths))


def read_header(path: str) -> Header | BadFile:
    """Read the header of one file; what is wrong with it comes back, nothing is raised."""
    try:
        with open(path, "rb", buffering=0) as stream:  # noqa: PTH123
            state = os.fstat(stream.fileno())
            if state.st_size == 0:
                return BadFile("empty", f"is empty (0 bytes); {_AGAIN}")
            form, promised, at = _riff(stream, state.st_size)
    except OSError as error:
        return BadFile(
            "unreadable",
            f"cannot be read ({error.strerror}); check the file and its permissions",
        )
    held = state.st_size - at
    if promised == 0 and held > 0:
        return BadFile(
            "unreadable", f"has a header that was never completed (0 bytes promised); {_AGAIN}"
        )
    if promised is not None and promised > held:
        # libsndfile would silently read less.
        return BadFile(
            "truncated",
            f"is truncated: its header promises {promised} bytes of audio, "
            f"it holds {held}; {_AGAIN}",
        )
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

    Returns
    -------
    form
        Sample rate and channels of 16-bit PCM, None for other formats.
    promised
        Bytes of audio that the ``data`` chunk promises; None for files that are not RIFF, or have
        no such chunk.
    at
        Bytes before the audio.
    """
    head = stream.read(256)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None, None, 0
    form = None
    at = 12
    while at + 8 <= size:
        if at + 24 > len(head):
            stream.seek(at)
            chunk = stream.read(24)
        else:
            chunk = head[at : at + 24]
        length = int.from_bytes(chunk[4:8], "little")
        if chunk[:4] == b"data":
            return form, length, at + 8
        if chunk[:4] == b"fmt " and length >= 16 and len(chunk) == 24:
            kind, channels, rate = chunk[8:10], chunk[10:12], chunk[12:16]
            n, hz = int.from_bytes(channels, "little"), int.from_bytes(rate, "little")
            # PCM, samples of 2 bytes, 16 bits of them used.
            usual = kind == b"\1\0" and chunk[20:22] == (2 * n).to_bytes(2, "little")
            if usual and chunk[22:24] == b"\x10\0" and n and hz:
                form = hz, n
        # Chunks are padded to an even number of bytes.
        at += 8 + length + length % 2
    return None, None, 0
