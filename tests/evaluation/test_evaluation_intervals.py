"""Intervals and paired tests over clips and seeds, and Student t, against slow definitions."""

import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy import stats
from scipy.special import logit
from sklearn.metrics import roc_auc_score

from asdlib.errors import ScoreError
from asdlib.evaluation import evaluate, interval_frame, metrics, paired_frame, t_interval
from asdlib.evaluation.intervals import standard_error, without_each

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
    sizes=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    decimals=st.integers(0, 3),
    max_fpr=st.floats(0.01, 1),
)
@settings(max_examples=40)
def test_figures_without_each_clip_are_scikit_learns(seed, sizes, decimals, max_fpr):
    y, score = draw(seed, *sizes, decimals=decimals)
    order = rng(seed).permutation(y.size)
    y, score = y[order], score[order]
    whole = roc_auc_score(y, score, max_fpr=max_fpr)
    kept = [np.arange(y.size) != i for i in range(y.size)]
    each = [
        roc_auc_score(y[k], score[k], max_fpr=max_fpr) if np.unique(y[k]).size == 2 else whole
        for k in kept
    ]
    assert without_each(y, score, max_fpr) == pytest.approx([whole, *each], abs=1e-12)


def slow_delong(y, a, b):
    """Compute the placement values of the paper by comparing every pair."""
    parts = []
    for s in (a, b):
        d = s[y == 1][:, None] - s[y == 0][None, :]
        wins = (d > 0) + 0.5 * (d == 0)
        parts.append((wins.mean(), wins.mean(axis=1), wins.mean(axis=0)))
    (auc_a, v_a, w_a), (auc_b, v_b, w_b) = parts
    variance = np.var(v_a - v_b, ddof=1) / v_a.size + np.var(w_a - w_b, ddof=1) / w_a.size
    return auc_a - auc_b, np.sqrt(variance)


@pytest.mark.parametrize("decimals", [0, 1, 6])
def test_single_runs_have_the_error_of_delong(decimals):
    y, a = draw(11, 150, 130, decimals=decimals)
    b = np.round(a + rng(12).normal(size=y.size), decimals)
    difference, error = slow_delong(y, a, b)
    groups = [table_of(y, a)], [table_of(y, b).sample(frac=1, random_state=0)]
    row = by_key(paired_frame(*groups, 2020)).loc["fan", "00", "auc"]
    assert row["difference"] == pytest.approx(difference, abs=1e-12)
    # Student's t with some hundred degrees of freedom: just wider than the normal distribution.
    assert 1.96 < (row["high"] - difference) / error < 1.985
    assert row["p_value"] == pytest.approx(2 * stats.norm.sf(abs(difference / error)), abs=0.01)
    # Against a constant score the error is that of one AUC, here on the logit scale.
    auc, error = slow_delong(y, a, np.zeros(y.size))
    alone = by_key(interval_frame([table_of(y, a)], 2020)).loc["fan", "00", "auc"]
    auc += 0.5
    reach = (np.log(alone["high"] / (1 - alone["high"])) - np.log(auc / (1 - auc))) / error
    assert reach * auc * (1 - auc) == pytest.approx(1.97, abs=0.015)
    assert 0 < auc - alone["low"] - (alone["high"] - auc) < error


@pytest.mark.slow
def test_errors_are_those_of_a_bootstrap():
    y, score = draw(3, 150, 150)
    strata = [np.flatnonzero(y == label) for label in (0, 1)]
    (error,), _ = standard_error(without_each(y, score)[None], [], strata)
    g, drawn = rng(6), []
    for _ in range(400):
        rows = np.concatenate([g.choice(stratum, stratum.size) for stratum in strata])
        drawn.append(roc_auc_score(y[rows], score[rows], max_fpr=0.1))
    assert error == pytest.approx(np.std(drawn), rel=0.12)


