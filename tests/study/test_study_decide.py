"""Decisions from held-out normal clips, never from test clips."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from study_stores import make_store

from asdlib.errors import RunError
from asdlib.evaluation import evaluate_folder
from asdlib.study import run
from asdlib.study.decide import decide_run
from asdlib.study.held_out import held_out
from asdlib.study.result import RunResult


@pytest.fixture
def result(tmp_path: Path) -> RunResult:
    store = make_store(tmp_path / "store", n_train=12, n_test=10).path
    return run("statistics", store, store, tmp_path / "run")


def test_thresholds_are_gamma_quantiles_of_held_out_clips(
    result: RunResult, tmp_path: Path
) -> None:
    done = decide_run(result.path, quantile=0.8, train=tmp_path / "store")
    normal = held_out(result)
    part = normal[(normal["machine"] == "fan") & (normal["section"] == "02")]["anomaly_score"]
    row = done.thresholds[
        (done.thresholds["machine"] == "fan") & (done.thresholds["section"] == "02")
    ].iloc[0]
    assert row["threshold"] == stats.gamma.ppf(0.8, *stats.gamma.fit(part))
    assert row["clips"] == 12
    # Held-out clips score higher than clips that the system was fitted on.
    file = next(result.path.glob("decision_result_fan_id_02*.csv"))
    decided = pd.read_csv(file, header=None)[1].to_numpy()
    scores = pd.read_csv(result.path / "anomaly_score_fan_id_02.csv", header=None)[1].to_numpy()
    np.testing.assert_array_equal(decided, scores > row["threshold"])
    told = evaluate_folder(result.path, 2020)
    assert told.decisions is not None
    pd.testing.assert_frame_equal(told.decisions, done.metrics)
    record = json.loads((result.path / "decisions.json").read_text())
    assert (record["quantile"], record["run"]) == (0.8, result.record["key"])


def test_another_folder_gets_all_that_is_evaluated(result: RunResult, tmp_path: Path) -> None:
    low = decide_run(result.path, quantile=0.5, out=tmp_path / "low", train=tmp_path / "store")
    high = decide_run(result.path, quantile=0.99, out=tmp_path / "high")
    assert (low.thresholds["threshold"] < high.thresholds["threshold"]).all()
    assert (low.metrics["recall"] >= high.metrics["recall"]).all()
    assert evaluate_folder(tmp_path / "low", 2020).decisions is not None
    assert not list(result.path.glob("decision_result_*"))
    assert not (result.path / "decisions.json").exists()


def test_another_store_is_refused_also_when_the_scores_are_there(
    result: RunResult, tmp_path: Path
) -> None:
    decide_run(result.path, train=tmp_path / "store")
    other = make_store(tmp_path / "other", n_train=12, n_test=10, seed=1).path
    with pytest.raises(RunError, match=r"was not trained on .*other.* name the store that"):
        decide_run(result.path, train=other)


def test_a_score_file_that_is_missing_is_no_smaller_result(
    result: RunResult, tmp_path: Path
) -> None:
    (result.path / "anomaly_score_fan_id_02.csv").unlink()
    with pytest.raises(RunError, match=r"scores of 30 clips, expected 40.*run it again"):
        decide_run(result.path, train=tmp_path / "store")


@pytest.mark.parametrize("damage", ["machine,section", "", "a,b\n1,2\n", "cut"])
def test_damaged_held_out_scores_are_named(result: RunResult, tmp_path: Path, damage: str) -> None:
    held_out(result, tmp_path / "store")
    file = result.path / "held_out.csv"
    whole = file.read_text()
    file.write_text(whole[: whole.rindex(",") + 1] if damage == "cut" else damage)
    with pytest.raises(RunError, match=r"held_out\.csv' is damaged .*; delete it and name"):
        decide_run(result.path)


def test_a_section_without_spread_is_named(result: RunResult, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no scores of held-out"):
        decide_run(result.path)
    table = held_out(result, tmp_path / "store")
    flat = table.assign(anomaly_score=1.0)
    flat.to_csv(result.path / "held_out.csv", index=False)
    with pytest.raises(RunError, match="fan 00: 1 different scores are too few"):
        decide_run(result.path)
    with pytest.raises(RunError, match=r"quantile 1\.5 is not allowed"):
        decide_run(result.path, quantile=1.5)
