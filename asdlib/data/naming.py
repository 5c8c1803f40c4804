"""File names of DCASE Task 2, 2020 to 2026: read into records, and records written as names.

Each year declares its forms: templates with named fields, each for one split. Reading and writing
use the same templates, so that every name round-trips. A name that fits no form is refused with the
place where it leaves the grammar. A name is read together with its folder, because 2020 gives a
training and a test clip the same name.

Given by the descriptions of the datasets: the forms of 2020 and 2022, the evaluation names of 2021
and the test names of 2023, ``noAttribute`` in 2024, the ``supplemental`` folder of 2025, evaluation
machines of 2023.
Inferred, not given: attributes may be absent in every year after 2020; the folder ``test`` also
serves 2021 (a public baseline merges ``source_test`` and ``target_test`` into it); supplemental
names are ``section_00_<words>_NNNN[_attributes]`` (public lists show ``machine`` and ``noise``);
2026 names are those of 2025; the evaluation machines of 2024 and 2025.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import zip_longest

from asdlib.errors import DataError

__all__ = ["Clip", "clip_key", "detect_year", "format_name", "parse_attributes", "parse_name"]

AUDIO_SUFFIXES = (".wav", ".flac")

SPLIT_FOLDERS = {
    "train": ("train", ""),
    "test": ("test", ""),
    "supplemental": ("supplemental", ""),
    "source_test": ("test", "source"),
    "target_test": ("test", "target"),
}
"""Folder name → (split, domain that the folder promises or empty)."""

_ATTRIBUTES = r"[A-Za-z0-9.+-]+(?:_[A-Za-z0-9.+-]+)*"
_FIELDS = {
    "label": (r"(?P<label>normal|anomaly)", "'normal' or 'anomaly'"),
    "domain": (r"(?P<domain>source|target)", "'source' or 'target'"),
    "section": (r"(?P<section>[0-9]{2})", "two digits"),
    "only": (r"(?P<section>00)", "section '00', the only one since 2023"),
    "index": (r"(?P<index>[0-9]{4})", "a four-digit number"),
    "long_index": (r"(?P<index>[0-9]{8})", "an eight-digit number"),
    "kind": (r"(?P<kind>[A-Za-z]+(?:_[A-Za-z]+)*)", "words such as 'machine' or 'noise'"),
    "rest": (rf"(?:_(?P<attributes>{_ATTRIBUTES}))?", "'_' and attributes"),
}
"""Field of a template → (regular expression, what is expected there)."""

_TRAIN_AND_TEST = (
    ("train", "section_{section}_{domain}_train_{label}_{index}{rest}"),
    ("test", "section_{section}_{domain}_test_{label}_{index}{rest}"),
)
# The second spelling stands in the official READMEs, the first in the archives.
_BLIND = (("test", "section_{section}_{index}"), ("test", "section_{section}_test_{index}"))
_SECTIONS = _TRAIN_AND_TEST + _BLIND
_FIRST_SHOT = tuple((split, text.replace("{section}", "{only}")) for split, text in _SECTIONS)
_SUPPLEMENTAL = (("supplemental", "section_{only}_{kind}_{index}{rest}"),)

FORMS = {
    2020: (
        ("train", "{label}_id_{section}_{long_index}"),
        ("test", "{label}_id_{section}_{long_index}"),
        ("test", "id_{section}_{long_index}"),
    ),
    2021: (*_TRAIN_AND_TEST, ("test", "section_{section}_{domain}_test_{index}")),
    2022: _SECTIONS,
    2023: _FIRST_SHOT,
    2024: _FIRST_SHOT,
    2025: _FIRST_SHOT + _SUPPLEMENTAL,
    2026: _FIRST_SHOT + _SUPPLEMENTAL,
}
"""Year → pairs of split and template, in the order in which they are tried."""


def _tokens(template: str) -> list[tuple[str, str]]:
    """Split a template into pairs of a regular expression and what it expects."""
    parts = filter(None, re.split(r"(\{\w+\})", template))
    return [_FIELDS[p[1:-1]] if p[0] == "{" else (re.escape(p), f"'{p}'") for p in parts]


_PATTERNS = {
    template: re.compile("".join(pattern for pattern, _ in _tokens(template)))
    for forms in FORMS.values()
    for _, template in forms
}

_EVALUATION_IDS_2020 = {
    "ToyCar": ("05", "06", "07"),
    "ToyConveyor": ("04", "05", "06"),
    **dict.fromkeys(("fan", "pump", "slider", "valve"), ("01", "03", "05")),
}
_EVALUATION_MACHINES = {
    2023: "bandsaw grinder shaker ToyDrone ToyNscale ToyTank Vacuum",
    2024: "3DPrinter AirCompressor BrushlessMotor HairDryer HoveringDrone RoboticArm Scanner "
    "ToothBrush ToyCircuit",
    2025: "AutoTrash BandSealer CoffeeGrinder HomeCamera Polisher ScrewFeeder ToyPet ToyRCCar",
}


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording, the same record for all years; empty strings stand for what is not known."""

    clip: str
    """File name, for example ``normal_id_01_00000000.wav``."""
    year: int
    subset: str
    """``development`` or ``evaluation``, which the additional training data belong to."""
    split: str
    """``train``, ``test`` or ``supplemental``."""
    machine: str
    section: str
    """Two digits; in 2020 the machine ID."""
    domain: str
    """``source`` or ``target``; in 2020 always ``source``."""
    label: str
    """``normal`` or ``anomaly``."""
    index: int
    """Running number in the name."""
    attributes: str
    """What follows the number, without the leading ``_``. A supplemental clip starts with the pair
    ``kind_<words>``, the words of its name joined by ``-``."""
    path: str
    """POSIX path relative to the indexed root."""


