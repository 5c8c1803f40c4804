"""The clip table and the scan: every level of the layout, order, speed, and clear refusals."""

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from asdlib.data import (
    COLUMNS,
    Clip,
    clip_table,
    index_any_folder,
    index_folder,
    parse_name,
)
from asdlib.data.clips import scan_folder
from asdlib.errors import DataError

REAL = os.environ.get("ASDLIB_REAL_DATA")
OFFICIAL = (
    "dev_data/fan/train/normal_id_00_00000000.wav",
    "dev_data/fan/test/normal_id_00_00000000.wav",
    "dev_data/fan/test/anomaly_id_00_00000000.wav",
    "dev_data/ToyCar/train/normal_id_01_00000001.flac",
    "dev_data/ToyCar/train/normal_id_01_00000000.wav",
    "eval_data/fan/test/id_01_00000000.wav",
)
SECTION = "section_00_source_train_normal_0000"


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def test_table_of_2020(tmp_path: Path) -> None:
    table = index_folder(touch(tmp_path, *OFFICIAL))
    assert tuple(table.columns) == COLUMNS
    assert isinstance(table.index, pd.RangeIndex)
    assert table["path"].tolist() == [OFFICIAL[number] for number in (4, 3, 2, 1, 0, 5)]
    assert table["clip"].tolist() == [path.split("/")[-1] for path in table["path"]]
    assert table["split"].tolist() == ["train", "train", "test", "test", "train", "test"]
    assert table["subset"].tolist() == ["development"] * 5 + ["evaluation"]
    assert table["label"].tolist() == ["normal", "normal", "anomaly", "normal", "normal", ""]
    assert set(table["year"]) == {2020}
    assert set(table["domain"]) == {"source"}
    for name, dtype in clip_table([]).dtypes.items():
        assert table[name].dtype == dtype == ("int64" if name in ("year", "index") else "object")
    assert not table.isna().any().any()


@pytest.mark.parametrize(
    ("level", "clips", "path"),
    [
        ("dev_data", 5, "ToyCar/train/normal_id_01_00000000.wav"),
        ("dev_data/fan", 3, "test/anomaly_id_00_00000000.wav"),
        ("dev_data/fan/test", 2, "anomaly_id_00_00000000.wav"),
    ],
)
def test_root_may_be_any_level(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str, clips: int, path: str
) -> None:
    root = touch(tmp_path, *OFFICIAL) / level
    table = index_folder(str(root))
    assert len(table) == clips
    assert table["path"].iloc[0] == path
    assert all((root / path).is_file() for path in table["path"])
    assert set(table["machine"]) <= {"fan", "ToyCar"}
    monkeypatch.chdir(root)
    pd.testing.assert_frame_equal(index_folder("."), table)


# files → year and the values of a column, in the order of the table
LAYOUTS = {
    "2021": (
        ["pump/source_test/section_00_source_test_normal_0000.wav",
         "pump/target_test/section_00_target_test_anomaly_0000.wav",
         f"pump/train/{SECTION}_strength_1_ambient.wav"],
        2021, {"split": ["test", "test", "train"], "domain": ["source", "target", "source"]},
    ),
    "supplemental of 2025": (
        ["dev_data/raw/fan/supplemental/section_00_machine_0001.wav",
         f"dev_data/raw/fan/train/{SECTION}_noAttribute.wav",
         f"eval_data/raw/BandSealer/train/{SECTION}_v_1.wav"],
        2025, {"subset": ["evaluation", "development", "development"],
               "attributes": ["v_1", "kind_machine", "noAttribute"]},
    ),
    "a machine with blind tests is of the evaluation set": (
        [f"new/train/{SECTION}_v_1.wav", "new/test/section_00_0000.wav",
         f"fan/train/{SECTION}_v_1.wav"],
        2023, {"machine": ["fan", "new", "new"],
               "subset": ["development", "evaluation", "evaluation"]},
    ),
    "other files": (
        [*OFFICIAL, "dev_data/fan/attributes_00.csv", "dev_data/fan/train/Thumbs.db",
         "dev_data/fan/train/._normal_id_00_00000000.wav", "__MACOSX/fan/train/foreign.wav",
         ".cache/x.wav"],
        2020, {"label": ["normal", "normal", "anomaly", "normal", "normal", ""]},
    ),
}  # fmt: skip


def test_layouts(tmp_path: Path) -> None:
    for number, name in enumerate(LAYOUTS):
        folder = tmp_path / str(number)
        folder.mkdir()
        paths, year, columns = LAYOUTS[name]
        table = index_folder(touch(folder, *paths))
        assert set(table["year"]) == {year}
        assert {column: table[column].tolist() for column in columns} == columns


def test_folders_above_the_root_and_a_given_year_count(tmp_path: Path) -> None:
    root = touch(tmp_path, *(f"eval_data/new/train/{SECTION[:-1]}{i}_a_1.wav" for i in (0, 1)))
    assert set(index_folder(root / "eval_data" / "new")["subset"]) == {"evaluation"}
    assert set(index_folder(root, year=2026)["year"]) == {2026}
    with pytest.raises(DataError, match="no train name of 2020"):
        index_folder(root, year=2020)
    with pytest.raises(DataError, match="year 1999 has no file-name grammar"):
        index_folder(root, year=1999)


