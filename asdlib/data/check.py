"""Is a folder of recordings complete and sound? Official counts and audio headers.

Faults are collected, not raised. Kinds: ``name``, ``missing``, ``surplus`` (names and counts);
``unreadable``, ``empty``, ``truncated``, ``rate``, ``channels``, ``length`` (audio).

What the organisers say about their data stands in ``official_counts.csv``, where each row names its
source, and in ``official_audio.csv``; ``*`` stands for any value. An archive is the smallest unit
that a user can hold (one machine: development train and test together, additional training,
evaluation test); only units that are present are judged.

Only the header of a file is read, in threads, by libsndfile.
"""

import csv
import os
import re
import stat
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import soundfile

from asdlib.data.clips import Fault, clip_table, scan_folder

RATE = 16000
"""Sample rate of all official recordings, in Hz."""
TOLERANCE = 0.001
"""Deviation of a length that is allowed, in seconds."""

_GROUP = ["subset", "machine", "section", "split", "domain", "label"]

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
    size: int
    mtime_ns: int
    """Time of the file's last change."""


class BadFile(NamedTuple):
    """Why a file is no sound recording: the kind of fault, and a text to follow its name."""

    kind: str
    what: str


def check_folder(
    root: str | Path,
    *,
    year: int | None = None,
    official: bool = True,
    jobs: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[pd.DataFrame, list[Fault]]:
    """Check names, counts and audio headers of a folder in an official layout.

    Parameters
    ----------
    root, year
        See `asdlib.data.clips.index_folder`.
    official
        Compare with the official counts (known for 2020 and 2022), channels and seconds of the
        year. Without, one channel and any length are right.
    jobs, on_progress
        See `read_headers`.

    Returns
    -------
    table
        The clip table of all files whose names fit.
    faults
        All faults, names first, then counts, then audio.

    Raises
    ------
    DataError
        If the root does not exist, is not a folder or holds no audio, or if no year fits it.
    """
    year, clips, faults = scan_folder(root, year=year)
    table = clip_table(clips)
    channels, seconds = _official_audio(year) if official else (1, {})
    if official:
        faults += compare_counts(table, year)
    paths = [f"{root}/{path}" for path in table["path"]]
    headers = read_headers(paths, jobs=jobs, on_progress=on_progress)
    for path, machine, header in zip(table["path"], table["machine"], headers, strict=True):
        bounds = seconds.get(machine, seconds.get("*", (0.0, float("inf"))))
        bad = _unexpected(header, channels, bounds) if isinstance(header, Header) else header
        if bad is not None:
            faults.append(Fault(path, bad.kind, f"file '{path}' {bad.what}"))
    return table, faults


def _unexpected(header: Header, channels: int, seconds: tuple[float, float]) -> BadFile | None:
    """Return what is wrong with a readable file, None if it is as expected."""
    if header.rate != RATE:
        return BadFile("rate", f"has {header.rate} Hz, expected {RATE} Hz; resample it")
    if header.channels != channels:
        what = f"has {header.channels} channels, expected {channels}; choose or mix channels"
        return BadFile("channels", what)
    length, (shortest, longest) = header.frames / header.rate, seconds
    if shortest - TOLERANCE <= length <= longest + TOLERANCE:
        return None
    wanted = f"{shortest:g}" if shortest == longest else f"{shortest:g} to {longest:g}"
    return BadFile("length", f"lasts {length:.3f} s, expected {wanted} s; {_AGAIN}")


def _official(name: str, year: int) -> list[dict[str, str]]:
    """Return the rows of a year of one of the two official tables."""
    with (files("asdlib.data") / name).open(encoding="utf-8") as lines:
        return [row for row in csv.DictReader(lines) if row["year"] == str(year)]


def _official_audio(year: int) -> tuple[int, dict[str, tuple[float, float]]]:
    """Return channels, and machine → (shortest, longest) clip in seconds (``*``: the other ones).

    Machines whose length is not known are left out; an unknown year is taken as one channel.
    """
    rows = _official("official_audio.csv", year)
    seconds = {
        row["machine"]: (float(row["seconds_min"]), float(row["seconds_max"]))
        for row in rows
        if row["seconds_max"]
    }
    return max((int(row["channels"]) for row in rows), default=1), seconds


def compare_counts(table: pd.DataFrame, year: int) -> list[Fault]:
    """Compare a clip table with the official counts of its year, none if they are not known.

    Each group that differs is one fault. Clips of groups that no official row covers are surplus.
    """
    counts = _official("official_counts.csv", year)
    if not counts:
        return []
    found: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    for *cells, path, index in table[[*_GROUP, "path", "index"]].itertuples(index=False):
        found[tuple(cells)].append((path, index))
    present: dict[tuple[str, str], set[str]] = defaultdict(set)
    for group in found:
        present[_unit(group)].add(group[1])
    everything = {row["machine"] for row in counts} - {"*"}
    covered: set[tuple[str, ...]] = set()
    faults: list[Fault] = []
    for official in counts:
        row, expected = [official[cell] for cell in _GROUP], int(official["clips"])
        groups = [
            group
            for group in found
            if all(want in ("*", have) for want, have in zip(row, group, strict=True))
        ]
        covered.update(groups)
        needed, here = everything if row[1] == "*" else {row[1]}, present[_unit(row)]
        clips = [clip for group in groups for clip in found[group]]
        if here and needed <= here and len(clips) != expected:
            faults.append(_difference(_text(row), clips, expected, numbered=len(groups) == 1))
    for group in sorted(found.keys() - covered):
        message = (
            f"{_text(group)}: {len(found[group])} clips that {year} does not have; "
            "remove them, or check without official counts"
        )
        faults.append(Fault(found[group][0][0].rpartition("/")[0], "surplus", message))
    return faults


def _difference(
    group: str, clips: list[tuple[str, int]], expected: int, *, numbered: bool
) -> Fault:
    """Say how many clips are missing or too many, and which where their numbers run from 0."""
    kind, way_out = "surplus", "remove the others"
    if len(clips) < expected:
        kind, way_out = "missing", "unpack or download its archive again"
    odd, which = sorted({index for _, index in clips} ^ set(range(expected))), ""
    if numbered and len(odd) == abs(len(clips) - expected):
        which = f": {', '.join(map(str, odd))}"
    message = f"{group}: {len(clips)} clips, expected {expected} ({kind}{which}); {way_out}"
    return Fault(clips[0][0].rpartition("/")[0] if clips else "", kind, message)


def _unit(group: Sequence[str]) -> tuple[str, str]:
    """Return (subset, split) of the archives that bring the group."""
    subset, split = group[0], group[3]
    # A development archive holds train and test, so that either demands the other.
    return subset, "" if subset == "development" else split


def _text(group: Sequence[str]) -> str:
    subset, machine, section, split, domain, label = group
    parts = [machine, f"section {section}", subset, split, domain, label]
    return " ".join(part for part in parts if part and "*" not in part) or "all machines"


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
        state = Path(path).stat()
        if not stat.S_ISREG(state.st_mode):
            return BadFile("unreadable", "is not an ordinary file; remove it")
        if state.st_size == 0:
            return BadFile("empty", f"is empty (0 bytes); {_AGAIN}")
        with soundfile.SoundFile(path) as sound:
            frames, rate, channels = sound.frames, sound.samplerate, sound.channels
            if _NOT_CLOSED.search(sound.extra_info):
                return BadFile("truncated", f"holds less audio than its header says; {_AGAIN}")
            if sound.format == "FLAC" and frames > 0:
                # FLAC promises no number of bytes; its last sample tells.
                sound.seek(frames - 1)
                if len(sound.read(1)) != 1:
                    return BadFile("truncated", f"ends before its {frames} samples; {_AGAIN}")
    except OSError as error:
        what = f"cannot be read ({error.strerror}); check the file and its permissions"
        return BadFile("unreadable", what)
    except (soundfile.SoundFileError, ValueError) as error:
        reason = " ".join(str(error).split(": ")[-1].split()).rstrip(".")
        return BadFile("unreadable", f"is not readable as audio ({reason}); {_AGAIN}")
    # What no recording can be, and what would take any amount of memory later.
    if not RATES[0] <= rate <= RATES[1]:
        what = f"has {rate} Hz, expected {RATES[0]} to {RATES[1]} Hz; {_AGAIN}"
        return BadFile("rate", what)
    if channels > MOST_CHANNELS:
        what = f"has {channels} channels, expected 1 to {MOST_CHANNELS}; {_AGAIN}"
        return BadFile("channels", what)
    if frames * 1000 < rate:
        what = f"holds no audio ({frames} samples, less than a millisecond); {_AGAIN}"
        return BadFile("empty", what)
    return Header(rate, channels, frames, state.st_size, state.st_mtime_ns)
