"""Ground truth: small lists of our own, the join by name, and the official lists if at hand."""

import os
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from asdlib.data import clip_table, join_ground_truth, parse_name, read_ground_truth
from asdlib.data.ground_truth import read_ground_truth_2020, read_ground_truth_folder
from asdlib.errors import DataError

REFERENCE = os.environ.get("ASDLIB_REFERENCE")
needs_reference = pytest.mark.skipif(not REFERENCE, reason="ASDLIB_REFERENCE is not set")

LIST_2020 = """fan
id_01_00000000.wav,normal_id_01_00000098.wav,0
id_01_00000001.wav,anomaly_id_01_00000064.wav,1

pump,,
id_03_00000000.wav,anomaly_id_03_00000002.wav,1
"""
FAN_03 = "section_03_0000.wav,0\nsection_03_0001.wav,1\n"
DOMAIN = "section_03_0001.wav,0\nsection_03_0000.wav,1\n"
BLIND = ["section_03_0000.wav", "section_03_0001.wav"]
TRUTH = pd.DataFrame(
    [("fan", f"section_{s}_000{i}.wav", ("normal", "anomaly")[i], ("source", "target")[i])
     for s in ("03", "04") for i in (0, 1)],
    columns=["machine", "clip", "label", "domain"],
)  # fmt: skip


def write_2022(root: Path, data: str, domain: str | None = None, name: str = "section_03") -> Path:
    for kind, text in (("data", data), ("domain", data if domain is None else domain)):
        folder = root / f"ground_truth_{kind}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"ground_truth_fan_{name}_test.csv").write_text(text)
    return root


def table_of(*names: str, machine: str = "fan") -> pd.DataFrame:
    return clip_table(parse_name(name, machine=machine, split="test") for name in names)


def test_list_of_2020(tmp_path: Path) -> None:
    for text in [LIST_2020, "\ufeff" + LIST_2020.replace("\n", "\r\n")]:
        (tmp_path / "list.csv").write_bytes(text.encode())
        assert read_ground_truth(tmp_path / "list.csv").to_dict("split")["data"] == [
            ["fan", "id_01_00000000.wav", "normal_id_01_00000098.wav", "normal"],
            ["fan", "id_01_00000001.wav", "anomaly_id_01_00000064.wav", "anomaly"],
            ["pump", "id_03_00000000.wav", "anomaly_id_03_00000002.wav", "anomaly"],
        ]


BAD_LISTS = [
    (LIST_2020 + "id_01_00000009.wav,normal_id_01_00000001.wav", "line 7"),
    (LIST_2020 + "id_01_00000009.wav,normal_id_01_00000001.wav,2", "line 7.*expected a mach"),
    (LIST_2020 + "id_01_00000009.wav,normal_id_01_00000001.wav,1", "line 7.*ID and label"),
    (LIST_2020 + "id_01_00000009.wav,normal_id_03_00000001.wav,0", "line 7.*ID and label"),
    (LIST_2020 + "section_03_0000.wav,normal_id_03_00000001.wav,0", "line 7.*ID and label"),
    (LIST_2020 + "id_03_00000000.wav,normal_id_03_00000001.wav,0", "'pump' is in .* twice"),
    (LIST_2020.removeprefix("fan\n"), "lists no clip below a machine"),
    ("", "lists no clip"),
    (b"RIFF\xff\xfe\x00\x01,1\n", r"cannot be read \('utf-8' codec"),
]


def test_bad_lists_of_2020(tmp_path: Path) -> None:
    for text, message in BAD_LISTS:
        path = tmp_path / "eval_data_list.csv"
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        with pytest.raises(DataError, match=message):
            read_ground_truth_2020(path)
        for missing in (tmp_path / "nowhere.csv", tmp_path):
            with pytest.raises(DataError, match="cannot be read"):
                read_ground_truth_2020(missing)


