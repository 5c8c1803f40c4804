"""The contrastive system: fit, score, save and load."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contrastive_rows import FRONT_END, make_store, quick_system
from threadpoolctl import threadpool_limits

from asdlib.errors import RunError
from asdlib.features import FeatureStore, write_store
from asdlib.method.backends import BACKENDS
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
    {"embedding": "projection", "crops": "different"},
    {"embedding": "feature_map", "cross_domain": True},
    {"segment": "sliding", "loss": "nt_xent"},
    {"classes": "machine", "augmentation": {"mixing": "high", "rrc": False}},
    {"augmentation": {"pre_norm_statistics": "running"}},
    {"augmentation": {"pre_norm": False, "mixup": False, "post_norm": False}},
    {"encoder": "mobilefacenet"},
    *({"epochs": 0, "backend": name} for name in sorted(BACKENDS)),
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_what_is_saved_comes_back_exactly(
    store: FeatureStore, tmp_path: Path, changes: dict[str, Any]
) -> None:
    system = fitted(store, **changes)
    test = store.rows(split="test")
    scores = system.score(test)
    assert scores.shape == (16,)
    assert scores.dtype == np.float64
    assert np.isfinite(scores).all()
    system.save(tmp_path / "model")
    assert sorted(path.name for path in (tmp_path / "model").iterdir()) == [
        "model.json",
        "model.safetensors",
    ]
    loaded = Contrastive.load(tmp_path / "model")
    assert loaded.params == system.params
    assert loaded.seed == system.seed
    assert loaded.history_ is None
    np.testing.assert_array_equal(loaded.score(test), scores)
    loaded.save(tmp_path / "again")
    for name in ("model.json", "model.safetensors"):
        first, second = (tmp_path / folder / name for folder in ("model", "again"))
        assert first.read_bytes() == second.read_bytes()


def test_the_saved_facts(store: FeatureStore, tmp_path: Path) -> None:
    system = fitted(store, seed=9)
    system.save(tmp_path)
    facts = json.loads((tmp_path / "model.json").read_text())
    assert facts["system"] == "contrastive"
    assert facts["seed"] == 9
    assert facts["sections"] == ["fan/00", "fan/02", "pump/00", "pump/02"]
    mean, std = mean_and_deviation(store.rows(split="train"))
    assert (facts["mean"], facts["std"]) == pytest.approx((mean, std), rel=1e-6)
    assert facts["mel_frequencies"] == store.mel_frequencies().tolist()


def test_seeds(store: FeatureStore) -> None:
    test = store.rows(split="test")
    torch.manual_seed(1)
    one = fitted(store, seed=1)
    torch.manual_seed(2)
    same, other = fitted(store, seed=1), fitted(store, seed=2)
    np.testing.assert_array_equal(one.score(test), same.score(test))
    assert one.history_ is not None
    assert same.history_ is not None
    assert one.history_["loss"].tolist() == same.history_["loss"].tolist()
    assert not np.array_equal(one.score(test), other.score(test))


def test_no_global_random_state_is_used_or_changed(store: FeatureStore) -> None:
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    system = fitted(store)
    system.score(store.rows(split="test"))
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_scores_do_not_depend_on_order_or_batches(store: FeatureStore) -> None:
    system = fitted(store)
    test = store.rows(split="test")
    scores = system.score(test)
    turned = np.random.default_rng(0).permutation(len(test))
    np.testing.assert_allclose(system.score(test.select(turned)), scores[turned], rtol=1e-4)
    np.testing.assert_allclose(
        [system.score(test.select(np.array([i])))[0] for i in range(4)], scores[:4], rtol=1e-4
    )


def test_only_valid_frames_count(store: FeatureStore, tmp_path: Path) -> None:
    """What lies beyond a clip's end in the store changes nothing."""
    poisoned = store.features.copy()
    poisoned[np.broadcast_to(np.arange(20) >= store.frames[:, None, None], poisoned.shape)] = 99.0
    other = write_store(
        tmp_path / "store", store.manifest, poisoned, FRONT_END, frames=store.frames
    )
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
        parts = [network.embed(x[:, :, s : s + 8], "encoder") for s in (0, 4, 8, 12)]
        torch.testing.assert_close(given, torch.stack(parts).mean(0))
        short = x[:, :, :8]
        torch.testing.assert_close(
            system._embed_batch(network, short), network.embed(short, "encoder")
        )
        whole = fitted(store, epochs=0, embedding="encoder")._embed_batch(network, x)
    torch.testing.assert_close(whole, network.embed(x, "encoder").detach())
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


def test_without_epochs_there_is_no_history(store: FeatureStore) -> None:
    assert fitted(store, epochs=0).history_ is None


def test_progress_is_told(store: FeatureStore) -> None:
    told: list[tuple[str, int, int]] = []
    quick_system().fit(store.rows(split="train"), progress=lambda *args: told.append(args))
    training = [entry for entry in told if entry[0] == "training"]
    assert training == [("training", step, 8) for step in range(1, 9)]
    embedding = [entry[1:] for entry in told if entry[0] == "embedding"]
    assert embedding[-1] == (28, 28)
    assert embedding == sorted(embedding)


def test_a_crop_longer_than_a_clip_is_refused(store: FeatureStore) -> None:
    with pytest.raises(RunError, match=r"crop_frames=18 .* \(17 frames\); set .* at most 17"):
        fitted(store, crop_frames=18)
    fitted(store, crop_frames=17, epochs=0)


def test_silence_is_refused(tmp_path: Path, store: FeatureStore) -> None:
    silent = write_store(
        tmp_path / "silent", store.manifest, np.full((44, 16, 20), -100.0), FRONT_END
    )
    with pytest.raises(RunError, match="all log-mel values equal -100: silent clips"):
        fitted(silent)


@pytest.mark.parametrize(
    ("n", "message"), [(0, "no training clips selected"), (1, "1 training clips; .* at least 2")]
)
def test_too_few_clips_are_refused(store: FeatureStore, n: int, message: str) -> None:
    rows = store.rows(split="train").select(np.arange(n))
    with pytest.raises(RunError, match=message):
        quick_system().fit(rows)


def test_sections_that_were_not_in_training_are_refused(store: FeatureStore) -> None:
    fan = store.rows(split="train", machine="fan")
    system = quick_system(epochs=0).fit(fan)
    with pytest.raises(RunError, match=r"machine 'pump' has no training rows \(known: fan\)"):
        system.score(store.rows(split="test"))
    first = quick_system(epochs=0).fit(fan.select((fan.manifest["section"] == "00").to_numpy()))
    with pytest.raises(RunError, match=r"section '02' is not in .* 'fan' \(known: 00\)"):
        first.score(store.rows(split="test", machine="fan"))


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
