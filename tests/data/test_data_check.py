"""Counts against the official ones, and the header scan: every fault is found and named."""

import os
import struct
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from asdlib.data import (
    Clip,
    check_audio,
    check_folder,
    clip_table,
    format_name,
    index_folder,
    official_audio,
    official_counts,
    summarise,
)
from asdlib.data.official import compare_counts
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
    made = []
    for index in range(start, start + clips):
        bare = ("", year, subset, split, machine, section, domain, label, index, attributes, "")
        name = format_name(Clip(*bare))
        made.append(Clip(name, *bare[1:-1], f"{machine}/{split}/{name}"))
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
    counts = official_counts(2020)
    totals = counts.groupby(["subset", "split"])["clips"].sum().to_dict()
    assert totals["development", "train"] == 20_119
    assert totals["development", "test"] == 10_868
    assert totals["evaluation", "test"] == 7_103
    assert sum(totals.values()) == 54_254
    counts = official_counts(2022)
    per_section = counts.groupby(["subset", "machine", "section", "split"])["clips"].sum()
    assert set(per_section.xs("train", level="split")) == {1000}
    assert set(per_section.xs("test", level="split")) == {200}
    assert len(per_section) == 7 * 6 * 2
    assert counts.loc[counts["domain"] == "target", "clips"].isin([10, 50]).all()
    assert official_counts(2023).empty
    assert counts["source"].str.len().gt(0).all()


def test_official_channels_and_seconds() -> None:
    assert official_audio(2020) == (1, {"ToyCar": (11.0, 11.0), "*": (10.0, 10.0)})
    assert official_audio(2023) == (1, {"*": (0.0, 18.0)})
    assert official_audio(2026) == (2, {})
    assert official_audio(0) == (1, {})


def test_a_complete_set_has_no_fault() -> None:
    assert compare_counts(clip_table(development() + development("valve")), 2022) == []


def test_each_missing_clip_is_named() -> None:
    clips = development()
    gone = [clip for clip in clips if clip.index == 7 and clip.section == "01"]
    faults = compare_counts(clip_table(clip for clip in clips if clip not in gone), 2022)
    assert {fault.kind for fault in faults} == {"missing"}
    assert {fault.path for fault in faults} == {
        clip.path.replace("_m-n_W.wav", "_*.wav") for clip in gone
    }
    assert len(faults) == len(gone) == 6
    assert "download its archive again" in faults[0].message


def test_each_surplus_clip_is_named() -> None:
    extra = group(clips=2, domain="target", start=10)
    faults = compare_counts(clip_table(development() + extra), 2022)
    assert [(fault.kind, fault.path) for fault in faults] == [
        ("surplus", clip.path) for clip in extra
    ]


def test_unusual_numbers_are_counted_but_not_guessed() -> None:
    clips = [clip for clip in development() if (clip.section, clip.domain) != ("00", "target")]
    clips += group(clips=9, domain="target", start=500)
    faults = compare_counts(clip_table(clips), 2022)
    train = [fault for fault in faults if "train target normal" in fault.message]
    assert [fault.message.split(";")[0] for fault in train] == [
        "fan section 00 development train target normal: 9 clips, expected 10 (missing)"
    ]
    assert {
        fault.message.split(":")[1].split(";")[0] for fault in faults if fault not in train
    } == {" 0 clips, expected 50 (missing)"}


def test_a_lost_split_or_section_is_missing_but_an_absent_machine_is_not() -> None:
    only_train = [clip for clip in development() if clip.split == "train"]
    faults = compare_counts(clip_table(only_train), 2022)
    assert len(faults) == 12
    assert all(" test " in fault.message and "0 clips" in fault.message for fault in faults)
    demanded = compare_counts(clip_table(development()), 2022, machines=["fan", "valve"])
    assert len(demanded) == 18
    assert all(fault.message.startswith("valve") for fault in demanded)


def test_evaluation_archives_are_judged_one_by_one() -> None:
    blind: list[Clip] = []
    for section in ("03", "04", "05"):
        blind += group(
            clips=200, section=section, split="test", domain="", label="", attributes="",
            subset="evaluation",
        )  # fmt: skip
    assert compare_counts(clip_table(blind), 2022) == []
    faults = compare_counts(clip_table(blind[:199] + blind[200:]), 2022)
    assert [fault.path for fault in faults] == ["fan/test/section_03_0199.wav"]


def test_foreign_machines_and_years() -> None:
    clips = group(clips=3, machine="fridge")
    faults = compare_counts(clip_table(clips), 2022)
    assert [fault.message.split(":")[0] for fault in faults] == [
        "fridge section 00 development train source normal"
    ]
    assert "without official counts" in faults[0].message
    assert compare_counts(clip_table(group(clips=3, year=2024)), 2024) == []


