"""The clip table: one row a recording, one schema for all years, and the scan that fills it.

Conventions: a recording lies at ``<…>/<machine>/<split folder>/<file>``; the split folders are
``train``, ``test``, ``supplemental`` and, in 2021, ``source_test`` and ``target_test``. Only names
are read here, no audio; `asdlib.data.check` opens the files. Files that are not WAV or FLAC, hidden
files and ``__MACOSX`` folders are ignored; an audio file in another place or with another name is
never skipped.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from operator import attrgetter
from pathlib import Path

import pandas as pd

from asdlib.data.grammars import AUDIO_SUFFIXES, SPLIT_FOLDERS
from asdlib.data.naming import Clip, detect_year, parse_name
from asdlib.errors import DataError

__all__ = [
    "COLUMNS",
    "Clip",
    "FolderScan",
    "NameFault",
    "audio_files",
    "clip_table",
    "index_folder",
    "scan_folder",
]

COLUMNS = tuple(column.name for column in fields(Clip))
"""Columns of the clip table: the fields of `asdlib.data.naming.Clip`, in order."""

_INTEGERS = ("year", "index")
_row = attrgetter(*COLUMNS)
_order = attrgetter("machine", "section", "split", "clip", "path")


@dataclass(frozen=True, slots=True)
class NameFault:
    """An audio file whose name or place does not fit; ``path`` is relative to the root."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class FolderScan:
    """What a scan found: the records in table order, and the files that do not fit."""

    year: int
    clips: list[Clip]
    faults: list[NameFault]


def clip_table(clips: Iterable[Clip]) -> pd.DataFrame:
    """Return the table of the given records.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`; ``year`` and ``index`` int64, the others str (dtype object, never NaN);
        sorted by machine, section, split, clip (and path) in code-point order; RangeIndex.
    """
    rows = [_row(clip) for clip in sorted(clips, key=_order)]
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)
    return pd.DataFrame(
        {
            name: pd.Series(values, dtype="int64" if name in _INTEGERS else "object")
            for name, values in zip(COLUMNS, columns, strict=True)
        }
    )


def index_folder(root: str | Path, *, year: int | None = None) -> pd.DataFrame:
    """Index a folder in an official layout into the clip table.

    Parameters
    ----------
    root
        Any level of the layout: a split folder, a machine folder, the parent of several machines,
        or anything above it.
    year
        Year of the file names; by default what the names show
        (`asdlib.data.naming.detect_year`, which also says when the year must be given).

    Returns
    -------
    pandas.DataFrame
        See `clip_table`; ``path`` is relative to ``root``.

    Raises
    ------
    DataError
        If the root does not exist, is not a folder or holds no audio, if an audio file lies outside
        the layout or its name does not fit, or if one split of a machine holds a clip twice.
    """
    scan = scan_folder(root, year=year)
    if scan.faults:
        more = f" (and {len(scan.faults) - 1} more such files)" if len(scan.faults) > 1 else ""
        raise DataError(scan.faults[0].message + more)
    return clip_table(scan.clips)


def scan_folder(root: str | Path, *, year: int | None = None) -> FolderScan:
    """Scan a folder as `index_folder` does, but collect the faulty names instead of stopping.

    Raises
    ------
    DataError
        If the root does not exist, is not a folder or holds no audio, or if no year fits it.
    """
    base = Path(root)
    found = audio_files(base)
    if not found:
        kinds = " or ".join(AUDIO_SUFFIXES)
        raise DataError(
            f"folder '{base}' holds no {kinds} file; give a folder with <machine>/train or "
            "<machine>/test below it"
        )
    faults: list[NameFault] = []
    placed: list[tuple[str, str, str, str]] = []
    here = base.resolve()
    for folder, names in found:
        # The root itself may be the split or the machine folder, so its own parents count too.
        parts = (*here.parts, *folder.split("/")) if folder else here.parts
        prefix = f"{folder}/" if folder else ""
        if len(parts) < 2 or parts[-1] not in SPLIT_FOLDERS:
            where = f"'{folder}'" if folder else f"the root '{base}'"
            message = (
                f"lies in {where}, not in a split folder of a machine "
                f"({', '.join(SPLIT_FOLDERS)}); move it to <machine>/<split>"
            )
            faults += [
                NameFault(prefix + name, f"file '{prefix}{name}' {message}") for name in names
            ]
            continue
        placed += [(parts[-2], parts[-1], name, prefix + name) for name in names]
    if year is None and placed:
        year = detect_year(f"{split}/{name}" for _, split, name, _ in placed)
    clips: list[Clip] = []
    for machine, split, name, path in placed:
        try:
            clips.append(parse_name(name, machine=machine, split=split, year=year, path=path))
        except DataError as error:
            faults.append(NameFault(path, str(error)))
    clips, twice = _without_repeats(sorted(_subsets_by_machine(clips, here), key=_order))
    return FolderScan(year or 0, clips, sorted(faults + twice, key=attrgetter("path")))


def audio_files(root: Path) -> list[tuple[str, list[str]]]:
    """List the folders that hold audio: (POSIX path relative to ``root``, file names), sorted."""
    if not root.exists():
        raise DataError(
            f"folder '{root}' does not exist; give the folder that holds the recordings"
        )
    if not root.is_dir():
        raise DataError(f"'{root}' is a file; give the folder that holds the recordings")
    found: list[tuple[str, list[str]]] = []
    seen: set[str] = set()
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        place = os.path.join(root, folder) if folder else str(root)  # noqa: PTH118
        # Symbolic links to data are common; a loop of links must still end.
        real = os.path.realpath(place)
        if real in seen:
            continue
        seen.add(real)
        names: list[str] = []
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith(".") or name == "__MACOSX":
                        continue
                    if entry.is_dir():
                        waiting.append(f"{folder}/{name}" if folder else name)
                    elif name.lower().endswith(AUDIO_SUFFIXES):
                        names.append(name)
        except OSError as error:
            raise DataError(
                f"folder '{place}' cannot be read ({error.strerror}); check its permissions"
            ) from error
        if names:
            found.append((folder, sorted(names)))
    return sorted(found)


def _subsets_by_machine(clips: list[Clip], root: Path) -> list[Clip]:
    """From 2023 on, let a whole machine be of the subset that its folder or test names show.

    The training names of a first-shot machine do not tell, its blind test names do.
    """
    if not clips or clips[0].year < 2023:
        return clips
    subsets = {"dev_data": "development", "eval_data": "evaluation"}
    above = next((subsets[part] for part in reversed(root.parts) if part in subsets), "")
    if above:
        return [replace(clip, subset=above) for clip in clips]
    blind = {clip.machine for clip in clips if clip.split == "test" and not clip.label}
    return [
        replace(clip, subset="evaluation")
        if clip.machine in blind and "dev_data/" not in clip.path
        else clip
        for clip in clips
    ]


def _without_repeats(clips: list[Clip]) -> tuple[list[Clip], list[NameFault]]:
    """Drop clips that one split of a machine holds twice, and name them."""
    kept: list[Clip] = []
    faults: list[NameFault] = []
    first: dict[tuple[str, str, str], str] = {}
    for clip in clips:
        key = (clip.machine, clip.split, clip.clip)
        if key in first:
            message = (
                f"file '{clip.path}' repeats '{first[key]}' ({clip.machine}, {clip.split}); "
                "keep one of them, or index the folders by themselves"
            )
            faults.append(NameFault(clip.path, message))
        else:
            first[key] = clip.path
            kept.append(clip)
    return kept, faults
