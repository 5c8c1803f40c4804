"""What a file name of DCASE Task 2 says: names read into records, and records written as names.

Conventions: the grammars of all years stand in `asdlib.data.grammars`. A name that fits no form of
its year is refused with the place where it leaves the grammar. A name is read together with its
folder, because 2020 gives a training and a test clip the same name.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from asdlib.data.grammars import AUDIO_SUFFIXES, SPLIT_FOLDERS, Form, forms_of, reason, subset_of
from asdlib.errors import DataError

__all__ = ["Clip", "clip_key", "detect_year", "format_name", "parse_attributes", "parse_name"]


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording, the same record for all years.

    Attributes
    ----------
    clip
        File name, for example ``normal_id_01_00000000.wav``.
    year
        Year of the challenge, 2020 to 2026.
    subset
        ``development`` or ``evaluation`` (the additional training data belong to the latter).
    split
        ``train``, ``test`` or ``supplemental``.
    machine
        Machine type, for example ``ToyCar``.
    section
        Two digits; in 2020 the machine ID.
    domain
        ``source``, ``target`` or empty when not known; in 2020 always ``source``.
    label
        ``normal``, ``anomaly`` or empty when not known.
    index
        Running number in the name.
    attributes
        What follows the number, without the leading ``_``; empty if nothing does. A supplemental
        clip starts with the pair ``kind_<words>``, the words of its name joined by ``-``.
    path
        POSIX path relative to the indexed root.
    """

    clip: str
    year: int
    subset: str
    split: str
    machine: str
    section: str
    domain: str
    label: str
    index: int
    attributes: str
    path: str


def parse_name(
    name: str, *, machine: str, split: str, year: int | None = None, path: str = ""
) -> Clip:
    """Read one file name.

    Parameters
    ----------
    name
        File name with its suffix, without folders.
    machine
        Machine type, the name of the folder above the split.
    split
        ``train``, ``test``, ``supplemental``, or the folders ``source_test`` and ``target_test``
        of 2021.
    year
        Year of the grammar; by default what the name itself shows, see `detect_year`.
    path
        POSIX path of the file relative to the indexed root; ``dev_data`` or ``eval_data`` in it
        tells the subset from 2023 on, where names do not.

    Returns
    -------
    Clip
        The record.

    Raises
    ------
    DataError
        If the name does not fit the grammar, if it contradicts its folder, or if it says that an
        anomalous clip is there to train on.
    """
    if split not in SPLIT_FOLDERS:
        raise DataError(f"split '{split}' is not known; use one of {', '.join(SPLIT_FOLDERS)}")
    real_split, promised = SPLIT_FOLDERS[split]
    where = path or f"{machine}/{split}/{name}"
    if not name.isprintable():
        raise DataError(f"file {where!r} has a control character in its name; rename or remove it")
    if year is None:
        year = detect_year([f"{split}/{name}"])
    stem, dot, suffix = name.rpartition(".")
    if dot + suffix.lower() not in AUDIO_SUFFIXES:
        kinds = " or ".join(AUDIO_SUFFIXES)
        raise DataError(f"file '{where}' does not end in {kinds}; convert or remove it")
    forms = forms_of(year, real_split)
    match = next(filter(None, (form.pattern.fullmatch(stem) for form in forms)), None)
    if match is None:
        why = reason(stem, forms) if forms else f"{year} has no {real_split} clips"
        raise DataError(
            f"file '{where}' has no {real_split} name of {year}: {why}; "
            "rename or remove it, or give the right year"
        )
    said = match.groupdict()
    label = said.get("label") or ""
    domain = "source" if year == 2020 else said.get("domain") or ""
    attributes = said.get("attributes") or ""
    if real_split == "train" and label == "anomaly":
        raise DataError(
            f"file '{where}' is anomalous, but a train folder holds only normal clips; "
            "move it to the test folder"
        )
    if promised and domain != promised:
        raise DataError(
            f"file '{where}' is of domain '{domain}', but its folder '{split}' holds only "
            f"'{promised}' clips; move it to {domain}_test"
        )
    if "kind" in said:
        words = said["kind"].split("_")
        domain = next((word for word in ("source", "target") if word in words), "")
        attributes = "_".join(filter(None, (f"kind_{'-'.join(words)}", attributes)))
    return Clip(
        clip=name,
        year=year,
        subset=subset_of(year, real_split, machine, said["section"], label, path),
        split=real_split,
        machine=machine,
        section=said["section"],
        domain=domain,
        label=label,
        index=int(said["index"]),
        attributes=attributes,
        path=path,
    )


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
    attributes, kind = clip.attributes, ""
    if clip.split == "supplemental":
        _, _, attributes = attributes.partition("kind_")
        words, _, attributes = attributes.partition("_")
        kind = words.replace("-", "_")
    stem, dot, suffix = clip.clip.rpartition(".")
    names = []
    for form in forms_of(clip.year, clip.split):
        written = form.template.format(
            label=clip.label,
            domain=clip.domain,
            section=clip.section,
            section00=clip.section,
            index4=f"{clip.index:04d}",
            index8=f"{clip.index:08d}",
            kind=kind,
            rest=attributes and f"_{attributes}",
        )
        if _says(form, written, clip):
            names.append(written)
    if not names:
        raise DataError(f"no {clip.split} name of {clip.year} says what this record says: {clip}")
    return (stem if stem in names else names[0]) + (dot + suffix or ".wav")