MISFITS = [
    ("dev_data/fan/train/normal_id_0_00000001.wav", "has no train name of 2020"),
    ("dev_data/fan/train/my recording.wav", "expected <label:normal>_id_<section>_<id>"),
    ("dev_data/fan/train/anomaly_id_00_00000001.wav", "expected <label:normal>_"),
    ("dev_data/fan/normal_id_00_00000001.wav", "does not lie in a split folder of a machine"),
    ("dev_data/fan/train/more/normal_id_00_00000001.wav", "not lie in a split folder"),
    ("normal_id_00_00000001.wav", "not lie in a split folder"),
    ("again/fan/train/normal_id_00_00000000.wav", "repeats 'again/fan"),
    ("fan/test/section_03_0000.wav", "index the folder of each year by itself"),
]


def test_a_file_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    for number, (path, message) in enumerate(MISFITS):
        folder = tmp_path / str(number)
        folder.mkdir()
        root = touch(folder, *OFFICIAL, path)
        with pytest.raises(DataError) as caught:
            index_folder(root)
        assert message in str(caught.value)
        assert path in str(caught.value)
        assert "\n" not in str(caught.value)


def test_all_faulty_names_are_collected_and_counted(tmp_path: Path) -> None:
    bad = [f"dev_data/fan/train/bad{number}.wav" for number in range(3)]
    root = touch(tmp_path, *OFFICIAL, *bad)
    _, clips, faults = scan_folder(root)
    assert [(fault.path, fault.kind) for fault in faults] == [(path, "name") for path in bad]
    assert len(clips) == 6
    with pytest.raises(DataError, match=r"bad0\.wav.*and 2 more such files"):
        index_folder(root)


@pytest.mark.parametrize("index", [index_folder, index_any_folder])
def test_missing_empty_and_wrong_roots(tmp_path: Path, index: Callable[[Path], object]) -> None:
    with pytest.raises(DataError, match="does not exist"):
        index(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no \.wav or \.flac file"):
        index(tmp_path)
    with pytest.raises(DataError, match="is a file"):
        index(touch(tmp_path, "file.wav") / "file.wav")


def test_any_folder_becomes_training_clips_of_one_machine(tmp_path: Path) -> None:
    paths = ["a.flac", "b/--5xOcMJpTUk.wav", "b/a.flac", "c/d/Noise 3.WAV"]
    table = index_any_folder(touch(tmp_path, *reversed(paths), ".hidden/x.wav", "list.csv"))
    assert tuple(table) == COLUMNS
    assert table["path"].tolist() == table["clip"].tolist() == paths
    assert set(table["machine"] + table["section"] + table["split"]) == {"audio00train"}
    assert set(table["label"] + table["domain"]) == {""}
    assert table["index"].tolist() == [0, 1, 2, 3]


def test_two_files_of_one_clip_and_folders_named_like_one_are_faults(tmp_path: Path) -> None:
    stem = "fan/train/normal_id_00_00000000"
    root = touch(tmp_path, f"{stem}.WAV", f"{stem}.flac")
    (root / f"{stem}.wav").mkdir()
    _, clips, faults = scan_folder(root)
    assert [clip.path for clip in clips] == [f"{stem}.WAV"]
    assert [fault.path for fault in faults] == [f"{stem}.flac", f"{stem}.wav"]
    assert "repeats" in faults[0].message


def test_machines_that_cannot_name_a_file_are_faults(tmp_path: Path) -> None:
    for number, machine in enumerate(["Average", "x" * 65, "fan ", "Mu\u0308hle", "a\rb"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        root = touch(folder, f"{machine}/train/normal_id_00_00000000.wav")
        with pytest.raises(DataError, match="machine .*; rename it") as caught:
            index_folder(root)
        assert str(caught.value).isprintable()


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    data, root = touch(tmp_path / "data", *OFFICIAL), tmp_path / "root"
    root.mkdir()
    (root / "dev_data").symlink_to(data / "dev_data")
    (data / "dev_data" / "loop").symlink_to(data / "dev_data")
    assert len(index_folder(root)) == 5


def test_table_does_not_depend_on_the_order_of_records() -> None:
    one = Clip("a.wav", 2020, "development", "train", "fan", "00", "source", "normal", 0, "", "")
    clips = [one, replace(one, path="other"), replace(one, clip="b.wav"), replace(one, machine="A")]
    pd.testing.assert_frame_equal(clip_table(clips), clip_table(reversed(clips)))


def test_many_names_are_read_fast() -> None:
    start = time.process_time()
    clips = [
        parse_name(f"{SECTION[:-4]}{number % 10_000:04d}_m-n_W.wav", machine="fan", split="train")
        for number in range(20_000)
    ]
    assert len(clip_table(clips)) == 20_000
    # About 0.4 s; processor time, because the machine may be busy with other tests.
    assert time.process_time() - start < 3


@pytest.mark.skipif(not REAL, reason="ASDLIB_REAL_DATA is not set")
def test_real_recordings() -> None:
    table = index_folder(Path(REAL or "") / "wav")
    sections = {"ToyCar": "04", "ToyConveyor": "01", "fan": "06"}
    assert table.groupby(["machine", "section", "label"]).size().to_dict() == {
        (machine, section, label): count
        for machine, section in sections.items()
        for label, count in (("anomaly", 1), ("normal", 2))
    }
    assert set(table["subset"]) == {"development"}
    assert set(table["year"]) == {2020}
