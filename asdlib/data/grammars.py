"""The file-name grammars of DCASE Task 2, declared: one table of forms a year, 2020 to 2026.

Conventions: a form belongs to one split and is a template with named fields; parsing and
formatting (`asdlib.data.naming`) read the same template, so that every name round-trips.

Given by the datasets' descriptions: the forms of 2020 and 2022, the evaluation names of 2021 and
the test names of 2023, ``noAttribute`` in 2024, the ``supplemental`` folder of 2025, evaluation
machines of 2023.
Inferred, not given: attributes may be absent in every year after 2020; the folder ``test`` also
serves 2021 (a public baseline merges ``source_test`` and ``target_test`` into it); supplemental
names are ``section_00_<words>_NNNN[_attributes]`` (public lists show ``machine`` and ``noise``);
2026 names are those of 2025; the evaluation machines of 2024 and 2025.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from asdlib.errors import DataError

__all__ = ["AUDIO_SUFFIXES", "GRAMMARS", "SPLIT_FOLDERS", "Form", "forms_of", "reason", "subset_of"]

AUDIO_SUFFIXES = (".wav", ".flac")

SPLIT_FOLDERS: Mapping[str, tuple[str, str]] = {
    "train": ("train", ""),
    "test": ("test", ""),
    "supplemental": ("supplemental", ""),
    "source_test": ("test", "source"),
    "target_test": ("test", "target"),
}
"""Folder name → (split, domain that the folder promises or empty)."""

_ATTRIBUTES = r"[A-Za-z0-9.+-]+(?:_[A-Za-z0-9.+-]+)*"
_FIELDS: Mapping[str, tuple[str, str]] = {
    "label": (r"(?P<label>normal|anomaly)", "'normal' or 'anomaly'"),
    "domain": (r"(?P<domain>source|target)", "'source' or 'target'"),
    "section": (r"(?P<section>[0-9]{2})", "two digits"),
    "section00": (r"(?P<section>00)", "section '00', the only one since 2023"),
    "index4": (r"(?P<index>[0-9]{4})", "a four-digit number"),
    "index8": (r"(?P<index>[0-9]{8})", "an eight-digit number"),
    "kind": (r"(?P<kind>[A-Za-z]+(?:_[A-Za-z]+)*)", "words such as 'machine' or 'noise'"),
    "rest": (rf"(?:_(?P<attributes>{_ATTRIBUTES}))?", "'_' and attributes"),
}


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write a name: the split it belongs to and its template, without the suffix."""

    split: str
    template: str
    tokens: tuple[tuple[str, str], ...] = field(init=False, repr=False, compare=False)
    pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        parts = [part for part in re.split(r"(\{\w+\})", self.template) if part]
        tokens = tuple(
            _FIELDS[part[1:-1]] if part[0] == "{" else (re.escape(part), f"'{part}'")
            for part in parts
        )
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "pattern", re.compile("".join(regex for regex, _ in tokens)))


_IDS = (
    Form("train", "{label}_id_{section}_{index8}"),
    Form("test", "{label}_id_{section}_{index8}"),
    Form("test", "id_{section}_{index8}"),
)


def _sections(section: str) -> tuple[Form, ...]:
    return (
        Form("train", f"section_{section}_{{domain}}_train_{{label}}_{{index4}}{{rest}}"),
        Form("test", f"section_{section}_{{domain}}_test_{{label}}_{{index4}}{{rest}}"),
    )


def _blind_tests(section: str) -> tuple[Form, ...]:
    # The second spelling stands in the official READMEs, the first in the archives.
    return (
        Form("test", f"section_{section}_{{index4}}"),
        Form("test", f"section_{section}_test_{{index4}}"),
    )


_FIRST_SHOT = _sections("{section00}") + _blind_tests("{section00}")
_SUPPLEMENTAL = (Form("supplemental", "section_{section00}_{kind}_{index4}{rest}"),)

GRAMMARS: Mapping[int, tuple[Form, ...]] = {
    2020: _IDS,
    2021: (*_sections("{section}"), Form("test", "section_{section}_{domain}_test_{index4}")),
    2022: _sections("{section}") + _blind_tests("{section}"),
    2023: _FIRST_SHOT,
    2024: _FIRST_SHOT,
    2025: _FIRST_SHOT + _SUPPLEMENTAL,
    2026: _FIRST_SHOT + _SUPPLEMENTAL,
}
"""The forms of each year, in the order in which they are tried."""

_EVALUATION_IDS_2020: Mapping[str, frozenset[str]] = {
    "ToyCar": frozenset({"05", "06", "07"}),
    "ToyConveyor": frozenset({"04", "05", "06"}),
    **dict.fromkeys(("fan", "pump", "slider", "valve"), frozenset({"01", "03", "05"})),
}
_EVALUATION_MACHINES: Mapping[int, tuple[str, ...]] = {
    2023: ("bandsaw", "grinder", "shaker", "ToyDrone", "ToyNscale", "ToyTank", "Vacuum"),
    2024: (
        *("3DPrinter", "AirCompressor", "BrushlessMotor", "HairDryer", "HoveringDrone"),
        *("RoboticArm", "Scanner", "ToothBrush", "ToyCircuit"),
    ),
    2025: (
        *("AutoTrash", "BandSealer", "CoffeeGrinder", "HomeCamera", "Polisher", "ScrewFeeder"),
        *("ToyPet", "ToyRCCar"),
    ),
}


def subset_of(year: int, split: str, machine: str, section: str, label: str, path: str) -> str:
    """Tell whether a clip belongs to the ``development`` or the ``evaluation`` set of its year.

    A test name without a label is of the evaluation set. Else the section decides up to 2022; from
    2023 on the folders ``dev_data`` and ``eval_data`` in ``path``, then the machine. Machines and
    sections that no table knows count as development.
    """
    if split == "test" and not label:
        return "evaluation"
    if year == 2020:
        evaluation = section in _EVALUATION_IDS_2020.get(machine, frozenset())
    elif year in (2021, 2022):
        evaluation = section >= "03"
    else:
        # Development and evaluation share section 00, so the official folder names speak first.
        folders = PurePosixPath(path).parts[:-1]
        if "dev_data" in folders or "eval_data" in folders:
            evaluation = "eval_data" in folders
        else:
            evaluation = machine in _EVALUATION_MACHINES.get(year, ())
    return "evaluation" if evaluation else "development"


def forms_of(year: int, split: str) -> list[Form]:
    """Return the forms of one split, none if the year has no such split; refuse unknown years."""
    if year not in GRAMMARS:
        known = f"{min(GRAMMARS)} to {max(GRAMMARS)}"
        raise DataError(f"year {year} has no file-name grammar (known: {known}); give one of them")
    return [form for form in GRAMMARS[year] if form.split == split]


def reason(stem: str, forms: Iterable[Form]) -> str:
    """Say where ``stem`` leaves the grammar, judged by the form that follows it furthest."""
    furthest = -1
    expected: list[str] = []
    for form in forms:
        at = 0
        wanted = "the end of the name"
        for regex, meaning in form.tokens:
            match = re.compile(regex).match(stem, at)
            if match is None:
                wanted = meaning
                break
            at = match.end()
        if at > furthest:
            furthest, expected = at, []
        if at == furthest and wanted not in expected:
            expected.append(wanted)
    found = f"'{stem[furthest:]}'" if stem[furthest:] else "the end of the name"
    place = f"after '{stem[:furthest]}'" if furthest else "at its start"
    return f"{place} expected {' or '.join(expected)}, found {found}"
