"""Headers of audio files: one short look at each, in threads, no audio decoded.

Plain 16-bit PCM in a RIFF file, which is what all DCASE recordings are, is found by Python's
`wave`, so that its samples can be read as they stand; everything else is opened by libsndfile.
"""

import os
import re
import stat
import wave
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import soundfile

RATES, MOST_CHANNELS = (1_000, 1_000_000), 64

_CHUNK = 256
_AGAIN = "fetch or record it again"
_NOT_CLOSED = re.compile(r"data : \d+ \(should be \d+\)|wasn't closed properly")
"""What libsndfile notes of a RIFF file that does not hold the audio that its header promises."""


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
        state = os.stat(path)  # noqa: PTH116
        if not stat.S_ISREG(state.st_mode):
            return BadFile("unreadable", "is not an ordinary file; remove it")
        if state.st_size == 0:
            return BadFile("empty", f"is empty (0 bytes); {_AGAIN}")
        with open(path, "rb") as stream:  # noqa: PTH123
            try:
                sound = wave.open(stream)  # noqa: SIM115
            except (wave.Error, EOFError, RuntimeError):
                return _by_libsndfile(path, state)
            at, width = stream.tell(), sound.getsampwidth() * sound.getnchannels()
    except OSError as error:
        what = f"cannot be read ({error.strerror}); check the file and its permissions"
        return BadFile("unreadable", what)
    promised, held = sound.getnframes() * width, state.st_size - at
    if promised == 0 and held > 0:
        what = f"has a header that was never completed (0 bytes promised); {_AGAIN}"
        return BadFile("unreadable", what)
    if promised > held:
        # libsndfile would silently read less.
        what = f"is truncated: its header promises {promised} bytes of audio, it holds {held}"
        return BadFile("truncated", f"{what}; {_AGAIN}")
    if sound.getsampwidth() != 2 or promised == 0:
        return _by_libsndfile(path, state)
    said = (sound.getframerate(), sound.getnchannels(), sound.getnframes())
    return _plausible(Header(*said, at, state.st_size, state.st_mtime_ns))


def _by_libsndfile(path: str, state: os.stat_result) -> Header | BadFile:
    try:
        with soundfile.SoundFile(path) as sound:
            frames, rate, channels = sound.frames, sound.samplerate, sound.channels
            if _NOT_CLOSED.search(sound.extra_info):
                return BadFile("truncated", f"holds less audio than its header says; {_AGAIN}")
            if sound.format == "FLAC" and frames > 0:
                # FLAC promises no number of bytes; its last sample tells.
                sound.seek(frames - 1)
                if len(sound.read(1)) != 1:
                    return BadFile("truncated", f"ends before its {frames} samples; {_AGAIN}")
    except (soundfile.SoundFileError, ValueError) as error:
        reason = " ".join(str(error).split(": ")[-1].split()).rstrip(".")
        return BadFile("unreadable", f"is not readable as audio ({reason}); {_AGAIN}")
    return _plausible(Header(rate, channels, frames, None, state.st_size, state.st_mtime_ns))


def _plausible(header: Header) -> Header | BadFile:
    """Refuse what no recording can be, and what would take any amount of memory later."""
    if not RATES[0] <= header.rate <= RATES[1]:
        what = f"has {header.rate} Hz, expected {RATES[0]} to {RATES[1]} Hz; {_AGAIN}"
        return BadFile("rate", what)
    if not 1 <= header.channels <= MOST_CHANNELS:
        what = f"has {header.channels} channels, expected 1 to {MOST_CHANNELS}; {_AGAIN}"
        return BadFile("channels", what)
    if header.frames * 1000 < header.rate:
        what = f"holds no audio ({header.frames} samples, less than a millisecond); {_AGAIN}"
        return BadFile("empty", what)
    return header