def test_counts_of_2020_with_labels_that_are_only_known_in_sum() -> None:
    clips: list[Clip] = []
    for section in ("01", "02", "03"):
        made = {"year": 2020, "machine": "ToyConveyor", "section": section, "attributes": ""}
        clips += group(clips=1000, **made)
        clips += group(clips=800, split="test", **made)
    clips += group(clips=1108, split="test", label="anomaly", **made)
    faults = compare_counts(clip_table(clips), 2020)
    assert [fault.message.split(";")[0] for fault in faults] == [
        "ToyConveyor development test source: 3508 clips, expected 3509 (missing)"
    ]


def riff(path: Path, data: bytes, *, promised: int, before: bytes = b"") -> None:
    head = struct.pack("<4sI4s", b"RIFF", 36 + len(before) + len(data), b"WAVE")
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    path.write_bytes(head + form + before + struct.pack("<4sI", b"data", promised) + data)


def test_each_audio_fault_is_found_and_named(tmp_path: Path) -> None:
    paths = [write(fan(tmp_path, number)) for number in range(13)]
    whole = paths[0].read_bytes()
    paths[1].write_bytes(b"")
    paths[2].write_bytes(whole[:20])
    paths[3].write_bytes(b"not a sound at all" * 10)
    paths[4].write_bytes(whole[:-2])
    riff(paths[5], b"\0" * 100, promised=0)
    riff(paths[6], b"", promised=0)
    write(paths[7], rate=44100)
    write(paths[8], channels=2)
    write(paths[9], seconds=0.2)
    riff(paths[10], b"\0" * 3200, promised=3200, before=b"LIST\x03\0\0\0abc\0")
    riff(paths[11], b"\0" * 3200, promised=0xFFFFFFFF)
    riff(paths[12], b"\0" * 3200, promised=4000, before=b"LIST\x03\0\0\0abc\0")
    table = index_folder(tmp_path)
    faults = check_audio(tmp_path, table, seconds={"*": (0.1, 0.1)})
    assert [(Path(fault.path).name[-5], fault.kind) for fault in faults] == [
        ("1", "empty"),
        ("2", "unreadable"),
        ("3", "unreadable"),
        ("4", "truncated"),
        ("5", "unreadable"),
        ("6", "empty"),
        ("7", "rate"),
        ("8", "channels"),
        ("9", "length"),
        ("1", "truncated"),
        ("2", "truncated"),
    ]
    for fault in faults:
        assert fault.path in fault.message
        assert ";" in fault.message
        assert "\n" not in fault.message
    messages = {fault.kind: fault.message for fault in faults}
    assert "44100 Hz, expected 16000 Hz" in messages["rate"]
    assert "2 channels, expected 1" in messages["channels"]
    assert "lasts 0.200 s, expected 0.1 s" in messages["length"]
    assert "promises 3200 bytes of audio, it holds 3198" in next(
        fault.message for fault in faults if fault.kind == "truncated"
    )


def test_every_cut_of_a_wav_is_found(tmp_path: Path) -> None:
    whole = write(fan(tmp_path)).read_bytes()
    table = index_folder(tmp_path)
    assert check_audio(tmp_path, table) == []
    for size in range(0, len(whole), 37):
        fan(tmp_path).write_bytes(whole[:size])
        (fault,) = check_audio(tmp_path, table)
        assert fault.kind in ("empty", "unreadable", "truncated"), size


def test_flac_is_read_and_a_cut_one_is_found(tmp_path: Path) -> None:
    path = write(fan(tmp_path, suffix=".flac"), seconds=2.0)
    table = index_folder(tmp_path)
    assert check_audio(tmp_path, table) == []
    whole = path.read_bytes()
    for share in (0.1, 0.5, 0.9):
        path.write_bytes(whole[: int(len(whole) * share)])
        (fault,) = check_audio(tmp_path, table)
        assert fault.kind in ("truncated", "unreadable")


def test_a_file_that_vanished_or_is_locked_is_a_fault(tmp_path: Path) -> None:
    table = index_folder(write(fan(tmp_path)).parents[2])
    fan(tmp_path).unlink()
    (fault,) = check_audio(tmp_path, table)
    assert fault.kind == "unreadable"
    assert "No such file" in fault.message


