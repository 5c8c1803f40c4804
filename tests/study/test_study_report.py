"""Tidy results → means over seeds, intervals and counts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from study_stores import make_manifest, make_store

from asdlib.study import report


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


def test_rows_of_means() -> None:
    table = tidy({"full": [0.8]})
    assert report.overall_rows(table)["auc"].tolist() == [0.8]
    machines = report.machine_rows(table)
    assert machines["machine"].tolist() == ["fan"]
    assert machines["section"].tolist() == ["Average"]


def test_formatted() -> None:
    table = report.overall_rows(tidy({"full": [0.80, 0.82, 0.87], "one": [0.75]}))
    shown = report.formatted(table)
    assert list(shown) == ["variant", "auc (%)", "pauc (%)", "seeds"]
    half = stats.t.ppf(0.975, 2) * stats.sem([80, 82, 87])
    assert shown["auc (%)"].tolist() == [f"83.0 ± {half:.1f}", "75.0"]
    assert shown["seeds"].tolist() == [3, 1]
    by_section = report.formatted(tidy({"full": [0.8, 0.9]}), ["variant", "section"], ["auc"])
    assert list(by_section) == ["variant", "section", "auc (%)", "seeds"]
    assert len(by_section) == 3


def test_percent() -> None:
    table = pd.DataFrame({"machine": ["fan"], "auc": [0.5]})
    assert report.percent(table).to_dict("records") == [{"machine": "fan", "auc": 50.0}]
    assert table["auc"].tolist() == [0.5]


def test_counts(tmp_path: Path) -> None:
    manifest = make_manifest()
    manifest.loc[manifest.index[-1], "label"] = ""
    counts = report.counts(make_store(tmp_path / "store", manifest))
    assert list(counts) == [
        *("machine", "section", "test anomaly", "test normal", "test unlabelled", "train normal")
    ]
    assert counts.to_numpy().tolist()[0] == ["fan", "00", 4, 4, 0, 6]
    assert counts.to_numpy().tolist()[-1] == ["pump", "02", 3, 4, 1, 6]
    assert counts.select_dtypes("number").to_numpy().sum() == len(manifest)


def test_the_hardest_section() -> None:
    assert report.hardest_section(tidy({"full": [0.8, 0.9], "none": [0.5]}), "full") == (
        "fan",
        "00",
    )
