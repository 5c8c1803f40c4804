"""Tidy results → means over seeds, intervals and counts."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from asdlib.errors import ConfigError
from asdlib.evaluation import paired_frame
from asdlib.study import RunResult, read_scores, report


def tidy(values: dict[str, list[float]]) -> pd.DataFrame:
    """Make results with one machine of two sections; `values` are the overall AUC over seeds."""
    rows = []
    for variant, aucs in values.items():
        for seed, auc in enumerate(aucs):
            for machine, section, shift in (
                ("fan", "00", -0.1),
                ("fan", "02", 0.1),
                ("fan", "Average", 0.0),
                ("Average", "Average", 0.0),
            ):
                rows.append((variant, seed, machine, section, auc + shift, auc / 2))
    return pd.DataFrame(rows, columns=["variant", "seed", "machine", "section", "auc", "pauc"])


def test_mean_and_interval_over_seeds() -> None:
    aucs = [0.80, 0.82, 0.87]
    table = report.overall_rows(tidy({"full": aucs, "none": [0.5, 0.5, 0.5]}))
    summary = report.over_seeds(table, ["variant"], "auc")
    assert list(summary) == ["variant", "mean", "low", "high", "seeds"]
    assert summary["variant"].tolist() == ["full", "none"]
    values = 100 * np.array(aucs)
    low, high = stats.t.interval(0.95, 2, values.mean(), stats.sem(values))
    assert summary.loc[0, ["mean", "low", "high"]].tolist() == pytest.approx(
        [values.mean(), low, high]
    )
    assert summary["seeds"].tolist() == [3, 3]


def test_one_seed_has_no_interval_and_nothing_defined_no_row() -> None:
    table = report.overall_rows(tidy({"full": [0.8], "none": [float("nan")]}))
    summary = report.over_seeds(table, ["variant"], "auc")
    assert summary["variant"].tolist() == ["full"]
    assert summary["mean"].tolist() == pytest.approx([80.0])
    assert summary[["low", "high"]].isna().all(axis=None)


def differences(values: dict[str, list[float]], **told: Any) -> pd.DataFrame:
    table = report.overall_rows(tidy(values))
    return report.paired_differences(table, "b", **told).set_index("variant")


def test_differences_are_paired_over_seeds() -> None:
    a, b = np.array([0.80, 0.85, 0.90]), np.array([0.79, 0.83, 0.89])
    table = report.overall_rows(tidy({"a": [*a], "b": [*b], "c": [0.8, 0.7, 0.9]}))
    found = report.paired_differences(table.sample(frac=1, random_state=0), "b")
    found = found.set_index("variant")
    difference = 100 * (a - b)
    low, high = stats.t.interval(0.95, 2, difference.mean(), stats.sem(difference))
    assert found.loc["a", ["difference", "low", "high"]].tolist() == pytest.approx(
        [difference.mean(), low, high]
    )
    # Unpaired, the spread over seeds would hide it.
    assert found["shown"].to_dict() == {"a": False, "c": False}
    assert differences({"a": [0.6, 0.7, 0.8], "b": [0.51, 0.6, 0.69]}).loc["a", "shown"]
    half = differences({"a": [*a], "b": [*b]}, metric="pauc")
    assert half.loc["a", "difference"] == pytest.approx(difference.mean() / 2)


def test_seeds_are_matched_by_number() -> None:
    table = report.overall_rows(tidy({"a": [0.5, 0.6, 0.7], "b": [0.4, 0.5, 0.65]}))
    lacking = table[(table["variant"] == "a") | (table["seed"] != 2)]
    found = report.paired_differences(lacking, "b").iloc[0]
    assert (found["difference"], found["seeds"]) == (pytest.approx(10.0), 2)
    assert not report.paired_differences(table[table["seed"] == 0], "b")["shown"].any()


def test_what_is_not_random_is_paired_with_every_seed() -> None:
    for values, expected in (
        ({"a": [0.80, 0.85, 0.90], "b": [0.5]}, 35.0),
        ({"a": [0.5], "b": [0.80, 0.85, 0.90]}, -35.0),
    ):
        found = differences(values).iloc[0]
        assert (found["difference"], found["seeds"]) == (pytest.approx(expected), 3)
        assert found["low"] < expected < found["high"]


def test_differences_within_groups() -> None:
    table = tidy({"a": [0.8, 0.9], "b": [0.7, 0.75]}).rename(columns={"variant": "system"})
    rows = table[(table["section"] == "Average") & (table["machine"] != "Average")]
    found = report.paired_differences(rows, "a", by=["machine"], variant="system")
    assert found[["machine", "system"]].to_numpy().tolist() == [["fan", "b"]]
    assert found["difference"].tolist() == pytest.approx([-12.5])
    with pytest.raises(ConfigError, match="several rows of system a, seed 0; choose those of one"):
        report.paired_differences(table, "b", variant="system")
    with pytest.raises(ConfigError, match="several rows of system a, seed 0"):
        report.over_seeds(table, ["system"])
    with pytest.raises(ConfigError, match=r"no system 'c' to compare with \(known: a, b\)"):
        report.paired_differences(rows, "c", variant="system")


def test_p_values_are_those_of_the_t_test_and_adjusted_for_their_number() -> None:
    aucs = {"b": [0.80, 0.85, 0.90], "a": [0.79, 0.83, 0.89], "c": [0.7, 0.9, 0.8], "d": [0.7]}
    found = differences(aucs)
    a, b, c = (np.array(aucs[name]) for name in "abc")
    p = [stats.ttest_rel(other, b).pvalue for other in (a, c)]
    assert found["p_value"].tolist()[:2] == pytest.approx(p)
    p.append(found["p_value"]["d"])
    rank = stats.rankdata(p)
    assert found["p_bh"].to_numpy() == pytest.approx(stats.false_discovery_control(p))
    # Holm (1979): the smallest times three, the next times two, never falling.
    holm = np.minimum(1, np.maximum.accumulate(np.sort(p) * [3, 2, 1]))[rank.astype(int) - 1]
    assert found["p_holm"].to_numpy() == pytest.approx(holm)
    assert found["shown"].tolist() == (holm < 0.05).tolist()
    one = report.adjusted(pd.Series([0.03, np.nan, 0.03]))
    assert one["p_holm"].tolist()[::2] == [0.06, 0.06]
    assert one["shown"].tolist() == [False] * 3


def test_a_difference_is_written_with_the_digits_that_it_needs() -> None:
    written = report.describe_difference
    assert (
        written(0.4, -0.3, 1.0, 0.281) == "+0.4 points [−0.3, +1.0], p = 0.28, not shown to differ"
    )
    assert written(3.1, 0.0039, 5.8, 0.04997) == (
        "+3.100 points [+0.004, +5.800], p = 0.04997, shown"
    )
    assert written(-17.0, -20.0, -14.0, 1e-9).endswith("p < 0.0001, shown")
    assert written(1.0, np.nan, np.nan, np.nan) == "+1.0 points (one seed: no interval)"


@pytest.fixture(scope="module")
def of_runs(runs: dict[str, RunResult]) -> pd.DataFrame:
    """Tidy results of a system with two seeds and of the statistical reference."""
    names = {"statistics": "reference", "c0": "ours", "c1": "ours"}
    tables = [
        runs[name].metrics.assign(
            variant=variant, run=str(runs[name].path), seed=runs[name].record.config.seed
        )
        for name, variant in names.items()
    ]
    return pd.concat(tables, ignore_index=True)


def test_variants_are_compared_on_the_clips_that_all_have_scored(
    of_runs: pd.DataFrame, runs: dict[str, RunResult]
) -> None:
    found = report.compare_runs(report.scores_of(of_runs), "reference", 2020)
    ours, reference = (
        [read_scores(runs[name].path) for name in names] for names in (("c0", "c1"), ["statistics"])
    )
    expected = paired_frame(ours, reference, 2020)
    expected = expected[expected["machine"] == "Average"]
    assert found["variant"].tolist() == ["ours", "ours"]
    assert found["metric"].tolist() == ["auc", "pauc"]
    for name in ("difference", "low", "high"):
        assert found[name].tolist() == pytest.approx(100 * expected[name].to_numpy())
    assert found["p_holm"].max() == pytest.approx(
        max(expected["p_value"].max(), 2 * expected["p_value"].min())
    )


def test_a_line_says_what_results_rest_on(of_runs: pd.DataFrame) -> None:
    told = report.describe_runs(of_runs)
    assert "24 training clips, 32 test clips; seeds 0, 1; statistics; contrastive, " in told
    assert "epochs, scored by " in told
