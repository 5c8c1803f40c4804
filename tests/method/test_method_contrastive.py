"""The contrastive system: fit, score, save and load."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contrastive_rows import FRONT_END, make_store, quick_system
from threadpoolctl import threadpool_limits

from asdlib.errors import RunError, StoreError
from asdlib.features import FeatureStore, write_store
from asdlib.method.contrastive import Contrastive, mean_and_deviation


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("contrastive") / "store", domains=True)


def fitted(store: FeatureStore, seed: int = 0, **changes: Any) -> Contrastive:
    system = quick_system(seed=seed, **({"epochs": 1} | changes))
    return system.fit(store.rows(split="train"))


VARIANTS: list[dict[str, Any]] = [
    {},
    {"embedding": "spectrum", "epochs": 0},
    {"embedding": "levels", "epochs": 0},
    {"embedding": "projection", "crops": "different"},
    {"embedding": "feature_map", "cross_domain": True},
    {"segment": "sliding", "loss": "nt_xent"},
    {"classes": "machine", "augmentation": {"mixing": "high", "rrc": False}},
    {"augmentation": {"pre_norm": False, "mixup": False, "post_norm": False}},
    {"encoder": "mobilefacenet"},
    {"epochs": 0, "backend": "knn", "backend_params": {"k": 3, "metric": "euclidean"}},
    {"epochs": 0, "backend": "level_sum"},
    {"epochs": 0, "backend": "pooled_mahalanobis"},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_what_is_saved_comes_back_exactly(
    store: FeatureStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    system = fitted(store, **changes)
    test = store.rows(split="test")
    scores = system.score(test)
    assert np.isfinite(scores).all()
    system.save(tmp_path / "model")
    loaded = Contrastive.load(tmp_path / "model")
    assert loaded.params == system.params
    assert loaded.backend_.params().items() >= system.params.backend_params.items()
    np.testing.assert_array_equal(loaded.score(test), scores)
    loaded.save(tmp_path / "again")
    for name in ("model.json", "model.safetensors"):
        first, second = (tmp_path / folder / name for folder in ("model", "again"))
        assert first.read_bytes() == second.read_bytes()


def test_the_seed_decides_the_initial_weights(store: FeatureStore) -> None:
    first, again, other = (
        list(fitted(store, seed, epochs=0).network_.parameters()) for seed in (3, 3, 4)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True) if a.ndim > 1)


def test_a_model_of_version_0_1_is_read(store: FeatureStore, tmp_path: Path) -> None:
    system = fitted(store, seed=9)
    scores = system.score(store.rows(split="test"))
    system.save(tmp_path)
    facts = json.loads((tmp_path / "model.json").read_text())
    mean, std = mean_and_deviation(store.rows(split="train"))
    assert (facts["mean"], facts["std"]) == pytest.approx((mean, std), rel=1e-6)
    assert facts["mel_frequencies"] == store.mel_frequencies().tolist()
    for key in ("format", "front_end", "sha256"):
        del facts[key]
    facts["params"]["subclusters"] = 16  # what had no effect, and is no parameter any more
    facts["params"]["augmentation"] |= {"pre_norm_statistics": "fixed", "running_batches": None}
    facts["params"]["augmentation"] |= {"mix_eps": 0.0}
    facts["params"]["pooling"] = "patches"
    (tmp_path / "model.json").write_text(json.dumps(facts))
    loaded = Contrastive.load(tmp_path)
    np.testing.assert_array_equal(loaded.score(store.rows(split="test")), scores)
    wide = FRONT_END.model_copy(update={"n_mels": 8})
    other = write_store(tmp_path / "store", store.manifest, store.features[:, :8], wide)
    with pytest.raises(StoreError, match="different front ends: n_mels 8 and 16"):
        loaded.score(other.rows(split="test"))


def test_only_valid_frames_count(store: FeatureStore, tmp_path: Path) -> None:
    """What lies beyond a clip's end in the store changes nothing."""
    poisoned = store.features.copy()
    poisoned[np.broadcast_to(np.arange(20) >= store.frames[:, None, None], poisoned.shape)] = 99.0
    other = write_store(tmp_path / "store", store.manifest, poisoned, FRONT_END)
    test = other.rows(split="test")
    np.testing.assert_array_equal(
        fitted(other).score(test), fitted(store).score(store.rows(split="test"))
    )


