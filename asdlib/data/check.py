"""Is a folder of recordings complete and sound? Official counts and audio headers.

Conventions: nothing here decodes audio; a header scan reads a few hundred bytes a file. Faults are
collected, not raised, and each is one line that names the file and the way out. Kinds: ``name``,
``missing``, ``surplus`` (names and counts); ``unreadable``, ``empty``, ``truncated``, ``rate``,
``channels``, ``length`` (audio).
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from asdlib.data.clips import clip_table, scan_folder
from asdlib.data.headers import BadFile, Header, read_headers
from asdlib.data.official import compare_counts, official_audio

__all__ = ["AudioFault", "CheckReport", "Fault", "check_audio", "check_folder", "summarise"]

_LENGTH_TOLERANCE = 0.001


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
    found = read_headers([f"{root}/{path}" for path in paths], jobs=jobs, on_progress=on_progress)
    faults: list[AudioFault] = []
    for path, machine, header in zip(paths, table["machine"], found, strict=True):
        bound = expected.get(machine, expected.get("*"))
        wrong = (
            _unexpected(header, sample_rate, channels, bound)
            if isinstance(header, Header)
            else header
        )
        if wrong is not None:
            faults.append(AudioFault(path, wrong.kind, f"file '{path}' {wrong.what}"))
    return faults


def _unexpected(
    header: Header,
    sample_rate: int | None,
    channels: int | None,
    seconds: tuple[float, float] | None,
) -> BadFile | None:
    """Tell what is wrong with a sound header, None if it is as expected."""
    rate, tracks = header.rate, header.channels
    if sample_rate is not None and rate != sample_rate:
        return BadFile("rate", f"has {rate} Hz, expected {sample_rate} Hz; resample it")
    if channels is not None and tracks != channels:
        return BadFile(
            "channels", f"has {tracks} channels, expected {channels}; choose or mix channels"
        )
    if seconds is not None:
        length, (shortest, longest) = header.frames / rate, seconds
        if not shortest - _LENGTH_TOLERANCE <= length <= longest + _LENGTH_TOLERANCE:
            wanted = f"{shortest:g}" if shortest == longest else f"{shortest:g} to {longest:g}"
            return BadFile(
                "length",
                f"lasts {length:.3f} s, expected {wanted} s; fetch or record it again",
            )
    return None
