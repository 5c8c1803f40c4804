"""The statistical reference."""

from pathlib import Path

import numpy as np
import pytest
from baseline_stores import make_store
from hypothesis import given, strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import mahalanobis
from sklearn.covariance import ledoit_wolf
from sklearn.metrics import roc_auc_score

from asdlib.baselines import TimeStatistics, TimeStatisticsParams
from asdlib.baselines.statistics import time_statistics
from asdlib.features import FeatureStore

ALL = TimeStatisticsParams(statistics="mean+deviation+quantiles", quantiles=(0.0, 0.5, 1.0))


@given(arrays(np.float32, (2, 3, 7), elements=st.floats(-80, 20, width=32)))
def test_statistics_are_those_of_the_frames(log_mel: np.ndarray) -> None:
    got = time_statistics(log_mel, ALL).reshape(2, 5, 3)
    expected = [log_mel.mean(2), log_mel.std(2), log_mel.min(2), np.median(log_mel, 2)]
    expected.append(log_mel.max(2))
    assert np.allclose(got, np.stack(expected, axis=1), atol=1e-4)
    order = np.random.default_rng(0).permutation(7)
    assert np.allclose(
        got.reshape(2, -1),
        time_statistics(log_mel[:, :, order], ALL),
        atol=1e-9,
    )


def test_number_of_statistics() -> None:
    for statistics, size in [("mean", 1), ("mean+deviation", 2), ("mean+deviation+quantiles", 5)]:
        params = TimeStatisticsParams.model_validate({"statistics": statistics})
        assert time_statistics(np.zeros((4, 8, 10), np.float32), params).shape == (4, 8 * size)


def test_score_equals_the_distance_computed_clip_by_clip(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", ragged=True)
    system = TimeStatistics().fit(store.rows(split="train"))
    test = store.rows(split="test")
    scores = system.score(test)
    means = np.stack(
        [
            store.features[i, :, : store.frames[i]].astype(np.float64).mean(axis=1)
            for i in range(len(store))
        ]
    )
    table = store.manifest
    for position, row in enumerate(test.index):
        own = (
            (table["machine"] == table["machine"][row])
            & (table["section"] == table["section"][row])
            & (table["split"] == "train")
        )
        covariance, _ = ledoit_wolf(means[own])
        expected = mahalanobis(means[row], means[own].mean(0), np.linalg.inv(covariance))
        assert scores[position] == pytest.approx(expected, rel=1e-6)


def test_anomalies_score_higher(store: FeatureStore) -> None:
    test = store.rows(split="test")
    scores = TimeStatistics().fit(store.rows(split="train")).score(test)
    assert scores.dtype == np.float64
    assert roc_auc_score(test.manifest["label"] == "anomaly", scores) == 1.0


def test_the_batch_size_does_not_matter(store: FeatureStore) -> None:
    train, test = store.rows(split="train"), store.rows(split="test")
    one = TimeStatistics(batch_size=1).fit(train).score(test)
    assert np.array_equal(one, TimeStatistics().fit(train).score(test))


def test_progress_counts_the_clips_that_are_read(store: FeatureStore) -> None:
    calls: list[tuple[str, int, int]] = []
    system = TimeStatistics(batch_size=20)
    system.fit(store.rows(split="train"), progress=lambda *call: calls.append(call))
    assert calls == [("statistics", 20, 32), ("statistics", 32, 32)]


@pytest.mark.parametrize(
    ("statistics", "auc", "pauc"),
    [
        ("mean", 96.6, 87.2),
        ("mean+deviation", 94.7, 84.2),
        # The independent script did not say its quantiles; 0.1, 0.5, 0.9 give 93.35 / 81.66.
        ("mean+deviation+quantiles", 93.5, 82.0),
    ],
)
def test_real_recordings(toycar: FeatureStore, statistics: str, auc: float, pauc: float) -> None:
    """Figures of an independent script on the same clips, mean over the four sections, percent."""
    test = toycar.rows(split="test")
    scores = TimeStatistics(statistics=statistics).fit(toycar.rows(split="train")).score(test)
    figures = []
    for _, part in test.manifest.groupby("section"):
        y, s = part["label"] == "anomaly", scores[part.index]
        figures.append((roc_auc_score(y, s), roc_auc_score(y, s, max_fpr=0.1)))
    tolerance = 0.06 if "quantiles" not in statistics else 0.5
    assert 100 * np.mean(figures, axis=0) == pytest.approx((auc, pauc), abs=tolerance)


@pytest.mark.parametrize("statistics", ["mean", "mean+deviation"])
def test_contributions_sum_to_the_square_of_the_score(tmp_path: Path, statistics: str) -> None:
    store = make_store(tmp_path / "store", ragged=True)
    system = TimeStatistics(statistics=statistics).fit(store.rows(split="train"))
    test = store.rows(split="test")
    scores = system.score(test)
    for position, row in enumerate(test.index[:6]):
        clip = store.manifest.iloc[row]
        log_mel = store.features[row, :, : store.frames[row]]
        parts = system.contributions(log_mel, f"{clip['machine']}/{clip['section']}")
        assert parts.shape == log_mel.shape
        assert parts.sum() == pytest.approx(scores[position] ** 2, rel=1e-6)
        assert (parts.sum(axis=1) >= -1e-9).all()
