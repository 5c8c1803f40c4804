"""File names of DCASE Task 2, 2020 to 2026, read into records.

Each year declares its forms (`FORMS`). A name is read together with its folder, because 2020 gives
a training and a test clip the same name.

Given by the descriptions of the datasets: the forms of 2020 and 2022, the evaluation names of 2021
and the test names of 2023, ``noAttribute`` in 2024, the ``supplemental`` folder of 2025, evaluation
machines of 2023.
Inferred, not given: attributes may be absent in every year after 2020; the folder ``test`` also
serves 2021 (a public baseline merges ``source_test`` and ``target_test`` into it); supplemental
names are ``section_00_<words>_NNNN[_attributes]`` (public lists show ``machine`` and ``noise``);
2026 names are those of 2025; the evaluation machines of 2024 to 2026.
"""

import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

from asdlib.errors import AsdError, DataError, shorten

AUDIO_SUFFIXES = (".wav", ".flac")

SPLIT_FOLDERS = {
    "train": ("train", ""),
    "test": ("test", ""),
    "supplemental": ("supplemental", ""),
    "source_test": ("test", "source"),
    "target_test": ("test", "target"),
}
"""Folder name → (split, domain that the folder promises or empty)."""

_FIELDS = {
    "attributes": "[A-Za-z0-9.+-]+(?:_[A-Za-z0-9.+-]+)*",
    "domain": "source|target",
    "id": "[0-9]{8}",
    "index": "[0-9]{4}",
    "label": "normal|anomaly",
    "section": "[0-9]{2}",
    "words": "[A-Za-z]+(?:_[A-Za-z]+)*",
}


def _forms(section: str, blind: str = "[test_]<index>") -> dict[str, tuple[str, ...]]:
    """Return the forms of a year after 2020; `blind` ends a test name without label."""
    start, end = f"section_{section}_<domain>", "<index>[_<attributes>]"
    return {
        "train": (f"{start}_train_<label:normal>_{end}",),
        "test": (f"{start}_test_<label>_{end}", f"section_{section}_{blind}"),
    }


_SUPPLEMENTAL = {"supplemental": ("section_<section:00>_<words>_<index>[_<attributes>]",)}

FORMS: dict[int, dict[str, tuple[str, ...]]] = {
    2020: {
        "train": ("<label:normal>_id_<section>_<id>",),
        "test": ("<label>_id_<section>_<id>", "id_<section>_<id>"),
    },
    2021: _forms("<section>", "<domain>_test_<index>"),
    2022: _forms("<section>"),
    2023: _forms("<section:00>"),
    2024: _forms("<section:00>"),
    2025: _forms("<section:00>") | _SUPPLEMENTAL,
    2026: _forms("<section:00>") | _SUPPLEMENTAL,
}
"""Year → split → forms of the names without suffix, in the order of trying. ``<…>`` is a field,
``<section:00>`` one with a single value; ``[…]`` may be absent."""

LABELLED = re.compile(
    r"(?:^|/|_)(?P<label>normal|anomaly)_(?:id_[0-9]{2}_[0-9]{8}|[0-9]{4})(?![0-9])"
)
"""What in a file name of any year says how the clip is labelled."""

