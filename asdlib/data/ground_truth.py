"""Labels and domains of the evaluation sets, and their join to clips by file name.

In the official lists 0 is normal or source, 1 is anomaly or target. Tables are joined by machine
and clip key (`asdlib.data.naming.clip_key`), never by order: two sorted lists of different files
join by order without a message.

Sources: 2020, Zenodo record 3951620, ``eval_data_list.csv``. 2021, ``ground_truth_data`` of
y-kawagu/dcase2021_task2_evaluator, commit 0c11634ba7259e4ae4a655646aebd6cd056cc523. 2022,
``ground_truth_data`` and ``ground_truth_domain`` of Kota-Dohi/dcase2022_evaluator, commit
de8719b7d35280ff3a39487c9d1003413eef7818; the later evaluators are laid out like it.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from asdlib.data.naming import clip_key
from asdlib.errors import DataError
from asdlib.files import reading

_ROW_2020 = re.compile(
    r"(?P<machine>\w[\w .+-]*)"
    r"|(?P<clip>id_(?P<id>[0-9]{2})_[0-9]{8}\.wav),"
    r"(?P<original>(?P<label>normal(?=.*,0$)|anomaly(?=.*,1$))_id_(?P=id)_[0-9]{8}\.wav),[01]"
)
_SECTION = r"^(?:id|section)_([0-9]{2})_"


def read_ground_truth(path: str | Path) -> pd.DataFrame:
    """Read ground truth: the list of 2020 if `path` is a file, else the folder of an evaluator."""
    return read_ground_truth_folder(path) if Path(path).is_dir() else read_ground_truth_2020(path)


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
        If the file cannot be read or a row has another form, contradicts itself or occurs twice.
    """
    path, machine, rows = Path(csv_path), "", []
    expected = (
        "a machine, or 'id_01_00000000.wav,original name,0|1' with the same ID and label in both"
    )
    for match in _matches(path, _ROW_2020, expected):
        machine = match["machine"] or machine
        if match["clip"]:
            rows.append((machine, *match.group("clip", "original", "label")))
    if not rows or not rows[0][0]:
        raise DataError(
            f"ground truth '{path}' lists no clip below a machine; give the list of the 2020 set"
        )
    truth = pd.DataFrame(rows, columns=["machine", "clip", "original", "label"])
    _check_unique(truth, f"'{path}'")
    return truth


def read_ground_truth_folder(folder: str | Path) -> pd.DataFrame:
    """Read labels and domains from a folder laid out like the official evaluators since 2021.

    It holds ``ground_truth_data`` and ``ground_truth_domain`` with one file
    ``ground_truth_<machine>_section_<SS>_test.csv`` per section; or it holds one folder that does.
    That of 2021 has ``ground_truth_data`` alone, and the domain before ``_test`` in its file names.

    Returns
    -------
    pandas.DataFrame
        Columns machine, clip, section, label, domain; sorted by machine, section, clip.

    Raises
    ------
    DataError
        If a folder is missing, a row has another form or section, or labels and domains do not name
        the same clips.
    """
    pairs = [
        (place / "ground_truth_data", place / "ground_truth_domain")
        for place in (Path(folder), *sorted(Path(folder).glob("*")))
    ]
    pairs = [
        (data, domain)
        for data, domain in pairs
        if data.is_dir() and (domain.is_dir() or any(data.glob("*_source_test.csv")))
    ]
    if len(pairs) != 1:
        raise DataError(
            f"ground truth '{folder}' is no folder with one pair of 'ground_truth_data' and "
            f"'ground_truth_domain' ({len(pairs)} found); give the folder of the official evaluator"
        )
    data, domain = pairs[0]
    columns = ["machine", "section", "clip"]
    if domain.is_dir():
        labels = _flags(data, "label", ["normal", "anomaly"])
        domains = _flags(domain, "domain", ["source", "target"])
    else:
        labels = _flags(data, "label", ["normal", "anomaly"], r"_(?:source|target)_test")
        domains = labels[columns].assign(domain=labels["clip"].str.split("_").str[2])
    truth = labels.merge(domains, "outer", columns)
    unlike = truth[truth.isna().any(axis=1)]
    if len(unlike):
        raise DataError(
            f"clip '{unlike['clip'].iloc[0]}' of '{unlike['machine'].iloc[0]}' is in only one of "
            f"'{data}' and '{domain}' ({len(unlike)} such clips); fetch both folders again"
        )
    truth = truth.sort_values(columns, ignore_index=True)
    return truth[["machine", "clip", "section", "label", "domain"]]


