from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from asdlib.errors import ScoreError
from asdlib.evaluation import delong, frame_intervals, intervals, resampling, tables

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"


def rng(seed=0):
    return np.random.default_rng(seed)


def draw(seed, n_normal=40, n_anomaly=50, shift=1.0, decimals=6):
    g = rng(seed)
    y = np.r_[np.zeros(n_normal, int), np.ones(n_anomaly, int)]
    return y, np.round(g.normal(size=y.size) + shift * y, decimals)


@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    decimals=st.integers(0, 3),
    max_fpr=st.floats(0.01, 1),
)
@settings(max_examples=60, deadline=None)
def test_weighted_metrics_equal_scikit_learn_on_resampled_clips(seed, sizes, decimals, max_fpr):
    y, score = draw(seed, *sizes, decimals=decimals)
    ranked = resampling.RankedScores(y, score)
    counts = np.concatenate(list(resampling.bootstrap_counts(y, 3, rng(seed))))
    aucs, paucs = ranked.auc(counts), ranked.pauc(counts, max_fpr)
    for row, auc, pauc in zip(counts.astype(int), aucs, paucs, strict=True):
        yy, ss = np.repeat(y, row), np.repeat(score, row)
        assert auc == pytest.approx(roc_auc_score(yy, ss), abs=1e-12)
        expected = roc_auc_score(yy, ss, max_fpr=max_fpr)
        assert pauc == pytest.approx(expected, abs=1e-12)


def test_resamples_keep_the_size_of_every_stratum_and_draw_evenly():
    strata = np.array(["a"] * 5 + ["b"] * 3 + ["c"])
    counts = np.concatenate(list(resampling.bootstrap_counts(strata, 4000, rng())))
    assert counts.shape == (4000, 9)
    for name in "abc":
        assert (counts[:, strata == name].sum(axis=1) == (strata == name).sum()).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(9), abs=0.06)
    assert counts[:, 0].var() == pytest.approx(1 - 1 / 5, abs=0.06)


def test_blocks_do_not_change_the_number_of_resamples(monkeypatch):
    monkeypatch.setattr(resampling, "_BLOCK", 50)
    blocks = list(resampling.bootstrap_counts([0] * 20, 7, rng()))
    assert [len(b) for b in blocks] == [2, 2, 2, 1]


def test_interval_holds_the_estimate_and_agrees_with_delong():
    y, score = draw(1, 200, 200)
    found = intervals.bootstrap_interval(y, score, rng=rng(2), n_resamples=4000)
    aucs, covariance = delong.delong_covariance(y, score)
    assert found.estimate == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    reach = 1.96 * np.sqrt(covariance[0, 0])
    assert found.low == pytest.approx(aucs[0] - reach, abs=0.01)
    assert found.high == pytest.approx(aucs[0] + reach, abs=0.01)
    narrow = intervals.bootstrap_interval(y, score, rng=rng(2), confidence=0.5)
    assert found.low < narrow.low < found.estimate < narrow.high < found.high


def test_the_same_generator_gives_the_same_interval():
    y, score = draw(3)
    first, second = (
        intervals.bootstrap_interval(y, score, metric="pauc", rng=rng(9)) for _ in range(2)
    )
    assert first == second
    assert first != intervals.bootstrap_interval(y, score, metric="pauc", rng=rng(10))


@pytest.mark.parametrize("year", [2020, 2021, 2022])
def test_frame_estimates_equal_the_metrics_frame(year):
    name = "dcase2020" if year == 2020 else "dcase2022"
    result = tables.evaluate_folder(GOLDEN / name, year)
    found = frame_intervals.bootstrap_frame(result.scores, year, n_resamples=50, rng=rng())
    wide = found.pivot(index=["machine", "section"], columns="metric", values="estimate")
    want = result.frame.set_index(["machine", "section"])
    for column in want.columns:
        assert wide[column].loc[want.index].tolist() == pytest.approx(
            want[column].tolist(), abs=1e-12
        )
    assert (found["low"] <= found["high"]).all()
    overall = found[found["machine"] == "Average"].set_index("metric")
    if year == 2020:
        assert "omega" not in overall.index
    else:
        expected = result.to_json_dict()["omega"]
        assert overall.loc["omega", "estimate"] == pytest.approx(expected, abs=1e-12)