def parse_name(
    name: str, *, machine: str, split: str, year: int | None = None, path: str = ""
) -> Clip:
    """Read one file name.

    Parameters
    ----------
    name
        File name with its suffix, without folders.
    machine, split
        The two folders above the file; `split` is a key of `SPLIT_FOLDERS`.
    year
        Year of the grammar; by default what the name itself shows, see `detect_year`.
    path
        POSIX path of the file relative to the indexed root; ``dev_data`` or ``eval_data`` in it
        tells the subset from 2023 on, where names do not.

    Raises
    ------
    DataError
        If the name does not fit the grammar, if it contradicts its folder, or if it says that an
        anomalous clip is there to train on.
    """
    if split not in SPLIT_FOLDERS:
        raise DataError(f"split '{split}' is not known; use one of {', '.join(SPLIT_FOLDERS)}")
    folder, (split, promised) = split, SPLIT_FOLDERS[split]
    where = path or f"{machine}/{folder}/{name}"
    if not name.isprintable():
        raise DataError(f"file {where!r} has a control character in its name; rename or remove it")
    if year is None:
        year = detect_year([f"{folder}/{name}"])
    stem, dot, suffix = name.rpartition(".")
    if dot + suffix.lower() not in AUDIO_SUFFIXES:
        raise DataError(f"file '{where}' does not end in .wav or .flac; convert or remove it")
    templates = _templates(year, split)
    match = next(filter(None, (_PATTERNS[text].fullmatch(stem) for text in templates)), None)
    if match is None:
        why = _reason(stem, templates) if templates else f"{year} has no {split} clips"
        raise DataError(
            f"file '{where}' has no {split} name of {year}: {why}; "
            "rename or remove it, or give the right year"
        )
    said = {key: value or "" for key, value in match.groupdict().items()}
    section, label, attributes = said["section"], said.get("label", ""), said.get("attributes", "")
    domain = "source" if year == 2020 else said.get("domain", "")
    if split == "train" and label == "anomaly":
        raise DataError(
            f"file '{where}' is anomalous, but a train folder holds only normal clips; "
            "move it to the test folder"
        )
    if promised and domain != promised:
        raise DataError(
            f"file '{where}' is of domain '{domain}', but its folder '{folder}' holds only "
            f"'{promised}' clips; move it to {domain}_test"
        )
    if "kind" in said:
        words = said["kind"].split("_")
        domain = next((word for word in ("source", "target") if word in words), "")
        attributes = "_".join(filter(None, (f"kind_{'-'.join(words)}", attributes)))
    subset = _subset(year, split, machine, section, label, path)
    place = (name, year, subset, split, machine, section, domain, label)
    return Clip(*place, int(said["index"]), attributes, path)


def _templates(year: int, split: str) -> list[str]:
    """Return the templates of one split, none if the year has no such split."""
    if year not in FORMS:
        raise DataError(f"year {year} has no file-name grammar; give one of 2020 to 2026")
    return [template for of_split, template in FORMS[year] if of_split == split]


def _reason(stem: str, templates: Iterable[str]) -> str:
    """Return where `stem` leaves the grammar, judged by the template that follows it furthest."""
    reached: dict[int, list[str]] = {}
    for template in templates:
        at, expected = 0, "the end of the name"
        for pattern, meaning in _tokens(template):
            match = re.compile(pattern).match(stem, at)
            if match is None:
                expected = meaning
                break
            at = match.end()
        reached.setdefault(at, []).append(expected)
    at = max(reached)
    found = f"'{stem[at:]}'" if stem[at:] else "the end of the name"
    place = f"after '{stem[:at]}'" if at else "at its start"
    return f"{place} expected {' or '.join(dict.fromkeys(reached[at]))}, found {found}"


def _subset(year: int, split: str, machine: str, section: str, label: str, path: str) -> str:
    """Return the subset that a clip belongs to.

    A test name without a label is of the evaluation set. Else the section decides up to 2022; from
    2023 on the folders ``dev_data`` and ``eval_data`` in the path, then the machine. Machines and
    sections that no table knows count as development.
    """
    folders = path.split("/")[:-1]
    if split == "test" and not label:
        evaluation = True
    elif year == 2020:
        evaluation = section in _EVALUATION_IDS_2020.get(machine, ())
    elif year < 2023:
        evaluation = section >= "03"
    elif "dev_data" in folders or "eval_data" in folders:
        evaluation = "eval_data" in folders
    else:
        evaluation = machine in _EVALUATION_MACHINES.get(year, "").split()
    return "evaluation" if evaluation else "development"


