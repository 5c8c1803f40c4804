"""Score files in the official formats: read, labelled, evaluated, written.

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
- Refused by :class:`~asdlib.errors.ScoreError`, with file and line: everything that would silently
  be evaluated wrongly.
- Label and domain come from file names or from ground truth, joined by name. The official
  evaluators join by sorted order, where wrong names go unnoticed. A name that contradicts the
  ground truth is refused.
- A *metrics frame* has the section rows of every machine, then its row ``section="Average"``, and
  as last row ``machine="Average", section="Average"``. Averages are arithmetic and skip NaN.
"""

import csv
import io
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PureWindowsPath
from typing import Any, Literal

import pandas as pd

from asdlib.data import (
    clip_key,
    detect_year,
    join_ground_truth,
    parse_name,
    plain_name,
    read_ground_truth,
)
from asdlib.data.sources import where_truth_is
from asdlib.errors import DataError, ScoreError
from asdlib.evaluation import metrics
from asdlib.evaluation.metrics import DOMAINS, YEARS, check_year
from asdlib.files import reading, write_text

Kind = Literal["anomaly_score", "decision_result"]

_COLUMN = {"anomaly_score": "anomaly_score", "decision_result": "decision"}
_FILE = re.compile(
    r"(?:anomaly_score|decision_result)_(?:DCASE20[0-9]{2}T2)?(?P<machine>[^/]+)"
    r"_(?P<form>id|section)_(?P<section>[0-9]{2})(?P<domain>_source|_target)?"
    r"(?:_test)?(?:_seed[^/]*)?\.csv"
)


def _file_name(
    kind: Kind, year: int, machine: str = "<machine>", section: str = "XX", domain: str = "source"
) -> str:
    if check_year(year) == 2020:
        return f"{kind}_{machine}_id_{section}.csv"
    part = f"_{domain}" if year == 2021 else ""
    return f"{kind}_{machine}_section_{section}{part}_test.csv"


def _number(text: str, kind: Kind, place: str) -> float:
    try:
        # Python's float also reads digits of other scripts, and underscores between digits.
        value = float(text if text.isascii() and "_" not in text else "")
    except ValueError:
        what = "a score" if kind == "anomaly_score" else "0 or 1"
        raise ScoreError(
            f"{place}: {text!r} is not a number; expected 'file name,{what}' and no header line"
        ) from None
    if not math.isfinite(value):
        raise ScoreError(f"{place}: score is '{text}'; expected a finite number")
    if kind == "decision_result" and value not in (0.0, 1.0):
        raise ScoreError(f"{place}: decision is '{text}'; expected 0 or 1")
    return value


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    with (
        reading(path, ScoreError, "expected lines 'file name,score' in UTF-8"),
        path.open(encoding="utf-8-sig", newline="") as file,
    ):
        reader = csv.reader(file, strict=True)
        for fields in reader:
            if any(field.strip() for field in fields):
                yield reader.line_num, [field.strip() for field in fields]


def year_of(path: str | Path) -> int:
    """Tell the year of a folder of score files from their names and those of the clips.

    The names of 2022 to 2026 cannot always be told apart (see `asdlib.data.detect_year`). Their
    metrics are the same, so the figures do not depend on it.
    """
    files = sorted(Path(path).glob("anomaly_score_*.csv"))
    if any("_source_test" in file.name or "_target_test" in file.name for file in files):
        return 2021
    clips = [PureWindowsPath(row[0]).name for file in files for _, row in _lines(file)]
    if not clips:
        read_score_folder(path, YEARS[-1])  # says what is wrong with the folder
    try:
        return detect_year(clips)
    except DataError as error:
        raise ScoreError(f"'{path}': {error}; or give the year (--year)") from None