def _flags(folder: Path, column: str, words: list[str], form: str = "") -> pd.DataFrame:
    """Read all files of a folder; the flag of each clip, 0 or 1, becomes one of two words.

    `form` follows the section in the names of files and clips; without, files end in ``_test``.
    """
    rows, end = [], "" if form else "_test"
    for path in sorted(folder.glob("*.csv")):
        named = re.fullmatch(
            rf"ground_truth_(\w[\w .+-]*)_(section_([0-9]{{2}}){form}){end}\.csv", path.name
        )
        if named is None:
            raise DataError(
                f"file '{path}' is not named ground_truth_<machine>_section_<SS>_test.csv "
                "(2021: …_<domain>_test.csv); rename or remove it"
            )
        expected = f"a clip of section {named[3]}, '{named[2]}_0000.wav,0|1'"
        for match in _matches(path, re.compile(rf"({named[2]}_[\w.+-]*\.wav),([01])"), expected):
            rows.append((named[1], named[3], match[1], words[int(match[2])]))
    if not rows:
        raise DataError(f"folder '{folder}' lists no clip; give that of the official evaluator")
    flags = pd.DataFrame(rows, columns=["machine", "section", "clip", column])
    _check_unique(flags, f"'{folder}'")
    return flags


def _matches(path: Path, pattern: re.Pattern[str], expected: str) -> Iterator[re.Match[str]]:
    """Yield the matches of the rows of a CSV file that are not empty."""
    with reading(path, DataError, "fetch the official list again"):
        if path.exists() and not path.is_file():
            raise ValueError("it is no regular file")  # a device may never end
        with path.open(newline="", encoding="utf-8-sig") as lines:
            for number, cells in enumerate(csv.reader(lines), start=1):
                row = ",".join(cell.strip() for cell in cells).rstrip(",")
                match = pattern.fullmatch(row)
                if match:
                    yield match
                elif row:
                    raise ValueError(f"line {number} is {row[:80]!r}, expected {expected}")


def join_ground_truth(table: pd.DataFrame, truth: pd.DataFrame) -> pd.DataFrame:
    """Fill labels and domains of blind clips from the ground truth, by machine and file name.

    Parameters
    ----------
    table
        Any table with columns machine and clip: the clip table, a manifest, scores. Rows without
        a label are filled; rows that have one must not contradict the truth.
    truth
        Columns machine, clip, label and, from 2022 on, domain.

    Returns
    -------
    pandas.DataFrame
        A copy of ``table`` with its rows in the same order, and no empty label but of supplemental
        clips, which the truth does not list.

    Raises
    ------
    DataError
        If a blind clip is not in the truth; if the truth lists a clip, of a machine and section
        with blind clips in ``table``, that the table lacks (a part of the machines and sections may
        be joined); if either has a clip twice; or if both know a label or domain and differ.
    """
    joined = table.copy()
    for column in ("label", "domain"):
        joined[column] = joined[column].astype("object") if column in joined else ""
    blind = (joined["label"] == "").to_numpy()
    if "split" in joined:
        blind &= (joined["split"] != "supplemental").to_numpy()
    keys, known = _keys(joined), _check_unique(truth, "the ground truth")
    bare = _check_unique(joined[blind], "the table")
    surplus = known[~known.isin(keys) & _sections(known).isin(_sections(bare))]
    for unlike, what in (
        (bare[~bare.isin(known)], "not in the ground truth; give that of the same year, or remove "
         "the files"),
        (surplus, "in the ground truth but not in the table; complete the recordings or scores"),
    ):  # fmt: skip
        if len(unlike):
            shown = ", ".join("/".join(key) for key in unlike[:5])
            more = f" and {len(unlike) - 5} more" if len(unlike) > 5 else ""
            raise DataError(f"{shown}{more} {'is' if len(unlike) == 1 else 'are'} {what}")
    row_of = known.get_indexer(keys)
    there = row_of >= 0
    for column in [name for name in ("label", "domain") if name in truth]:
        said, true = joined[column].to_numpy(), truth[column].to_numpy()[row_of]
        wrong = there & (said != "") & (said != true)
        if wrong.any():
            row = int(wrong.argmax())
            raise DataError(
                f"clip '{joined['clip'].iloc[row]}' of '{keys[row][0]}' has {column} "
                f"'{said[row]}', but the ground truth says '{true[row]}'; give the ground truth "
                "of the same year"
            )
        joined[column] = np.where(there, true, said)
    return joined


def _keys(table: pd.DataFrame) -> pd.MultiIndex:
    """Return the pairs (machine, clip key) of a table, N of them."""
    return pd.MultiIndex.from_arrays([table["machine"], table["clip"].map(clip_key)])


def _check_unique(table: pd.DataFrame, what: str) -> pd.MultiIndex:
    """Return the keys of a table that must hold each clip once."""
    keys = _keys(table)
    if keys.has_duplicates:
        machine, clip = table[["machine", "clip"]].to_numpy()[keys.duplicated()][0]
        raise DataError(f"clip '{clip}' of '{machine}' is in {what} twice; keep one of them")
    return keys


def _sections(keys: pd.MultiIndex) -> pd.MultiIndex:
    """Return the pairs (machine, section) of clips, empty where a name shows no section."""
    sections = keys.get_level_values(1).str.extract(_SECTION, expand=False)
    return pd.MultiIndex.from_arrays([keys.get_level_values(0), sections.fillna("")])
