"""Score files of anybody: read, refused or labelled, and written without loss."""

import errno
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st

from asdlib.data import read_ground_truth
from asdlib.errors import AsdError, DataError, ScoreError
from asdlib.evaluation import label_scores, read_score_folder, write_score_folder

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"
BLIND, TRUTH = GOLDEN / "dcase2022_blind", GOLDEN / "dcase2022_blind_ground_truth"
NAME = "anomaly_score_fan_id_00.csv"
GOOD = "normal_id_00_00000000.wav,1.5\nanomaly_id_00_00000000.wav,2.5\n"


def write(folder, name, text):
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, newline="")


def scores_of(clips, machine="fan", section="00", value=1.0):
    return pd.DataFrame(
        {"machine": machine, "section": section, "clip": clips, "anomaly_score": value}
    )


def table(year=2022, n=4):
    labels = ("normal", "anomaly")
    if year == 2020:
        rows = [("source", f"{k}_id_00_{i:08d}.wav") for k in labels for i in range(n)]
    else:
        rows = [
            (d, f"section_00_{d}_test_{k}_{i:04d}_vel_1.wav")
            for d in ("source", "target")
            for k in labels
            for i in range(n)
        ]
    domains, clips = zip(*rows, strict=True)
    values = np.random.default_rng(0).normal(size=len(rows))
    return scores_of(list(clips), value=values).assign(domain=domains)


def test_what_is_written_is_read_back_without_loss(tmp_path):
    for number, year in enumerate([2020, 2021, 2022, 2023, 2026]):
        folder = tmp_path / str(number)
        folder.mkdir()
        df = table(year)
        files = write_score_folder(df, folder, year)
        expected = {
            2020: ["anomaly_score_fan_id_00.csv"],
            2021: [f"anomaly_score_fan_section_00_{d}_test.csv" for d in ("source", "target")],
        }.get(year, ["anomaly_score_fan_section_00_test.csv"])
        assert [f.name for f in files] == expected == sorted(p.name for p in folder.iterdir())
        back = read_score_folder(folder, year)
        assert list(back.columns) == ["machine", "section", "clip", "anomaly_score"]
        want = df.sort_values("clip", ignore_index=True)
        assert back["clip"].tolist() == want["clip"].tolist()
        assert back["anomaly_score"].tolist() == want["anomaly_score"].tolist()
        assert label_scores(back, year)["domain"].tolist() == want["domain"].tolist()


def test_a_name_never_becomes_a_path(tmp_path):
    for column in ("machine", "section"):
        for name in ("/../../escaped/fan", "fa/n", "", "fan\n", "Average", "x" * 65):
            with pytest.raises(ScoreError, match=column):
                write_score_folder(table().assign(**{column: name}), tmp_path / "out", 2022)
    assert not (tmp_path / "out").exists()


NOT_READ_BACK = [
    "",
    "clip.wav",
    "normal\n.wav",
    "../x.wav",
    "section_01_source_test_normal_0000.wav",
    "\x1b.wav",
]


def test_what_could_not_be_read_back_is_not_written(tmp_path):
    for clip in NOT_READ_BACK:
        with pytest.raises(ScoreError, match="line 1: .*(file|clip|name)"):
            write_score_folder(scores_of([clip]), tmp_path / "out", 2022)
        assert not (tmp_path / "out").exists()


def test_a_machine_in_a_file_name_is_checked(tmp_path):
    for number, name in enumerate(["Average", " fan", "fan.", "x" * 65]):
        folder = tmp_path / str(number)
        folder.mkdir()
        write(folder, f"anomaly_score_{name}_id_00.csv", GOOD)
        with pytest.raises(ScoreError, match="machine"):
            read_score_folder(folder, 2020)


def test_a_score_file_without_permission_is_named(tmp_path, monkeypatch):
    write(tmp_path, NAME, GOOD)

    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ScoreError, match=f"{NAME}' cannot be read .*check it and its permissions"):
        read_score_folder(tmp_path, 2020)


