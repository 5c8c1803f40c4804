"""The declared table of sources."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from asdlib.data.archives import (
    SUBSETS,
    all_archives,
    archives_for,
    datasets,
    listed,
    machine_of,
    record_url,
)
from asdlib.errors import DownloadError


def test_all_years_are_declared() -> None:
    assert datasets() == tuple(f"dcase{year}" for year in range(2020, 2027))
    for dataset in datasets():
        assert {row.subset for row in archives_for(dataset)} >= set(SUBSETS[:3])


def test_keys_are_unique_and_checksums_well_formed() -> None:
    rows = [row for row in all_archives() if row.is_listed]
    assert len({row.key for row in rows}) == len(rows)
    for row in rows:
        assert row.md5 is None or (len(row.md5) == 32 and int(row.md5, 16) >= 0)
        assert row.size is None or row.size > 0
        assert row.source


def test_every_md5_of_2020_recordings_is_declared() -> None:
    zips = [row for row in archives_for("dcase2020") if row.is_zip]
    assert len(zips) == 18
    assert all(row.md5 for row in zips)
    assert {row.licence for row in zips} == {"CC BY-NC-SA 4.0"}


def test_evaluation_brings_the_ground_truth_along() -> None:
    rows = archives_for("dcase2020", ["fan"], ["evaluation"])
    assert [row.file for row in rows] == ["eval_data_test_fan.zip", "eval_data_list.csv"]
    rows = archives_for("dcase2022", ["fan"], ["evaluation"])
    assert [row.file for row in rows if row.is_zip] == ["eval_data_fan_test.zip"]
    truth = [row for row in rows if row.subset == "ground_truth"]
    assert len(truth) == 6
    assert all("de8719b7d35280ff3a39487c9d1003413eef7818" in row.url() for row in truth)


def test_years_without_a_declared_list_name_their_record() -> None:
    rows = archives_for("dcase2023", ["bandsaw"], ["additional"])
    assert [(row.record, row.file) for row in rows] == [("7830345", "*")]
    with pytest.raises(DownloadError, match="names no single file"):
        rows[0].url()


@pytest.mark.parametrize(
    ("dataset", "machines", "subsets", "message"),
    [
        ("dcase2019", None, None, r"dataset 'dcase2019' is not known \(known: dcase2020, .*2026\)"),
        (
            "dcase2020",
            ["fann"],
            None,
            r"machine 'fann' .* \(known: fan, pump, slider, Toy.*valve\)",
        ),
        ("dcase2022", None, ["dev"], r"subset 'dev' is not in dcase2022 \(known: development, add"),
        ("dcase2025", None, ["ground_truth"], r"'ground_truth' is not in dcase2025"),
        (
            "dcase2023",
            None,
            ["ground_truth"],
            r"no commit is pinned; copy from https://github.com/",
        ),
    ],
)
def test_errors_name_the_value_and_what_is_known(
    dataset: str, machines: list[str] | None, subsets: list[str] | None, message: str
) -> None:
    with pytest.raises(DownloadError, match=message) as caught:
        archives_for(dataset, machines, subsets)
    assert "\n" not in str(caught.value)


def test_addresses_and_mirrors() -> None:
    fan = archives_for("dcase2020", ["fan"], ["development"])[0]
    path = "/records/3678171/files/dev_data_fan.zip?download=1"
    assert fan.url() == f"https://zenodo.org{path}"
    assert fan.url("http://127.0.0.1:8000/mirror/") == f"http://127.0.0.1:8000/mirror{path}"
    assert record_url("3678171") == "https://zenodo.org/api/records/3678171"
    with pytest.raises(DownloadError, match="'mirror' is not an http"):
        fan.url("mirror")


@pytest.mark.parametrize(
    ("file", "machine"),
    [
        ("dev_data_ToyCar.zip", "ToyCar"),
        ("dev_bearing.zip", "bearing"),
        ("eval_data_train_fan.zip", "fan"),
        ("eval_data_test_valve.zip", "valve"),
        ("eval_data_gearbox_train.zip", "gearbox"),
        ("eval_data_ToyTrain_test.zip", "ToyTrain"),
        ("eval_data_3DPrinter_train_r2.zip", "3DPrinter"),
        ("readme.zip", ""),
        ("dev_...zip", ""),
    ],
)
def test_machine_of_a_file_name(file: str, machine: str) -> None:
    assert machine_of(file) == machine


def test_machine_column_agrees_with_the_file_names() -> None:
    for row in all_archives():
        if row.is_listed and row.is_zip:
            assert machine_of(row.file) == row.machine


def test_a_record_may_not_contradict_the_table() -> None:
    fan = archives_for("dcase2020", ["fan"], ["development"])[0]
    with pytest.raises(DownloadError, match="the record says MD5 00, declared is 649bdfc0"):
        listed(fan, fan.file, "00", 1354774772, "")


def test_table_agrees_with_the_reference_list() -> None:
    folder = os.environ.get("ASDLIB_REFERENCE")
    if not folder:
        pytest.skip("ASDLIB_REFERENCE is not set: no reference list to compare with")
    names = {"additional training": "additional", "ground truth": "ground_truth"}
    with (Path(folder) / "archives.csv").open(encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    table = {row.key: row for row in all_archives()}
    for row in rows:
        subset = names.get(row["subset"], row["subset"])
        mine = table[f"dcase{row['year']}/{subset}/{row['file']}"]
        assert (mine.record, mine.md5 or "") == (row["zenodo_record"], row["md5"])
        assert str(mine.size or "") == row["bytes"]
