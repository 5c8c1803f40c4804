from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asdlib.errors import ScoreError
from asdlib.evaluation import scores
from asdlib.evaluation.labels import label_scores

NAME = "anomaly_score_fan_id_00.csv"
GOOD = "normal_id_00_00000000.wav,1.5\nanomaly_id_00_00000000.wav,2.5\n"


def write(folder, name, text, encoding="utf-8"):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def table(year=2022, n=4):
    if year == 2020:
        clips = [f"{k}_id_00_{i:08d}.wav" for k in ("normal", "anomaly") for i in range(n)]
        domains = ["source"] * (2 * n)
    else:
        clips = [
            f"section_00_{d}_test_{k}_{i:04d}_vel_1.wav"
            for d in ("source", "target")
            for k in ("normal", "anomaly")
            for i in range(n)
        ]
        domains = ["source"] * (2 * n) + ["target"] * (2 * n)
    rng = np.random.default_rng(0)
    df = pd.DataFrame(
        {"clip": clips, "domain": domains, "anomaly_score": rng.normal(size=len(clips))}
    )
    return df.assign(machine="fan", section="00")


@pytest.mark.parametrize("year", [2020, 2021, 2022, 2023, 2026])
def test_what_is_written_is_read_back_without_loss(tmp_path, year):
    df = table(year)
    files = scores.write_score_folder(df, tmp_path, year)
    expected = {
        2020: ["anomaly_score_fan_id_00.csv"],
        2021: [f"anomaly_score_fan_section_00_{d}_test.csv" for d in ("source", "target")],
    }.get(year, ["anomaly_score_fan_section_00_test.csv"])
    assert [f.name for f in files] == expected == names_in(tmp_path)
    back = scores.read_score_folder(tmp_path, year)
    assert list(back.columns) == ["machine", "section", "clip", "anomaly_score"]
    want = df.sort_values("clip", ignore_index=True)
    assert back["clip"].tolist() == want["clip"].tolist()
    assert back["anomaly_score"].tolist() == want["anomaly_score"].tolist()
    labelled = label_scores(back, year)
    assert labelled["domain"].tolist() == want["domain"].tolist()


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_every_finite_number_survives(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("scores")
    clips = [f"normal_id_00_{i:08d}.wav" for i in range(len(values))]
    df = pd.DataFrame({"machine": "fan", "section": "00", "clip": clips, "anomaly_score": values})
    scores.write_score_folder(df, folder, 2020)
    assert scores.read_score_folder(folder, 2020)["anomaly_score"].tolist() == values


def test_decisions_are_written_and_read(tmp_path):
    assert scores.read_decision_folder(tmp_path, 2022) is None
    df = table().assign(decision=np.arange(16) % 2)
    (file,) = scores.write_decision_folder(df, tmp_path, 2022)
    assert file.name == "decision_result_fan_section_00_test.csv"
    assert file.read_text().splitlines()[0].endswith(("wav,0", "wav,1"))
    back = scores.read_decision_folder(tmp_path, 2022)
    want = df.sort_values("clip", ignore_index=True)
    assert back["decision"].tolist() == want["decision"].tolist()


@pytest.mark.parametrize(
    "name",
    [
        "anomaly_score_fan_section_03_test.csv",
        "anomaly_score_fan_section_03.csv",
        "anomaly_score_DCASE2022T2fan_section_03_test_seed13711_Eval.csv",
    ],
)
def test_other_spellings_of_file_names_are_read(tmp_path, name):
    write(tmp_path, name, "section_03_0000.wav,1\nsection_03_test_0001.wav,2\n")
    df = scores.read_score_folder(tmp_path, 2022)
    assert df["clip"].tolist() == ["section_03_0000.wav", "section_03_test_0001.wav"]
    assert df["machine"].tolist() == ["fan", "fan"]


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        "\ufeff" + GOOD,
        "\n" + GOOD + "\n\n",
        GOOD.replace(",", " , "),
        GOOD.replace("normal_id", "fan/test/normal_id"),
        GOOD.replace("normal_id", "C:\\source\\normal_id"),
    ],
)
def test_harmless_differences_are_accepted(tmp_path, text):
    write(tmp_path, NAME, text)
    df = scores.read_score_folder(tmp_path, 2020)
    assert df["anomaly_score"].tolist() == [2.5, 1.5]
    assert df["clip"].tolist() == ["anomaly_id_00_00000000.wav", "normal_id_00_00000000.wav"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("file,score\n" + GOOD, "line 1: 'score' is not a number"),
        (GOOD.replace("2.5", "high"), "line 2: 'high' is not a number"),
        (GOOD.replace("2.5", ""), "line 2: '' is not a number"),
        (GOOD.replace("2.5", "nan"), "line 2: score is 'nan'"),
        (GOOD.replace("2.5", "-inf"), "line 2: score is '-inf'"),
        (GOOD.replace("2.5", "2.5,1"), "line 2 has 3 fields"),
        (GOOD.replace(",2.5", ""), "line 2 has 1 fields"),
        (
            GOOD + GOOD.splitlines()[0] + "\n",
            "line 3: clip 'normal_id_00.*already stands on line 1",
        ),
        (GOOD.replace("anomaly_id_00", "anomaly_id_02"), "line 2: .* not of section '00'"),
        (GOOD.replace("anomaly_id_00_00000000.wav", "clip.wav"), "line 2: .*clip.wav"),
        ('"normal_id_00_00000000.wav,1\n', "unexpected end of data"),
    ],
)
def test_bad_lines_are_refused_with_file_and_line(tmp_path, text, message):
    write(tmp_path, NAME, text)
    with pytest.raises(ScoreError, match=message) as caught:
        scores.read_score_folder(tmp_path, 2020)
    assert NAME in str(caught.value)
    assert "\n" not in str(caught.value)


