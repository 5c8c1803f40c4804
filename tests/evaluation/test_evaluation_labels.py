from pathlib import Path

import pandas as pd
import pytest

from asdlib.errors import ScoreError
from asdlib.evaluation.labels import label_scores, read_truth
from asdlib.evaluation.scores import read_score_folder

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"
BLIND = GOLDEN / "dcase2022_blind"
TRUTH = GOLDEN / "dcase2022_blind_ground_truth"


def scores_of(clips, machine="fan", section="00"):
    return pd.DataFrame(
        {"machine": machine, "section": section, "clip": clips, "anomaly_score": 1.0}
    )


def test_names_of_the_development_sets_say_label_and_domain():
    clips = ["section_00_source_test_normal_0000.wav", "section_00_target_test_anomaly_0001.wav"]
    df = label_scores(scores_of(clips), 2022)
    assert df["label"].tolist() == ["normal", "anomaly"]
    assert df["domain"].tolist() == ["source", "target"]
    df = label_scores(scores_of(["anomaly_id_00_00000001.wav"]), 2020)
    assert (df["label"][0], df["domain"][0]) == ("anomaly", "source")


def test_the_domain_comes_from_the_name_and_not_from_the_folder(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    line = "/data/source/section_00_target_test_normal_0000.wav,1\n"
    (folder / "anomaly_score_fan_section_00_test.csv").write_text(line)
    assert label_scores(read_score_folder(folder, 2022), 2022)["domain"].tolist() == ["target"]


def test_ground_truth_is_joined_by_name_and_not_by_order():
    df = read_score_folder(BLIND, 2022)
    truth = read_truth(TRUTH, 2022).set_index(["machine", "clip"])
    shuffled = df.sample(frac=1, random_state=3)
    for table in (df, shuffled, shuffled.reset_index(drop=True)):
        labelled = label_scores(table, 2022, TRUTH)
        want = truth.loc[list(zip(table["machine"], table["clip"], strict=True))]
        assert labelled["label"].tolist() == want["label"].tolist()
        assert labelled["domain"].tolist() == want["domain"].tolist()
        assert labelled["anomaly_score"].tolist() == table["anomaly_score"].tolist()


def test_names_with_and_without_test_are_the_same_clip():
    df = read_score_folder(BLIND, 2022)
    renamed = df.assign(clip=df["clip"].str.replace(r"^(section_\d\d)_", r"\1_test_", regex=True))
    assert renamed["clip"][0].startswith("section_03_test_0")
    expected = label_scores(df, 2022, TRUTH)[["label", "domain"]]
    pd.testing.assert_frame_equal(label_scores(renamed, 2022, TRUTH)[["label", "domain"]], expected)


def test_ground_truth_of_2020_is_a_list(tmp_path):
    path = tmp_path / "eval_data_list.csv"
    path.write_text(
        "fan\nid_01_00000000.wav,normal_id_01_00000007.wav,0\n"
        "id_01_00000001.wav,anomaly_id_01_00000002.wav,1\n"
    )
    clips = ["id_01_00000001.wav", "id_01_00000000.wav"]
    df = label_scores(scores_of(clips, section="01"), 2020, path)
    assert df["label"].tolist() == ["anomaly", "normal"]
    assert df["domain"].tolist() == ["source", "source"]
    assert read_truth(path, 2020)["section"].tolist() == ["01", "01"]


def test_names_without_labels_need_ground_truth():
    with pytest.raises(ScoreError, match="has no label in its name; give the ground truth"):
        label_scores(read_score_folder(BLIND, 2022), 2022)


def test_labelled_sections_beside_ground_truth_keep_their_names():
    named = scores_of(["section_00_source_test_normal_0000.wav"], "bearing")
    df = pd.concat([read_score_folder(BLIND, 2022), named], ignore_index=True)
    assert label_scores(df, 2022, TRUTH)["label"].iloc[-1] == "normal"


def test_missing_and_surplus_clips_are_named():
    df = read_score_folder(BLIND, 2022)
    with pytest.raises(ScoreError, match=r"ToyTrain/section_03_0000 is in the ground truth"):
        label_scores(df.iloc[1:], 2022, TRUTH)
    extra = scores_of(["section_03_0999.wav"], "bearing", "03")
    with pytest.raises(ScoreError, match=r"section_03_0999"):
        label_scores(pd.concat([df, extra], ignore_index=True), 2022, TRUTH)


def test_a_name_that_contradicts_the_ground_truth_is_refused(tmp_path):
    clip = "section_00_source_test_normal_0000.wav"
    for part, flag in (("data", 1), ("domain", 0)):
        folder = tmp_path / f"ground_truth_{part}"
        folder.mkdir()
        (folder / "ground_truth_fan_section_00_test.csv").write_text(f"{clip},{flag}\n")
    with pytest.raises(ScoreError, match="says label 'normal', the ground truth 'anomaly'"):
        label_scores(scores_of([clip]), 2022, tmp_path)


def test_foreign_names_sections_and_paths_are_refused(tmp_path):
    with pytest.raises(ScoreError, match="another section"):
        label_scores(scores_of(["normal_id_02_00000000.wav"]), 2020)
    with pytest.raises(ScoreError, match=r"clip\.wav"):
        label_scores(scores_of(["clip.wav"]), 2020)
    for year in (2020, 2022):
        with pytest.raises(ScoreError, match=f"ground truth of {year}: "):
            label_scores(read_score_folder(BLIND, 2022).iloc[:0], year, tmp_path / "none")
