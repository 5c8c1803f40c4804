"""Tidy results → means over seeds, intervals and counts."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from asdlib.errors import ConfigError
from asdlib.evaluation import paired_frame
from asdlib.study import RunResult, read_scores, report
from asdlib.study.experiment import summarise


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


def test_rows_of_several_means_are_refused() -> None:
    with pytest.raises(ConfigError, match="several rows of variant a, seed 0; choose those of one"):
        report.over_seeds(tidy({"a": [0.8, 0.9], "b": [0.7, 0.75]}), ["variant"])


def test_p_values_are_adjusted_for_their_number() -> None:
    p = pd.Series([0.04, 0.001, np.nan, 0.03, 0.02])
    found, known = report.adjusted(p), p.dropna()
    rank = stats.rankdata(known)
    assert found["p_bh"].dropna().to_numpy() == pytest.approx(stats.false_discovery_control(known))
    # Holm (1979): the smallest times four, the next times three, never falling.
    holm = np.minimum(1, np.maximum.accumulate(np.sort(known) * [4, 3, 2, 1]))[rank.astype(int) - 1]
    assert found["p_holm"].dropna().to_numpy() == pytest.approx(holm)
    assert found["shown"].tolist() == [False, True, False, False, False]
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
    assert written(1.0, np.nan, np.nan, np.nan) == "+1.0 points (no interval)"


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


def test_an_ablation_is_compared_on_clips_by_machine(of_runs: pd.DataFrame) -> None:
    table = of_runs.replace({"variant": {"reference": "full"}}).assign(group="a", changes="{}")
    summary = summarise(table).set_index(["variant", "machine", "metric"]).sort_index()
    expected = report.compare_runs(report.scores_of(table), "full", 2020).set_index("metric")
    names = {"difference_low": "low", "difference_high": "high", "difference": "difference"}
    found = summary.loc["ours", "Average"]
    for ours, theirs in (names | {"p_holm": "p_holm"}).items():
        pd.testing.assert_series_equal(found[ours], expected[theirs], check_names=False)
    assert found.loc["auc", "mean"] - summary.loc["full", "Average", "auc"]["mean"] == (
        pytest.approx(found.loc["auc", "difference"])
    )
    assert found["verdict"].str.contains("points").all()
    assert summary.loc["full", "fan", "auc"]["verdict"] == ""
    assert set(summary.index.get_level_values("machine")) == {"fan", "pump", "Average"}
    alone = summarise(table[table["variant"] == "full"])
    assert alone["difference"].isna().all()


def test_a_line_says_what_results_rest_on(of_runs: pd.DataFrame) -> None:
    told = report.describe_runs(of_runs)
    assert "24 training clips, 32 test clips; seeds 0, 1; statistics; contrastive, " in told
    assert "epochs, scored by " in told