def test_frame_intervals_equal_those_of_a_slow_bootstrap():
    scores = tables.evaluate_folder(GOLDEN / "dcase2022", 2022).scores
    found = frame_intervals.bootstrap_frame(scores, 2022, n_resamples=1500, rng=rng(5))
    part = scores[(scores["machine"] == "bearing") & (scores["section"] == "00")]
    groups = [
        ((domain == "source") | (label == "anomaly"), label == "anomaly", group.to_numpy())
        for (domain, label), group in part.groupby(["domain", "label"])["anomaly_score"]
    ]
    g, slow = rng(6), []
    for _ in range(1500):
        drawn = [(y, g.choice(v, v.size)) for used, y, v in groups if used]
        difference = np.subtract.outer(
            np.concatenate([v for y, v in drawn if y]),
            np.concatenate([v for y, v in drawn if not y]),
        )
        slow.append(np.mean((difference > 0) + 0.5 * (difference == 0)))
    row = found.query("machine == 'bearing' and section == '00' and metric == 'auc_source'")
    assert row[["low", "high"]].to_numpy()[0] == pytest.approx(
        np.quantile(slow, [0.025, 0.975]), abs=0.02
    )


def test_what_is_not_defined_has_no_interval_and_does_not_spoil_averages():
    scores = tables.evaluate_folder(GOLDEN / "dcase2020", 2020).scores
    lone = (scores["section"] == "00") & (scores["label"] == "anomaly")
    found = frame_intervals.bootstrap_frame(scores[~lone], 2020, n_resamples=40, rng=rng())
    table = found.set_index(["machine", "section", "metric"])
    assert table.loc[("fan", "00", "auc")].isna().all()
    assert table.loc[("fan", "Average", "auc"), "estimate"] == pytest.approx(
        table.loc[("fan", "02", "auc"), "estimate"]
    )


def test_resamples_of_tables_keep_the_size_of_every_domain():
    scores = tables.evaluate_folder(GOLDEN / "dcase2022", 2022).scores
    target = (scores["domain"] == "target") & (scores["label"] == "normal")
    one = scores[~target | scores["clip"].str.contains("_0000_")]
    # Without strata of domains a resample could lose the only target clip, and divide 0 by 0.
    with np.errstate(all="raise"):
        found = frame_intervals.bootstrap_frame(one, 2022, n_resamples=200, rng=rng())
    assert found[["estimate", "low", "high"]].notna().all().all()


def slow_delong(y, a, b):
    """The placement values of the paper, by comparing every pair."""
    parts = []
    for s in (a, b):
        d = s[y == 1][:, None] - s[y == 0][None, :]
        wins = (d > 0) + 0.5 * (d == 0)
        parts.append((wins.mean(), wins.mean(axis=1), wins.mean(axis=0)))
    (auc_a, v_a, w_a), (auc_b, v_b, w_b) = parts
    variance = np.var(v_a - v_b, ddof=1) / v_a.size + np.var(w_a - w_b, ddof=1) / w_a.size
    z = (auc_a - auc_b) / np.sqrt(variance)
    return auc_a, auc_b, auc_a - auc_b, np.sqrt(variance), z, 2 * stats.norm.sf(abs(z))


@given(st.integers(0, 10**6), st.integers(2, 25), st.integers(2, 25), st.integers(0, 2))
@settings(max_examples=50, deadline=None)
def test_delong_equals_the_slow_definition(seed, n_normal, n_anomaly, decimals):
    y, a = draw(seed, n_normal, n_anomaly, decimals=decimals)
    _, b = draw(seed + 1, n_normal, n_anomaly, 0.5, decimals)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = slow_delong(y, a, b)
    found = delong.delong_test(y, a, b)
    assert found[:4] == pytest.approx(expected[:4], abs=1e-9)
    if expected[3] > 1e-8:
        assert found[4:] == pytest.approx(expected[4:], rel=1e-6, abs=1e-9)


def test_delong_of_the_same_ranking_sees_no_difference():
    y, score = draw(4)
    found = delong.delong_test(y, score, np.exp(score))
    assert (found.difference, found.z, found.p_value) == (0.0, 0.0, 1.0)
    opposite = delong.delong_test([0, 0, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1])
    assert opposite.difference == 1.0
    assert opposite.p_value == 0.0
    lone = delong.delong_test([0, 1, 1], [1, 2, 3], [3, 2, 1])
    assert np.isnan(lone.p_value)


def test_delong_rejects_at_its_level_under_no_difference():
    g, p = rng(7), []
    for _ in range(400):
        y, common = draw(int(g.integers(10**9)), 60, 60)
        p.append(delong.delong_test(y, *(common + g.normal(size=(2, y.size)))).p_value)
    assert np.mean(np.array(p) < 0.05) == pytest.approx(0.05, abs=0.035)