@pytest.mark.parametrize("above", ["", "evaluator-main"])
def test_folder_of_2022(tmp_path: Path, above: str) -> None:
    write_2022(tmp_path / above, FAN_03, DOMAIN)
    assert read_ground_truth(tmp_path).to_dict("list") == {
        "machine": ["fan", "fan"],
        "clip": BLIND,
        "section": ["03", "03"],
        "label": ["normal", "anomaly"],
        "domain": ["target", "source"],
    }


@pytest.mark.parametrize("above", ["", "evaluator-main"])
def test_folder_of_2021_has_a_file_for_each_domain(tmp_path: Path, above: str) -> None:
    folder = tmp_path / above / "ground_truth_data"
    folder.mkdir(parents=True)
    for domain, flags in (("target", "01"), ("source", "10")):
        rows = [f"section_03_{domain}_test_{i:04d}.wav,{flag}\n" for i, flag in enumerate(flags)]
        (folder / f"ground_truth_fan_section_03_{domain}_test.csv").write_text("".join(rows))
    truth = read_ground_truth(tmp_path)
    assert truth.to_dict("list") == {
        "machine": ["fan"] * 4,
        "clip": [f"section_03_{d}_test_000{i}.wav" for d in ("source", "target") for i in (0, 1)],
        "section": ["03"] * 4,
        "label": ["anomaly", "normal", "normal", "anomaly"],
        "domain": ["source", "source", "target", "target"],
    }
    assert join_ground_truth(table_of(*truth["clip"]), truth)["label"].tolist() == [*truth["label"]]
    (folder / "ground_truth_fan_section_03_target_test.csv").write_text(rows[0])
    with pytest.raises(
        DataError, match="line 1 is .*source_test.*'section_03_target_test_0000.wav"
    ):
        read_ground_truth(tmp_path)


BAD_FOLDERS = [
    (FAN_03, FAN_03[:22], "section_03", "'section_03_0001.wav' of 'fan' is in only one"),
    (FAN_03[:22], FAN_03, "section_03", "only one of .*data' and .*domain' .1 such"),
    (FAN_03 + "section_03_0000.wav,1\n", None, "section_03", "data' twice"),
    (FAN_03 + "section_04_0000.wav,1\n", None, "section_03", "a clip of section 03"),
    (FAN_03 + "section_03_0002.wav,0.5\n", None, "section_03", "line 3"),
    (FAN_03, None, "3", "is not named"),
    ("", None, "section_03", "lists no clip"),
]