LINES = st.lists(
    st.text(st.characters(codec="utf-8"), max_size=12)
    | st.sampled_from([*GOOD.splitlines(), "normal_id_00_00000001.wav,", ",1", '"', "\0", "\r"]),
    max_size=6,
).map("\n".join)


@given(content=LINES.map(str.encode) | st.binary(max_size=40), year=st.sampled_from([2020, 2021]))
@settings(max_examples=200)
def test_any_content_is_read_or_refused(tmp_path_factory, content, year):
    folder = tmp_path_factory.mktemp("scores")
    name = NAME if year == 2020 else "anomaly_score_fan_section_00_source_test.csv"
    (folder / name).write_bytes(content)
    with suppress(AsdError):
        label_scores(read_score_folder(folder, year), year)


@given(content=LINES.map(str.encode) | st.binary(max_size=40))
@settings(max_examples=100)
def test_any_ground_truth_is_read_or_refused(tmp_path_factory, content):
    file = tmp_path_factory.mktemp("truth") / "eval_data_list.csv"
    file.write_bytes(content)
    scores = scores_of(["id_00_00000000.wav"])
    with suppress(AsdError):
        label_scores(scores, 2020, read_ground_truth(file))
    folder = file.parent / "later"
    for part in ("ground_truth_data", "ground_truth_domain"):
        (folder / part).mkdir(parents=True)
        (folder / part / "ground_truth_fan_section_00_test.csv").write_bytes(content)
    with suppress(AsdError):
        label_scores(scores, 2022, read_ground_truth(folder))


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5))
@settings(max_examples=25)
def test_every_finite_number_survives(tmp_path_factory, values):
    folder = tmp_path_factory.mktemp("scores")
    clips = [f"normal_id_00_{i:08d}.wav" for i in range(len(values))]
    write_score_folder(scores_of(clips, value=values), folder, 2020)
    assert read_score_folder(folder, 2020)["anomaly_score"].tolist() == values


def test_decisions_are_written_and_read(tmp_path):
    df = table().assign(decision=np.arange(16) % 2)
    (file,) = write_score_folder(df, tmp_path, 2022, "decision_result")
    assert file.name == "decision_result_fan_section_00_test.csv"
    assert file.read_text().splitlines()[0].endswith(("wav,0", "wav,1"))
    back = read_score_folder(tmp_path, 2022, "decision_result")
    want = df.sort_values("clip", ignore_index=True)
    assert back["decision"].tolist() == want["decision"].tolist()
    file.write_text(file.read_text().replace(",1", ",2"))
    with pytest.raises(ScoreError, match="decision is '2'; expected 0 or 1"):
        read_score_folder(tmp_path, 2022, "decision_result")


HARMLESS = [
    GOOD.replace("\n", "\r\n"),
    "\ufeff" + GOOD,
    "\n" + GOOD + "\n\n",
    GOOD.replace(",", " , "),
    GOOD.replace("normal_id", "fan/test/normal_id"),
    GOOD.replace("normal_id", "C:\\source\\normal_id"),
]


def test_harmless_differences_are_accepted(tmp_path):
    for number, text in enumerate(HARMLESS):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name in ("fan_section_03.csv", "DCASE2022T2pump_section_03_test_seed13711_Eval.csv"):
            write(folder / "later", f"anomaly_score_{name}", "section_03_0000.wav,1\n")
        assert read_score_folder(folder / "later", 2022)["machine"].tolist() == ["fan", "pump"]
        write(folder, NAME, text)
        df = read_score_folder(folder, 2020)
        assert df["anomaly_score"].tolist() == [2.5, 1.5]
        assert df["clip"].tolist() == ["anomaly_id_00_00000000.wav", "normal_id_00_00000000.wav"]