def format_name(clip: Clip) -> str:
    """Write the file name that a record describes; the inverse of `parse_name`.

    ``clip.clip`` decides only what the other fields cannot say: the suffix (``.wav`` if empty) and
    which spelling of an unlabelled test name is meant. A record whose label and domain were filled
    from the ground truth gets the name that says so.

    Raises
    ------
    DataError
        If no name of the year can say what the record says.
    """
    kind, rest = "", clip.attributes
    if clip.split == "supplemental":
        kind, _, rest = rest.removeprefix("kind_").partition("_")
    fields = {
        "label": clip.label,
        "domain": clip.domain,
        "section": clip.section,
        "only": clip.section,
        "index": f"{clip.index:04d}",
        "long_index": f"{clip.index:08d}",
        "kind": kind.replace("-", "_"),
        "rest": rest and f"_{rest}",
    }
    stem, dot, suffix = clip.clip.rpartition(".")
    names = []
    for template in _templates(clip.year, clip.split):
        name = template.format(**fields)
        try:
            read = parse_name(f"{name}.wav", machine=clip.machine, split=clip.split, year=clip.year)
        except DataError:
            continue
        if replace(read, clip=clip.clip, subset=clip.subset, path=clip.path) == clip:
            names.append(name)
    if not names:
        raise DataError(f"no {clip.split} name of {clip.year} says what this record says: {clip}")
    return (stem if stem in names else names[0]) + (dot + suffix or ".wav")


def detect_year(names: Iterable[str]) -> int:
    """Return the year of a set of names, each with or without its folders.

    The years share names, so this is the best reading, in this order: machine IDs → 2020; folders
    ``source_test``/``target_test``, or a domain without a label → 2021; a ``supplemental`` folder →
    2025; ``noAttribute`` → 2024; only section 00, in more than one name or without a label → 2023;
    else 2022. Where the reading is wrong (2023 to 2026 cannot always be told apart, nor can the
    training clips of 2021 and 2022), give the year.

    Raises
    ------
    DataError
        If no name starts like one of the grammars, or if 2020 is mixed with later years.
    """
    paths = list(names)
    with_id = [path for path in paths if _WITH_ID.search(path)]
    with_section = [path for path in paths if _WITH_SECTION.search(path)]
    if with_id and with_section:
        raise DataError(
            f"'{with_id[0]}' is a name of 2020 and '{with_section[0]}' one of a later year; "
            "index the folder of each year by itself"
        )
    if with_id:
        return 2020
    if not with_section:
        raise DataError(
            "no file name starts with 'normal_id_', 'anomaly_id_', 'id_' (2020) or 'section_' "
            "(2021 to 2026); give a folder in an official layout"
        )
    for year, mark in _MARKS.items():
        if any(mark.search(path) for path in with_section):
            return year
    first_shot = all(path.rpartition("/")[2].startswith("section_00") for path in with_section)
    told = len(with_section) > 1 or _BLIND_NAME.search(with_section[0])
    return 2023 if first_shot and told else 2022


_WITH_ID = re.compile(r"(?:^|/)(?:normal_|anomaly_)?id_[^/]*$")
_WITH_SECTION = re.compile(r"(?:^|/)section_[^/]*$")
_MARKS = {
    2021: re.compile(
        r"(?:^|/)(?:source|target)_test/[^/]*$|section_[0-9]{2}_(?:source|target)_test_[0-9]{4}\."
    ),
    2025: re.compile(r"(?:^|/)supplemental/[^/]*$"),
    2024: re.compile(r"_noAttribute[^/]*$"),
}
_BLIND_NAME = re.compile(r"section_[0-9]{2}_(?:test_)?[0-9]{4}\.")
_KEY = re.compile(r"(section_[0-9]{2})_test(_[0-9]{4})")


def clip_key(name: str) -> str:
    """Return what two spellings of one clip share: no suffix, no ``_test`` in a blind name.

    ``section_03_test_0000.wav`` and ``section_03_0000.flac`` both give ``section_03_0000``.
    """
    stem = name.rsplit(".", 1)[0] if name.lower().endswith(AUDIO_SUFFIXES) else name
    match = _KEY.fullmatch(stem)
    return match[1] + match[2] if match else stem


def parse_attributes(attributes: str) -> dict[str, str]:
    """Split the attribute part of a name into its ``key_value`` pairs.

    ``noAttribute`` and the empty string give no pairs; a last key without a value (names of 2021
    such as ``strength_1_ambient``) gets the empty string.
    """
    fields = [part for part in attributes.split("_") if part not in ("", "noAttribute")]
    return dict(zip_longest(fields[::2], fields[1::2], fillvalue=""))