def test_bad_folders_of_2022(tmp_path: Path) -> None:
    for number, (data, domain, name, message) in enumerate(BAD_FOLDERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.raises(DataError, match=message):
            read_ground_truth_folder(write_2022(folder, data, domain, name))


def test_folders_without_or_with_two_truths(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder with one pair"):
        read_ground_truth_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"\(0 found\)"):
        read_ground_truth_folder(tmp_path)
    for name in ("a", "b"):
        write_2022(tmp_path / name, FAN_03)
    with pytest.raises(DataError, match=r"\(2 found\)"):
        read_ground_truth_folder(tmp_path)


def test_join_goes_by_name_and_fills_both_columns() -> None:
    development = "section_00_source_test_normal_0001.wav"
    table = table_of("section_03_test_0001.wav", "section_03_0000.flac", development)
    before = table.copy()
    joined = join_ground_truth(table, TRUTH)
    pd.testing.assert_frame_equal(table, before)
    assert joined[["clip", "label", "domain"]].to_dict("split")["data"] == [
        [development, "normal", "source"],
        ["section_03_0000.flac", "normal", "source"],
        ["section_03_test_0001.wav", "anomaly", "target"],
    ]
    assert (joined.dtypes == table.dtypes).all()
    pd.testing.assert_frame_equal(join_ground_truth(joined, TRUTH), joined)
    scores = pd.DataFrame({"machine": "fan", "clip": BLIND[::-1]}, index=[7, 3])
    assert join_ground_truth(scores, TRUTH)["label"].to_dict() == {7: "anomaly", 3: "normal"}
    without = join_ground_truth(table_of(*BLIND).assign(domain="x"), TRUTH.drop(columns="domain"))
    assert without["domain"].tolist() == ["x", "x"]


MISFITS = [
    ([*BLIND, "section_03_0002.wav"], "fan", "^fan/section_03_0002 is not in the ground truth"),
    (["section_05_0000.wav"], "fan", "fan/section_05_0000 is not in the ground truth"),
    (BLIND[:1], "fan", "^fan/section_03_0001 is in the ground truth but not in the table"),
    ([*BLIND, "section_03_test_0001.wav"], "fan", "test_0001.wav' .* is in the table twice"),
    (BLIND, "valve", r"valve/section_03_0000, valve/section_03_0001 are not"),
]


def test_missing_surplus_and_double_names_are_errors() -> None:
    for names, machine, message in MISFITS:
        with pytest.raises(DataError, match=message):
            join_ground_truth(table_of(*names, machine=machine), TRUTH)


def test_contradictions_are_errors() -> None:
    for column, wrong in (("label", "anomaly"), ("domain", "target")):
        changed = table_of(*BLIND)
        changed.loc[0, column] = wrong
        with pytest.raises(DataError, match=f"has {column} '{wrong}', but the ground truth says"):
            join_ground_truth(changed, TRUTH)
    with pytest.raises(DataError, match="is in the ground truth twice"):
        join_ground_truth(table_of(*BLIND), pd.concat([TRUTH, TRUTH]))


@given(st.permutations(range(12)), st.lists(st.booleans(), min_size=12, max_size=12))
@settings(max_examples=20)
def test_join_does_not_depend_on_order(order: list[int], anomalous: list[bool]) -> None:
    clips = [f"section_03_{number:04d}.wav" for number in range(12)]
    labels = ["anomaly" if flag else "normal" for flag in anomalous]
    truth = pd.DataFrame({"machine": "fan", "clip": clips, "label": labels})
    scores = pd.DataFrame({"machine": "fan", "clip": [clips[number] for number in order]})
    joined = join_ground_truth(scores, truth.sample(frac=1, random_state=len(order)))
    assert joined["label"].tolist() == [labels[number] for number in order]


LINES = st.lists(
    st.one_of(
        st.sampled_from(LIST_2020.splitlines() + FAN_03.splitlines()),
        st.text('0123,./\\"\r\n\0 idnormalwv_ä\u2028', max_size=40),
    ),
    max_size=8,
).map("\n".join)


@settings(max_examples=100)
@given(LINES, st.sampled_from(["utf-8", "utf-16", "latin-1"]))
def test_any_text_is_a_truth_or_an_error_of_one_line(
    tmp_path: Path, text: str, encoding: str
) -> None:
    (tmp_path / "list.csv").write_bytes(text.encode(encoding, errors="replace"))
    write_2022(tmp_path / "folder", "")
    for kind in ("data", "domain"):
        file = tmp_path / f"folder/ground_truth_{kind}/ground_truth_fan_section_03_test.csv"
        file.write_bytes((tmp_path / "list.csv").read_bytes())
    for path in ("list.csv", "folder"):
        reason, truth = "", None
        try:
            truth = read_ground_truth(tmp_path / path)
        except DataError as error:
            reason = str(error)
        assert reason.isprintable()
        assert len(reason) < 600
        if truth is not None:
            assert not truth[["machine", "clip"]].duplicated().any()
            assert truth["label"].isin(["normal", "anomaly"]).all()


@needs_reference
def test_official_list_of_2020() -> None:
    truth = read_ground_truth(Path(REFERENCE or "") / "ground_truth_2020.csv")
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
    joined = join_ground_truth(table, truth)
    assert (joined["label"] == "anomaly").sum() == (truth["label"] == "anomaly").sum()


@needs_reference
def test_official_folder_of_2022() -> None:
    truth = read_ground_truth(Path(REFERENCE or ""))
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


def test_a_device_is_no_ground_truth() -> None:
    with pytest.raises(DataError, match="'/dev/zero' cannot be read .it is no regular file"):
        read_ground_truth_2020("/dev/zero")