def test_delong_frame_joins_clips_by_name_and_averages_sections():
    a = tables.evaluate_folder(GOLDEN / "dcase2020", 2020).scores
    noise = rng(1).normal(size=len(a))
    b = a.assign(anomaly_score=a["anomaly_score"] + noise)
    found = delong.delong_frame(a, b.sample(frac=1, random_state=1), 2020)
    assert len(found) == 6
    for row in found.iloc[:-1].itertuples():
        keep = (a["machine"] == row.machine) & (a["section"] == row.section)
        y = (a.loc[keep, "label"] == "anomaly").to_numpy(int)
        direct = delong.delong_test(y, a[keep]["anomaly_score"], b[keep]["anomaly_score"])
        assert list(row[3:]) == pytest.approx(list(direct), abs=1e-12)
    last = found.iloc[-1]
    assert last["difference"] == pytest.approx(found["difference"][:-1].mean(), abs=1e-12)
    assert last["standard_error"] < found["standard_error"][:-1].min()


@pytest.mark.parametrize("metric", ["auc", "pauc"])
def test_paired_bootstrap_sees_a_large_difference_and_none_in_equal_systems(metric):
    y, score = draw(5, 150, 150, 2.0)
    noise = rng(8).normal(0, 3, y.size)
    found = intervals.paired_bootstrap(y, score, noise, metric=metric, rng=rng(0))
    assert 0 < found.low < found.difference < found.high
    assert found.p_value == pytest.approx(2 / 2001)
    reverse = intervals.paired_bootstrap(y, noise, score, metric=metric, rng=rng(0))
    assert reverse.difference == pytest.approx(-found.difference)
    assert reverse.p_value == found.p_value
    same = intervals.paired_bootstrap(y, score, 2 * score, metric=metric, rng=rng(0))
    assert tuple(same) == (0.0, 0.0, 0.0, 1.0)


def test_paired_bootstrap_agrees_with_delong():
    y, a = draw(11, 150, 150)
    b = a + rng(12).normal(size=y.size)
    test = delong.delong_test(y, a, b)
    found = intervals.paired_bootstrap(y, a, b, metric="auc", rng=rng(1), n_resamples=4000)
    assert found.difference == pytest.approx(test.difference, abs=1e-12)
    assert found.high - found.low == pytest.approx(3.92 * test.standard_error, rel=0.1)


def test_paired_frame_compares_sections_averages_and_omega():
    a = tables.evaluate_folder(GOLDEN / "dcase2022", 2022).scores
    b = a.assign(anomaly_score=rng(2).normal(size=len(a)))
    found = frame_intervals.paired_frame(a, b, 2022, n_resamples=300, rng=rng(3))
    table = found.set_index(["machine", "section", "metric"])
    assert table.loc[("Average", "Average", "omega"), "difference"] > 0
    assert table.loc[("Average", "Average", "auc"), "p_value"] < 0.05
    one = table.loc[("bearing", "01", "pauc")]
    own, other = (
        tables.evaluate_frame(t, 2022).sections.set_index(["machine", "section"]) for t in (a, b)
    )
    want = own.loc[("bearing", "01"), "pauc"] - other.loc[("bearing", "01"), "pauc"]
    assert one["difference"] == pytest.approx(want, abs=1e-12)
    itself = frame_intervals.paired_frame(a, a, 2022, n_resamples=20, rng=rng(3))
    assert (itself["p_value"] == 1).all()


def test_systems_are_compared_on_the_same_clips_only():
    a = tables.evaluate_folder(GOLDEN / "dcase2020", 2020).scores
    with pytest.raises(ScoreError, match=r"only in the first system's scores \(1 such clips\)"):
        frame_intervals.align(a, a.iloc[1:])
    other = a.assign(label=np.where(a["label"] == "normal", "anomaly", "normal"))
    with pytest.raises(ScoreError, match="in one table and 'anomaly' in the other|'normal' in the"):
        frame_intervals.align(a, other)
    first, second = frame_intervals.align(a, a.sample(frac=1, random_state=0))
    pd.testing.assert_frame_equal(first, second)


def test_t_interval_equals_scipy_and_needs_two_seeds():
    values = [0.961, 0.97, 0.955, 0.968, 0.9666]
    found = intervals.t_interval(values)
    want = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(want, abs=1e-12)
    alone = intervals.t_interval([0.9])
    assert alone.estimate == 0.9
    assert np.isnan([alone.low, alone.high]).all()
    for bad in ([], [np.nan, 1.0]):
        with pytest.raises(ScoreError, match="over seeds"):
            intervals.t_interval(bad)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"n_resamples": 0}, "n_resamples is 0"), ({"confidence": 95}, "confidence is 95")],
)
def test_settings_are_checked(change, message):
    y, score = draw(0)
    with pytest.raises(ScoreError, match=message):
        intervals.bootstrap_interval(y, score, rng=rng(), **change)
