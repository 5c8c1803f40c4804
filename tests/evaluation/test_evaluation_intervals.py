"""Bootstrap, paired tests, DeLong and Student t, against slow definitions."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score

from asdlib.errors import ScoreError
from asdlib.evaluation import bootstrap_frame, evaluate, intervals, paired_frame, t_interval
from asdlib.evaluation.intervals import delong_frame, delong_test

OVERALL = ("Average", "Average")


def rng(seed=0):
    return np.random.default_rng(seed)


def draw(seed, n_normal=40, n_anomaly=50, shift=1.0, decimals=6):
    g = rng(seed)
    y = np.r_[np.zeros(n_normal, int), np.ones(n_anomaly, int)]
    return y, np.round(g.normal(size=y.size) + shift * y, decimals)


def table_of(y, score):
    df = pd.DataFrame({"label": np.where(y, "anomaly", "normal"), "anomaly_score": score})
    clips = [f"{label}_id_00_{i:08d}.wav" for i, label in enumerate(df["label"])]
    return df.assign(machine="fan", section="00", domain="source", clip=clips)


def by_key(frame):
    return frame.set_index(["machine", "section", "metric"]).sort_index()


@given(
    seed=st.integers(0, 10**6),
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    decimals=st.integers(0, 3),
    max_fpr=st.floats(0.01, 1),
)
@settings(max_examples=40, deadline=None)
def test_weighted_metrics_equal_scikit_learn_on_resampled_clips(seed, sizes, decimals, max_fpr):
    y, score = draw(seed, *sizes, decimals=decimals)
    counts = np.concatenate(list(intervals.bootstrap_counts(y, 3, rng(seed))))
    aucs, paucs = (intervals.weighted_pauc(y, score, counts, rate) for rate in (1, max_fpr))
    for row, auc, pauc in zip(counts.astype(int), aucs, paucs, strict=True):
        yy, ss = np.repeat(y, row), np.repeat(score, row)
        assert auc == pytest.approx(roc_auc_score(yy, ss), abs=1e-12)
        assert pauc == pytest.approx(roc_auc_score(yy, ss, max_fpr=max_fpr), abs=1e-12)


def test_resamples_keep_the_size_of_every_stratum_and_draw_evenly(monkeypatch):
    strata = np.array(["a"] * 5 + ["b"] * 3 + ["c"])
    counts = np.concatenate(list(intervals.bootstrap_counts(strata, 4000, rng())))
    assert counts.shape == (4000, 9)
    for name in "abc":
        assert (counts[:, strata == name].sum(axis=1) == (strata == name).sum()).all()
    assert counts.mean(axis=0) == pytest.approx(np.ones(9), abs=0.06)
    assert counts[:, 0].var() == pytest.approx(1 - 1 / 5, abs=0.06)
    monkeypatch.setattr(intervals, "_BLOCK", 50)
    assert [len(b) for b in intervals.bootstrap_counts([0] * 20, 7, rng())] == [2, 2, 2, 1]


def test_intervals_of_one_set_agree_with_delong():
    y, score = draw(1, 200, 200)
    found, again = (bootstrap_frame(table_of(y, score), 2020, rng=rng(2)) for _ in range(2))
    pd.testing.assert_frame_equal(found, again)
    row = by_key(found).loc["fan", "00", "auc"]
    assert row["estimate"] == pytest.approx(roc_auc_score(y, score), abs=1e-12)
    # Against a constant score the variance of the difference is that of one AUC.
    reach = 1.96 * delong_test(y, score, np.zeros(y.size)).standard_error
    assert row["low"] == pytest.approx(row["estimate"] - reach, abs=0.01)
    assert row["high"] == pytest.approx(row["estimate"] + reach, abs=0.01)


@pytest.mark.parametrize("year", [2020, 2021, 2022])
def test_frame_estimates_equal_the_metrics_frame(golden, year):
    result = evaluate(golden["dcase2020" if year == 2020 else "dcase2022"].scores, year)
    found = bootstrap_frame(result.scores, year, n_resamples=50, rng=rng())
    wide = found.pivot(index=["machine", "section"], columns="metric", values="estimate")
    want = result.frame.set_index(["machine", "section"])
    pd.testing.assert_frame_equal(
        wide.loc[want.index, list(want)], want, check_names=False, rtol=0, atol=1e-12
    )
    assert (found["low"] <= found["high"]).all()
    omega = wide["omega"].dropna().tolist() if year != 2020 else []
    expected = [] if year == 2020 else [result.to_json_dict()["omega"]]
    assert omega == pytest.approx(expected, abs=1e-12)


def test_frame_intervals_equal_those_of_a_slow_bootstrap(golden):
    scores = golden["dcase2022"].scores
    found = by_key(bootstrap_frame(scores, 2022, n_resamples=1500, rng=rng(5)))
    part = scores[(scores["machine"] == "bearing") & (scores["section"] == "00")]
    groups = [
        (label == "anomaly", group.to_numpy())
        for (domain, label), group in part.groupby(["domain", "label"])["anomaly_score"]
        if domain == "source" or label == "anomaly"
    ]
    g, slow = rng(6), []
    for _ in range(1500):
        drawn = [(y, g.choice(v, v.size)) for y, v in groups]
        difference = np.subtract.outer(
            np.concatenate([v for y, v in drawn if y]),
            np.concatenate([v for y, v in drawn if not y]),
        )
        slow.append(np.mean((difference > 0) + 0.5 * (difference == 0)))
    low, high = np.quantile(slow, [0.025, 0.975])
    row = found.loc["bearing", "00", "auc_source"]
    assert (row["low"], row["high"]) == pytest.approx((low, high), abs=0.02)


def test_what_is_not_defined_has_no_interval_and_does_not_spoil_averages(golden):
    scores = golden["dcase2020"].scores
    lone = (scores["section"] == "00") & (scores["label"] == "anomaly")
    table = by_key(bootstrap_frame(scores[~lone], 2020, n_resamples=40, rng=rng()))
    assert table.loc["fan", "00", "auc"].isna().all()
    average, other = (table.loc["fan", section, "auc"] for section in ("Average", "02"))
    assert average["estimate"] == pytest.approx(other["estimate"])


def test_resamples_of_tables_keep_the_size_of_every_domain(golden):
    scores = golden["dcase2022"].scores
    target = (scores["domain"] == "target") & (scores["label"] == "normal")
    one = scores[~target | scores["clip"].str.contains("_0000_")]
    # Without strata of domains a resample could lose the only target clip, and divide 0 by 0.
    with np.errstate(all="raise"):
        found = bootstrap_frame(one, 2022, n_resamples=200, rng=rng())
    assert found[["estimate", "low", "high"]].notna().all().all()


def slow_delong(y, a, b):
    """Compute the placement values of the paper by comparing every pair."""
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
@settings(max_examples=40, deadline=None)
def test_delong_equals_the_slow_definition(seed, n_normal, n_anomaly, decimals):
    y, a = draw(seed, n_normal, n_anomaly, decimals=decimals)
    _, b = draw(seed + 1, n_normal, n_anomaly, 0.5, decimals)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = slow_delong(y, a, b)
    found = delong_test(y, a, b)
    assert found[:4] == pytest.approx(expected[:4], abs=1e-9)
    if expected[3] > 1e-8:
        assert found[4:] == pytest.approx(expected[4:], rel=1e-6, abs=1e-9)


def test_delong_of_the_same_ranking_sees_no_difference():
    y, score = draw(4)
    found = delong_test(y, score, np.exp(score))
    assert (found.difference, found.z, found.p_value) == (0.0, 0.0, 1.0)
    opposite = delong_test([0, 0, 1, 1], [1, 2, 3, 4], [4, 3, 2, 1])
    assert (opposite.difference, opposite.p_value) == (1.0, 0.0)
    with np.errstate(all="raise"), warnings.catch_warnings(action="error"):
        assert np.isnan(delong_test([0, 1, 1], [1, 2, 3], [3, 2, 1]).p_value)


def test_delong_frame_joins_clips_by_name_and_averages_sections(golden):
    a = golden["dcase2020"].scores
    b = a.assign(anomaly_score=a["anomaly_score"] + rng(1).normal(size=len(a)))
    found = delong_frame(a, b.sample(frac=1, random_state=1), 2020)
    assert len(found) == 6
    for row in found.iloc[:-1].itertuples():
        keep = (a["machine"] == row.machine) & (a["section"] == row.section)
        y = (a.loc[keep, "label"] == "anomaly").to_numpy(int)
        direct = delong_test(y, a[keep]["anomaly_score"], b[keep]["anomaly_score"])
        assert list(row[3:]) == pytest.approx(list(direct), abs=1e-12)
    last = found.iloc[-1]
    assert last["difference"] == pytest.approx(found["difference"][:-1].mean(), abs=1e-12)
    assert last["standard_error"] < found["standard_error"][:-1].min()


def test_paired_bootstrap_sees_a_large_difference_and_none_in_equal_systems():
    y, score = draw(5, 150, 150, 2.0)
    own = table_of(y, score)
    noise = own.assign(anomaly_score=rng(8).normal(0, 3, y.size))
    pairs = ((own, noise), (noise, own), (own, own.assign(anomaly_score=2 * score)))
    found, reverse, same = (
        by_key(paired_frame([a], [b], 2020, n_resamples=500, rng=rng())).loc["fan", "00"]
        for a, b in pairs
    )
    assert (found["low"] > 0).all()
    assert found["difference"].between(found["low"], found["high"]).all()
    assert found["p_value"].tolist() == reverse["p_value"].tolist() == [2 / 501] * 2
    assert reverse["difference"].to_numpy() == pytest.approx(-found["difference"].to_numpy())
    assert same.to_numpy().tolist() == [[0.0, 0.0, 0.0, 1.0]] * 2


def test_paired_bootstrap_agrees_with_delong():
    y, a = draw(11, 150, 150)
    b = a + rng(12).normal(size=y.size)
    test = delong_test(y, a, b)
    groups = [table_of(y, a)], [table_of(y, b).sample(frac=1, random_state=0)]
    row = by_key(paired_frame(*groups, 2020, rng=rng(1), n_resamples=4000)).loc["fan", "00", "auc"]
    assert row["difference"] == pytest.approx(test.difference, abs=1e-12)
    assert row["high"] - row["low"] == pytest.approx(3.92 * test.standard_error, rel=0.1)


def test_paired_frame_compares_sections_averages_and_omega(golden):
    a = golden["dcase2022"].scores
    b = a.assign(anomaly_score=rng(2).normal(size=len(a)))
    table = by_key(paired_frame([a], [b], 2022, n_resamples=300, rng=rng(3)))
    assert table.loc[(*OVERALL, "omega"), "difference"] > 0
    assert table.loc[(*OVERALL, "auc"), "p_value"] < 0.05
    own, other = (evaluate(t, 2022).frame.set_index(["machine", "section"]) for t in (a, b))
    for key in (("bearing", "01"), ("bearing", "Average"), OVERALL):
        want = own.loc[key, "pauc"] - other.loc[key, "pauc"]
        assert table.loc[(*key, "pauc"), "difference"] == pytest.approx(want, abs=1e-12)
    itself = paired_frame([a], [a], 2022, n_resamples=20, rng=rng(3))
    assert (itself["p_value"] == 1).all()


def test_systems_are_compared_on_the_same_clips_only(golden):
    a = golden["dcase2020"].scores
    pair = partial(paired_frame, [a], year=2020, rng=rng())
    with pytest.raises(ScoreError, match=r"no score by the second system \(1 such"):
        pair([a.iloc[1:]])
    other = a.assign(label=np.where(a["label"] == "normal", "anomaly", "normal"))
    with pytest.raises(ScoreError, match="in one table and 'anomaly' in the other|'normal' in the"):
        pair([other])
    with pytest.raises(ScoreError, match="a group of runs is empty"):
        pair([])


def test_t_interval_equals_scipy_and_needs_two_seeds():
    values = [0.961, 0.97, 0.955, 0.968, 0.9666]
    found = t_interval(values)
    want = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (found.low, found.high) == pytest.approx(want, abs=1e-12)
    alone = t_interval([0.9])
    assert alone.estimate == 0.9
    assert np.isnan([alone.low, alone.high]).all()
    for bad in ([], [np.nan, 1.0]):
        with pytest.raises(ScoreError, match="over seeds"):
            t_interval(bad)
    with pytest.raises(ScoreError, match="confidence is 95"):
        t_interval(values, 95)
    with pytest.raises(ScoreError, match="n_resamples is 0"):
        bootstrap_frame(table_of(*draw(0)), 2020, rng=rng(), n_resamples=0)