def read_score_folder(path: str | Path, year: int, kind: Kind = "anomaly_score") -> pd.DataFrame:
    """Read a folder of official score or decision files, whoever wrote them.

    Files that are not named ``<kind>_*.csv`` are not read.

    Returns
    -------
    DataFrame
        ``machine``, ``section``, ``clip``, sorted by these, and ``anomaly_score``, or ``decision``
        (0 or 1).

    Raises
    ------
    ScoreError
        No such files; a name of another form; an empty file; a line without two fields, with a bad
        number, or with a clip that is foreign to the year or the section or occurred before.
    """
    folder, example = Path(path), _file_name(kind, year)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise ScoreError(f"'{folder}' {what}; give a folder of official score files")
    files = sorted(p for p in folder.glob(f"{kind}_*.csv") if p.is_file())
    if not files:
        deeper = sorted(p for p in folder.glob(f"**/{kind}_*.csv") if p.is_file())
        below = deeper[0].parent if deeper else None
        hint = f"; the folder '{below}' has some" if below else ""
        raise ScoreError(f"'{folder}' has no score files; expected '{example}'{hint}")
    # Two spellings of a file name may describe one section; two files may then hold one clip.
    seen: dict[tuple[str, str, str], str] = {}
    rows = [row for file in files for row in _rows(file, _lines(file), year, kind, seen)]
    df = pd.DataFrame(rows, columns=["machine", "section", "clip", _COLUMN[kind]])
    if kind == "decision_result":
        df["decision"] = df["decision"].astype("int64")
    return df.sort_values(["machine", "section", "clip"], ignore_index=True)


def _rows(
    path: Path,
    lines: Iterable[tuple[int, list[str]]],
    year: int,
    kind: Kind,
    seen: dict[tuple[str, str, str], str],
) -> list[tuple[str, str, str, float]]:
    """Check the name and the lines of a score file; `seen` collects the clips of a folder."""
    match = _FILE.fullmatch(path.name)
    form = "id" if year == 2020 else "section"
    if match is None or match["form"] != form or (match["domain"] and year != 2021):
        raise ScoreError(
            f"'{path}' is not named like a score file of {year}; expected "
            f"'{_file_name(kind, year)}': rename or remove it, or give the right year"
        )
    machine = plain_name(match["machine"], f"'{path}': machine", ScoreError)
    section, domain = match["section"], (match["domain"] or "").removeprefix("_")
    rows = []
    for line, fields in lines:
        place = f"'{path}' line {line}"
        if len(fields) != 2:
            raise ScoreError(f"{place} has {len(fields)} fields; expected 'file name,score'")
        value = _number(fields[1], kind, place)
        name = PureWindowsPath(fields[0]).name
        try:
            clip = parse_name(name, machine=machine, split="test", year=year)
        except DataError as error:
            raise ScoreError(f"{place}: {error}") from None
        if clip.section != section or (domain and clip.domain != domain):
            of = f"'{section}' {domain}".strip()
            raise ScoreError(
                f"{place}: clip '{name}' is not of section {of}, which its score file is named for"
            )
        here = f"'{path.name}' line {line}"
        first = seen.setdefault((machine, section, clip_key(name)), here)
        if first != here:
            raise ScoreError(f"{place}: clip '{name}' is already in {first}; keep one")
        rows.append((machine, section, name, value))
    if not rows:
        raise ScoreError(f"'{path}' is empty; expected lines 'file name,score'")
    return rows


def write_score_folder(
    df: pd.DataFrame, path: str | Path, year: int, kind: Kind = "anomaly_score"
) -> list[Path]:
    """Write official score or decision files, one for each machine and section (2021: and domain).

    Everything is checked before the first file is written. Numbers keep full precision. Other files
    in the folder stay. Returns the files, sorted.

    Parameters
    ----------
    df : what :func:`read_score_folder` returns; for 2021 also the column ``domain``
    path : folder, made if absent
    year : 2020 to 2026
    kind : scores or decisions
    """
    by_file = score_lines(df, year, kind)
    for name, lines in by_file.items():
        content = io.StringIO()
        csv.writer(content, lineterminator="\n").writerows(lines)
        write_text(Path(path) / name, content.getvalue(), ScoreError)
    return sorted(Path(path) / name for name in by_file)


