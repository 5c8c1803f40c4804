"""File names of all years: golden cases, every field read, the refusal of every corruption."""

import csv
import os
import re
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from asdlib.data import Clip, clip_key, detect_year, parse_name, plain_name
from asdlib.data.naming import FORMS
from asdlib.errors import DataError, ScoreError

REFERENCE = os.environ.get("ASDLIB_REFERENCE")
needs_reference = pytest.mark.skipif(not REFERENCE, reason="ASDLIB_REFERENCE is not set")

# name, machine, folder, year → subset, split, section, domain, label, index, attributes
GOLDEN = """
anomaly_id_01_00000002.wav ToyCar test 2020 development test 01 source anomaly 2 -
normal_id_05_00000999.wav ToyCar train 2020 evaluation train 05 source normal 999 -
normal_id_03_00000001.wav ToyConveyor train 2020 development train 03 source normal 1 -
normal_id_03_00000001.wav fan train 2020 evaluation train 03 source normal 1 -
id_01_00000000.wav fan test 2020 evaluation test 01 source - 0 -
section_00_source_train_normal_0000_strength_1_ambient.wav fan train 2021 \
 development train 00 source normal 0 strength_1_ambient
section_02_target_test_anomaly_0099.wav pump target_test 2021 \
 development test 02 target anomaly 99 -
section_03_source_test_0000.wav pump source_test 2021 evaluation test 03 source - 0 -
section_00_source_test_normal_0000_m-n_W.wav fan test 2022 development test 00 source normal 0 m-n_W
section_03_target_train_normal_0009_car_G2_spd_34V_mic_1_noise_6.wav ToyCar train 2022 \
 evaluation train 03 target normal 9 car_G2_spd_34V_mic_1_noise_6
section_03_0000.wav fan test 2022 evaluation test 03 - - 0 -
section_03_test_0000.wav fan test 2022 evaluation test 03 - - 0 -
section_00_0199.wav ToyTank test 2023 evaluation test 00 - - 199 -
section_00_source_train_normal_0001_grindstone_1.flac grinder train 2023 \
 evaluation train 00 source normal 1 grindstone_1
section_00_target_train_normal_0007_noAttribute.wav fan train 2024 \
 development train 00 target normal 7 noAttribute
section_00_machine_0001.wav fan supplemental 2025 development supplemental 00 - - 1 kind_machine
section_00_noise_source_0100_noAttribute.wav fan supplemental 2025 \
 development supplemental 00 source - 100 kind_noise-source_noAttribute
section_00_source_test_anomaly_0003_noAttribute.wav ToyCar test 2026 \
 development test 00 source anomaly 3 noAttribute
"""


def test_golden_names() -> None:
    for line in GOLDEN.strip().splitlines():
        name, machine, folder, year, *said = ("" if word == "-" else word for word in line.split())
        subset, split, section, domain, label, index, attributes = said
        clip = parse_name(name, machine=machine, split=folder, year=int(year), path="a/b.wav")
        assert clip == Clip(
            name, int(year), subset, split, machine, section, domain, label, int(index), attributes,
            "a/b.wav",
        )  # fmt: skip


LABEL = st.sampled_from(["normal", "anomaly"])
DOMAIN = st.sampled_from(["source", "target"])
WORD = st.text("abzAMZ0159-.", min_size=1, max_size=6)
ATTRIBUTES = st.one_of(st.just(""), st.lists(WORD, min_size=1, max_size=5).map("_".join))


@st.composite
def structures(draw: st.DrawFn) -> tuple[str, str, str, int]:
    """(part before the attributes, attributes, split folder, year), built without the templates."""
    year = draw(st.sampled_from(sorted(FORMS)))
    label, domain = draw(LABEL), draw(DOMAIN)
    section = f"{draw(st.integers(0, 99)):02d}" if year < 2023 else "00"
    if year == 2020:
        number = f"{draw(st.integers(0, 99_999_999)):08d}"
        kind = draw(st.sampled_from(["train", "test", "blind"]))
        start = {"train": "normal_", "test": f"{label}_", "blind": ""}[kind]
        return f"{start}id_{section}_{number}", "", kind.replace("blind", "test"), year
    number, attributes = f"{draw(st.integers(0, 9999)):04d}", draw(ATTRIBUTES)
    kinds = ["train", "test", "blind", *(["supplemental"] if year >= 2025 else [])]
    kind = draw(st.sampled_from(kinds))
    if kind == "train":
        return f"section_{section}_{domain}_train_normal_{number}", attributes, "train", year
    if kind == "supplemental":
        word = draw(st.sampled_from(["machine", "noise", "machine_source", "target_noise"]))
        return f"section_{section}_{word}_{number}", attributes, "supplemental", year
    folder = draw(st.sampled_from(["test", f"{domain}_test"])) if year == 2021 else "test"
    if kind == "test":
        return f"section_{section}_{domain}_test_{label}_{number}", attributes, folder, year
    middle = f"{domain}_test_" if year == 2021 else draw(st.sampled_from(["", "test_"]))
    return f"section_{section}_{middle}{number}", "", folder, year


