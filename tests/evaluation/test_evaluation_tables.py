"""Whole evaluations against golden figures, and the published tables."""

import json
from pathlib import Path

import pandas as pd
import pytest

from asdlib.errors import ScoreError
from asdlib.evaluation import (
    evaluate,
    evaluate_folder,
    read_score_folder,
    write_score_folder,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
BLIND, TRUTH = GOLDEN / "dcase2022_blind", GOLDEN / "dcase2022_blind_ground_truth"


def assert_same(found, expected, place=""):
    for key, value in expected.items():
        if isinstance(value, dict):
            assert found[key].keys() >= value.keys()
            assert_same(found[key], value, f"{place}/{key}")
        else:
            assert found[key] == pytest.approx(value, abs=1e-12), f"{place}/{key}"


@pytest.mark.parametrize("name", EXPECTED)
def test_golden_figures_in_any_order_of_rows(golden, name):
    result = golden[name]
    found = result.to_json_dict()
    assert_same(found, EXPECTED[name])
    assert set(found["machines"]) == set(EXPECTED[name]["machines"])
    for row in result.pooled.to_dict("records"):
        assert found["machines"][row.pop("machine")]["pooled"] == row
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert result.notices == ()
    again = evaluate(result.scores.sample(frac=1, random_state=0), result.year)
    pd.testing.assert_frame_equal(again.frame, result.frame)


def test_metrics_frame_has_average_rows(golden):
    frame = golden["dcase2020"].frame
    assert list(frame.columns) == ["machine", "section", "auc", "pauc"]
    assert (frame["machine"] + "/" + frame["section"]).tolist() == [
        *("ToyCar/01", "ToyCar/02", "ToyCar/03", "ToyCar/Average"),
        *("fan/00", "fan/02", "fan/Average", "Average/Average"),
    ]
    average = EXPECTED["dcase2020"]["average"]
    assert frame.iloc[-1]["pauc"] == pytest.approx(average["pauc"], abs=1e-12)
    assert list(golden["dcase2022"].frame)[2:] == ["auc", "pauc", "auc_source", "auc_target"]


def test_one_class_gives_null_and_notices_and_averages_skip_it(golden):
    scores = golden["dcase2020"].scores
    lone = (scores["section"] == "00") & (scores["label"] == "anomaly")
    found = evaluate(scores[~lone], 2020).to_json_dict()
    assert found["machines"]["fan"]["sections"]["00"] == {"auc": None, "pauc": None}
    assert found["machines"]["fan"]["average"] == found["machines"]["fan"]["sections"]["02"]
    assert found["notices"][-1] == "averages skip what is not defined"
    assert [n for n in found["notices"] if n.startswith("auc of fan/00 is not defined")]
    json.dumps(found, allow_nan=False)


def test_no_class_at_all_gives_null_everywhere(golden):
    scores = golden["dcase2022"].scores
    found = evaluate(scores[scores["label"] == "normal"], 2022).to_json_dict()
    assert (found["omega"], found["omega_terms"]) == (None, 0)
    assert set(found["harmonic_mean"].values()) == {None}


def test_sections_of_the_ground_truth_without_scores_are_named(tmp_path):
    scores = read_score_folder(BLIND, 2022)
    write_score_folder(scores[scores["section"] == "03"], tmp_path, 2022)
    result = evaluate_folder(tmp_path, 2022, TRUTH)
    assert result.notices == ("no scores for ToyTrain/04, bearing/04 of the ground truth",)
    result = evaluate_folder(GOLDEN / "dcase2022", 2022, TRUTH)
    assert result.notices[0].startswith("the ground truth has none of the scored sections")


def test_decision_files_are_evaluated(golden, tmp_path):
    scores = golden["dcase2022"].scores
    write_score_folder(scores, tmp_path, 2022)
    decided = scores.assign(decision=(scores["anomaly_score"] > 10.5).astype(int))
    write_score_folder(decided, tmp_path, 2022, "decision_result")
    result = evaluate_folder(tmp_path, 2022)
    section = result.to_json_dict()["machines"]["bearing"]["sections"]["00"]
    part = decided.query("machine == 'bearing' and section == '00' and domain == 'target'")
    hits = int(((part["decision"] == 1) & (part["label"] == "anomaly")).sum())
    assert section["recall_target"] == pytest.approx(hits / 13)
    assert section["precision_target"] == pytest.approx(hits / part["decision"].sum())
    fewer = decided[decided["machine"] == "bearing"].iloc[1:]
    write_score_folder(fewer, tmp_path, 2022, "decision_result")
    with pytest.raises(ScoreError, match="has no decision"):
        evaluate_folder(tmp_path, 2022)