def test_sliding_windows_are_averaged(store: FeatureStore) -> None:
    system = fitted(store, epochs=0, segment="sliding", embedding="encoder")
    x = torch.randn(3, 16, 20, generator=torch.Generator().manual_seed(0))
    network = system.network_.eval()
    with torch.inference_mode():
        given = system._embed_batch(network, x)
        # Windows of 8 frames from 0, 4, 8 and 12 on.
        parts = [network.embed(x[:, :, s : s + 8], ["encoder"]) for s in (0, 4, 8, 12)]
        torch.testing.assert_close(given, torch.stack(parts).mean(0))
        short = x[:, :, :8]
        torch.testing.assert_close(
            system._embed_batch(network, short), network.embed(short, ["encoder"])
        )
        whole = fitted(store, epochs=0, embedding="encoder")._embed_batch(network, x)
    torch.testing.assert_close(whole, network.embed(x, ["encoder"]).detach())
    assert not torch.allclose(whole, given)


def test_embeddings(store: FeatureStore) -> None:
    test = store.rows(split="test")
    system = fitted(store, epochs=0, embedding="projection")
    projected = system.embed(test)
    assert projected.shape == (16, 8)
    assert projected.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(projected, axis=1), 1.0, rtol=1e-5)
    sizes = {
        kind: fitted(store, epochs=0, embedding=kind).embed(test).shape[1]
        for kind in ("encoder", "feature_map")
    }
    assert sizes["encoder"] == system.network_.encoder.embedding_size
    assert sizes["feature_map"] != sizes["encoder"]


def test_training_learns_the_sections(store: FeatureStore) -> None:
    system = fitted(store, epochs=8, batch_size=28)
    assert system.history_ is not None
    losses = system.history_["loss"]
    assert system.history_["step"].tolist() == list(range(1, 9))
    assert losses.iloc[-2:].mean() < losses.iloc[:2].mean() - 0.3


def test_progress_is_told(store: FeatureStore) -> None:
    told: list[tuple[str, int, int]] = []
    quick_system().fit(store.rows(split="train"), progress=lambda *args: told.append(args))
    training = [entry for entry in told if entry[0] == "training"]
    assert training == [("training", step, 8) for step in range(1, 9)]
    embedding = [entry[1:] for entry in told if entry[0] == "embedding"]
    assert embedding[-1] == (28, 28)
    assert embedding == sorted(embedding)


def test_crops_are_no_longer_than_the_shortest_clip(store: FeatureStore, tmp_path: Path) -> None:
    system = fitted(store, crop_frames=64, segment="sliding")
    told = "crop_frames=64 is longer than the shortest training clip; crops have 17 frames instead"
    assert system.notices_ == [told]
    same = fitted(store, crop_frames=17)
    assert same.notices_ == []
    assert same.history_ is not None
    assert same.history_.equals(system.history_)
    system.save(tmp_path)
    test = store.rows(split="test")
    np.testing.assert_array_equal(Contrastive.load(tmp_path).score(test), system.score(test))
    short = make_store(tmp_path / "short", frames=(20, 7))
    with pytest.raises(RunError, match="has 7 frames, expected at least 8"):
        fitted(short)


def test_one_class_without_negatives_is_noticed(store: FeatureStore) -> None:
    rows = store.rows(split="train", machine="fan")
    one = quick_system(epochs=0, classes="machine").fit(rows)
    assert "the contrast has no negatives" in one.notices_[0]
    for changes in ({}, {"classes": "machine", "loss": "nt_xent"}):
        assert not quick_system(epochs=0, **changes).fit(rows).notices_


def test_silence_is_refused(tmp_path: Path, store: FeatureStore) -> None:
    silent = write_store(
        tmp_path / "silent", store.manifest, np.full((44, 16, 20), -100.0), FRONT_END
    )
    with pytest.raises(RunError, match="machine 'fan' all log-mel values are equal"):
        fitted(silent)


def test_no_rows_to_embed(store: FeatureStore) -> None:
    with pytest.raises(RunError, match="no clips to embed"):
        fitted(store, epochs=0).embed(store.rows(np.arange(0)))


def test_mean_and_deviation(store: FeatureStore) -> None:
    rows = store.rows(split="train")
    values = np.concatenate(
        [store.features[i, :, : store.frames[i]].astype(float).ravel() for i in rows.index]
    )
    for batch_size in (3, 256):
        mean, std = mean_and_deviation(rows, batch_size)
        assert mean == pytest.approx(values.mean(), rel=1e-12)
        assert std == pytest.approx(values.std(), rel=1e-9)
