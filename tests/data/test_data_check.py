"""Counts against the official ones, and the header scan: every fault is found and named."""

import os
import struct
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdlib.data import (
    Clip,
    Fault,
    check_folder,
    clip_table,
    index_folder,
    summarise,
)
from asdlib.data.check import compare_counts
from asdlib.errors import DataError

REAL = os.environ.get("ASDLIB_REAL_DATA")
RATE = 16000


def write(path: Path, *, seconds: float = 0.1, rate: int = RATE, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(0).normal(size=(round(seconds * rate), channels)) * 0.1
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


def fan(root: Path, number: int = 0, suffix: str = ".wav") -> Path:
    return root / "fan" / "test" / f"normal_id_00_{number:08d}{suffix}"


def audio_faults(root: Path) -> list[Fault]:
    """Faults of files that need not be official recordings."""
    return check_folder(root, official=False)[1]


def kinds(root: Path, **options: object) -> list[str]:
    return [fault.kind for fault in check_folder(root, **options)[1]]


def group(
    *,
    clips: int,
    year: int = 2022,
    machine: str = "fan",
    section: str = "00",
    split: str = "train",
    domain: str = "source",
    label: str = "normal",
    attributes: str = "m-n_W",
    start: int = 0,
    subset: str = "development",
) -> list[Clip]:
    place = (year, subset, split, machine, section, domain, label)
    made = []
    for index in range(start, start + clips):
        parts = ["section", section, domain, domain and split, label, f"{index:04d}", attributes]
        if year == 2020:
            parts = [label, "id", section, f"{index:08d}"]
        name = "_".join(filter(None, parts)) + ".wav"
        made.append(Clip(name, *place, index, attributes, f"{machine}/{split}/{name}"))
    return made


def development(machine: str = "fan") -> list[Clip]:
    clips: list[Clip] = []
    for section in ("00", "01", "02"):
        clips += group(clips=990, machine=machine, section=section)
        clips += group(clips=10, machine=machine, section=section, domain="target")
        for domain in ("source", "target"):
            for label in ("normal", "anomaly"):
                clips += group(
                    clips=50, machine=machine, section=section, split="test",
                    domain=domain, label=label,
                )  # fmt: skip
    return clips


def miscounts(clips: list[Clip], year: int = 2022) -> list[str]:
    """Kind and beginning of each message."""
    faults = compare_counts(clip_table(clips), year)
    assert all("\n" not in fault.message for fault in faults)
    return [f"{fault.kind}: {fault.message.split(';')[0]}" for fault in faults]


def test_summary_counts_every_group() -> None:
    clips = group(clips=3) + group(clips=2, domain="target") + group(clips=4, section="01")
    assert summarise(clip_table(clips)).to_dict("split")["data"] == [
        ["fan", "00", "train", "source", "normal", 3],
        ["fan", "00", "train", "target", "normal", 2],
        ["fan", "01", "train", "source", "normal", 4],
    ]
    empty = summarise(clip_table([]))
    assert list(empty.columns) == ["machine", "section", "split", "domain", "label", "clips"]
    assert empty.empty


def test_official_totals_are_those_of_the_dataset_description() -> None:
    with (files("asdlib.data") / "official_counts.csv").open() as lines:
        counts = pd.read_csv(lines, dtype={"section": str}, keep_default_na=False)
    totals = counts[counts["year"] == 2020].groupby(["subset", "split"])["clips"].sum().to_dict()
    assert totals["development", "train"] == 20_119
    assert totals["development", "test"] == 10_868
    assert totals["evaluation", "test"] == 7_103
    assert sum(totals.values()) == 54_254
    later = counts[counts["year"] == 2022]
    per_section = later.groupby(["subset", "machine", "section", "split"])["clips"].sum()
    assert set(per_section.xs("train", level="split")) == {1000}
    assert set(per_section.xs("test", level="split")) == {200}
    assert len(per_section) == 7 * 6 * 2
    assert later.loc[later["domain"] == "target", "clips"].isin([10, 50]).all()
    assert counts["source"].str.len().gt(0).all()


def test_missing_and_surplus_clips_are_counted_and_numbered() -> None:
    clips = development()
    assert miscounts(clips + development("valve")) == []
    gone = [clip for clip in clips if clip.index in (7, 8) and clip.section == "01"]
    faults = compare_counts(clip_table(clip for clip in clips if clip not in gone), 2022)
    assert {fault[:2] for fault in faults} == {("fan/train", "missing"), ("fan/test", "missing")}
    assert len(faults) == 6
    assert faults[0].message == (
        "fan section 01 development train source normal: 988 clips, expected 990 (missing: 7, 8); "
        "unpack or download its archive again"
    )
    extra = group(clips=9, domain="target", start=10)
    assert miscounts(clips + extra) == [
        "surplus: fan section 00 development train target normal: 19 clips, expected 10 "
        "(surplus: 10, 11, 12, 13, 14, 15, 16, 17, 18)"
    ]


def test_unusual_numbers_are_counted_but_not_guessed() -> None:
    clips = [clip for clip in development() if (clip.section, clip.domain) != ("00", "target")]
    found = miscounts(clips + group(clips=9, domain="target", start=500))
    assert sorted(found) == [
        f"missing: fan section 00 development {rest} (missing)"
        for rest in (
            "test target anomaly: 0 clips, expected 50",
            "test target normal: 0 clips, expected 50",
            "train target normal: 9 clips, expected 10",
        )
    ]


def test_a_lost_split_is_missing_but_an_absent_machine_is_not() -> None:
    clips = development()
    found = miscounts([clip for clip in clips if clip.split == "train"])
    assert len(found) == 12
    assert all(" test " in text and "0 clips" in text for text in found)


def test_evaluation_archives_are_judged_one_by_one() -> None:
    blind: list[Clip] = []
    for section in ("03", "04", "05"):
        blind += group(
            clips=200, section=section, split="test", domain="", label="", attributes="",
            subset="evaluation",
        )  # fmt: skip
    assert miscounts(blind) == []
    found = miscounts(blind[:199] + blind[200:])
    assert found == [
        "missing: fan section 03 evaluation test: 199 clips, expected 200 (missing: 199)"
    ]


def test_foreign_machines_and_years() -> None:
    assert miscounts(group(clips=3, machine="fridge")) == [
        "surplus: fridge section 00 development train source normal: 3 clips that 2022 does not "
        "have"
    ]
    assert miscounts(group(clips=3, year=2024), 2024) == []


def test_counts_of_2020_with_labels_that_are_only_known_in_sum() -> None:
    clips: list[Clip] = []
    for section in ("01", "02", "03"):
        made = {"year": 2020, "machine": "ToyConveyor", "section": section, "attributes": ""}
        clips += group(clips=1000, **made)
        clips += group(clips=800, split="test", **made)
    clips += group(clips=1108, split="test", label="anomaly", **made)
    assert miscounts(clips, 2020) == [
        "missing: ToyConveyor development test source: 3508 clips, expected 3509 (missing)"
    ]


def riff(path: Path, data: bytes, *, promised: int, before: bytes = b"") -> None:
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(before) + len(data), b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    path.write_bytes(head + form + before + struct.pack("<4sI", b"data", promised) + data)


def test_each_audio_fault_is_found_and_named(tmp_path: Path) -> None:
    paths = [write(fan(tmp_path, number)) for number in range(12)]
    whole = paths[0].read_bytes()
    paths[1].write_bytes(b"")
    paths[2].write_bytes(whole[:20])
    paths[3].write_bytes(b"not a sound at all" * 10)
    paths[4].write_bytes(whole[:-2])
    riff(paths[5], b"\0" * 100, promised=0)
    riff(paths[6], b"", promised=0)
    write(paths[7], rate=44100)
    write(paths[8], channels=2)
    riff(paths[9], b"\0" * 3200, promised=3200, before=b"LIST\x03\0\0\0abc\0")
    riff(paths[10], b"\0" * 3200, promised=0xFFFFFFFF)
    riff(paths[11], b"\0" * 3200, promised=4000, before=b"LIST\x03\0\0\0abc\0")
    faults = audio_faults(tmp_path)
    assert [(int(Path(fault.path).stem[-8:]), fault.kind) for fault in faults] == [
        (1, "empty"),
        (2, "unreadable"),
        (3, "unreadable"),
        (4, "truncated"),
        (5, "empty"),
        (6, "empty"),
        (7, "rate"),
        (8, "channels"),
        (10, "truncated"),
        (11, "truncated"),
    ]
    for fault in faults:
        assert fault.path in fault.message
        assert ";" in fault.message
        assert "\n" not in fault.message
    messages = {fault.kind: fault.message for fault in reversed(faults)}
    assert "44100 Hz, expected 16000 Hz" in messages["rate"]
    assert "2 channels, expected 1" in messages["channels"]
    assert "holds less audio than its header says" in messages["truncated"]


@pytest.mark.parametrize("suffix", [".wav", ".flac"])
def test_every_cut_is_found(tmp_path: Path, suffix: str) -> None:
    path = write(fan(tmp_path, suffix=suffix), seconds=2.0)
    assert audio_faults(tmp_path) == []
    whole = path.read_bytes()
    sizes = [*range(0, 120, 7), *(len(whole) * tenth // 10 for tenth in range(1, 10))]
    for size in sizes if suffix == ".wav" else sizes[-9:]:
        path.write_bytes(whole[:size])
        (fault,) = audio_faults(tmp_path)
        assert fault.kind in ("empty", "unreadable", "truncated"), size


def test_a_file_that_vanished_is_a_fault(tmp_path: Path) -> None:
    fan(tmp_path).parent.mkdir(parents=True)
    fan(tmp_path).symlink_to(tmp_path / "nowhere.wav")
    (fault,) = audio_faults(tmp_path)
    assert fault.kind == "unreadable"
    assert "No such file" in fault.message


def test_order_and_progress_do_not_depend_on_threads(tmp_path: Path) -> None:
    first = fan(tmp_path)
    first.parent.mkdir(parents=True)
    first.touch()
    for number in range(1, 600):
        fan(tmp_path, number).hardlink_to(first)
    steps: list[tuple[int, int]] = []
    table, faults = check_folder(
        tmp_path, official=False, jobs=4, on_progress=lambda *step: steps.append(step)
    )
    assert [fault.path for fault in faults] == table["path"].tolist()
    assert steps == [(256, 600), (512, 600), (600, 600)]
    assert check_folder(tmp_path, official=False, jobs=1)[1] == faults


def test_names_come_first_then_counts_then_audio(tmp_path: Path) -> None:
    write(fan(tmp_path))
    write(fan(tmp_path, 1), rate=8000)
    write(tmp_path / "fan" / "test" / "mine.wav")
    table, faults = check_folder(tmp_path, official=False)
    assert len(table) == 2
    assert [(fault.path, fault.kind) for fault in faults] == [
        ("fan/test/mine.wav", "name"),
        ("fan/test/normal_id_00_00000001.wav", "rate"),
    ]
    strict = check_folder(tmp_path)[1]
    assert strict[0].kind == "name"
    assert {fault.kind for fault in strict[1:-2]} == {"missing"}
    wanted = "fan section 00 development test source normal: 2 clips"
    assert any(fault.message.startswith(wanted) for fault in strict)
    assert [fault.kind for fault in strict[-2:]] == ["length", "rate"]
    assert "lasts 0.100 s, expected 10 s" in strict[-2].message


def test_channels_and_seconds_depend_on_year_and_machine(tmp_path: Path) -> None:
    name = "section_00_source_train_normal_0001_noAttribute.wav"
    clip = write(tmp_path / "a" / "fan" / "train" / name, channels=2)
    assert kinds(clip.parents[2], year=2026) == []
    assert kinds(clip.parents[2], year=2024) == ["channels"]
    toy = tmp_path / "b" / "ToyCar" / "train" / "normal_id_01_00000000.wav"
    for machine, seconds in (("ToyCar", 11.0), ("fan", 11.0), ("fan", 10.0)):
        write(Path(str(toy).replace("ToyCar", machine)), seconds=seconds)
        assert ("length" in kinds(tmp_path / "b")) == (machine == "fan" and seconds == 11.0)


def test_folders_that_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        check_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no"):
        check_folder(tmp_path)
    write(tmp_path / "recordings" / "one.wav")
    table, faults = check_folder(tmp_path)
    assert [fault.kind for fault in faults] == ["name"]
    assert table.empty


def test_headers_are_scanned_fast(tmp_path: Path) -> None:
    first = write(fan(tmp_path), seconds=1.0)
    for number in range(1, 3000):
        fan(tmp_path, number).hardlink_to(first)
    start = time.process_time()
    assert audio_faults(tmp_path) == []
    # About 0.2 s; processor time, because the machine may be busy with other tests.
    assert time.process_time() - start < 1.2


@pytest.mark.skipif(not REAL, reason="ASDLIB_REAL_DATA is not set")
def test_real_recordings_are_sound(tmp_path: Path) -> None:
    root = Path(REAL or "") / "wav"
    table, faults = check_folder(root)
    assert {fault.kind for fault in faults} == {"missing"}
    wanted = "fan section 06 development test source anomaly: 1 clips, expected 361 (missing"
    assert any(fault.message.startswith(wanted) for fault in faults)
    assert len(table) == 9
    real = next((root / "fan" / "test").glob("*.wav"))
    copy = tmp_path / "fan" / "test" / real.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(real.read_bytes()[:100_000])
    assert [fault.kind for fault in audio_faults(tmp_path)] == ["truncated"]
    assert len(index_folder(tmp_path)) == 1