def test_a_partial_auc_rests_on_few_clips():
    y, score = draw(0, 50, 132, shift=2.0)
    strata = [np.flatnonzero(y == label) for label in (0, 1)]
    both = np.stack([without_each(y, score, rate) for rate in (1.0, 0.1)])
    _, (auc, pauc) = standard_error(both, [], strata)
    assert 1 < pauc < 20 < auc < len(y)


@pytest.mark.parametrize("year", [2020, 2021, 2022])
def test_frame_estimates_equal_the_metrics_frame(golden, year):
    result = evaluate(golden["dcase2020" if year == 2020 else "dcase2022"].scores, year)
    found = interval_frame([result.scores], year)
    wide = found.pivot(index=["machine", "section"], columns="metric", values="estimate")
    want = result.frame.set_index(["machine", "section"])
    pd.testing.assert_frame_equal(
        wide.loc[want.index, list(want)], want, check_names=False, rtol=0, atol=1e-12
    )
    assert (found["low"] <= found["estimate"]).all()
    assert (found["estimate"] <= found["high"]).all()
    omega = wide["omega"].dropna().tolist() if year != 2020 else []
    expected = [] if year == 2020 else [result.to_json_dict()["omega"]]
    assert omega == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("year", [2021, 2023])
def test_the_interval_of_omega_is_that_of_a_slow_jackknife(golden, year):
    strata = ["machine", "section", "domain", "label"]
    df = golden["dcase2022"].scores.groupby(strata).head(4).reset_index(drop=True)

    def slow(table):
        sections, _ = metrics.section_metrics(table, year)
        mean = metrics.mean_metrics(sections, year, "harmonic")["auc_target"]
        return np.array([metrics.omega(sections, year), mean])

    whole, variance = slow(df), np.zeros(2)
    for rows in df.groupby(strata).indices.values():
        variance += (len(rows) - 1) * np.var([slow(df.drop(index=i)) for i in rows], axis=0)
    found = interval_frame([df], year)
    for i, (machine, metric) in enumerate((("Average", "omega"), ("Harmonic mean", "auc_target"))):
        row = found[(found["machine"] == machine) & (found["metric"] == metric)].iloc[0]
        assert row["estimate"] == pytest.approx(whole[i], abs=1e-12)
        low, middle, high = (logit(row[name]) for name in ("low", "estimate", "high"))
        reach = (high - middle) * whole[i] * (1 - whole[i]) / np.sqrt(variance[i])
        assert 1.96 < reach < 2.3  # Student's t
        assert high - middle == pytest.approx(middle - low)


def test_a_mean_over_sections_has_the_mean_of_their_variances(golden):
    a = golden["dcase2020"].scores
    b = a.assign(anomaly_score=a["anomaly_score"] + rng(1).normal(size=len(a)))
    table = paired_frame([a], [b], 2020)
    table["error"] = (table["high"] - table["difference"]) / 1.96
    auc = table[(table["metric"] == "auc") & (table["machine"] == "fan")].set_index("section")
    sections = auc.drop("Average")
    want = np.sqrt((sections["error"] ** 2).sum()) / len(sections)
    assert auc.loc["Average", "error"] == pytest.approx(want, rel=0.05)


def test_what_is_not_defined_or_does_not_vary_has_no_interval(golden):
    scores = golden["dcase2020"].scores
    lone = (scores["section"] == "00") & (scores["label"] == "anomaly")
    table = by_key(interval_frame([scores[~lone]], 2020))
    assert table.loc["fan", "00", "auc"].isna().all()
    average, other = (table.loc["fan", section, "auc"] for section in ("Average", "02"))
    assert average["estimate"] == pytest.approx(other["estimate"])
    perfect = [table_of([0, 0, 1, 1], [1, 2, 3, 4])]
    with np.errstate(all="raise"), warnings.catch_warnings(action="error"):
        row = interval_frame(perfect, 2020).iloc[0]
        opposite = paired_frame(perfect, [table_of([0, 0, 1, 1], [4, 3, 2, 1])], 2020).iloc[0]
    assert row["estimate"] == opposite["difference"] == 1.0
    assert np.isnan([row["low"], row["high"], opposite["low"], opposite["p_value"]]).all()


