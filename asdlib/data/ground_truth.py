"""Labels and domains of the evaluation sets, and their join to clips by file name.

Conventions: in the official lists 0 is normal or source, 1 is anomaly or target. Tables are joined
by machine and clip key (`asdlib.data.naming.clip_key`), never by order: two sorted lists of
different files join by order without a message.

Sources: 2020, Zenodo record 3951620, ``eval_data_list.csv``. 2022, Kota-Dohi/dcase2022_evaluator,
commit de8719b7d35280ff3a39487c9d1003413eef7818, ``ground_truth_data`` and ``ground_truth_domain``.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import pandas as pd

from asdlib.data.naming import clip_key
from asdlib.errors import DataError

__all__ = ["join_ground_truth", "read_ground_truth_2020", "read_ground_truth_2022"]

_LABELS = ("normal", "anomaly")
_DOMAINS = ("source", "target")
_BLIND_2020 = re.compile(r"id_([0-9]{2})_[0-9]{8}\.wav")
_ORIGINAL_2020 = re.compile(r"(normal|anomaly)_id_([0-9]{2})_[0-9]{8}\.wav")
_FILE_2022 = re.compile(r"ground_truth_(.+)_section_([0-9]{2})_test\.csv")
_SECTION = re.compile(r"(?:id|section)_([0-9]{2})_")


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of the rows that are not empty."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:
            for number, row in enumerate(csv.reader(lines), start=1):
                cells = [cell.strip() for cell in row]
                if any(cells):
                    yield number, cells
    except OSError as error:
        raise DataError(
            f"ground truth '{path}' cannot be read ({error.strerror}); give the official list"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"ground truth '{path}' is not a CSV text; fetch it again") from error


def _bad_row(path: Path, number: int, cells: Sequence[str], expected: str) -> DataError:
    return DataError(
        f"ground truth '{path}' line {number} is '{','.join(cells)}', expected {expected}; "
        "fetch the official list again"
    )


def read_ground_truth_2020(csv_path: str | Path) -> pd.DataFrame:
    """Read the official list of the 2020 evaluation set.

    A row with one cell opens the block of a machine; then come ``test name,original name,0 or 1``.

    Returns
    -------
    pandas.DataFrame
        Columns machine, clip, original, label (``normal`` or ``anomaly``), in file order.

    Raises
    ------
    DataError
        If the file cannot be read, if a row has another form, if the original name contradicts the
        label or the machine ID, or if a clip occurs twice.
    """
    path = Path(csv_path)
    machine = ""
    found: dict[tuple[str, str], tuple[str, str, str, str]] = {}
    for number, cells in _rows(path):
        if not any(cells[1:]):
            machine = cells[0]
            continue
        if not machine or len(cells) != 3 or cells[2] not in ("0", "1"):
            raise _bad_row(
                path, number, cells, "a machine, or below it 'id_01_00000000.wav,original name,0|1'"
            )
        clip, original, label = cells[0], cells[1], _LABELS[int(cells[2])]
        blind, named = _BLIND_2020.fullmatch(clip), _ORIGINAL_2020.fullmatch(original)
        if blind is None or named is None or named.groups() != (label, blind[1]):
            raise _bad_row(path, number, cells, "an original name with the same ID and label")
        if (machine, clip) in found:
            raise _bad_row(path, number, cells, f"each clip of '{machine}' once")
        found[machine, clip] = (machine, clip, original, label)
    if not found:
        raise DataError(f"ground truth '{path}' lists no clip; give the list of the 2020 set")
    return pd.DataFrame(list(found.values()), columns=["machine", "clip", "original", "label"])


def read_ground_truth_2022(folder: str | Path) -> pd.DataFrame:
    """Read labels and domains from a folder laid out like the official evaluator of 2022.

    Parameters
    ----------
    folder
        Holds ``ground_truth_data`` and ``ground_truth_domain`` with one file
        ``ground_truth_<machine>_section_<SS>_test.csv`` a section; or holds one folder that does.

    Returns
    -------
    pandas.DataFrame
        Columns machine, clip, section, label, domain; sorted by machine, section, clip.

    Raises
    ------
    DataError
        If a folder or file is missing, if a row has another form or another section, or if labels
        and domains do not name the same clips.
    """
    data, domain = _evaluator_folders(Path(folder))
    labels, domains = _flags(data, _LABELS), _flags(domain, _DOMAINS)
    if unlike := sorted(labels.keys() ^ domains.keys()):
        machine, clip = unlike[0]
        have, lack = (data, domain) if unlike[0] in labels else (domain, data)
        raise DataError(
            f"clip '{clip}' of '{machine}' is in '{have}' but not in '{lack}' "
            f"({len(unlike)} such clips); fetch both folders again"
        )
    rows = [
        (machine, clip, section, label, domains[machine, clip][1])
        for (machine, clip), (section, label) in labels.items()
    ]
    rows.sort(key=lambda row: (row[0], row[2], row[1]))
    return pd.DataFrame(rows, columns=["machine", "clip", "section", "label", "domain"])


def read_ground_truth(path: str | Path) -> pd.DataFrame:
    """Read ground truth: the list of 2020 if `path` is a file, the evaluator's folder of 2022.

    Raises
    ------
    DataError
        See `read_ground_truth_2020` and `read_ground_truth_2022`.
    """
    return read_ground_truth_2022(path) if Path(path).is_dir() else read_ground_truth_2020(path)


def _evaluator_folders(folder: Path) -> tuple[Path, Path]:
    if not folder.is_dir():
        raise DataError(
            f"ground truth '{folder}' is not a folder; give the official evaluator's folder"
        )
    below = sorted(entry for entry in folder.iterdir() if entry.is_dir())
    fitting = [
        (place / "ground_truth_data", place / "ground_truth_domain")
        for place in (folder, *below)
        if (place / "ground_truth_data").is_dir() and (place / "ground_truth_domain").is_dir()
    ]
    if len(fitting) != 1:
        raise DataError(
            f"ground truth '{folder}' holds {len(fitting)} pairs of 'ground_truth_data' and "
            "'ground_truth_domain', expected one; give the official evaluator's folder"
        )
    return fitting[0]


def _flags(folder: Path, words: tuple[str, str]) -> dict[tuple[str, str], tuple[str, str]]:
    """Read (machine, clip) → (section, word of the flag) from all files of a folder."""
    found: dict[tuple[str, str], tuple[str, str]] = {}
    for path in sorted(folder.glob("*.csv")):
        named = _FILE_2022.fullmatch(path.name)
        if named is None:
            raise DataError(
                f"file '{path}' is not named ground_truth_<machine>_section_<SS>_test.csv; "
                "rename or remove it"
            )
        machine, section = named.groups()
        for number, cells in _rows(path):
            clip = cells[0]
            if len(cells) != 2 or cells[1] not in ("0", "1"):
                raise _bad_row(path, number, cells, f"'section_{section}_0000.wav,0|1'")
            if not clip.startswith(f"section_{section}_") or not clip.endswith(".wav"):
                raise _bad_row(path, number, cells, f"a clip of section {section}")
            if (machine, clip) in found:
                raise _bad_row(path, number, cells, "each clip once")
            found[machine, clip] = (section, words[int(cells[1])])
    if not found:
        raise DataError(f"folder '{folder}' lists no clip; give the official evaluator's folder")
    return found


def join_ground_truth(table: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Fill labels and domains of blind clips from the ground truth, by machine and file name.

    Parameters
    ----------
    table
        Any table with columns machine and clip: the clip table, a manifest, scores. Rows without
        a label are to be filled; columns label and domain are added if absent. Rows that have a
        label stay as they are, and must not contradict the truth.
    truth
        Columns machine, clip, label and, from 2022 on, domain.

    Returns
    -------
    pandas.DataFrame
        A copy of ``table`` with its rows in the same order and no empty label.

    Raises
    ------
    DataError
        If a blind clip is not in the truth; if the truth lists a clip, of a machine and section
        with blind clips in ``table``, that the table lacks; if either has a clip twice; or if both
        know a label or domain and differ. A machine or section that the table does not have
        at all is not an error: a part of the data may be joined.
    """
    joined = table.copy()
    for column in ("label", "domain"):
        if column not in joined:
            joined[column] = ""
    known = _by_key(truth, "the ground truth")
    keys = list(zip(joined["machine"], map(clip_key, joined["clip"]), strict=True))
    label, domain = joined["label"].tolist(), joined["domain"].tolist()
    blind = [row for row, text in enumerate(label) if not text]
    _by_key(joined.iloc[blind], "the table")
    if missing := [keys[row] for row in blind if keys[row] not in known]:
        raise DataError(
            f"{_names(missing)} not in the ground truth; give the ground truth of the same "
            "year, or remove the files"
        )
    sections = {(keys[row][0], _section(keys[row][1])) for row in blind}
    present = set(keys)
    if surplus := [
        key for key in known if key not in present and (key[0], _section(key[1])) in sections
    ]:
        raise DataError(
            f"{_names(surplus)} in the ground truth but not in the table; "
            "complete the recordings or scores"
        )
    for column, values in (("label", label), ("domain", domain)):
        if column not in truth:
            continue
        told = truth[column].tolist()
        for row, key in enumerate(keys):
            if key not in known:
                continue
            if values[row] and values[row] != told[known[key]]:
                raise DataError(
                    f"clip '{joined['clip'].iloc[row]}' of '{key[0]}' has {column} "
                    f"'{values[row]}', but the ground truth says '{told[known[key]]}'; give the "
                    "ground truth of the same year"
                )
            values[row] = told[known[key]]
    joined["label"] = pd.Series(label, index=joined.index, dtype="object")
    joined["domain"] = pd.Series(domain, index=joined.index, dtype="object")
    return joined


def _by_key(table: pd.DataFrame, what: str) -> dict[tuple[str, str], int]:
    rows: dict[tuple[str, str], int] = {}
    for row, (machine, clip) in enumerate(zip(table["machine"], table["clip"], strict=True)):
        if rows.setdefault((machine, clip_key(clip)), row) != row:
            raise DataError(f"clip '{clip}' of '{machine}' is in {what} twice; keep one of them")
    return rows


def _section(key: str) -> str:
    match = _SECTION.match(key)
    return match[1] if match else ""


def _names(keys: Sequence[tuple[str, str]]) -> str:
    """Name up to five clips in a sentence's subject, with its verb."""
    shown = ", ".join(f"{machine}/{clip}" for machine, clip in keys[:5])
    more = f" and {len(keys) - 5} more" if len(keys) > 5 else ""
    return f"{shown}{more} {'is' if len(keys) == 1 else 'are'}"