def _says(form: Form, written: str, clip: Clip) -> bool:
    """Tell whether ``written`` fits the form and reads back as the same record."""
    if form.pattern.fullmatch(written) is None:
        return False
    name = written + ".wav"
    try:
        read = parse_name(name, machine=clip.machine, split=clip.split, year=clip.year)
    except DataError:
        return False
    return replace(read, clip=clip.clip, subset=clip.subset, path=clip.path) == clip


def detect_year(names: Iterable[str]) -> int:
    """Tell the year of a set of names, each with or without its folders.

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
    with_id = with_section = ""
    marks: set[int] = set()
    sections: set[str] = set()
    blind = False
    count = 0
    for path in names:
        folder, _, name = path.rpartition("/")
        if name.startswith(("normal_id_", "anomaly_id_", "id_")):
            with_id = with_id or path
            continue
        if not name.startswith("section_"):
            continue
        with_section = with_section or path
        count += 1
        sections.add(name[8:10])
        if folder.endswith(("source_test", "target_test")) or _BLIND_2021.match(name):
            marks.add(2021)
        elif folder.endswith("supplemental"):
            marks.add(2025)
        elif "_noAttribute" in name:
            marks.add(2024)
        blind = blind or _BLIND.match(name) is not None
    if with_id and with_section:
        raise DataError(
            f"'{with_id}' is a name of 2020 and '{with_section}' one of a later year; "
            "index the folder of each year by itself"
        )
    if with_id:
        return 2020
    if not with_section:
        raise DataError(
            "no file name starts with 'normal_id_', 'anomaly_id_', 'id_' (2020) or 'section_' "
            "(2021 to 2026); give a folder in an official layout"
        )
    for year in (2021, 2025, 2024):
        if year in marks:
            return year
    return 2023 if sections == {"00"} and (blind or count > 1) else 2022


_BLIND_2021 = re.compile(r"section_[0-9]{2}_(?:source|target)_test_[0-9]{4}\.")
_BLIND = re.compile(r"section_[0-9]{2}_(?:test_)?[0-9]{4}\.")
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
    if attributes in ("", "noAttribute"):
        return {}
    fields = [part for part in attributes.split("_") if part != "noAttribute"]
    return dict(zip(fields[::2], [*fields[1::2], ""][: len(fields[::2])], strict=True))