@given(structures(), st.sampled_from([".wav", ".flac", ".WAV"]))
@settings(max_examples=200)
def test_every_name_is_read_with_its_fields(parts: tuple[str, str, str, int], suffix: str) -> None:
    stem, attributes, folder, year = parts
    name = stem + ("_" + attributes if attributes else "") + suffix
    clip = parse_name(name, machine="fan", split=folder, year=year)
    assert clip.clip == name
    assert clip.attributes.endswith(attributes)
    assert f"{clip.index:04d}" in name
    assert f"_{clip.section}_" in name


@given(structures(), st.data())
@settings(max_examples=200)
def test_every_corruption_is_refused_with_its_reason(
    parts: tuple[str, str, str, int], data: st.DataObject
) -> None:
    stem, attributes, folder, year = parts
    name = stem + ("_" + attributes if attributes else "") + ".wav"
    how = data.draw(st.sampled_from(["delete", "insert", "case", "letter", "suffix", "split"]))
    # Other words make another supplemental name, so only its fixed parts are damaged.
    fixed = len("section_00") if folder == "supplemental" else len(stem)
    at = data.draw(st.integers(0, fixed - 1))
    if how == "delete":
        name = name[:at] + name[at + 1 :]
    elif how == "insert":
        at = data.draw(st.integers(0, len(name)))
        name = name[:at] + data.draw(st.sampled_from(" /()ä٣\n")) + name[at:]
    elif how == "letter":
        name = name[:at] + "x" + name[at:]
    elif how == "case":
        name = name.replace("section", "Section").replace("id_", "ID_")
    elif how == "suffix":
        name = name.removesuffix(".wav") + data.draw(st.sampled_from(["", ".mp3", ".wav.txt", "_"]))
    else:
        year, folder = (2022, "supplemental") if year > 2020 else (2020, "supplemental")
    with pytest.raises(DataError) as caught:
        parse_name(name, machine="fan", split=folder, year=year)
    message = str(caught.value)
    assert name in message or repr(name)[1:-1] in message
    assert re.search("expected|has no", message)
    assert ";" in message
    assert "\n" not in message


PIECE = st.sampled_from(
    ["section_00", "_", "id_01", "00000000", "0001", ".wav", "/", "..", "normal"]
)


@given(st.lists(st.one_of(PIECE, st.text(max_size=6)), max_size=8).map("".join),
       st.text(max_size=8),
       st.sampled_from(["train", "test", "supplemental", "source_test"]),
       st.sampled_from([None, 2020, 2022, 2025]))  # fmt: skip
@settings(max_examples=300)
def test_any_text_is_a_clip_or_an_error_of_one_line(
    name: str, machine: str, folder: str, year: int | None
) -> None:
    reason, clip = "", None
    try:
        clip = parse_name(name, machine=machine, split=folder, year=year)
    except DataError as error:
        reason = str(error)
    assert reason.isprintable()
    assert clip is None or (clip.section.isdecimal() and "/" not in clip.clip + clip.machine)


REASONS = [
    (
        "section_00_sorce_test_normal_0000.wav",
        "test",
        2022,
        "section_<section>_<domain>_test_<label>_<index>[",
    ),
    (
        "anomaly_id_1_00000002.wav",
        "test",
        2020,
        "<label>_id_<section>_<id> or id_<section>_<id>, and",
    ),
    ("anomaly_id_01_0000002.wav", "test", 2020, "has no test name of 2020: expected <label>"),
    (
        "normal_id_01_00000002_x.wav",
        "train",
        2020,
        "expected <label:normal>_id_<section>_<id>, and .wav or .flac;",
    ),
    ("section_01_0000.wav", "test", 2023, "or section_<section:00>_[test_]<index>, and"),
    ("section_00_0000.wav", "test", 2021, "or section_<section>_<domain>_test_<index>, and"),
    (
        "section_00_source_test_normal_0000.wav",
        "train",
        2022,
        "_<domain>_train_<label:normal>_<index>[_<attributes>], and",
    ),
    ("section_00_0000.wav", "supplemental", 2025, "expected section_<section:00>_<words>_<index>["),
    (
        "section_00_source_train_anomaly_0000.wav",
        "train",
        2022,
        "expected section_<section>_<domain>_train_<label:normal>_",
    ),
    (
        "anomaly_id_00_00000000.wav",
        "train",
        2020,
        "has no train name of 2020: expected <label:normal>_",
    ),
    ("section_03_target_test_0000.wav", "source_test", 2021, "move it to target_test"),
    ("section_00_machine_0000.wav", "supplemental", 2024, "2024 has no supplemental clips"),
    ("section_00_0000.mp3", "test", 2023, "and .wav or .flac"),
    ("section_00_0000.wav", "dev", 2023, "split 'dev' is not known"),
    ("section_00_0000.wav", "test", 2019, "year 2019 has no file-name grammar"),
    ("", "test", 2022, "has no test name of 2022"),
    ("section_٠٣_0000.wav", "test", 2022, "has no test name of 2022"),
    ("section_03_٠000.wav", "test", 2022, "has no test name of 2022"),
]


