import csv
import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdlib.errors import ScoreError
from asdlib.evaluation import official, tables
from asdlib.evaluation.scores import read_score_folder, write_decision_folder, write_score_folder

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
CASES = {
    "dcase2020": (2020, None),
    "dcase2022": (2022, None),
    "dcase2022_blind": (2022, GOLDEN / "dcase2022_blind_ground_truth"),
}


def evaluate(name):
    year, truth = CASES[name]
    return tables.evaluate_folder(GOLDEN / name, year, truth)


def assert_same(found, expected, place=""):
    for key, value in expected.items():
        if isinstance(value, dict):
            assert found[key].keys() >= value.keys()
            assert_same(found[key], value, f"{place}/{key}")
        else:
            assert found[key] == pytest.approx(value, abs=1e-12), f"{place}/{key}"


@pytest.mark.parametrize("name", CASES)
def test_golden_figures(name):
    result = evaluate(name)
    found = result.to_json_dict()
    assert_same(found, EXPECTED[name])
    assert set(found["machines"]) == set(EXPECTED[name]["machines"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert result.notices == ()


@pytest.mark.parametrize("name", CASES)
def test_the_order_of_rows_and_files_does_not_matter(name):
    result = evaluate(name)
    shuffled = result.scores.sample(frac=1, random_state=0)
    again = tables.evaluate_frame(shuffled, result.year)
    pd.testing.assert_frame_equal(again.frame, result.frame)


def test_metrics_frame_has_average_rows():
    frame = evaluate("dcase2020").frame
    assert list(frame.columns) == ["machine", "section", "auc", "pauc"]
    assert list(zip(frame["machine"], frame["section"], strict=True)) == [
        ("ToyCar", "01"),
        ("ToyCar", "02"),
        ("ToyCar", "03"),
        ("ToyCar", "Average"),
        ("fan", "00"),
        ("fan", "02"),
        ("fan", "Average"),
        ("Average", "Average"),
    ]
    frame = evaluate("dcase2022").frame
    assert list(frame.columns)[2:] == ["auc", "pauc", "auc_source", "auc_target"]


def test_metrics_csv_keeps_every_digit(tmp_path):
    frame = evaluate("dcase2022").frame
    frame.loc[0, "auc_target"] = np.nan
    path = tables.write_metrics_csv(frame, tmp_path / "new" / "metrics.csv")
    back = pd.read_csv(path, dtype={"section": str}, float_precision="round_trip")
    pd.testing.assert_frame_equal(back, frame, check_exact=True)
    assert [p.name for p in path.parent.iterdir()] == ["metrics.csv"]
    assert b"\r" not in path.read_bytes()


def test_one_class_gives_null_and_notices_and_averages_skip_it(tmp_path):
    scores = evaluate("dcase2020").scores
    lone = (scores["section"] == "00") & (scores["label"] == "anomaly")
    write_score_folder(scores[~lone], tmp_path, 2020)
    result = tables.evaluate_folder(tmp_path, 2020)
    found = result.to_json_dict()
    assert found["machines"]["fan"]["sections"]["00"] == {"auc": None, "pauc": None}
    assert found["machines"]["fan"]["average"] == found["machines"]["fan"]["sections"]["02"]
    assert found["notices"][-1] == "averages skip what is not defined"
    assert [n for n in found["notices"] if n.startswith("auc of fan/00 is not defined")]
    json.dumps(found, allow_nan=False)


def test_no_class_at_all_gives_null_everywhere():
    scores = evaluate("dcase2022").scores
    result = tables.evaluate_frame(scores[scores["label"] == "normal"], 2022)
    found = result.to_json_dict()
    assert found["omega"] is None
    assert found["omega_terms"] == 0
    assert set(found["harmonic_mean"].values()) == {None}
    official.result_rows(result)


def test_sections_of_the_ground_truth_without_scores_are_told(tmp_path):
    name = "dcase2022_blind"
    scores = read_score_folder(GOLDEN / name, 2022)
    write_score_folder(scores[scores["section"] == "03"], tmp_path, 2022)
    result = tables.evaluate_folder(tmp_path, 2022, CASES[name][1])
    assert result.notices == ("no scores for ToyTrain/04, bearing/04 of the ground truth",)
    result = tables.evaluate_folder(GOLDEN / "dcase2022", 2022, CASES[name][1])
    assert result.notices[0].startswith("the ground truth has none of the scored sections")


def test_decision_files_are_evaluated(tmp_path):
    scores = evaluate("dcase2022").scores
    write_score_folder(scores, tmp_path, 2022)
    decided = scores.assign(decision=(scores["anomaly_score"] > 10.5).astype(int))
    write_decision_folder(decided, tmp_path, 2022)
    result = tables.evaluate_folder(tmp_path, 2022)
    section = result.to_json_dict()["machines"]["bearing"]["sections"]["00"]
    part = decided.query("machine == 'bearing' and section == '00' and domain == 'target'")
    hits = int(((part["decision"] == 1) & (part["label"] == "anomaly")).sum())
    assert section["recall_target"] == pytest.approx(hits / 13)
    assert section["precision_target"] == pytest.approx(hits / part["decision"].sum())
    write_decision_folder(decided[decided["machine"] == "bearing"].iloc[1:], tmp_path, 2022)
    with pytest.raises(ScoreError, match="has no decision"):
        tables.evaluate_folder(tmp_path, 2022)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_official_form_of_2020(tmp_path):
    path = official.write_result_csv(evaluate("dcase2020"), tmp_path / "result.csv")
    rows = rows_of(path)
    assert rows[:2] == [["ToyCar"], ["id", "AUC", "pAUC"]]
    assert [row[0] for row in rows[2:6]] == ["01", "02", "03", "Average"]
    assert rows[6] == []
    assert rows[-1] == []
    average = EXPECTED["dcase2020"]["machines"]["ToyCar"]["average"]
    assert float(rows[5][1]) == pytest.approx(average["auc"], abs=1e-12)


def test_official_form_of_2022(tmp_path):
    path = official.write_result_csv(evaluate("dcase2022"), tmp_path / "result.csv")
    rows = rows_of(path)
    assert rows[1] == ["section", "AUC (source)", "AUC (target)", "pAUC"]
    assert [row[0] for row in rows[2:6]] == ["00", "01", "arithmetic mean", "harmonic mean"]
    assert rows[-4] == ["", "AUC (source)", "AUC (target)", "pAUC"]
    overall = EXPECTED["dcase2022"]["harmonic_mean"]
    assert rows[-2][0] == "harmonic mean over all machine types, sections, and domains"
    assert [float(v) for v in rows[-2][1:]] == pytest.approx(
        [overall["auc_source"], overall["auc_target"], overall["pauc"]], abs=1e-12
    )
    scores = evaluate("dcase2022").scores
    decided = tables.evaluate_frame(scores.assign(decision=1), 2022)
    head = official.result_rows(decided)[1]
    assert head[4:] == [
        f"{name} ({domain})"
        for name in ("precision", "recall", "F1 score")
        for domain in ("source", "target")
    ]


def test_official_form_of_2021():
    scores = evaluate("dcase2022").scores
    result = tables.evaluate_frame(scores.assign(decision=1), 2021)
    rows = official.result_rows(result)
    assert rows[1] == ["section", "domain", "AUC", "pAUC", "precision", "recall", "F1 score"]
    assert [row[:2] for row in rows[2:6]] == [
        ["00", "source"],
        ["01", "source"],
        ["00", "target"],
        ["01", "target"],
    ]
    found = result.to_json_dict()["machines"]["ToyTrain"]
    assert float(rows[6][2]) == pytest.approx(found["average"]["auc"], abs=1e-12)
    assert float(rows[7][3]) == pytest.approx(found["harmonic_mean"]["pauc"], abs=1e-12)
    assert float(rows[2][4]) == pytest.approx(14 / 29)
    assert math.isfinite(float(rows[-2][2]))