def score_lines(
    df: pd.DataFrame, year: int, kind: Kind = "anomaly_score"
) -> dict[str, list[list[str]]]:
    """Return the lines, clip and number, of each score file of a score table by its name.

    What :func:`read_score_folder` would refuse raises a :class:`~asdlib.errors.ScoreError`.
    """
    wanted = ["machine", "section", "clip", _COLUMN[kind]]
    missing = [name for name in wanted if name not in df.columns]
    if missing or df.empty:
        lack = f"lacks the column '{missing[0]}'" if missing else "has no rows"
        raise ScoreError(f"table {lack}; nothing was written (needed: {', '.join(wanted)})")
    by_file: dict[str, list[list[str]]] = {}
    for row in df.to_dict("records"):
        machine, section, clip, value = (row[name] for name in wanted)
        domain = row.get("domain", "")
        if year == 2021 and domain not in DOMAINS:
            raise ScoreError(
                f"clip {clip!r} of {machine}/{section} has domain {domain!r}; the score files of "
                "2021 are one for each domain (known: 'source', 'target')"
            )
        number = repr(int(value) if kind == "decision_result" else float(value))
        name = _file_name(kind, year, machine, section, domain)
        by_file.setdefault(name, []).append([clip, number])
    seen: dict[tuple[str, str, str], str] = {}
    for name, lines in by_file.items():
        lines.sort()
        _rows(Path(name), enumerate(lines, 1), year, kind, seen)
    return by_file