def test_text_in_another_encoding_is_refused(tmp_path):
    write(tmp_path, NAME, GOOD, "utf-16")
    with pytest.raises(ScoreError, match="not UTF-8"):
        scores.read_score_folder(tmp_path, 2020)


def test_one_clip_in_two_spellings_is_a_duplicate(tmp_path):
    write(
        tmp_path,
        "anomaly_score_fan_section_03_test.csv",
        "section_03_0000.wav,1\nsection_03_test_0000.wav,2\n",
    )
    with pytest.raises(ScoreError, match="line 2: .*already stands on line 1"):
        scores.read_score_folder(tmp_path, 2022)


def test_one_section_in_two_files_is_a_duplicate(tmp_path):
    for name in ("anomaly_score_fan_section_03.csv", "anomaly_score_fan_section_03_test.csv"):
        write(tmp_path, name, "section_03_0000.wav,1\n")
    with pytest.raises(ScoreError, match=r"section_03\.csv and .*section_03_test\.csv; keep one"):
        scores.read_score_folder(tmp_path, 2022)


@pytest.mark.parametrize(
    ("name", "year"),
    [
        ("anomaly_score_fan_id_00.csv", 2022),
        ("anomaly_score_fan_section_00_test.csv", 2020),
        ("anomaly_score_fan_section_00_source_test.csv", 2022),
        ("anomaly_score_fan_section_00_test (1).csv", 2022),
        ("anomaly_score_fan.csv", 2020),
    ],
)
def test_files_of_another_form_are_refused(tmp_path, name, year):
    write(tmp_path, name, GOOD)
    with pytest.raises(ScoreError, match=f"not named like a score file of {year}"):
        scores.read_score_folder(tmp_path, year)


def test_folders_without_scores_are_refused(tmp_path):
    with pytest.raises(ScoreError, match="does not exist"):
        scores.read_score_folder(tmp_path / "none", 2020)
    file = write(tmp_path, "readme.txt", "x")
    with pytest.raises(ScoreError, match="is not a folder"):
        scores.read_score_folder(file, 2020)
    with pytest.raises(
        ScoreError, match=r"has no score files; expected 'anomaly_score_<machine>_id"
    ):
        scores.read_score_folder(tmp_path, 2020)
    write(tmp_path / "below", NAME, GOOD)
    with pytest.raises(ScoreError, match="the folder '.*below' has some"):
        scores.read_score_folder(tmp_path, 2020)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.iloc[:0], "has no rows"),
        (lambda d: d.drop(columns="section"), "lacks the column 'section'"),
        (lambda d: d.assign(anomaly_score=[*d.anomaly_score[:-1], np.nan]), "'nan'"),
        (lambda d: d.assign(clip="a.wav"), "stands twice"),
    ],
)
def test_nothing_is_written_when_one_row_is_bad(tmp_path, change, message):
    with pytest.raises(ScoreError, match=message):
        scores.write_score_folder(change(table()), tmp_path / "out", 2022)
    assert not (tmp_path / "out").exists()


def test_2021_needs_domains(tmp_path):
    with pytest.raises(ScoreError, match="one for each domain"):
        scores.write_score_folder(table(2021).drop(columns="domain"), tmp_path, 2021)


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    df = table()
    (file,) = scores.write_score_folder(df, tmp_path, 2022)
    before = file.read_bytes()

    def stop(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        scores.write_score_folder(df.assign(anomaly_score=0.0), tmp_path, 2022)
    assert names_in(tmp_path) == [file.name]
    assert file.read_bytes() == before


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ScoreError, match="anomaly_score_fan_id_00.csv' cannot be read: No such"):
        scores.read_score_file(tmp_path / NAME, 2020)
