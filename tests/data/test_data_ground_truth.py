"""Ground truth: small lists of our own, the join by name, and the official lists if at hand."""

import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asdlib.data import (
    clip_table,
    join_ground_truth,
    parse_name,
    read_ground_truth_2020,
    read_ground_truth_2022,
)
from asdlib.errors import DataError

REFERENCE = os.environ.get("ASDLIB_REFERENCE")
needs_reference = pytest.mark.skipif(not REFERENCE, reason="ASDLIB_REFERENCE is not set")

LIST_2020 = """fan
id_01_00000000.wav,normal_id_01_00000098.wav,0
id_01_00000001.wav,anomaly_id_01_00000064.wav,1

pump,,
id_03_00000000.wav,anomaly_id_03_00000002.wav,1
"""


def write_2020(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "eval_data_list.csv"
    path.write_text(text)
    return path


def write_2022(root: Path, data: dict[str, str], domain: dict[str, str] | None = None) -> Path:
    for folder, files in (("ground_truth_data", data), ("ground_truth_domain", domain or data)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (root / folder / f"ground_truth_{name}_test.csv").write_text(text)
    return root


FAN_03 = "section_03_0000.wav,0\nsection_03_0001.wav,1\n"
FAN_03_DOMAIN = "section_03_0001.wav,0\nsection_03_0000.wav,1\n"


def table_of(*names: str, machine: str = "fan", year: int | None = None) -> pd.DataFrame:
    return clip_table(parse_name(name, machine=machine, split="test", year=year) for name in names)


@pytest.mark.parametrize("text", [LIST_2020, "\ufeff" + LIST_2020.replace("\n", "\r\n")])
def test_list_of_2020(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode())
    truth = read_ground_truth_2020(path)
    assert truth.to_dict("list") == {
        "machine": ["fan", "fan", "pump"],
        "clip": ["id_01_00000000.wav", "id_01_00000001.wav", "id_03_00000000.wav"],
        "original": [
            "normal_id_01_00000098.wav",
            "anomaly_id_01_00000064.wav",
            "anomaly_id_03_00000002.wav",
        ],
        "label": ["normal", "anomaly", "anomaly"],
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("id_01_00000009.wav,normal_id_01_00000001.wav", "line 7"),
        ("id_01_00000009.wav,normal_id_01_00000001.wav,2", "expected a machine"),
        ("id_01_00000009.wav,normal_id_01_00000001.wav,1", "same ID and label"),
        ("id_01_00000009.wav,normal_id_03_00000001.wav,0", "same ID and label"),
        ("id_03_00000000.wav,normal_id_03_00000001.wav,0", "'pump' is in '.*' twice"),
        ("section_03_0000.wav,normal_id_03_00000001.wav,0", "same ID and label"),
    ],
)
def test_bad_rows_of_2020_are_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read_ground_truth_2020(write_2020(tmp_path, LIST_2020 + row + "\n"))
    assert "line 7" in str(caught.value) or "twice" in message


def test_a_list_of_2020_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_ground_truth_2020(tmp_path / "nowhere.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_ground_truth_2020(tmp_path)
    with pytest.raises(DataError, match="lists no clip"):
        read_ground_truth_2020(write_2020(tmp_path, ""))
    with pytest.raises(DataError, match="lists no clip below a machine"):
        read_ground_truth_2020(write_2020(tmp_path, LIST_2020.removeprefix("fan\n")))
    (tmp_path / "sound.csv").write_bytes(b"RIFF\xff\xfe\x00\x01,1\n")
    with pytest.raises(DataError, match="not a CSV text"):
        read_ground_truth_2020(tmp_path / "sound.csv")


@pytest.mark.parametrize("above", ["", "evaluator-main"])
def test_folder_of_2022(tmp_path: Path, above: str) -> None:
    write_2022(tmp_path / above, {"fan_section_03": FAN_03}, {"fan_section_03": FAN_03_DOMAIN})
    truth = read_ground_truth_2022(tmp_path)
    assert truth.to_dict("list") == {
        "machine": ["fan", "fan"],
        "clip": ["section_03_0000.wav", "section_03_0001.wav"],
        "section": ["03", "03"],
        "label": ["normal", "anomaly"],
        "domain": ["target", "source"],
    }


@pytest.mark.parametrize(
    ("data", "domain", "message"),
    [
        ({"fan_section_03": FAN_03}, {"fan_section_03": "section_03_0000.wav,0\n"},
         "'section_03_0001.wav' of 'fan' is in .*data' but not in .*domain'"),
        ({"fan_section_03": FAN_03 + "section_03_0000.wav,1\n"}, None, "data' twice"),
        ({"fan_section_03": FAN_03 + "section_04_0000.wav,1\n"}, None, "a clip of section 03"),
        ({"fan_section_03": FAN_03 + "section_03_0002.wav,0.5\n"}, None, "line 3"),
        ({"fan_3": FAN_03}, None, "is not named"),
        ({"fan_section_03": ""}, None, "lists no clip"),
    ],
)  # fmt: skip
def test_bad_folders_of_2022(
    tmp_path: Path, data: dict[str, str], domain: dict[str, str] | None, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        read_ground_truth_2022(write_2022(tmp_path, data, domain))


def test_folders_without_or_with_two_truths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a folder"):
        read_ground_truth_2022(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds 0 pairs"):
        read_ground_truth_2022(tmp_path)
    write_2022(tmp_path / "a", {"fan_section_03": FAN_03})
    write_2022(tmp_path / "b", {"fan_section_03": FAN_03})
    with pytest.raises(DataError, match="holds 2 pairs"):
        read_ground_truth_2022(tmp_path)


def truth_2022(tmp_path: Path) -> pd.DataFrame:
    files = {"fan_section_03": FAN_03, "fan_section_04": FAN_03.replace("_03", "_04")}
    return read_ground_truth_2022(write_2022(tmp_path, files))


def test_join_goes_by_name_and_fills_both_columns(tmp_path: Path) -> None:
    table = table_of(
        "section_03_test_0001.wav", "section_03_0000.flac", "section_00_source_test_normal_0001.wav"
    )
    before = table.copy()
    joined = join_ground_truth(table, truth_2022(tmp_path))
    said = joined.set_index("clip")
    assert said.loc["section_03_test_0001.wav", ["label", "domain"]].tolist() == [
        "anomaly",
        "target",
    ]
    assert said.loc["section_03_0000.flac", ["label", "domain"]].tolist() == ["normal", "source"]
    assert said.loc["section_00_source_test_normal_0001.wav", "label"] == "normal"
    pd.testing.assert_frame_equal(table, before)
    assert list(joined.columns) == list(table.columns)
    assert (joined.dtypes == table.dtypes).all()
    pd.testing.assert_frame_equal(join_ground_truth(joined, truth_2022(tmp_path)), joined)


def test_join_of_scores_without_label_columns(tmp_path: Path) -> None:
    scores = pd.DataFrame(
        {"machine": "fan", "clip": ["section_03_0001.wav", "section_03_0000.wav"]}, index=[7, 3]
    )
    joined = join_ground_truth(scores, truth_2022(tmp_path))
    assert joined["label"].tolist() == ["anomaly", "normal"]
    assert joined.index.tolist() == [7, 3]


def test_join_of_2020_keeps_the_domain(tmp_path: Path) -> None:
    truth = read_ground_truth_2020(write_2020(tmp_path, LIST_2020))
    table = table_of("id_01_00000001.wav", "id_01_00000000.wav")
    joined = join_ground_truth(table, truth)
    assert joined["label"].tolist() == ["normal", "anomaly"]
    assert joined["domain"].tolist() == ["source", "source"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["section_03_0000.wav", "section_03_0001.wav", "section_03_0002.wav"],
         "^fan/section_03_0002 is not in the ground truth"),
        (["section_05_0000.wav"], "fan/section_05_0000 is not in the ground truth"),
        (["section_03_0000.wav"],
         "^fan/section_03_0001 is in the ground truth but not in the table"),
        (["section_03_0000.wav", "section_03_0001.wav", "section_03_test_0001.wav"],
         "'section_03_test_0001.wav' of 'fan' is in the table twice"),
    ],
)  # fmt: skip
def test_missing_surplus_and_double_names_are_errors(
    tmp_path: Path, names: list[str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        join_ground_truth(table_of(*names), truth_2022(tmp_path))


def test_machines_are_not_mixed_up(tmp_path: Path) -> None:
    table = table_of("section_03_0000.wav", "section_03_0001.wav", machine="valve")
    with pytest.raises(DataError, match=r"valve/section_03_0000, valve/section_03_0001 are not"):
        join_ground_truth(table, truth_2022(tmp_path))


def test_contradictions_are_errors(tmp_path: Path) -> None:
    truth = truth_2022(tmp_path)
    table = table_of("section_03_0000.wav", "section_03_0001.wav")
    for column, wrong in (("label", "anomaly"), ("domain", "target")):
        changed = table.copy()
        changed.loc[0, column] = wrong
        with pytest.raises(DataError, match=f"has {column} '{wrong}', but the ground truth says"):
            join_ground_truth(changed, truth)


def test_double_names_in_the_truth_are_an_error(tmp_path: Path) -> None:
    truth = truth_2022(tmp_path)
    with pytest.raises(DataError, match="is in the ground truth twice"):
        join_ground_truth(table_of("section_03_0000.wav"), pd.concat([truth, truth]))


@given(st.permutations(range(12)), st.lists(st.booleans(), min_size=12, max_size=12))
@settings(max_examples=50, deadline=None)
def test_join_does_not_depend_on_order(order: list[int], anomalous: list[bool]) -> None:
    clips = [f"section_03_{number:04d}.wav" for number in range(12)]
    labels = ["anomaly" if flag else "normal" for flag in anomalous]
    truth = pd.DataFrame({"machine": "fan", "clip": clips, "label": labels})
    scores = pd.DataFrame({"machine": "fan", "clip": [clips[number] for number in order]})
    joined = join_ground_truth(scores, truth.sample(frac=1, random_state=len(order)))
    assert joined["label"].tolist() == [labels[number] for number in order]


@needs_reference
def test_official_list_of_2020() -> None:
    truth = read_ground_truth_2020(Path(REFERENCE or "") / "ground_truth_2020.csv")
    assert len(truth) == 7103
    ids = truth["clip"].str.slice(3, 5)
    counts = truth.groupby(["machine", ids, "label"]).size().unstack()[["normal", "anomaly"]]
    assert {machine: part.to_numpy().tolist() for machine, part in counts.groupby(level=0)} == {
        "ToyCar": [[250, 265]] * 3,
        "ToyConveyor": [[200, 355]] * 3,
        "fan": [[100, 326], [100, 358], [109, 349]],
        "pump": [[100, 116], [100, 113], [100, 248]],
        "slider": [[100, 178]] * 3,
        "valve": [[100, 120], [100, 120], [100, 400]],
    }
    table = clip_table(
        parse_name(clip, machine=machine, split="test", year=2020)
        for machine, clip in zip(truth["machine"], truth["clip"], strict=True)
    )
    assert set(table["subset"]) == {"evaluation"}
    joined = join_ground_truth(table, truth)
    assert (joined["label"] == "anomaly").sum() == (truth["label"] == "anomaly").sum()
    with pytest.raises(DataError, match="in the ground truth but not in the table"):
        join_ground_truth(table.iloc[1:], truth)


@needs_reference
@pytest.mark.parametrize("level", [".", "ground_truth_2022"])
def test_official_folder_of_2022(level: str) -> None:
    truth = read_ground_truth_2022(Path(REFERENCE or "") / level)
    sections = truth.groupby(["machine", "section"]).size()
    assert len(sections) == 21
    assert set(sections) == {200}
    groups = truth.groupby(["machine", "section", "domain", "label"]).size()
    assert len(groups) == 84
    assert set(groups) == {50}
    # The evaluator's attribute lists hold names with label and domain. They agree for the five real
    # machines; for the two toys they are known to differ, and the data folders are the authority.
    folder = Path(REFERENCE or "") / "ground_truth_2022" / "ground_truth_attributes"
    full = {}
    for path in folder.glob("*/*.csv"):
        for line in path.read_text().splitlines()[1:]:
            blind, *_, name = filter(None, line.split(","))
            machine, split, name = name.split("/")
            clip = parse_name(name, machine=machine, split=split, year=2022)
            full[machine, blind.rpartition("/")[2]] = (clip.label, clip.domain)
    assert len(full) == len(truth) == 4200
    pairs = list(zip(truth["machine"], truth["clip"], strict=True))
    labels = truth["label"] != [full[pair][0] for pair in pairs]
    domains = truth["domain"] != [full[pair][1] for pair in pairs]
    assert (labels.sum(), domains.sum()) == (608, 592)
    assert set(truth["machine"][labels | domains]) == {"ToyCar", "ToyTrain"}
