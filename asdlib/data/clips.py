"""The clip table: one row per recording, one schema for all years, and the scan that fills it.

A recording lies at ``<…>/<machine>/<split folder>/<file>``; the split folders are those of
`asdlib.data.naming.SPLIT_FOLDERS`. Only names are read here, no audio. Files that are not WAV or
FLAC, hidden files and ``__MACOSX`` folders are ignored; an audio file in another place or with
another name is never skipped.
"""

import os
import re
from collections.abc import Hashable, Iterable, Iterator
from dataclasses import fields, replace
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from asdlib.data.naming import (
    AUDIO_SUFFIXES,
    SPLIT_FOLDERS,
    Clip,
    clip_key,
    detect_year,
    parse_name,
    plain_name,
)
from asdlib.errors import DataError
from asdlib.files import reading

COLUMNS = tuple(column.name for column in fields(Clip))
"""Columns of the clip table: the fields of `asdlib.data.naming.Clip`, in order."""

_OFFICIAL = re.compile(r"(?:^|/)(?:(?:normal_|anomaly_)?id|section)_[0-9]{2}_[^/]*$")
_SUBSETS = {"dev_data": "development", "eval_data": "evaluation"}
_order = attrgetter("machine", "section", "split", "clip", "path")


class Fault(NamedTuple):
    """One thing that is wrong with a folder: path relative to it, kind, and a line of text."""

    path: str
    kind: str
    message: str


def clip_table(clips: Iterable[Clip]) -> pd.DataFrame:
    """Return the table of the given records.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`; ``year`` and ``index`` int64, the others str (dtype object, never NaN);
        sorted by machine, section, split, clip (and path) in code-point order; RangeIndex.
    """
    rows = map(attrgetter(*COLUMNS), sorted(clips, key=_order))
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype="object")
    return table.astype({"year": "int64", "index": "int64"})


def summarise(table: pd.DataFrame) -> pd.DataFrame:
    """Count the clips of a clip table per machine, section, split, domain and label.

    Returns
    -------
    pandas.DataFrame
        Those columns and clips (int64); sorted, RangeIndex.
    """
    groups = ["machine", "section", "split", "domain", "label"]
    return table.groupby(groups, sort=True).size().rename("clips").reset_index()