def test_limits_can_be_lifted(tmp_path: Path) -> None:
    write(fan(tmp_path), rate=8000, channels=2)
    table = index_folder(tmp_path)
    assert check_audio(tmp_path, table, sample_rate=None, channels=None) == []
    assert check_audio(tmp_path, table, sample_rate=8000, channels=2) == []
    assert [fault.kind for fault in check_audio(tmp_path, table)] == ["rate"]
    bounds = {"pump": (1.0, 1.0)}
    assert check_audio(tmp_path, table, sample_rate=None, channels=None, seconds=bounds) == []


def test_order_and_progress_do_not_depend_on_threads(tmp_path: Path) -> None:
    for number in range(600):
        fan(tmp_path, number).parent.mkdir(parents=True, exist_ok=True)
        fan(tmp_path, number).touch()
    table = index_folder(tmp_path)
    told: list[tuple[int, int]] = []
    faults = check_audio(
        tmp_path, table, jobs=4, on_progress=lambda done, total: told.append((done, total))
    )
    assert [fault.path for fault in faults] == table["path"].tolist()
    assert told == [(256, 600), (512, 600), (600, 600)]
    assert check_audio(tmp_path, table, jobs=1) == faults


def test_report_of_a_folder(tmp_path: Path) -> None:
    write(fan(tmp_path))
    write(fan(tmp_path, 1), rate=8000)
    write(tmp_path / "fan" / "test" / "mine.wav")
    report = check_folder(tmp_path, official=False)
    assert not report.ok
    assert report.by_kind() == {"name": 1, "rate": 1}
    assert report.year == 2020
    assert len(report.table) == 2
    assert report.summary["clips"].tolist() == [2]
    assert [fault.path for fault in report.faults] == [
        "fan/test/mine.wav",
        "fan/test/normal_id_00_00000001.wav",
    ]
    strict = check_folder(tmp_path, audio=False)
    assert strict.by_kind()["missing"] > 98
    assert {"rate", "length"}.isdisjoint(strict.by_kind())
    assert check_folder(tmp_path).by_kind()["length"] == 1
    (tmp_path / "fan" / "test" / "mine.wav").unlink()
    write(fan(tmp_path, 1))
    assert check_folder(tmp_path, official=False).ok


def test_two_channels_are_right_in_2026(tmp_path: Path) -> None:
    name = "section_00_source_train_normal_0001_noAttribute.wav"
    write(tmp_path / "fan" / "train" / name, channels=2)
    assert check_folder(tmp_path, year=2026).ok
    assert check_folder(tmp_path, year=2024).by_kind() == {"channels": 1}


def test_folders_that_cannot_be_checked(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        check_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no"):
        check_folder(tmp_path)


def test_a_folder_with_faulty_names_only_still_gets_a_report(tmp_path: Path) -> None:
    write(tmp_path / "recordings" / "one.wav")
    report = check_folder(tmp_path)
    assert report.by_kind() == {"name": 1}
    assert report.year == 0
    assert report.table.empty


def test_headers_are_scanned_fast(tmp_path: Path) -> None:
    first = write(fan(tmp_path), seconds=1.0)
    for number in range(1, 5000):
        fan(tmp_path, number).hardlink_to(first)
    table = index_folder(tmp_path)
    start = time.process_time()
    assert check_audio(tmp_path, table) == []
    # About 0.25 s for 5,000; processor time, because the machine may be busy with other tests.
    assert time.process_time() - start < 2.0


@pytest.mark.skipif(not REAL, reason="ASDLIB_REAL_DATA is not set")
def test_real_recordings_are_sound() -> None:
    root = Path(REAL or "") / "wav"
    table = index_folder(root)
    channels, seconds = official_audio(2020)
    assert check_audio(root, table, channels=channels, seconds=seconds) == []
    assert len(check_audio(root, table, seconds={"*": (10.0, 10.0)})) == 3
    report = check_folder(root)
    assert set(report.by_kind()) == {"missing"}
    named = {fault.path for fault in report.faults}
    assert "fan/test/anomaly_id_06_00000360.wav" in named
    assert named.isdisjoint(table["path"])


@pytest.mark.skipif(not REAL, reason="ASDLIB_REAL_DATA is not set")
def test_a_cut_real_recording_is_found(tmp_path: Path) -> None:
    real = next((Path(REAL or "") / "wav" / "fan" / "test").glob("*.wav"))
    copy = tmp_path / "fan" / "test" / real.name
    copy.parent.mkdir(parents=True)
    copy.write_bytes(real.read_bytes()[:100_000])
    (fault,) = check_audio(tmp_path, index_folder(tmp_path))
    assert fault.kind == "truncated"
    assert isinstance(index_folder(tmp_path), pd.DataFrame)
