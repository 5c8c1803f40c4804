"""Score files in the official formats: read from anybody, written without loss.

Conventions
-----------
- A score folder holds ``anomaly_score_<machine>_id_XX.csv`` (2020),
  ``anomaly_score_<machine>_section_XX_{source,target}_test.csv`` (2021) or
  ``anomaly_score_<machine>_section_XX_test.csv`` (2022 to 2026), and may hold
  ``decision_result_…`` files of the same form. Files have no header; a line is
  ``file name,score``, or ``file name,0`` and ``file name,1``.
- Accepted on reading: names with and without the trailing ``_test``; the prefix ``DCASE20YYT2`` and
  the suffix ``_seed…`` of the baselines from 2023 on; CRLF, a byte-order mark, blank lines; clip
  names with folders before them (only the name itself counts).
- Refused, with file and line: everything that would be evaluated wrongly in silence.
"""

from __future__ import annotations

import csv
import io
import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import Literal

import pandas as pd

from asdlib.data.naming import clip_key, parse_name
from asdlib.errors import DataError, ScoreError
from asdlib.evaluation.metrics import check_year

Kind = Literal["anomaly_score", "decision_result"]

_COLUMN = {"anomaly_score": "anomaly_score", "decision_result": "decision"}
_FILE = re.compile(
    r"(?:anomaly_score|decision_result)_(?:DCASE20\d\dT2)?(?P<machine>[^/]+)"
    r"_(?P<form>id|section)_(?P<section>\d\d)(?P<domain>_source|_target)?"
    r"(?:_test)?(?:_seed[^/]*)?\.csv"
)