def label_scores(
    scores: pd.DataFrame, year: int, truth: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Add the columns ``label`` and ``domain`` to scores.

    Parameters
    ----------
    scores : ``machine``, ``section``, ``clip`` and any other columns
    year : 2020 to 2026
    truth
        From `asdlib.data.read_ground_truth`; not needed for names that hold labels (development
        set).

    Raises
    ------
    ScoreError
        A name without a label and no ground truth for it.
    DataError
        Clips of a section that are in the scores but not in the ground truth or the reverse; a name
        that contradicts the truth.
    """
    names = zip(scores["machine"], scores["clip"], strict=True)
    clips = [parse_name(clip, machine=m, split="test", year=check_year(year)) for m, clip in names]
    out = scores.assign(
        label=[clip.label for clip in clips], domain=[clip.domain for clip in clips]
    )
    if truth is not None:
        out = join_ground_truth(out, truth)
    bare = out.loc[out["label"] == ""]
    if not bare.empty:
        first = bare.iloc[0]
        raise ScoreError(
            f"clip '{first['clip']}' of '{first['machine']}' has no label in its name; "
            f"give the ground truth of the evaluation set: {where_truth_is(year)}"
        )
    return out


def align_clips(
    a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str], way_out: str
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring two tables into one order of clips, by machine, section and name.

    A clip that is in one table only is refused: it lacks what `names` call the other table.
    """
    keys = ["machine", "section", "key"]
    left, right = (
        df.assign(key=df["clip"].map(clip_key)).sort_values(keys, ignore_index=True)
        for df in (a, b)
    )
    lone = left[keys].merge(right[keys], how="outer", indicator=True).query("_merge != 'both'")
    if not lone.empty:
        first = lone.iloc[0]
        raise ScoreError(
            f"clip '{first['key']}' of {first['machine']}/{first['section']} has no "
            f"{names[first['_merge'] == 'left_only']} ({len(lone)} such clips); {way_out}"
        )
    return left.drop(columns="key"), right.drop(columns="key")


@dataclass(frozen=True)
class Evaluation:
    """Metrics, decisions and notices computed from one set of scores.

    Attributes
    ----------
    year
        Whose definitions were used.
    scores
        The labelled score table.
    frame
        Metrics of sections, and averages.
    pooled
        ``machine``, ``auc``, ``pauc`` over all clips of a machine.
    notices
        What is not defined, missing or skipped; one line each.
    decisions
        Precision, recall and F1 of every section, if decisions were given.
    """

    year: int
    scores: pd.DataFrame
    frame: pd.DataFrame
    pooled: pd.DataFrame
    notices: tuple[str, ...] = ()
    decisions: pd.DataFrame | None = None

    @property
    def sections(self) -> pd.DataFrame:
        """The metrics frame without its average rows."""
        return self.frame.loc[self.frame["section"] != "Average"].reset_index(drop=True)

    def to_json_dict(self) -> dict[str, Any]:
        """Return all figures as plain numbers for JSON; what is not defined is None.

        ``year``; ``machines`` → machine → ``sections``, ``average``, ``pooled`` and, from 2021 on,
        ``harmonic_mean``; overall ``average`` and, from 2021 on, ``harmonic_mean``, ``omega`` and
        ``omega_terms`` (how many numbers it is the mean of); 2020: ``mauc``; ``notices``.
        """
        rows = sections = self.sections
        if self.decisions is not None:
            rows = sections.merge(self.decisions, on=["machine", "section"])
        pooled = self.pooled.set_index("machine").to_dict("index")
        out: dict[str, Any] = {"year": self.year, "machines": {}}
        for machine, group in rows.groupby("machine", sort=True):
            figures = group.set_index("section").drop(columns="machine").to_dict("index")
            out["machines"][str(machine)] = {
                "sections": {str(section): _plain(row) for section, row in figures.items()},
                **self._means(group),
                "pooled": _plain(pooled[machine]),
            }
        out |= self._means(sections)
        if self.year == 2020:
            out |= _plain({"mauc": metrics.mauc(sections)})
        else:
            out |= _plain({"omega": metrics.omega(sections, self.year)})
            terms = sections[metrics.omega_columns(self.year)]
            out["omega_terms"] = int(terms.notna().sum().sum())
        return out | {"notices": list(self.notices)}

    def _means(self, rows: pd.DataFrame) -> dict[str, dict[str, float | None]]:
        out = {"average": _plain(metrics.mean_metrics(rows, self.year))}
        if self.year != 2020:
            out["harmonic_mean"] = _plain(metrics.mean_metrics(rows, self.year, "harmonic"))
        return out


def _plain(values: Mapping[Any, Any]) -> dict[str, float | None]:
    numbers = {str(name): float(value) for name, value in values.items()}
    return {name: None if math.isnan(value) else value for name, value in numbers.items()}


def evaluate(df: pd.DataFrame, year: int) -> Evaluation:
    """Evaluate a labelled score table by the definitions of a year, for example that of a run.

    Parameters
    ----------
    df
        Score table: ``machine``, ``section``, ``domain``, ``label``, ``clip``, ``anomaly_score``;
        a column ``decision`` (0 or 1) is evaluated too.
    year : 2020 to 2026
    """
    sections, notices = metrics.section_metrics(df, year)
    if notices:
        notices.append("averages skip what is not defined")
    return Evaluation(
        year=year,
        scores=df,
        frame=metrics.with_means(sections, year),
        pooled=metrics.pooled(df),
        notices=tuple(notices),
        decisions=metrics.decision_metrics(df, year) if "decision" in df.columns else None,
    )


def evaluate_folder(
    path: str | Path, year: int, ground_truth: str | Path | None = None
) -> Evaluation:
    """Evaluate a folder of official score files, whoever wrote them.

    Parameters
    ----------
    path : folder of ``anomaly_score_*.csv``; ``decision_result_*.csv`` in it are evaluated too
    year : 2020 to 2026
    ground_truth
        List CSV for 2020, a folder like the official evaluator's later; None: the labels are in the
        file names (development set).
    """
    scores = read_score_folder(path, year)
    truth = None if ground_truth is None else read_ground_truth(ground_truth)
    labelled = label_scores(scores, year, truth)
    if any(Path(path).glob("decision_result_*.csv")):
        decided = read_score_folder(path, year, "decision_result")
        way_out = "give a decision for every score, or remove the decision files"
        labelled, decided = align_clips(labelled, decided, ("score", "decision"), way_out)
        labelled["decision"] = decided["decision"]
    result = evaluate(labelled, year)
    gaps = [] if truth is None else _unscored(labelled, truth)
    return replace(result, notices=(*result.notices, *gaps))


def _unscored(labelled: pd.DataFrame, truth: pd.DataFrame) -> list[str]:
    scored, known = (
        set(zip(df["machine"], df["clip"].str.extract(r"(?:id|section)_(\d\d)_")[0], strict=True))
        for df in (labelled, truth)
    )
    if not scored & known:
        return ["the ground truth has none of the scored sections; labels come from file names"]
    lacking = sorted(f"{machine}/{section}" for machine, section in known - scored)
    return [f"no scores for {', '.join(lacking)} of the ground truth"] if lacking else []