BLIND_NAME = "anomaly_score_fan_section_03_test.csv"
REFUSED = [
    *(
        ({NAME: text}, 2020, f"{NAME}'.*{message}")
        for text, message in (
            ("", "is empty"),
            ("\n\n", "is empty"),
            ("file,score\n" + GOOD, "line 1: 'score' is not a number"),
            (GOOD.replace("2.5", "high"), "line 2: 'high' is not a number"),
            (GOOD.replace("2.5", ""), "line 2: '' is not a number"),
            (GOOD.replace("2.5", "1_000"), "line 2: '1_000' is not a number"),
            (GOOD.replace("2.5", "٢٫٥"), "line 2: '٢٫٥' is not a number"),
            (GOOD.replace("2.5", "٢"), "line 2: '٢' is not a number"),
            (GOOD.replace("2.5", "2\0"), r"line 2: '2\\x00' is not a number"),
            (GOOD.replace("2.5", "nan"), "line 2: score is 'nan'"),
            (GOOD.replace("2.5", "-inf"), "line 2: score is '-inf'"),
            (GOOD.replace("2.5", "2.5,1"), "line 2 has 3 fields"),
            (GOOD.replace(",2.5", ""), "line 2 has 1 fields"),
            (GOOD + GOOD.splitlines()[0], "line 3: clip 'normal_id_00.*is already in .* line 1"),
            (GOOD.replace("anomaly_id_00", "anomaly_id_02"), "line 2: .* not of section '00'"),
            (GOOD.replace("anomaly_id_00_00000000.wav", "clip.wav"), "line 2: .*clip.wav"),
            ('"normal_id_00_00000000.wav,1\n', "unexpected end of data"),
            ("\udcff\udcfe", "UTF-8"),
        )
    ),
    # One clip in two spellings is a duplicate, in one file and in two.
    ({BLIND_NAME: "section_03_0000.wav,1\nsection_03_test_0000.wav,2\n"}, 2022, "already in .* 1"),
    (
        dict.fromkeys((BLIND_NAME, BLIND_NAME.replace("_test", "")), "section_03_0000.wav,1\n"),
        2022,
        r"03_test\.csv' line 1: .* in 'anomaly_score_fan_section_03\.csv' line 1; keep",
    ),
    *(
        ({name: GOOD}, year, f"not named like a score file of {year}")
        for name, year in (
            (NAME, 2022),
            ("anomaly_score_fan_section_00_test.csv", 2020),
            ("anomaly_score_fan_section_00_source_test.csv", 2022),
            ("anomaly_score_fan_section_00_test (1).csv", 2022),
            ("anomaly_score_fan.csv", 2020),
            ("anomaly_score_fan_id_٠٠.csv", 2020),
        )
    ),
    (
        {
            "anomaly_score_fan_section_00_source_test.csv": "section_00_target_test_normal_0000.wav"
            ",1\n"
        },
        2021,
        "not of section '00' source, which its score file",
    ),
    ({"readme.txt": "x"}, 2020, "no score files; expected 'anomaly_score_<machine>_id"),
    ({f"below/{NAME}": GOOD}, 2020, "no score files.* the folder '.*below' has some"),
    ({}, 2020, "does not exist"),
    ({"": "x"}, 2020, "is not a folder"),
]


def test_what_would_be_evaluated_wrongly_is_refused(tmp_path):
    for number, (files, year, message) in enumerate(REFUSED):
        folder = tmp_path / str(number)
        folder.mkdir()
        for name, text in files.items():
            path = folder / "scores" / name if name else folder / "scores"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, errors="surrogateescape")
        with pytest.raises(ScoreError, match=message) as caught:
            read_score_folder(folder / "scores", year)
        assert "\n" not in str(caught.value)


BAD_ROWS = [
    (lambda d: d.iloc[:0], "has no rows"),
    (lambda d: d.drop(columns="section"), "lacks the column 'section'"),
    (lambda d: d.assign(anomaly_score=[*d.anomaly_score[:-1], np.nan]), "'nan'"),
    (lambda d: d.assign(clip=d["clip"][0]), "is already in .* line 1"),
    (lambda d: d.drop(columns="domain"), "2021 are one for each domain"),
]


