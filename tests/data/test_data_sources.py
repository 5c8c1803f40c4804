"""The declared table of sources."""

import csv
import os
from dataclasses import replace
from pathlib import Path

import pytest

from asdlib.data.sources import all_archives, archives_for, newest, of_machines
from asdlib.errors import DownloadError

YEARS = range(2020, 2027)
FAN = next(row for row in all_archives() if row.file == "dev_data_fan.zip")


def test_the_table_is_complete_and_well_formed() -> None:
    for year in YEARS:
        subsets = {row.subset for row in archives_for(f"dcase{year}")}
        assert subsets >= {"development", "additional", "evaluation"}
    rows = [row for row in all_archives() if row.file not in ("", "*")]
    assert len({row.key for row in rows}) == len(rows)
    for row in rows:
        assert not row.md5 or (len(row.md5) == 32 and int(row.md5, 16) >= 0)
        assert row.size is None or row.size > 0
        assert row.source
        if row.is_zip:
            unnamed = replace(row, machine="*")
            assert unnamed.filled(row.file, row.md5, row.size or 0, "").machine == row.machine
    zips = [row for row in archives_for("dcase2020") if row.is_zip]
    assert len(zips) == 18
    assert all(row.md5 and row.licence == "CC BY-NC-SA 4.0" for row in zips)


def test_evaluation_brings_the_ground_truth_along() -> None:
    rows = of_machines(archives_for("dcase2020", ["evaluation"]), ["fan"])
    assert [row.file for row in rows] == ["eval_data_test_fan.zip", "eval_data_list.csv"]
    rows = of_machines(archives_for("dcase2022", ["evaluation"]), ["fan"])
    assert [row.file for row in rows if row.is_zip] == ["eval_data_fan_test.zip"]
    truth = [row for row in rows if row.subset == "ground_truth"]
    assert len(truth) == 6
    assert all("de8719b7d35280ff3a39487c9d1003413eef7818" in row.address for row in truth)
    rows = of_machines(archives_for("dcase2021", ["evaluation"]), ["fan"])
    truth = [row for row in rows if row.subset == "ground_truth"]
    assert len(truth) == 6
    assert all("/0c11634ba7259e4ae4a655646aebd6cd056cc523/" in row.address for row in truth)
    rows = of_machines(archives_for("dcase2023", ["additional"]), ["bandsaw"])
    assert [(row.record, row.file) for row in rows] == [("7830345", "*")]


WRONG = [
    (lambda: archives_for("dcase2019"), r"'dcase2019' .* \(known: dcase2020, .*2026\)"),
    (lambda: archives_for("dcase2022", ["dev"]), r"'dev' is not in dcase2022 \(known: develo"),
    *[
        (
            lambda year=year: archives_for(f"dcase{year}", ["ground_truth"]),
            rf"not fetched .*licence.* copy it from \S+/nttcslab/dcase{year}_task2_evaluator",
        )
        for year in (2025, 2026)
    ],
    (
        lambda: archives_for("dcase2023", ["ground_truth"]),
        r"no commit is pinned.; copy it from https://github.com/",
    ),
    (
        lambda: of_machines(archives_for("dcase2020"), ["fann"]),
        r"machine 'fann' is not in dcase2020 .* \(known: fan, pump, slider, Toy.*valve\)",
    ),
    (
        lambda: FAN.filled(FAN.file, "00", 1354774772, ""),
        "the record says MD5 00, declared is 649bdfc0",
    ),
]


def test_errors_name_the_value_and_what_is_known() -> None:
    for call, message in WRONG:
        with pytest.raises(DownloadError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_an_archive_that_was_replaced_is_named_but_not_fetched() -> None:
    files = [row.file for row in all_archives() if (row.year, row.machine) == (2026, "ToyCar")]
    assert files == ["dev_ToyCar.zip", "dev_ToyCar_r2.zip"]
    rows = of_machines(archives_for("dcase2026"), ["ToyCar"])
    assert [row.file for row in rows] == ["dev_ToyCar_r2.zip"]
    assert rows[0].md5 == "353201db217e25377a7e7eccf9c1c8a7"
    assert newest(["a.zip", "b.zip", "a_r2.zip", "*"]) == ["b.zip", "a_r2.zip", "*"]


LISTED = [
    ("dev_bearing.zip", "bearing"),
    ("eval_data_3DPrinter_train_r2.zip", "3DPrinter"),
    ("eval_data_train_fan.zip", "fan"),
    ("readme.zip", ""),
    ("dev_...zip", ""),
]


def test_machine_of_a_listed_file() -> None:
    for file, machine in LISTED:
        (row,) = archives_for("dcase2023", ["development"])
        assert row.filled(file, "0", 1, "").machine == machine


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
        assert (mine.record, mine.md5) == (row["zenodo_record"], row["md5"])
        assert str(mine.size or "") == row["bytes"]