EVALUATION_IDS_2020 = {
    "ToyCar": ("05", "06", "07"),
    "ToyConveyor": ("04", "05", "06"),
    **dict.fromkeys(("fan", "pump", "slider", "valve"), ("01", "03", "05")),
}
"""Machine → IDs of the evaluation set of 2020; all others are of the development set."""
_EVALUATION_MACHINES = {
    2023: "bandsaw grinder shaker ToyDrone ToyNscale ToyTank Vacuum",
    2024: "3DPrinter AirCompressor BrushlessMotor HairDryer HoveringDrone RoboticArm Scanner "
    "ToothBrush ToyCircuit",
    2025: "AutoTrash BandSealer CoffeeGrinder HomeCamera Polisher ScrewFeeder ToyPet ToyRCCar",
    2026: "BlowerDustCollector Sander SewingMachine ToothBrush ToyDrone",
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


def plain_name(name: str, what: str, error: type[AsdError] = DataError) -> str:
    """Return a name from outside (a machine, a section) if it may become part of a path.

    Parameters
    ----------
    name
        1 to 64 printable characters in Unicode's composed form (NFC), no ``/`` and no backslash, no
        dot or space at its ends, and not ``Average`` or ``Harmonic mean``, as tables call means.
    what
        What it names, for the message: "machine of 'manifest.csv'".
    error
        Raised if the name is another one.

    Raises
    ------
    AsdError
        Of the class `error`.
    """
    reasons = {
        "is empty": not name,
        f"has {len(name)} characters, at most 64 are allowed": len(name) > 64,
        "has characters that cannot be printed": not name.isprintable(),
        "holds a path separator": "/" in name or "\\" in name,
        "starts or ends with a dot or a space": name.strip(". ") != name,
        "is not in Unicode's composed form (NFC)": not unicodedata.is_normalized("NFC", name),
        "is what tables call the mean of all machines": name in ("Average", "Harmonic mean"),
    }
    reason = next((reason for reason, found in reasons.items() if found), None)
    if reason is None:
        return name
    raise error(f"{what} {shorten(name, 64)!r} {reason}; rename it")


@cache
def _pattern(form: str) -> re.Pattern[str]:
    form = form.replace("[", "(?:").replace("]", ")?")
    form = re.sub(r"<(\w+):(\w+)>", r"(?P<\1>\2)", form)
    form = re.sub(r"(?<!P)<(\w+)>", lambda m: f"(?P{m[0]}{_FIELDS[m[1]]})", form)
    return re.compile(rf"{form}(?i:\.wav|\.flac)")


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
        POSIX path of the file relative to the indexed root.

    Returns
    -------
    Clip
        Its subset is that of the section (up to 2022) or machine; unknown ones are development.

    Raises
    ------
    DataError
        If the name does not fit the grammar (a training clip is normal) or contradicts its folder.
    """
    if split not in SPLIT_FOLDERS:
        raise DataError(f"split '{split}' is not known; use one of {', '.join(SPLIT_FOLDERS)}")
    plain_name(machine, "machine")
    folder, (split, promised) = split, SPLIT_FOLDERS[split]
    where = repr(path or f"{machine}/{folder}/{name}")
    if year is None:
        year = detect_year([f"{folder}/{name}"])
    if year not in FORMS:
        raise DataError(f"year {year} has no file-name grammar; give one of 2020 to 2026")
    forms = FORMS[year].get(split, ())
    match = next(filter(None, (_pattern(form).fullmatch(name) for form in forms)), None)
    if match is None:
        why = f"{year} has no {split} clips"
        if forms:
            why = f"expected {' or '.join(forms)}, and .wav or .flac"
        raise DataError(
            f"file {where} has no {split} name of {year}: {why}; "
            "rename or remove it, or give the right year"
        )
    said = {key: value or "" for key, value in match.groupdict().items()}
    section, label, attributes = said["section"], said.get("label", ""), said.get("attributes", "")
    domain = "source" if year == 2020 else said.get("domain", "")
    if promised and domain != promised:
        raise DataError(
            f"file {where} is of domain '{domain}', but its folder '{folder}' holds only "
            f"'{promised}' clips; move it to {domain}_test"
        )
    if "words" in said:
        words = said["words"].split("_")
        domain = next((word for word in ("source", "target") if word in words), "")
        attributes = "_".join(filter(None, (f"kind_{'-'.join(words)}", attributes)))
    if split == "test" and not label:
        evaluation = True
    elif year == 2020:
        evaluation = section in EVALUATION_IDS_2020.get(machine, ())
    elif year < 2023:
        evaluation = section >= "03"
    else:
        evaluation = machine in _EVALUATION_MACHINES.get(year, "").split()
    subset = "evaluation" if evaluation else "development"
    place = (name, year, subset, split, machine, section, domain, label)
    return Clip(*place, int(said.get("index") or said["id"]), attributes, path)


_WITH_ID = re.compile(r"(?:^|/)(?:normal_|anomaly_)?id_[^/]*$")
_WITH_SECTION = re.compile(r"(?:^|/)section_[^/]*$")
_MARKS = {
    2021: re.compile(
        r"(?:^|/)(?:source|target)_test/[^/]*$|section_[0-9]{2}_(?:source|target)_test_[0-9]{4}\."
    ),
    2025: re.compile(r"(?:^|/)supplemental/[^/]*$"),
    2024: re.compile(r"_noAttribute[^/]*$"),
}
_BLIND = re.compile(r"section_[0-9]{2}_(?:test_)?[0-9]{4}\.")


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
    marked = len(with_section) > 1 or _BLIND.search(with_section[0])
    return 2023 if first_shot and marked else 2022


def clip_key(name: str) -> str:
    """Return what two spellings of one clip share: no suffix, no ``_test`` in a blind name.

    ``section_03_test_0000.wav`` and ``section_03_0000.flac`` both give ``section_03_0000``.
    """
    stem = name.rsplit(".", 1)[0] if name.lower().endswith(AUDIO_SUFFIXES) else name
    match = re.fullmatch(r"(section_[0-9]{2})_test(_[0-9]{4})", stem)
    return match[1] + match[2] if match else stem