def test_reasons() -> None:
    for name, folder, year, reason in REASONS:
        with pytest.raises(DataError, match=re.escape(reason)):
            parse_name(name, machine="fan", split=folder, year=year)


YEARS = [
    ("normal_id_00_00000000.wav notes.wav", 2020),
    ("id_01_00000000.wav", 2020),
    ("fan/source_test/section_00_source_test_normal_0000.wav", 2021),
    ("section_03_target_test_0000.wav", 2021),
    ("section_00_source_test_normal_0000_m-n_W.wav", 2022),
    ("section_00_source_train_normal_0000.wav section_01_source_train_normal_0000.wav", 2022),
    ("section_03_0000.wav", 2022),
    ("section_03_test_0000.wav", 2022),
    ("section_00_0000.wav", 2023),
    ("section_00_source_train_normal_0000.wav section_00_source_train_normal_0001.wav", 2023),
    ("section_00_source_train_normal_0000_noAttribute.wav", 2024),
    ("section_00_0_noAttribute.wav fan/supplemental/section_00_noise_0001.wav", 2025),
]


def test_detect_year() -> None:
    for names, year in YEARS:
        assert detect_year(names.split()) == year
        assert detect_year(reversed(names.split())) == year


def test_years_that_cannot_be_told() -> None:
    for names, message in [
        ("id_01_00000000.wav section_03_0000.wav", "index the folder of each year by itself"),
        ("hello.wav", "no file name starts with"),
        ("", "no file name starts with"),
    ]:
        with pytest.raises(DataError, match=message):
            detect_year(names.split())


def test_keys_join_spellings() -> None:
    spellings = ["section_03_0000.wav", "section_03_test_0000.wav", "section_03_test_0000.FLAC"]
    assert {clip_key(name) for name in spellings} == {"section_03_0000"}
    for name in ("section_00_source_test_normal_0000_a_3.0", "id_01_00000000"):
        assert clip_key(name) == name


def test_plain_names_are_kept() -> None:
    for name in ["fan", "ToyCar", "3DPrinter", "Bohrmaschine ä", "x" * 64, "a-b.c"]:
        assert plain_name(name, "machine") == name


NO_PATHS = [
    ("", "is empty"),
    ("x" * 65, "has 65 characters, at most 64"),
    ("x" * 5000, "has 5000 characters"),
    ("fa/n", "path separator"),
    ("fa\\n", "path separator"),
    ("/../../escaped/fan", "path separator"),
    ("..", "dot or a space"),
    (".fan", "dot or a space"),
    ("fan ", "dot or a space"),
    ("fan\r", "cannot be printed"),
    ("fan\0", "cannot be printed"),
    ("fan\u202e", "cannot be printed"),
    ("fan\udcff", "cannot be printed"),
    ("Mu\u0308ller", "composed form"),
    ("Average", "mean of all machines"),
]


def test_names_that_must_not_become_paths_are_refused() -> None:
    for name, reason in NO_PATHS:
        with pytest.raises(ScoreError, match=reason) as caught:
            plain_name(name, "machine", ScoreError)
        assert len(str(caught.value)) < 200
        assert str(caught.value).isprintable()


@needs_reference
def test_official_names_of_the_2022_evaluation_set() -> None:
    folder = Path(REFERENCE or "") / "ground_truth_2022" / "ground_truth_attributes"
    count = 0
    for path in sorted(folder.glob("*/attributes_*.csv")):
        for row in csv.DictReader(path.read_text().splitlines()):
            cells = [value for value in row.values() if isinstance(value, str)]
            for place in (cells[0], cells[-1]):
                machine, split, name = place.split("/")
                clip = parse_name(name, machine=machine, split=split, year=2022)
                assert clip.clip == name
                assert clip.subset == "evaluation"
            count += 1
    assert count == 4200


@needs_reference
@pytest.mark.parametrize(
    ("folder", "year", "each"),
    [("dcase2022_baseline_ae_rerun", 2022, 50), ("mlperf_tiny_toycar", 2020, None)],
)
def test_names_in_public_score_files(folder: str, year: int, each: int | None) -> None:
    counts: dict[tuple[str, ...], int] = {}
    for path in sorted((Path(REFERENCE or "") / "scores" / folder).glob("anomaly_score_*.csv")):
        machine = path.name.split("_")[2]
        for name, _ in csv.reader(path.read_text().splitlines()):
            clip = parse_name(name, machine=machine, split="test")
            assert (clip.year, clip.subset) == (year, "development")
            group = (machine, clip.section, clip.domain, clip.label)
            counts[group] = counts.get(group, 0) + 1
    assert set(counts.values()) == {each} if each else counts