def index_folder(root: str | Path, *, year: int | None = None) -> pd.DataFrame:
    """Index a folder in an official layout into the clip table.

    Parameters
    ----------
    root
        Any level of the layout, from a split folder to anything above several machines.
    year
        Year of the file names; by default what they show (`asdlib.data.naming.detect_year`).

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
    _, clips, faults = scan_folder(root, year=year)
    if faults:
        more = f" (and {len(faults) - 1} more such files)" if len(faults) > 1 else ""
        raise DataError(faults[0].message + more)
    return clip_table(clips)


def index_any_folder(root: str | Path) -> pd.DataFrame:
    """Index all WAV and FLAC files below a folder, whatever their names, for pre-training.

    Returns
    -------
    pandas.DataFrame
        See `clip_table`; ``clip`` and ``path`` are the path relative to ``root``, ``machine`` is
        ``audio``, ``section`` ``00``, ``split`` ``train``, ``year`` 0 (no grammar applies);
        ``domain`` and ``label`` are empty, ``index`` counts in order of the paths.

    Raises
    ------
    DataError
        If the root does not exist, is not a folder or holds no audio.
    """
    paths = sorted(_audio_paths(Path(root)))
    if odd := next((path for path in paths if not path.isprintable()), None):
        raise DataError(f"file {odd!r} has a control character in its name; rename or remove it")
    return clip_table(
        Clip(path, 0, "development", "train", "audio", "00", "", "", index, "", path)
        for index, path in enumerate(paths)
    )


def index_own_folder(root: str | Path) -> pd.DataFrame:
    """Index recordings of one's own: official names as `index_folder` does, and any others.

    Of others, files below a folder ``test`` or ``anomaly`` are test clips, the latter anomalous;
    the rest are normal training clips of section 00 of a machine that is called as `root` is.
    ``labels.csv`` in `root` may say otherwise: a column ``file``, the path relative to `root`, and
    any of ``label`` (normal, anomaly or empty), ``machine``, ``section`` (two digits) and ``split``
    (train or test). Where no clip is left for the test, every fifth one becomes a test clip.

    Returns
    -------
    pandas.DataFrame
        See `clip_table`; ``clip`` is a name of 2020, numbered in order of the paths.

    Raises
    ------
    DataError
        If the root holds no audio, or ``labels.csv`` names what is not there or not allowed.
    """
    root = Path(root)
    paths = sorted(_audio_paths(root))
    if any(_OFFICIAL.search(path) for path in paths):
        return index_folder(root)
    said = _own_labels(root / "labels.csv", paths)
    clips = []
    for i, path in enumerate(paths):
        folders, own = path.split("/")[:-1], said.get(path, {})
        label = own.get("label", "anomaly" if "anomaly" in folders else "normal")
        split = own.get("split") or ("test" if label != "normal" or "test" in folders else "train")
        if label != "normal" and split == "train":
            raise DataError(
                f"'{path}' is not normal and marked for training in labels.csv; let it be a test"
            )
        section = own.get("section") or "00"
        machine = plain_name(own.get("machine") or root.resolve().name, f"machine of '{path}'")
        name = f"{label}_id_{section}_{i:08d}.wav".removeprefix("_")
        place = (name, 2020, "development", split, machine, section, "source", label)
        clips.append(Clip(*place, i, "", path))
    if all(clip.split == "train" for clip in clips):
        clips[4::5] = [replace(clip, split="test") for clip in clips[4::5]]
    return clip_table(clips)


def _own_labels(file: Path, paths: list[str]) -> dict[Hashable, dict[Hashable, str]]:
    """Read what ``labels.csv`` says of each file, if it is there: path → column → value."""
    if not file.exists():
        return {}
    allowed = {
        "file": "|".join(map(re.escape, paths)),
        "label": "normal|anomaly|",
        "split": "train|test|",
        "section": "[0-9]{2}|",
        "machine": ".*",
    }
    with reading(file, DataError, "write it as CSV"):
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
        if "file" not in table or set(table) > set(allowed):
            raise ValueError(
                f"its columns are {', '.join(map(str, table))}, expected {', '.join(allowed)}"
            )
        for column in map(str, table):
            wrong = table[column][~table[column].str.fullmatch(allowed[column])].tolist()
            if wrong:
                raise ValueError(f"{column} '{wrong[0]}' is not there or not allowed")
        return table.set_index("file", verify_integrity=True).to_dict("index")


def scan_folder(
    root: str | Path, *, year: int | None = None
) -> tuple[int, list[Clip], list[Fault]]:
    """Scan a folder as `index_folder` does, but collect the faulty names instead of stopping.

    Return the year of the file names (0 if no file lies in a split folder), the records in the
    order of the clip table, and the files whose names or places do not fit.
    """
    # The root itself may be the split or the machine folder, so its own parents count too.
    above = Path(root).resolve().parts
    faults: list[Fault] = []
    placed: list[tuple[str, str, str, str]] = []
    for path in _audio_paths(Path(root)):
        *folders, name = path.split("/")
        machine, split = ("", *above, *folders)[-2:]
        if split in SPLIT_FOLDERS:
            placed.append((machine, split, name, path))
            continue
        message = (
            f"file '{path}' does not lie in a split folder of a machine "
            f"({', '.join(SPLIT_FOLDERS)}); move it to <machine>/<split>"
        )
        faults.append(Fault(path, "name", message))
    if year is None and placed:
        year = detect_year(f"{machine}/{split}/{name}" for machine, split, name, _ in placed)
    clips: list[Clip] = []
    for machine, split, name, path in placed:
        try:
            clips.append(parse_name(name, machine=machine, split=split, year=year, path=path))
        except DataError as error:
            faults.append(Fault(path, "name", str(error)))
    if year and year >= 2023:
        clips = _with_subsets(clips, above)
    first: dict[tuple[str, str, str], Clip] = {}
    for clip in sorted(clips, key=_order):
        kept = first.setdefault((clip.machine, clip.split, clip_key(clip.clip)), clip)
        if kept is not clip:
            message = (
                f"file '{clip.path}' repeats '{kept.path}' ({clip.machine}, {clip.split}); "
                "keep one of them, or index the folders by themselves"
            )
            faults.append(Fault(clip.path, "name", message))
    return year or 0, list(first.values()), sorted(faults)


def has_recordings(root: Path) -> bool:
    """Return whether there is any audio file below a folder."""
    try:
        return next(_audio_paths(root), None) is not None
    except DataError:
        return False


def _audio_paths(root: Path) -> Iterator[str]:
    """Yield the POSIX paths of all audio files, relative to `root`; refuse a root without any."""
    if not root.is_dir():
        what = f"'{root}' is a file" if root.exists() else f"folder '{root}' does not exist"
        raise DataError(f"{what}; give the folder that holds the recordings")
    seen: set[str] = set()
    empty = True
    for place, folders, names in os.walk(root, onerror=_unreadable, followlinks=True):
        # Symbolic links to data are common; a loop of links must still end.
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__MACOSX")
        prefix = Path(place).relative_to(root).as_posix() + "/"
        # A folder that is called like a recording is one that cannot be read.
        for name in sorted([*names, *folders]):
            if name.lower().endswith(AUDIO_SUFFIXES) and not name.startswith("."):
                empty = False
                yield prefix.removeprefix("./") + name
    if empty:
        raise DataError(
            f"folder '{root}' holds no {' or '.join(AUDIO_SUFFIXES)} file; give the folder that "
            "holds the recordings"
        )


def _unreadable(error: OSError) -> None:
    raise DataError(
        f"folder '{error.filename}' cannot be read ({error.strerror}); check its permissions"
    ) from error


def _with_subsets(clips: list[Clip], above: tuple[str, ...]) -> list[Clip]:
    """Let the folder, else the blind test names of a first-shot machine, decide on its subset."""
    blind = {clip.machine for clip in clips if clip.split == "test" and not clip.label}
    found = []
    for clip in clips:
        folders = (*above, *clip.path.split("/")[:-1])
        subset = next((_SUBSETS[part] for part in reversed(folders) if part in _SUBSETS), "")
        subset = subset or ("evaluation" if clip.machine in blind else clip.subset)
        found.append(replace(clip, subset=subset))
    return found