def write_text_atomic(path: str | Path, text: str) -> Path:
    """Write ``text`` to a temporary name beside ``path``, then rename it."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        # newline="" keeps "\n" on every system: the official files have no "\r".
        with partial.open("w", encoding="utf-8", newline="") as file:
            file.write(text)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def csv_text(rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV text with the line end of the official files."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def score_file_name(
    machine: str, section: str, year: int, domain: str = "", kind: Kind = "anomaly_score"
) -> str:
    """Return the official name of one score or decision file.

    Raises
    ------
    ScoreError
        2021 needs the domain, because its files are one for each domain.
    """
    if check_year(year) == 2020:
        return f"{kind}_{machine}_id_{section}.csv"
    if year == 2021:
        if domain not in ("source", "target"):
            raise ScoreError(
                f"{machine}/{section} has a clip of domain {domain!r}; the score files of 2021 "
                "are one for each domain (known: 'source', 'target')"
            )
        return f"{kind}_{machine}_section_{section}_{domain}_test.csv"
    return f"{kind}_{machine}_section_{section}_test.csv"


def _number(text: str, kind: Kind, place: str) -> float:
    try:
        value = float(text)
    except ValueError:
        what = "a score" if kind == "anomaly_score" else "0 or 1"
        raise ScoreError(
            f"{place}: '{text}' is not a number; expected 'file name,{what}' and no header line"
        ) from None
    if not math.isfinite(value):
        raise ScoreError(f"{place}: score is '{text}'; expected a finite number")
    if kind == "decision_result" and value not in (0.0, 1.0):
        raise ScoreError(f"{place}: decision is '{text}'; expected 0 or 1")
    return value


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                if any(field.strip() for field in fields):
                    yield reader.line_num, [field.strip() for field in fields]
    except UnicodeDecodeError:
        raise ScoreError(f"'{path}' is not UTF-8 text; expected lines 'file name,score'") from None
    except csv.Error as error:
        raise ScoreError(f"'{path}': {error}; expected lines 'file name,score'") from None
    except OSError as error:
        raise ScoreError(f"'{path}' cannot be read: {error.strerror}") from None


def read_score_file(path: str | Path, year: int, kind: Kind = "anomaly_score") -> pd.DataFrame:
    """Read one official score or decision file.

    Returns
    -------
    DataFrame
        ``machine``, ``section``, ``clip`` and ``anomaly_score`` (or ``decision``), in file order.

    Raises
    ------
    ScoreError
        The name has another form; the file is empty; a line has not two fields, a bad number, or
        a clip name that is foreign to the year or the section, or that came before.
    """
    path = Path(path)
    match = _FILE.fullmatch(path.name)
    form = "id" if check_year(year) == 2020 else "section"
    if match is None or match["form"] != form or (match["domain"] and year != 2021):
        domain = "source" if year == 2021 else ""
        example = score_file_name("<machine>", "XX", year, domain, kind)
        raise ScoreError(
            f"'{path}' is not named like a score file of {year}; expected '{example}': "
            "rename or remove it, or give the right year"
        )
    machine, section = match["machine"], match["section"]
    seen: dict[str, int] = {}
    rows: list[tuple[str, float]] = []
    for line, fields in _lines(path):
        place = f"'{path}' line {line}"
        if len(fields) != 2:
            raise ScoreError(f"{place} has {len(fields)} fields; expected 'file name,score'")
        value = _number(fields[1], kind, place)
        name = PureWindowsPath(fields[0]).name
        try:
            clip = parse_name(name, machine=machine, split="test", year=year)
        except DataError as error:
            raise ScoreError(f"{place}: {error}") from None
        if clip.section != section or f"_{clip.domain}" != (match["domain"] or f"_{clip.domain}"):
            raise ScoreError(
                f"{place}: clip '{name}' is not of section '{section}'"
                f"{(match['domain'] or '').replace('_', ' ')}, which the file is named for"
            )
        first = seen.setdefault(clip_key(name), line)
        if first != line:
            raise ScoreError(f"{place}: clip '{name}' already stands on line {first}")
        rows.append((name, value))
    if not rows:
        raise ScoreError(f"'{path}' is empty; expected lines 'file name,score'")
    df = pd.DataFrame(rows, columns=["clip", _COLUMN[kind]])
    if kind == "decision_result":
        df["decision"] = df["decision"].astype("int64")
    df.insert(0, "machine", machine)
    df.insert(1, "section", section)
    return df


def _find(folder: Path, kind: Kind) -> list[Path]:
    return sorted(p for p in folder.glob(f"{kind}_*.csv") if p.is_file())


def _read_folder(path: str | Path, year: int, kind: Kind) -> pd.DataFrame:
    folder = Path(path)
    check_year(year)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise ScoreError(f"'{folder}' {what}; give a folder of official score files")
    files = _find(folder, kind)
    if not files:
        domain = "source" if year == 2021 else ""
        example = score_file_name("<machine>", "XX", year, domain, kind)
        below = next((p.parent for p in sorted(folder.glob(f"**/{kind}_*.csv"))), None)
        hint = f"; the folder '{below}' has some" if below else ""
        raise ScoreError(f"'{folder}' has no score files; expected '{example}'{hint}")
    parts = [read_score_file(file, year, kind).assign(file=file.name) for file in files]
    df = pd.concat(parts, ignore_index=True)
    df["key"] = df["clip"].map(clip_key)
    # Two spellings of a file name may describe one section; two files may then hold one clip.
    twice = df.duplicated(["machine", "section", "key"])
    if twice.any():
        machine, section, key = df.loc[twice, ["machine", "section", "key"]].iloc[0]
        same = (df["machine"] == machine) & (df["section"] == section) & (df["key"] == key)
        names = " and ".join(df.loc[same, "file"])
        raise ScoreError(
            f"'{folder}': clip '{key}' of '{machine}' stands in {names}; keep one file"
        )
    df = df.drop(columns=["file", "key"])
    return df.sort_values(["machine", "section", "clip"], ignore_index=True)


def read_score_folder(path: str | Path, year: int) -> pd.DataFrame:
    """Read a folder of official score files, whoever wrote them.

    Parameters
    ----------
    path : the folder; files that are not named ``anomaly_score_*.csv`` are not read
    year : 2020 to 2026

    Returns
    -------
    DataFrame
        ``machine``, ``section``, ``clip`` (name as in the file, without folders) and
        ``anomaly_score``; sorted by these.

    Raises
    ------
    ScoreError
        No score files, or see :func:`read_score_file`.
    """
    return _read_folder(path, year, "anomaly_score")


def read_decision_folder(path: str | Path, year: int) -> pd.DataFrame | None:
    """Read the ``decision_result_*.csv`` of a folder; None if there are none.

    Returns
    -------
    DataFrame or None
        ``machine``, ``section``, ``clip`` and ``decision`` (0 or 1).
    """
    if not _find(Path(path), "decision_result"):
        return None
    return _read_folder(path, year, "decision_result")


def _write_folder(df: pd.DataFrame, path: str | Path, year: int, kind: Kind) -> list[Path]:
    column = _COLUMN[kind]
    wanted = ["machine", "section", "clip", column]
    missing = [name for name in wanted if name not in df.columns]
    if missing or df.empty:
        lack = f"lacks the column '{missing[0]}'" if missing else "has no rows"
        raise ScoreError(f"table {lack}; nothing was written (needed: {', '.join(wanted)})")
    domains = df["domain"] if year == 2021 and "domain" in df.columns else [""] * len(df)
    by_file: dict[str, dict[str, str]] = {}
    rows = zip(df["machine"], df["section"], df["clip"], df[column], domains, strict=True)
    for machine, section, clip, value, domain in rows:
        text = repr(int(value)) if kind == "decision_result" else repr(float(value))
        _number(text, kind, f"clip '{clip}' of '{machine}'")
        lines = by_file.setdefault(score_file_name(machine, section, year, domain, kind), {})
        if clip in lines:
            raise ScoreError(f"clip '{clip}' of {machine}/{section} stands twice; give it once")
        lines[clip] = text
    return [
        write_text_atomic(Path(path) / name, csv_text(sorted(lines.items())))
        for name, lines in sorted(by_file.items())
    ]


def write_score_folder(df: pd.DataFrame, path: str | Path, year: int) -> list[Path]:
    """Write official score files, one a machine and section (2021: and domain).

    Everything is checked before the first file is written; each file is written under a temporary
    name and renamed. Numbers keep full precision. Other files in the folder stay.

    Parameters
    ----------
    df : ``machine``, ``section``, ``clip``, ``anomaly_score``; for 2021 also ``domain``
    path : folder, made if absent
    year : 2020 to 2026

    Returns
    -------
    list of Path
        The files, sorted.

    Raises
    ------
    ScoreError
        No rows, a missing column, a score that is not finite, or a clip that stands twice.
    """
    return _write_folder(df, path, year, "anomaly_score")


def write_decision_folder(df: pd.DataFrame, path: str | Path, year: int) -> list[Path]:
    """Write official decision files from the column ``decision``; see `write_score_folder`."""
    return _write_folder(df, path, year, "decision_result")
