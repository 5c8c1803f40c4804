"""Is a folder of recordings complete and sound? Official counts and audio headers.

Conventions: nothing here decodes audio; a header scan reads a few hundred bytes a file. Faults are
collected, not raised, and each is one line that names the file and the way out. Kinds: ``name``,
``missing``, ``surplus`` (names and counts); ``unreadable``, ``empty``, ``truncated``, ``rate``,
``channels``, ``length`` (audio).
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import soundfile

from asdlib.data.clips import clip_table, scan_folder
from asdlib.data.official import compare_counts, official_audio

__all__ = ["AudioFault", "CheckReport", "Fault", "check_audio", "check_folder", "summarise"]

_LENGTH_TOLERANCE = 0.001
_CHUNK = 256


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong: path relative to the root, kind, and a message of one line."""

    path: str
    kind: str
    message: str


AudioFault = Fault
"""A fault of the kinds unreadable, empty, truncated, rate, channels or length."""


@dataclass(frozen=True, slots=True, eq=False)
class CheckReport:
    """What `check_folder` found.

    Attributes
    ----------
    root
        The folder.
    year
        Year of the file names; 0 if no file lies in a split folder.
    table
        The clip table of all files whose names fit.
    faults
        All faults, names first, then counts, then audio.
    """

    root: str
    year: int
    table: pd.DataFrame
    faults: tuple[Fault, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    @property
    def summary(self) -> pd.DataFrame:
        """Counts of the table, see `summarise`."""
        return summarise(self.table)

    def by_kind(self) -> dict[str, int]:
        """Return the number of faults of each kind, in the order of first occurrence."""
        return dict(Counter(fault.kind for fault in self.faults))


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Count clips per machine, section, split, domain and label.

    Returns
    -------
    pandas.DataFrame
        Columns machine, section, split, domain, label, clips (int64); sorted, RangeIndex; empty
        strings stand for what is not known.
    """
    groups = ["machine", "section", "split", "domain", "label"]
    return table.groupby(groups, sort=True).size().rename("clips").reset_index()


def check_folder(
    root: str | Path,
    *,
    year: int | None = None,
    official: bool = True,
    audio: bool = True,
    machines: Sequence[str] = (),
    sample_rate: int = 16000,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> CheckReport:
    """Check names, counts and audio headers of a folder in an official layout.

    Parameters
    ----------
    root
        Any level of the layout, see `asdlib.data.clips.index_folder`.
    year
        Year of the file names; by default what the names show.
    official
        Compare with the official counts (known for 2020 and 2022), channels and seconds of the
        year. Switch it off for data of one's own in an official layout; then one channel and any
        length are right.
    audio
        Scan the audio headers.
    machines
        Machines that must be there wherever another one is; others are compared only if present.
    sample_rate
        Expected rate in Hz.
    jobs, on_progress
        See `check_audio`.

    Returns
    -------
    CheckReport
        The table and all faults.

    Raises
    ------
    DataError
        If the root does not exist, is not a folder or holds no audio, or if no year fits it.
    """
    scan = scan_folder(root, year=year)
    table = clip_table(scan.clips)
    faults = [Fault(fault.path, "name", fault.message) for fault in scan.faults]
    channels, seconds = official_audio(scan.year) if official else (1, {})
    if official:
        counts = compare_counts(table, scan.year, machines=machines)
        faults += [Fault(path, kind, message) for kind, path, message in counts]
    if audio:
        faults += check_audio(
            root,
            table,
            sample_rate=sample_rate,
            channels=channels,
            seconds=seconds,
            jobs=jobs,
            on_progress=on_progress,
        )
    return CheckReport(str(root), scan.year, table, tuple(faults))


def check_audio(
    root: str | Path,
    table: pd.DataFrame,
    *,
    sample_rate: int | None = 16000,
    channels: int | None = 1,
    seconds: Mapping[str, tuple[float, float]] | None = None,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[AudioFault]:
    """Scan the headers of all files of a clip table, in threads.

    Parameters
    ----------
    root
        The folder that was indexed.
    table
        The clip table, or any table with columns machine and path.
    sample_rate, channels
        What every file must have, rate in Hz; None: not checked.
    seconds
        Machine → (shortest, longest) clip in seconds, ``*`` for machines that are not named; a
        deviation up to 1 ms is allowed. Default: any length but zero.
    jobs
        Threads; by default twice the number of processors, at most 16.
    on_progress
        Called as ``on_progress(done, total)`` after every 256 files.

    Returns
    -------
    list of AudioFault
        In table order, at most one a file: missing or unreadable file, broken header, no audio,
        header that promises more audio than the file holds (libsndfile would silently read less),
        wrong rate, number of channels or length. A FLAC file has no such promise; its last sample
        is decoded instead.
    """
    paths = table["path"].tolist()
    expected = seconds or {}
    bounds = [expected.get(machine, expected.get("*")) for machine in table["machine"]]
    base = str(root)

    def scan(start: int) -> list[AudioFault]:
        found = []
        for path, bound in zip(paths[start : start + _CHUNK], bounds[start:], strict=False):
            fault = _audio_fault(f"{base}/{path}", sample_rate, channels, bound)
            if fault:
                kind, what = fault
                found.append(AudioFault(path, kind, f"file '{path}' {what}"))
        return found

    workers = jobs or min(16, 2 * (os.cpu_count() or 1))
    faults: list[AudioFault] = []
    with ThreadPoolExecutor(max_workers=workers) as pool:
        starts = range(0, len(paths), _CHUNK)
        for start, found in zip(starts, pool.map(scan, starts), strict=True):
            faults += found
            if on_progress:
                on_progress(min(start + _CHUNK, len(paths)), len(paths))
    return faults


def _audio_fault(
    path: str, sample_rate: int | None, channels: int | None, seconds: tuple[float, float] | None
) -> tuple[str, str] | None:
    """Return (kind, what is wrong and the way out) of one file, None if it is sound."""
    again = "fetch or record it again"
    try:
        with open(path, "rb") as stream:  # noqa: PTH123
            size = os.fstat(stream.fileno()).st_size
            if size == 0:
                return "empty", f"is empty (0 bytes); {again}"
            promised, held = _audio_bytes(stream, size)
    except OSError as error:
        return (
            "unreadable",
            f"cannot be read ({error.strerror}); check the file and its permissions",
        )
    if promised == 0 and held > 0:
        return "unreadable", f"has a header that was never completed (0 bytes promised); {again}"
    if promised is not None and promised > held:
        return (
            "truncated",
            f"is truncated: its header promises {promised} bytes of audio, "
            f"it holds {held}; {again}",
        )
    try:
        with soundfile.SoundFile(path) as sound:
            frames, rate, tracks = sound.frames, sound.samplerate, sound.channels
            if promised is None and frames > 0:
                sound.seek(frames - 1)
                if len(sound.read(1)) != 1:
                    return "truncated", f"ends before its {frames} samples; {again}"
    except soundfile.LibsndfileError as error:
        reason = error.error_string.strip().rstrip(".")
        return "unreadable", f"is not readable as audio ({reason}); {again}"
    if frames <= 0:
        return "empty", f"holds no audio (0 samples); {again}"
    if sample_rate is not None and rate != sample_rate:
        return "rate", f"has {rate} Hz, expected {sample_rate} Hz; resample it"
    if channels is not None and tracks != channels:
        return "channels", f"has {tracks} channels, expected {channels}; choose or mix channels"
    if seconds is not None:
        length, (shortest, longest) = frames / rate, seconds
        if not shortest - _LENGTH_TOLERANCE <= length <= longest + _LENGTH_TOLERANCE:
            wanted = f"{shortest:g}" if shortest == longest else f"{shortest:g} to {longest:g}"
            return "length", f"lasts {length:.3f} s, expected {wanted} s; {again}"
    return None


def _audio_bytes(stream: BinaryIO, size: int) -> tuple[int | None, int]:
    """Return what the ``data`` chunk of a RIFF file promises and what follows it, in bytes.

    The promise is None for files that are not RIFF, or that have no data chunk.
    """
    head = stream.read(12)
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None, 0
    at = 12
    while at + 8 <= size:
        stream.seek(at)
        chunk = stream.read(8)
        length = int.from_bytes(chunk[4:8], "little")
        if chunk[:4] == b"data":
            return length, size - at - 8
        # Chunks are padded to an even number of bytes.
        at += 8 + length + length % 2
    return None, 0
