"""What the organisers say about their data: clips a group, channels and seconds, as tables.

Conventions: ``*`` in a table stands for any value. Counts are known for 2020 and 2022; each row of
``official_counts.csv`` names its source. An archive is the smallest unit that a user can hold (one
machine: development train and test together, additional training, evaluation test); only units
that are present are judged, so that a part of the machines is not reported as broken.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import pandas as pd

__all__ = ["COUNTED_YEARS", "Miscount", "compare_counts", "official_audio", "official_counts"]

COUNTED_YEARS = (2020, 2022)
"""Years whose official counts are known."""

_ANY = "*"
_GROUP = ["subset", "machine", "section", "split", "domain", "label"]
_NUMBER = re.compile(r"_([0-9]{8}|[0-9]{4})(?=[_.])")


class Miscount(NamedTuple):
    """A missing or surplus clip, or a group with another number of clips than the official one."""

    kind: str  # "missing" or "surplus"
    path: str
    message: str


@cache
def _read(name: str) -> pd.DataFrame:
    with (files("asdlib.data") / name).open(encoding="utf-8") as lines:
        return pd.read_csv(lines, dtype=str, keep_default_na=False)


def official_counts(year: int | None = None) -> pd.DataFrame:
    """Return the official number of clips a group.

    Returns
    -------
    pandas.DataFrame
        Columns year (int), subset, machine, section, split, domain, label, clips (int), source;
        ``*`` where a count covers all values. Empty for a year that is not in `COUNTED_YEARS`.
    """
    counts = _read("official_counts.csv").astype({"year": "int64", "clips": "int64"})
    return counts if year is None else counts[counts["year"] == year].reset_index(drop=True)


def official_audio(year: int) -> tuple[int, dict[str, tuple[float, float]]]:
    """Return channels, and machine → (shortest, longest) clip in seconds (``*``: the other ones).

    Machines whose length is not known are left out; an unknown year is taken as one channel.
    """
    rows = _read("official_audio.csv")
    rows = rows[rows["year"] == str(year)]
    seconds = {
        machine: (float(shortest), float(longest))
        for machine, shortest, longest in zip(
            rows["machine"], rows["seconds_min"], rows["seconds_max"], strict=True
        )
        if longest
    }
    return max(map(int, rows["channels"]), default=1), seconds


def compare_counts(
    table: pd.DataFrame, year: int, *, machines: Sequence[str] = ()
) -> list[Miscount]:
    """Compare a clip table with the official counts of its year.

    Parameters
    ----------
    table
        The clip table of one year.
    year
        A year without known counts gives an empty list.
    machines
        Machines that must be there wherever another machine is (development, additional training,
        evaluation test); the archives of other machines are judged if present.

    Returns
    -------
    list of Miscount
        Single files where the numbering tells which are missing or too many, else one entry a
        group that says how many. Clips of groups that no official row covers are surplus.
    """
    counts = official_counts(year)
    if counts.empty:
        return []
    found: dict[tuple[str, ...], list[tuple[str, int]]] = defaultdict(list)
    columns = [table[name].tolist() for name in (*_GROUP, "path", "index")]
    for *cells, path, index in zip(*columns, strict=True):
        found[tuple(cells)].append((path, index))
    present: dict[tuple[str, str], set[str]] = defaultdict(set)
    for group in found:
        present[_unit(group)].add(group[1])
    everything = set(counts["machine"]) - {_ANY}
    covered: set[tuple[str, ...]] = set()
    faults: list[Miscount] = []
    for *row, expected in counts[[*_GROUP, "clips"]].itertuples(index=False):
        wanted = tuple(row)
        groups = [group for group in found if _covers(wanted, group)]
        covered.update(groups)
        needed = everything if wanted[1] == _ANY else {wanted[1]}
        here = present[_unit(wanted)]
        if here and needed <= here | set(machines):
            clips = [clip for group in groups for clip in found[group]]
            faults += _differences(wanted, clips, expected, single=len(groups) <= 1)
    for group in sorted(found.keys() - covered):
        path, _ = found[group][0]
        faults.append(
            Miscount(
                "surplus",
                path.rpartition("/")[0],
                f"{_say(group)}: {len(found[group])} clips that {year} does not have; "
                "remove them, or check without official counts",
            )
        )
    return faults


def _covers(wanted: Sequence[str], group: Sequence[str]) -> bool:
    return all(want in (_ANY, have) for want, have in zip(wanted, group, strict=True))


def _unit(group: Sequence[str]) -> tuple[str, str]:
    """Return (subset, split) of the archives that bring the group."""
    subset, split = group[0], group[3]
    # A development archive holds train and test, so that either demands the other.
    return subset, "" if subset == "development" else split


def _say(group: Sequence[str]) -> str:
    subset, machine, section, split, domain, label = group
    parts = [machine, f"section {section}", subset, split, domain, label]
    return " ".join(part for part in parts if part and _ANY not in part) or "all machines"


def _differences(
    group: tuple[str, ...], clips: list[tuple[str, int]], expected: int, *, single: bool
) -> Iterator[Miscount]:
    """Name the clips that are missing or too many if numbers run from 0, else only count them."""
    have = len(clips)
    if have == expected:
        return
    kind = "missing" if have < expected else "surplus"
    numbers = {index for _, index in clips}
    beyond = [path for path, index in clips if index >= expected]
    if single and clips and len(numbers) == have and len(beyond) == max(0, have - expected):
        if kind == "surplus":
            for path in beyond:
                message = f"file '{path}' is surplus: {_say(group)} has {expected} clips; remove it"
                yield Miscount(kind, path, message)
            return
        for number in sorted(set(range(expected)) - numbers):
            path = _with_number(clips[0][0], number)
            yield Miscount(
                kind, path, f"file '{path}' is missing; unpack or download its archive again"
            )
        return
    where = clips[0][0].rpartition("/")[0] if clips else ""
    wayout = "unpack or download its archive again" if kind == "missing" else "remove the others"
    yield Miscount(
        kind, where, f"{_say(group)}: {have} clips, expected {expected} ({kind}); {wayout}"
    )


def _with_number(path: str, number: int) -> str:
    """Return the path with another running number; its attributes are not known: ``*``."""
    folder, slash, name = path.rpartition("/")
    match = _NUMBER.search(name)
    if match is None:
        return path
    rest = name[match.end() :]
    suffix = rest[rest.rindex(".") :]
    stem = f"{name[: match.start()]}_{number:0{len(match[1])}d}"
    return f"{folder}{slash}{stem}{'' if rest == suffix else '_*'}{suffix}"
