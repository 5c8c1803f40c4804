"""The network: levels, classifier, statistics of batch normalisation."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contrastive_rows import make_store, quick_system
from torch import nn

from asdlib.features import FeatureStore
from asdlib.method import Contrastive, ProjectionHead, build_encoder
from asdlib.method.encoders import Network, measure_batch_norm


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("network") / "store")


def test_levels_stand_side_by_side() -> None:
    encoder = build_encoder("small_cnn", 16)
    network = Network(encoder, ProjectionHead(encoder.embedding_size, 8)).eval()
    x = torch.randn(3, 16, 20, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        names = encoder.level_names
        sizes = network.size_of(names)
        assert names == ("spectrum", "deviation", "feature_map", "encoder")
        parts = dict(zip(names, network.embed(x, names).split(sizes, dim=1), strict=True))
        torch.testing.assert_close(parts["spectrum"], x.mean(dim=2))
        torch.testing.assert_close(parts["deviation"], x.std(dim=2, correction=0))
        for name, part in parts.items():
            torch.testing.assert_close(network.embed(x, [name]), part)
        assert network.embed(x, ["projection"]).shape == (3, 8)


def test_the_spectrum_level_scores_like_the_time_mean(store: FeatureStore) -> None:
    """It needs no network: another seed gives the same scores."""
    train, test = store.rows(split="train"), store.rows(split="test")
    first, second = (
        quick_system(seed, epochs=0, embedding="spectrum", backend="mahalanobis")
        .fit(train)
        .score(test)
        for seed in (0, 1)
    )
    np.testing.assert_allclose(first, second, rtol=1e-5)


def test_a_classifier_is_trained_saved_and_read_back(store: FeatureStore, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"classifier": "arcface", "contrast_weight": 0.0}
    begin, system = (
        quick_system(epochs=epochs, **changes).fit(store.rows(split="train")) for epochs in (0, 1)
    )
    first, trained = (fitted.network_.classifier for fitted in (begin, system))
    assert first.centres.shape[0] == 4, "one for each section"
    assert not torch.equal(first.centres, trained.centres)
    system.save(tmp_path / "model")
    again = Contrastive.load(tmp_path / "model").network_.classifier
    assert torch.equal(again.centres, trained.centres)


def test_batch_norm_is_measured_on_clean_clips(store: FeatureStore) -> None:
    """One batch of all clips: the statistics are those of the layer's input, by definition."""
    rows = store.rows(((store.manifest["split"] == "train") & (store.frames == 20)).to_numpy())
    layer = nn.BatchNorm1d(16)
    layer.running_mean.fill_(100.0)
    measure_batch_norm(layer, lambda x: x / 10, rows, batch_size=64)
    values = np.stack([store.features[i, :, :20].astype(np.float64) for i in rows.index]) / 10
    np.testing.assert_allclose(layer.running_mean, values.mean((0, 2)), rtol=1e-5)
    np.testing.assert_allclose(layer.running_var, values.var((0, 2), ddof=1), rtol=1e-4)
    assert layer.momentum == 0.1


def test_batch_norm_keeps_what_it_should(store: FeatureStore) -> None:
    rows = store.rows(split="train")
    encoder = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(16))
    encoder.train()
    for _ in range(2):
        measure_batch_norm(encoder, lambda x: x, rows, seed=1)
        mean = encoder[1].running_mean.clone()
    measure_batch_norm(encoder, lambda x: x, rows, seed=1)
    assert torch.equal(encoder[1].running_mean, mean), "dropout is off: no randomness is left"
    assert encoder.training
    plain = nn.Linear(16, 2)
    measure_batch_norm(plain, lambda x: pytest.fail("nothing to measure"), rows)


def test_clean_and_training_statistics_differ(store: FeatureStore) -> None:
    rows = store.rows(split="train")
    networks = [
        quick_system(epochs=1, batch_norm=kind).fit(rows).network_.state_dict()
        for kind in ("clean", "training")
    ]
    for name, tensor in networks[0].items():
        same = torch.equal(tensor, networks[1][name])
        assert same != ("running" in name or "num_batches" in name), name