def test_seeds_widen_the_interval_of_the_clips():
    y, score = draw(5, 150, 150, 1.5)
    runs = [table_of(y, score + shift * y) for shift in (-0.4, 0.0, 0.4)]
    one, same, seeds = (
        by_key(interval_frame(group, 2020)).loc["fan", "00", "auc"]
        for group in (runs[1:2], 3 * runs[1:2], runs)
    )
    pd.testing.assert_series_equal(one, same)
    assert seeds["high"] - seeds["low"] > 1.5 * (one["high"] - one["low"])
    # Clips that are heard alike by all runs: the seeds alone vary, and paired ones do not.
    aucs = [evaluate(run, 2020).frame["auc"].iloc[0] for run in runs]
    other = [run.assign(anomaly_score=run["anomaly_score"] ** 3) for run in runs]
    paired = by_key(paired_frame(runs, other, 2020))
    assert paired.loc["fan", "00", "auc"].tolist() == [0.0, 0.0, 0.0, 1.0]
    apart = by_key(paired_frame(runs, runs[1:2], 2020)).loc["fan", "00", "auc"]
    assert apart["difference"] == pytest.approx(np.mean(aucs) - aucs[1])
    reach = stats.t.ppf(0.975, 2) * stats.sem(aucs)
    assert apart["high"] - apart["difference"] == pytest.approx(reach, rel=0.05)


def test_paired_test_sees_a_large_difference_and_none_in_equal_systems():
    y, score = draw(5, 150, 150, 2.0)
    own = table_of(y, score)
    noise = own.assign(anomaly_score=rng(8).normal(0, 3, y.size))
    pairs = ((own, noise), (noise, own), (own, own.assign(anomaly_score=2 * score)))
    found, reverse, same = (by_key(paired_frame([a], [b], 2020)).loc["fan", "00"] for a, b in pairs)
    assert (found["low"] > 0).all()
    assert found["p_value"].to_numpy() == pytest.approx(reverse["p_value"].to_numpy())
    assert (found["p_value"] < 1e-4).all()
    assert reverse["difference"].to_numpy() == pytest.approx(-found["difference"].to_numpy())
    assert same.to_numpy().tolist() == [[0.0, 0.0, 0.0, 1.0]] * 2


def test_paired_frame_compares_sections_averages_and_omega(golden):
    a = golden["dcase2022"].scores
    b = a.assign(anomaly_score=rng(2).normal(size=len(a)))
    table = by_key(paired_frame([a], [b], 2022))
    assert table.loc[(*OVERALL, "omega"), "difference"] > 0
    assert table.loc[(*OVERALL, "auc"), "p_value"] < 0.05
    own, other = (evaluate(t, 2022).frame.set_index(["machine", "section"]) for t in (a, b))
    for key in (("bearing", "01"), ("bearing", "Average"), OVERALL):
        want = own.loc[key, "pauc"] - other.loc[key, "pauc"]
        assert table.loc[(*key, "pauc"), "difference"] == pytest.approx(want, abs=1e-12)


def test_systems_are_compared_on_the_same_clips_only(golden):
    a = golden["dcase2020"].scores
    pair = partial(paired_frame, [a], year=2020)
    with pytest.raises(ScoreError, match=r"no score by the second system \(1 such"):
        pair([a.iloc[1:]])
    other = a.assign(label=np.where(a["label"] == "normal", "anomaly", "normal"))
    with pytest.raises(ScoreError, match="in one table and 'anomaly' in the other|'normal' in the"):
        pair([other])
    for empty in (partial(pair, []), partial(interval_frame, [], 2020)):
        with pytest.raises(ScoreError, match="a group of runs is empty"):
            empty()


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
