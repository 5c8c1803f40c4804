"""The clip table and the scan: every level of the layout, order, speed, and clear refusals."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from asdlib.data import COLUMNS, Clip, clip_table, index_folder
from asdlib.data.clips import scan_folder
from asdlib.errors import DataError

REAL = os.environ.get("ASDLIB_REAL_DATA")


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()
    return root


def official_2020(root: Path) -> Path:
    return touch(
        root,
        "dev_data/fan/train/normal_id_00_00000000.wav",
        "dev_data/fan/test/normal_id_00_00000000.wav",
        "dev_data/fan/test/anomaly_id_00_00000000.wav",
        "dev_data/ToyCar/train/normal_id_01_00000001.flac",
        "dev_data/ToyCar/train/normal_id_01_00000000.wav",
        "eval_data/fan/test/id_01_00000000.wav",
    )


def test_table_of_2020(tmp_path: Path) -> None:
    table = index_folder(official_2020(tmp_path))
    assert tuple(table.columns) == COLUMNS
    assert isinstance(table.index, pd.RangeIndex)
    assert table["clip"].tolist() == [
        "normal_id_01_00000000.wav",
        "normal_id_01_00000001.flac",
        "anomaly_id_00_00000000.wav",
        "normal_id_00_00000000.wav",
        "normal_id_00_00000000.wav",
        "id_01_00000000.wav",
    ]
    assert table["split"].tolist() == ["train", "train", "test", "test", "train", "test"]
    assert table["subset"].tolist() == ["development"] * 5 + ["evaluation"]
    assert table["label"].tolist() == ["normal", "normal", "anomaly", "normal", "normal", ""]
    assert set(table["year"]) == {2020}
    assert set(table["domain"]) == {"source"}
    assert table["path"].iloc[0] == "dev_data/ToyCar/train/normal_id_01_00000000.wav"
    dtypes = table.dtypes.astype(str).to_dict()
    assert {name for name, kind in dtypes.items() if kind == "int64"} == {"year", "index"}
    assert {kind for name, kind in dtypes.items() if name not in ("year", "index")} == {"object"}
    assert not table.isna().any().any()


@pytest.mark.parametrize(
    ("level", "clips", "path"),
    [
        ("", 6, "dev_data/ToyCar/train/normal_id_01_00000000.wav"),
        ("dev_data", 5, "ToyCar/train/normal_id_01_00000000.wav"),
        ("dev_data/fan", 3, "test/anomaly_id_00_00000000.wav"),
        ("dev_data/fan/test", 2, "anomaly_id_00_00000000.wav"),
    ],
)
def test_root_may_be_any_level(tmp_path: Path, level: str, clips: int, path: str) -> None:
    root = official_2020(tmp_path) / level
    table = index_folder(str(root))
    assert len(table) == clips
    assert table["path"].iloc[0] == path
    assert all((root / path).is_file() for path in table["path"])
    assert set(table["machine"]) <= {"fan", "ToyCar"}


def test_relative_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(official_2020(tmp_path) / "dev_data" / "fan" / "train")
    assert index_folder(".")[["machine", "split"]].iloc[0].tolist() == ["fan", "train"]


def test_folders_of_2021_are_test_splits_with_a_domain(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "pump/source_test/section_00_source_test_normal_0000.wav",
        "pump/target_test/section_00_target_test_anomaly_0000.wav",
        "pump/train/section_00_source_train_normal_0000_strength_1_ambient.wav",
    )
    table = index_folder(root)
    assert table["split"].tolist() == ["test", "test", "train"]
    assert table["domain"].tolist() == ["source", "target", "source"]
    assert set(table["year"]) == {2021}
    (root / "pump/source_test/section_00_target_test_normal_0001.wav").touch()
    with pytest.raises(DataError, match="move it to target_test"):
        index_folder(root)


def test_supplemental_clips_of_2025(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "dev_data/raw/fan/supplemental/section_00_machine_0001.wav",
        "dev_data/raw/fan/train/section_00_source_train_normal_0000_noAttribute.wav",
        "eval_data/raw/BandSealer/train/section_00_source_train_normal_0000_v_1.wav",
    )
    table = index_folder(root).set_index("split", drop=False)
    assert set(table["year"]) == {2025}
    assert table.loc["supplemental", "attributes"] == "kind_machine"
    assert table["subset"].tolist() == ["evaluation", "development", "development"]


def test_blind_test_names_put_the_whole_machine_into_the_evaluation_set(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "new/train/section_00_source_train_normal_0000_v_1.wav",
        "new/test/section_00_0000.wav",
        "fan/train/section_00_source_train_normal_0000_v_1.wav",
    )
    table = index_folder(root)
    assert dict(zip(table["machine"], table["subset"], strict=True)) == {
        "fan": "development",
        "new": "evaluation",
    }


def test_root_below_an_official_folder_keeps_its_subset(tmp_path: Path) -> None:
    root = touch(
        tmp_path,
        "eval_data/new/train/section_00_source_train_normal_0000.wav",
        "eval_data/new/train/section_00_source_train_normal_0001.wav",
    )
    assert set(index_folder(root / "eval_data" / "new")["subset"]) == {"evaluation"}


def test_year_can_be_given(tmp_path: Path) -> None:
    root = touch(tmp_path, "fan/train/section_00_source_train_normal_0000_a_1.wav")
    assert index_folder(root)["year"].tolist() == [2022]
    assert index_folder(root, year=2026)["year"].tolist() == [2026]
    with pytest.raises(DataError, match="no train name of 2020"):
        index_folder(root, year=2020)
    with pytest.raises(DataError, match="year 1999 has no file-name grammar"):
        index_folder(root, year=1999)


def test_other_files_are_ignored(tmp_path: Path) -> None:
    root = touch(
        official_2020(tmp_path),
        "dev_data/fan/attributes_00.csv",
        "dev_data/fan/train/Thumbs.db",
        "dev_data/fan/train/._normal_id_00_00000000.wav",
        "__MACOSX/fan/train/foreign.wav",
        ".cache/x.wav",
    )
    assert len(index_folder(root)) == 6


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("dev_data/fan/train/normal_id_0_00000001.wav", "expected two digits, found '0_00000001'"),
        ("dev_data/fan/train/my recording.wav", "at its start expected"),
        ("dev_data/fan/train/anomaly_id_00_00000001.wav", "only normal clips"),
        ("dev_data/fan/normal_id_00_00000001.wav", "not in a split folder of a machine"),
        ("dev_data/fan/train/more/normal_id_00_00000001.wav", "not in a split folder"),
        ("normal_id_00_00000001.wav", "lies in the root"),
        ("again/fan/train/normal_id_00_00000000.wav", "repeats"),
        ("fan/test/section_03_0000.wav", "index the folder of each year by itself"),
    ],
)
def test_a_file_that_does_not_fit_is_an_error(tmp_path: Path, path: str, message: str) -> None:
    root = touch(official_2020(tmp_path), path)
    with pytest.raises(DataError) as caught:
        index_folder(root)
    assert message in str(caught.value)
    assert path in str(caught.value) or "again/fan" in str(caught.value) or "section" in path
    assert "\n" not in str(caught.value)


def test_all_faulty_names_are_collected_and_counted(tmp_path: Path) -> None:
    bad = [f"dev_data/fan/train/bad{number}.wav" for number in range(3)]
    root = touch(official_2020(tmp_path), *bad)
    _, clips, faults = scan_folder(root)
    assert [fault.path for fault in faults] == bad
    assert len(clips) == 6
    with pytest.raises(DataError, match=r"bad0\.wav.*and 2 more such files"):
        index_folder(root)


def test_missing_empty_and_wrong_roots(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        index_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"holds no \.wav or \.flac file"):
        index_folder(tmp_path)
    file = tmp_path / "file.wav"
    file.touch()
    with pytest.raises(DataError, match="is a file"):
        index_folder(file)


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    data = official_2020(tmp_path / "data")
    root = tmp_path / "root"
    root.mkdir()
    (root / "dev_data").symlink_to(data / "dev_data")
    (data / "dev_data" / "loop").symlink_to(data / "dev_data")
    assert len(index_folder(root)) == 5


def test_table_does_not_depend_on_the_order_of_records(tmp_path: Path) -> None:
    clips = scan_folder(official_2020(tmp_path))[1]
    pd.testing.assert_frame_equal(clip_table(clips), clip_table(reversed(clips)))
    twin = replace(clips[0], path="other/place.wav")
    tables = [clip_table(order) for order in ([twin, *clips], [*clips, twin])]
    pd.testing.assert_frame_equal(*tables)


def test_empty_table_has_the_same_columns_and_types() -> None:
    one = Clip("a.wav", 2020, "development", "train", "fan", "00", "source", "normal", 0, "", "")
    pd.testing.assert_series_equal(clip_table([]).dtypes, clip_table([one]).dtypes)


def test_scan_of_60000_names_is_fast(tmp_path: Path) -> None:
    count = 0
    for machine in ("bearing", "fan", "gearbox", "slider", "ToyCar"):
        for split in ("train", "test"):
            folder = tmp_path / machine / split
            folder.mkdir(parents=True)
            for number in range(6000):
                section, index = divmod(number, 2000)
                name = f"section_{section:02d}_source_{split}_normal_{index:04d}_m-n_W.wav"
                os.mknod(folder / name)
                count += 1
    start = time.process_time()
    table = index_folder(tmp_path)
    seconds = time.process_time() - start
    assert len(table) == count == 60_000
    # About 0.9 s; processor time, because the machine may be busy with other tests.
    assert seconds < 3.0


def test_the_room_imports_nothing_heavy() -> None:
    code = (
        "import sys, asdlib.data; "
        "print([m for m in ('torch', 'lightning', 'matplotlib', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not REAL, reason="ASDLIB_REAL_DATA is not set")
def test_real_recordings() -> None:
    table = index_folder(Path(REAL or "") / "wav")
    assert table.groupby(["machine", "section", "label"]).size().to_dict() == {
        ("ToyCar", "04", "anomaly"): 1,
        ("ToyCar", "04", "normal"): 2,
        ("ToyConveyor", "01", "anomaly"): 1,
        ("ToyConveyor", "01", "normal"): 2,
        ("fan", "06", "anomaly"): 1,
        ("fan", "06", "normal"): 2,
    }
    assert set(table["subset"]) == {"development"}
    assert set(table["year"]) == {2020}
