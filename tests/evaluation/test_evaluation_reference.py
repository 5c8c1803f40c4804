"""Figures that the official code printed for public score files, recomputed.

The files are not part of this repository; ASDLIB_REFERENCE names the folder that holds them.
"""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from asdlib.evaluation import decisions, means, official, tables
from asdlib.evaluation.labels import label_scores, read_truth
from asdlib.evaluation.published import load_published, published_per_id
from asdlib.evaluation.scores import write_score_folder

REFERENCE = os.environ.get("ASDLIB_REFERENCE", "")
pytestmark = pytest.mark.skipif(
    not REFERENCE, reason="ASDLIB_REFERENCE names no folder of reference files"
)
SCORES = Path(REFERENCE) / "scores"
RUNS = {"mlperf_tiny_toycar": 2020, "dcase2022_baseline_ae_rerun": 2022}
TRUTH = {2020: "ground_truth_2020.csv", 2022: "ground_truth_2022"}


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def assert_same_rows(found, expected, columns):
    """Compare names exactly and the figures of the first ``columns`` fields to 1e-9."""
    compared = 0
    assert len(found) == len(expected)
    for row, want in zip(found, expected, strict=True):
        assert len(row) == min(len(want), columns)
        for cell, value in zip(row, want, strict=False):
            if "." not in value:
                assert cell == value
                continue
            assert float(cell) == pytest.approx(float(value), abs=1e-9, rel=0)
            compared += 1
    return compared


@pytest.mark.parametrize(("run", "figures"), [("mlperf_tiny_toycar", 10), (None, 111)])
def test_every_auc_pauc_and_mean_equals_the_official_result(run, figures):
    run = run or "dcase2022_baseline_ae_rerun"
    result = tables.evaluate_folder(SCORES / run, RUNS[run])
    expected = rows_of(SCORES / run / "result.csv")
    columns = 3 if RUNS[run] == 2020 else 4
    assert assert_same_rows(official.result_rows(result), expected, columns) == figures
    assert result.notices == ()


def test_json_holds_the_same_figures():
    found = tables.evaluate_folder(SCORES / "mlperf_tiny_toycar", 2020).to_json_dict()
    assert found["average"]["auc"] == pytest.approx(0.864397431185167, abs=1e-9)
    assert found["average"]["pauc"] == pytest.approx(0.7468649647274275, abs=1e-9)
    found = tables.evaluate_folder(SCORES / "dcase2022_baseline_ae_rerun", 2022).to_json_dict()
    rows = rows_of(SCORES / "dcase2022_baseline_ae_rerun" / "result.csv")
    sections = [
        [float(v) for v in row[1:4]] for row in rows if row and row[0] in ("00", "01", "02")
    ]
    floored = np.maximum(np.array(sections), np.finfo(float).eps)
    assert found["omega"] == pytest.approx(floored.size / (1 / floored).sum(), abs=1e-9)
    assert found["omega_terms"] == 63
    names = ("auc_source", "auc_target", "pauc")
    for row, key in ((rows[-3], "average"), (rows[-2], "harmonic_mean")):
        want = [float(v) for v in row[1:4]]
        assert [found[key][name] for name in names] == pytest.approx(want, abs=1e-9)


def test_threshold_metrics_equal_the_official_result():
    """The decisions are not given, so find a threshold for each machine that explains its rows."""
    run = SCORES / "dcase2022_baseline_ae_rerun"
    labelled = tables.evaluate_folder(run, 2022).scores
    rows = rows_of(run / "result.csv")
    thresholds = {}
    for at, row in enumerate(rows):
        if len(row) != 1:
            continue
        machine = row[0]
        part = labelled[labelled["machine"] == machine]
        wanted = {r[0]: [float(v) for v in r[4:]] for r in rows[at + 2 : at + 5]}
        recalls = np.array([wanted[s][2:4] for s in sorted(wanted)]).ravel()
        steps = np.concatenate([[-np.inf], np.unique(part["anomaly_score"])])
        groups = [
            part[(part["section"] == s) & (part["domain"] == d)]
            for s in sorted(wanted)
            for d in ("source", "target")
        ]
        hit = np.ones(steps.size, dtype=bool)
        for group, recall in zip(groups, recalls, strict=True):
            anomalous = group.loc[group["label"] == "anomaly", "anomaly_score"].to_numpy()
            found = (anomalous[:, None] > steps).mean(axis=0)
            hit &= np.abs(found - recall) < 1e-9
        for step in steps[hit]:
            decided = decisions.apply_thresholds(part, max(step, -1e300))
            table = decisions.evaluate_decisions(decided, 2022).set_index("section")
            values = table.loc[sorted(wanted), list(decisions.decision_columns(2022))].to_numpy()
            if np.allclose(values, [wanted[s] for s in sorted(wanted)], rtol=0, atol=1e-9):
                thresholds[machine] = max(step, -1e300)
                break
    assert sorted(thresholds) == sorted(set(labelled["machine"]))
    result = tables.evaluate_frame(decisions.apply_thresholds(labelled, thresholds), 2022)
    assert assert_same_rows(official.result_rows(result), rows, 10) == 333


@pytest.mark.parametrize(("year", "n"), [(2020, 7103), (2022, 4200)])
def test_ground_truth_covers_a_whole_blind_folder(tmp_path, year, n):
    truth = read_truth(Path(REFERENCE) / TRUTH[year], year)
    assert len(truth) == n
    rng = np.random.default_rng(0)
    blind = truth[["machine", "section", "clip"]].assign(anomaly_score=rng.normal(size=n))
    write_score_folder(blind, tmp_path, year)
    result = tables.evaluate_folder(tmp_path, year, Path(REFERENCE) / TRUTH[year])
    assert result.notices == ()
    assert result.frame["auc"].between(0.3, 0.7).all()
    labelled = label_scores(blind, year, truth)
    assert labelled["label"].tolist() == truth["label"].tolist()
    if year == 2022:
        assert means.omega_terms(result.sections, 2022).size == 63
        assert labelled["domain"].tolist() == truth["domain"].tolist()


def read(name):
    with (Path(REFERENCE) / "published" / name).open(newline="") as file:
        return list(csv.DictReader(file))


def figures(values):
    return sorted(round(float(v) / 100, 8) for v in values if v)


def test_published_tables_hold_the_figures_of_their_sources():
    ours = load_published("dcase2020")
    theirs = read("dcase2020_development.csv") + read("dcase2020_evaluation.csv")
    for name in ("auc", "pauc"):
        assert sorted(ours[name]) == figures(row[name] for row in theirs)
    ours = published_per_id(only_published=False)
    theirs = read("dcase2020_baseline_per_id.csv")
    for name in ("auc", "pauc"):
        assert ours[name].tolist() == [round(float(row[name]) / 100, 8) for row in theirs]
    ours = load_published("dcase2022")
    for name in ("auc_source", "auc_target", "pauc", "omega"):
        assert sorted(ours[name].dropna()) == figures(r[name] for r in read("dcase2022.csv"))
    ours = load_published("dcase2020_mean")
    for name in ("development", "evaluation"):
        theirs = read("dcase2020_mean_of_auc_and_pauc.csv")
        assert sorted(ours[name].dropna()) == figures(row[name] for row in theirs)
