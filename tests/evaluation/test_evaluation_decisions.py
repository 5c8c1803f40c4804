import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_recall_fscore_support

from asdlib.errors import ScoreError
from asdlib.evaluation import decisions

PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30)


@given(PAIRS)
@settings(max_examples=40, deadline=None)
def test_equal_to_scikit_learn(pairs):
    y, d = np.array(pairs).T
    expected = precision_recall_fscore_support(y, d, average="binary", zero_division=0)[:3]
    assert decisions.precision_recall_f1(y, d) == pytest.approx(expected, abs=1e-12)


def test_decide_is_strictly_above_the_threshold():
    assert decisions.decide([1.0, 2.0, 3.0], 2.0).tolist() == [0, 0, 1]
    with pytest.raises(ScoreError, match="not finite"):
        decisions.decide([1.0], float("nan"))


@pytest.mark.parametrize(
    ("y", "d", "message"),
    [
        ([0, 1], [1], "one decision a clip"),
        ([], [], "one decision a clip"),
        ([0, 1], [0, 0.5], "decision holds 0.5"),
        ([0, 3], [0, 1], "y_true holds 3"),
    ],
)
def test_bad_input_is_named(y, d, message):
    with pytest.raises(ScoreError, match=message):
        decisions.precision_recall_f1(y, d)


def table():
    return pd.DataFrame(
        {
            "machine": "fan",
            "section": "00",
            "domain": ["source", "source", "target", "target"],
            "label": ["normal", "anomaly", "normal", "anomaly"],
            "clip": list("abcd"),
            "anomaly_score": [1.0, 3.0, 4.0, 5.0],
        }
    )


def test_each_domain_is_evaluated_within_itself():
    df = decisions.apply_thresholds(table(), {"fan": 2.0})
    row = decisions.evaluate_decisions(df, 2022).iloc[0]
    assert (row.precision_source, row.recall_source, row.f1_source) == (1.0, 1.0, 1.0)
    assert (row.precision_target, row.recall_target) == (0.5, 1.0)
    assert row.f1_target == pytest.approx(2 / 3)
    whole = decisions.evaluate_decisions(df, 2020).iloc[0]
    assert whole.precision == pytest.approx(2 / 3)


def test_a_domain_without_clips_is_not_defined():
    df = decisions.apply_thresholds(table(), 2.0)
    row = decisions.evaluate_decisions(df[df.domain == "source"], 2022).iloc[0]
    assert np.isnan(row.precision_target)
    assert row.precision_source == 1.0


def test_every_machine_needs_a_threshold_and_known_labels():
    with pytest.raises(ScoreError, match=r"no threshold for 'fan' \(known: pump\)"):
        decisions.apply_thresholds(table(), {"pump": 1.0})
    df = decisions.apply_thresholds(table(), 2.0).assign(label="")
    with pytest.raises(ScoreError, match="has label ''"):
        decisions.evaluate_decisions(df, 2022)
