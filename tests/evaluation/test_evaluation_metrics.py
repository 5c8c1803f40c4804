"""Figures of arrays and of sections, against scikit-learn, scipy and counting by hand."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings, strategies as st
from scipy.stats import hmean
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

from asdlib.errors import ScoreError
from asdlib.evaluation import evaluate, interval_frame, metrics, official_score

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"

PROPERTY = settings(max_examples=30)


@st.composite
def labelled_scores(draw):
    y = draw(st.lists(st.integers(0, 1), min_size=2, max_size=40))
    y[0], y[1] = 0, 1
    # Few distinct integers, so that ties are common.
    score = draw(st.lists(st.integers(-8, 8), min_size=len(y), max_size=len(y)))
    return np.array(y), np.array(score, dtype=float)


def frame(rows, machine="fan", section="00"):
    df = pd.DataFrame(rows, columns=["domain", "label", "anomaly_score"])
    df["clip"] = [f"clip_{i}" for i in range(len(df))]
    return df.assign(machine=machine, section=section)


def random_frame(seed=0, machine="fan", section="00", n=30):
    rng = np.random.default_rng(seed)
    parts = [
        (domain, label, value)
        for domain in ("source", "target")
        for label in ("normal", "anomaly")
        for value in rng.normal(label == "anomaly", 1, n)
    ]
    return frame(parts, machine, section)


@given(labelled_scores(), st.floats(0.01, 1))
@PROPERTY
def test_properties_of_auc_and_pauc(data, max_fpr):
    y, score = data
    auc, pauc = metrics.auc(y, score), metrics.pauc(y, score, max_fpr)
    difference = score[y == 1][:, None] - score[y == 0][None, :]
    assert auc == pytest.approx(np.mean((difference > 0) + 0.5 * (difference == 0)), abs=1e-12)
    assert metrics.auc(y, -score) == pytest.approx(1 - auc, abs=1e-12)
    assert metrics.auc(1 - y, score) == pytest.approx(1 - auc, abs=1e-12)
    floor = 0.5 * (1 - 0.5 * max_fpr**2 / (max_fpr - 0.5 * max_fpr**2))
    assert floor - 1e-9 <= pauc <= 1 + 1e-12
    for transform in (lambda s: 3 * s + 7, lambda s: np.exp(s / 4), lambda s: s**3):
        assert metrics.auc(y, transform(score)) == auc
        assert metrics.pauc(y, transform(score), max_fpr) == pauc


def test_closed_cases():
    assert metrics.auc([0, 0, 1, 1], [1, 2, 3, 4]) == 1.0
    assert metrics.pauc([0, 0, 1, 1], [1, 2, 3, 4]) == 1.0
    assert metrics.pauc([0, 1] * 20, [0.0] * 40) == pytest.approx(0.5)
    assert metrics.pauc([0, 0, 1, 1], [4, 3, 2, 1]) == pytest.approx(0.47368421, abs=1e-8)
    y, score = [0, 1, 0, 1], [1, 2, 3, 4]
    assert metrics.pauc(y, score, max_fpr=1) == metrics.auc(y, score)


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=30))
@PROPERTY
def test_precision_recall_f1_equal_scikit_learn(pairs):
    y, d = np.array(pairs).T
    expected = precision_recall_fscore_support(y, d, average="binary", zero_division=0)[:3]
    df = frame([("source", ("normal", "anomaly")[label], 0.0) for label in y]).assign(decision=d)
    found = metrics.decision_metrics(df, 2020)[["precision", "recall", "f1"]]
    assert found.iloc[0].tolist() == pytest.approx(expected, abs=1e-12)


BAD_INPUT = [
    *[
        (partial(metric, y, score), message)
        for metric in (metrics.auc, metrics.pauc)
        for y, score, message in (
            ([0, 1], [1.0], "one score per clip"),
            ([[0, 1]], [[1.0, 2.0]], "shape"),
            ([0, 2], [1.0, 2.0], "holds 2"),
            (["normal", "anomaly"], [1.0, 2.0], "holds 'normal'"),
            ([0, 1], [1.0, float("nan")], "score 1 is nan"),
            ([0, 1], [float("inf"), 1.0], "score 0 is inf"),
            ([0, 0], [1.0, 2.0], "only normal clips"),
            ([1, 1], [1.0, 2.0], "only anomalies"),
            ([], [], "no clips"),
        )
    ],
    *[
        (partial(metrics.pauc, [0, 1], [1, 2], rate), "max_fpr")
        for rate in (0, -0.1, 1.5, float("nan"))
    ],
    (partial(metrics.metric_columns, 2019), "2019 has no metrics"),
    (partial(metrics.omega, pd.DataFrame(), 2020), "not defined for 2020"),
]


def test_bad_input_is_named_in_one_line():
    for call, message in BAD_INPUT:
        with pytest.raises(ScoreError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


BAD_TABLES = [
    (lambda d: d.drop(columns="domain"), "lacks the column 'domain'"),
    (lambda d: d.iloc[:0], "no rows"),
    (lambda d: d.assign(label="broken"), "has label 'broken' .known: 'normal', 'anomaly'"),
    (lambda d: d.assign(domain="both"), "has domain 'both' .known: 'source', 'target', ''"),
    (lambda d: d.assign(anomaly_score=np.inf), "score 'inf' .expected a finite number"),
    (lambda d: d.assign(anomaly_score="high"), "'high' .expected a finite number"),
    (lambda d: d.assign(clip="one.wav"), "'one.wav' of 'fan' occurs twice"),
]


def test_score_tables_are_checked():
    for change, message in BAD_TABLES:
        with pytest.raises(ScoreError, match=message):
            metrics.section_metrics(change(random_frame()), 2022)


def by_scikit_learn(df, year):
    """Compute the official terms of every section, as the evaluator of the year does."""
    terms = {"auc": [], "pauc": []}
    for _, part in df.groupby(["machine", "section"]):
        for domain in ("source", "target"):
            own = part[part.domain == domain]
            if year >= 2022:  # all anomalies of the section
                own = part[(part.domain == domain) | (part.label == "anomaly")]
            own = part if year == 2020 else own
            terms["auc"].append(roc_auc_score(own.label == "anomaly", own.anomaly_score))
            own = part if year >= 2022 else own
            y = own.label == "anomaly"
            terms["pauc"].append(roc_auc_score(y, own.anomaly_score, max_fpr=0.1))
    return terms


@pytest.mark.parametrize("year", metrics.YEARS)
def test_official_score_of_every_year_is_that_of_scikit_learn_and_scipy(year):
    sections = ("00", "01", "02") if year < 2023 else ("00",)
    keys = [(machine, section) for machine in ("fan", "pump") for section in sections]
    df = pd.concat([random_frame(7 * i, *key) for i, key in enumerate(keys)])
    result, want = evaluate(df, year), by_scikit_learn(df, year)
    found = result.to_json_dict()
    for name, values in want.items():
        columns = [name] if year == 2020 else [f"{name}_{d}" for d in ("source", "target")]
        columns = [c for c in columns if c in found["average"]] or [name]
        own = np.mean([found["average"][c] for c in columns])
        assert own == pytest.approx(np.mean(values), abs=1e-15)
        if year != 2020:
            own = hmean([found["harmonic_mean"][c] for c in columns])
            assert own == pytest.approx(hmean(values), abs=1e-15)
    frame = interval_frame([df], year)
    score = official_score(frame, year)
    assert list(score) == (["auc", "pauc"] if year == 2020 else ["omega"])
    if year == 2020:
        assert [v.estimate for v in score.values()] == pytest.approx(
            [np.mean(values) for values in want.values()], abs=1e-15
        )
    else:
        # Since 2022 pAUC counts once a section, in 2021 once a domain.
        terms = [*want["auc"], *want["pauc"][:: 1 if year == 2021 else 2]]
        assert found["omega"] == pytest.approx(hmean(terms), abs=1e-15)
        assert score["omega"].estimate == pytest.approx(hmean(terms), abs=1e-15)
        assert found["omega_terms"] == len(terms)
    assert all(low < estimate < high for estimate, low, high in score.values())


@pytest.mark.parametrize("printed", json.loads((GOLDEN / "printed.json").read_text()))
def test_means_and_omega_are_those_that_the_official_evaluators_print(printed):
    year = printed["year"]
    columns = ["machine", "section", *metrics.metric_columns(year)]
    sections = pd.DataFrame(printed["rows"]).reindex(columns=columns)
    for kind in ("arithmetic", "harmonic"):
        found = metrics.mean_metrics(sections, year, kind)
        own = {name: found[name] for name in printed[kind]}
        assert own == pytest.approx(printed[kind], abs=5e-16, rel=0)
    if "omega" in printed:
        assert metrics.omega(sections, year) == pytest.approx(printed["omega"], abs=5e-16, rel=0)


def test_all_years_have_their_columns_and_do_not_see_the_order():
    for year in range(2020, 2027):
        df = pd.concat([random_frame(3, m, s) for m in ("b", "a") for s in ("01", "00")])
        sections, notices = metrics.section_metrics(df, year)
        assert list(sections.columns) == ["machine", "section", *metrics.metric_columns(year)]
        names = sections[["machine", "section"]].agg("/".join, axis=1).tolist()
        assert names == ["a/00", "a/01", "b/00", "b/01"]
        assert notices == []
        shuffled = df.sample(frac=1, random_state=1)
        pd.testing.assert_frame_equal(metrics.section_metrics(shuffled, year)[0], sections)


def test_missing_class_gives_nan_and_a_notice():
    df = random_frame()
    df = df[(df.domain == "source") | (df.label == "anomaly")]
    sections, notices = metrics.section_metrics(df, 2022)
    assert np.isnan(sections.auc_target[0])
    assert np.isfinite(sections[["auc", "pauc", "auc_source"]].to_numpy()).all()
    assert notices == ["auc_target of fan/00 is not defined: 0 normal and 60 anomalous clips"]


def test_decisions_of_each_domain_are_evaluated_within_itself():
    rows = [
        ("source", "normal", 1.0),
        ("source", "anomaly", 3.0),
        ("target", "normal", 4.0),
        ("target", "anomaly", 5.0),
    ]
    df = frame(rows).assign(decision=[0, 1, 1, 1])
    row = metrics.decision_metrics(df, 2022).iloc[0]
    assert (row.precision_source, row.recall_source, row.f1_source) == (1.0, 1.0, 1.0)
    assert (row.precision_target, row.recall_target) == (0.5, 1.0)
    assert row.f1_target == pytest.approx(2 / 3)
    assert metrics.decision_metrics(df, 2020).iloc[0].precision == pytest.approx(2 / 3)
    alone = metrics.decision_metrics(df[df.domain == "source"], 2022).iloc[0]
    assert np.isnan(alone.precision_target)
    assert alone.precision_source == 1.0


def test_pooled_puts_the_clips_of_all_sections_together():
    df = pd.concat([random_frame(i, "fan", s) for i, s in enumerate(("00", "01"))])
    row = metrics.pooled(df).iloc[0]
    y = df.label == "anomaly"
    assert row.auc == pytest.approx(roc_auc_score(y, df.anomaly_score), abs=1e-12)
    assert row.pauc == pytest.approx(roc_auc_score(y, df.anomaly_score, max_fpr=0.1), abs=1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
@PROPERTY
def test_harmonic_mean_is_the_official_one(values):
    floored = np.maximum(values, np.finfo(float).eps)
    assert metrics.mean(values, "harmonic") == pytest.approx(hmean(floored), rel=1e-12)
    assert metrics.mean(values, "harmonic") <= metrics.mean(values) + 1e-12


def test_overall_mean_is_over_machines_in_2020_and_over_sections_later():
    columns = ["machine", "section", "auc", "pauc", "auc_source", "auc_target"]
    rows = [("a", "00", 0.6, 0.5, 0.6, 0.6), ("a", "01", 0.8, 0.5, 0.8, 0.8)]
    sections = pd.DataFrame([*rows, ("b", "00", 0.9, 0.8, 0.9, 0.9)], columns=columns)
    assert metrics.mean_metrics(sections, 2020)["auc"] == pytest.approx(0.8)
    assert metrics.mean_metrics(sections, 2022)["auc"] == pytest.approx(2.3 / 3)
    assert metrics.mauc(sections) == pytest.approx((0.6 + 0.9) / 2)
    lone = sections.assign(auc=[0.6, np.nan, np.nan])
    assert metrics.mean_metrics(lone, 2022)["auc"] == metrics.mean_metrics(lone, 2020)["auc"] == 0.6
    assert np.isnan(metrics.mean([], "harmonic"))


def test_omega_has_63_terms_for_the_official_set_and_a_floor():
    keys = [(machine, section) for machine in "abcdefg" for section in ("00", "01", "02")]
    sections = pd.DataFrame(keys, columns=["machine", "section"])
    sections = sections.assign(auc_source=0.5, auc_target=0.5, pauc=0.5)
    assert sections[metrics.omega_columns(2022)].size == 63
    assert metrics.omega(sections) == pytest.approx(0.5)
    sections.loc[0, "pauc"] = 0.0
    eps = np.finfo(float).eps
    assert metrics.omega(sections) == pytest.approx(63 / (62 / 0.5 + 1 / eps), rel=1e-12, abs=0)