def test_nothing_is_written_when_one_row_is_bad(tmp_path):
    for change, message in BAD_ROWS:
        year = 2021 if "2021" in message else 2022
        with pytest.raises(ScoreError, match=message):
            write_score_folder(change(table()), tmp_path / "out", year)
        assert not (tmp_path / "out").exists()


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    (file,) = write_score_folder(table(), tmp_path, 2022)
    before = file.read_bytes()

    def stop(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write_score_folder(table().assign(anomaly_score=0.0), tmp_path, 2022)
    assert [file.read_bytes()] == [path.read_bytes() for path in tmp_path.iterdir()] == [before]


def test_names_of_the_development_sets_say_label_and_domain(tmp_path):
    # The domain comes from the name, not from the folder.
    lines = "".join(f"/data/source/{clip},1\n" for clip in table()["clip"])
    write(tmp_path, "anomaly_score_fan_section_00_test.csv", lines)
    df = label_scores(read_score_folder(tmp_path, 2022), 2022)
    for column in ("label", "domain"):
        assert [name in clip for name, clip in zip(df[column], df["clip"], strict=True)] == [1] * 16
    df = label_scores(scores_of(["anomaly_id_00_00000001.wav"]), 2020)
    assert (df["label"][0], df["domain"][0]) == ("anomaly", "source")


def test_ground_truth_is_joined_by_name_and_not_by_order():
    df, truth = read_score_folder(BLIND, 2022), read_ground_truth(TRUTH)
    shuffled = df.sample(frac=1, random_state=3)
    renamed = df.assign(clip=df["clip"].str.replace(r"^(section_\d\d)_", r"\1_test_", regex=True))
    assert renamed["clip"][0].startswith("section_03_test_0")
    by_name = truth.set_index(["machine", "clip"])
    for scores in (df, shuffled, shuffled.reset_index(drop=True), renamed):
        labelled = label_scores(scores, 2022, truth)
        clips = scores["clip"].str.replace("_test_", "_")
        want = by_name.loc[list(zip(scores["machine"], clips, strict=True))]
        assert labelled["label"].tolist() == want["label"].tolist()
        assert labelled["domain"].tolist() == want["domain"].tolist()
        assert labelled["anomaly_score"].tolist() == scores["anomaly_score"].tolist()
    # Sections that the ground truth does not have keep what their names say.
    named = scores_of(["section_00_source_test_normal_0000.wav"], "bearing")
    both = pd.concat([df, named], ignore_index=True)
    assert label_scores(both, 2022, truth)["label"].iloc[-1] == "normal"


def test_ground_truth_of_2020_is_a_list(tmp_path):
    path = tmp_path / "eval_data_list.csv"
    path.write_text(
        "fan\nid_01_00000000.wav,normal_id_01_00000007.wav,0\n"
        "id_01_00000001.wav,anomaly_id_01_00000002.wav,1\n"
    )
    truth = read_ground_truth(path)
    clips = ["id_01_00000001.wav", "id_01_00000000.wav"]
    df = label_scores(scores_of(clips, section="01"), 2020, truth)
    assert df["label"].tolist() == ["anomaly", "normal"]
    assert df["domain"].tolist() == ["source", "source"]


NOT_IN_TRUTH = [
    (lambda d: d.iloc[1:], "ToyTrain/section_03_0000 is in the ground truth"),
    (lambda d: pd.concat([d, scores_of(["section_03_0999.wav"], "bearing", "03")]), "03_0999"),
    (lambda d: scores_of(["normal_id_02_00000000.wav"]), "normal_id_02"),
]


def test_clips_that_do_not_fit_the_truth_or_the_section_are_named():
    for change, message in NOT_IN_TRUTH:
        df = read_score_folder(BLIND, 2022)
        with pytest.raises(DataError, match=message):
            label_scores(change(df), 2022, read_ground_truth(TRUTH))
        with pytest.raises(ScoreError, match="has no label in its name; give the ground truth"):
            label_scores(df, 2022)


def test_ground_truth_that_contradicts_a_name_is_refused(tmp_path):
    clip = "section_00_source_test_normal_0000.wav"
    for part, flag in (("data", 1), ("domain", 0)):
        folder = tmp_path / f"ground_truth_{part}"
        write(folder, "ground_truth_fan_section_00_test.csv", f"{clip},{flag}\n")
    with pytest.raises(DataError, match="has label 'normal', but the ground truth says 'anomaly'"):
        label_scores(scores_of([clip]), 2022, read_ground_truth(tmp_path))
