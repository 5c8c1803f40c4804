"""The autoencoders of 2020 and 2022, and the threshold of the latter."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from baseline_stores import make_store
from scipy import stats
from sklearn.metrics import roc_auc_score
from torch import nn

from asdlib.baselines import Autoencoder, Autoencoder2022, gamma_threshold
from asdlib.baselines.autoencoder import AutoencoderNetwork
from asdlib.errors import RunError
from asdlib.features import FeatureStore

QUICK: dict[str, Any] = {
    "epochs": 3,
    "batch_size": 32,
    "hidden": 16,
    "bottleneck": 4,
    "device": "cpu",
}


def weights(system: Autoencoder) -> dict[str, torch.Tensor]:
    return {
        f"{machine}/{name}": tensor.clone()
        for machine, network in system.networks_.items()
        for name, tensor in network.state_dict().items()
    }


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_official_size() -> None:
    network = Autoencoder().build(n_mels=128, n_sections=4)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == 267_928
    linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert [layer.out_features for layer in linear] == [*[128] * 4, 8, *[128] * 4, 640]


def test_layers_are_dense_norm_relu_as_in_keras() -> None:
    layers = list(AutoencoderNetwork(640))
    kinds = [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 9 + [nn.Linear]
    assert [type(layer) for layer in layers] == kinds
    norms = [layer for layer in layers if isinstance(layer, nn.BatchNorm1d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.01)}


def test_official_defaults() -> None:
    params = Autoencoder().params
    assert (params.epochs, params.batch_size, params.n_frames) == (100, 512, 5)
    assert (params.learning_rate, params.adam_epsilon) == (1e-3, 1e-7)
    assert params.validation_fraction == 0.1
    assert Autoencoder().hops == (1, 1)


def test_score_equals_the_plain_computation(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", ragged=True)
    system = Autoencoder(**QUICK).fit(store.rows(split="train"))
    test = store.rows(split="test")
    scores = system.score(test)
    for position, row in enumerate(test.index):
        log_mel = store.features[row, :, : store.frames[row]].astype(np.float32)
        vectors = np.stack(
            [log_mel[:, t : t + 5].T.reshape(-1) for t in range(log_mel.shape[1] - 4)]
        )
        with torch.inference_mode():
            reconstructed = system.networks_[store.manifest["machine"][row]](
                torch.from_numpy(vectors)
            )
        expected = np.mean((vectors - reconstructed.numpy()) ** 2)
        assert scores[position] == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_learns_and_finds_anomalies(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", machines=("fan",))
    params = QUICK | {"epochs": 60, "learning_rate": 1e-2}
    system = Autoencoder(**params).fit(store.rows(split="train"))
    losses = list(system.history_["loss"])
    assert len(losses) == 60
    assert losses[-1] < 0.1 * losses[0]
    test = store.rows(split="test")
    assert roc_auc_score(test.manifest["label"] == "anomaly", system.score(test)) > 0.9


def test_neither_other_machines_nor_the_order_of_the_rows_matter(store: FeatureStore) -> None:
    both = weights(Autoencoder(**QUICK).fit(store.rows(split="train")))
    pump = store.rows(split="train", machine="pump")
    shuffled = pump.select(np.random.default_rng(0).permutation(len(pump)))
    alone = weights(Autoencoder(**QUICK).fit(shuffled))
    assert same({k: v for k, v in both.items() if k.startswith("pump/")}, alone)
    assert not torch.equal(both["fan/0.weight"], both["pump/0.weight"])


def test_the_last_tenth_by_file_name_is_not_trained_on(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", machines=("fan",), n_train=10)
    train = store.rows(split="train")
    before = Autoencoder(**QUICK).fit(train)
    # 20 clips of 16 windows each: the last tenth is the last two clips by name, 32 windows.
    array = np.lib.format.open_memmap(store.path / "logmel.npy", "r+")
    rows = [i for i, c in enumerate(store.manifest["clip"]) if c.endswith(("02_00000008.wav",))]
    array[rows] += 1.0
    after = Autoencoder(**QUICK).fit(FeatureStore.open(store.path).rows(split="train"))
    assert same(weights(before), weights(after))
    losses = [system.history_["val_loss"][0] for system in (before, after)]
    assert losses[0] != losses[1]
    all_of_it = Autoencoder(**QUICK | {"validation_fraction": 0.0}).fit(train)
    assert "val_loss" not in all_of_it.history_
    assert not same(weights(before), weights(all_of_it))


def test_same_network_and_scores_in_2022(store: FeatureStore) -> None:
    train, test = (store.rows(split=split, machine="fan") for split in ("train", "test"))
    scores = Autoencoder(**QUICK).fit(train).score(test)
    assert np.array_equal(Autoencoder2022(**QUICK).fit(train).score(test), scores)


def test_a_loss_that_diverges(store: FeatureStore) -> None:
    params = QUICK | {"learning_rate": 1e30}
    with pytest.raises(RunError, match=r"training loss is (nan|inf) .*lower learning_rate"):
        Autoencoder(**params).fit(store.rows(split="train", machine="fan"))


@pytest.mark.parametrize("quantile", [0.5, 0.9, 0.99])
def test_gamma_threshold_recovers_a_known_quantile(quantile: float) -> None:
    known = stats.gamma(3.0, loc=5.0, scale=2.0)
    scores = known.rvs(4000, random_state=np.random.default_rng(0))
    assert gamma_threshold(scores, quantile) == pytest.approx(known.ppf(quantile), rel=0.03)
    if quantile == 0.9:
        assert gamma_threshold(scores) == gamma_threshold(scores, 0.9)


@pytest.mark.parametrize(
    ("scores", "quantile", "message"),
    [
        ([1.0, 2.0, 3.0], 1.0, "quantile 1.0 is not allowed"),
        ([2.0] * 10, 0.9, "1 different scores are too few"),
    ],
)
def test_scores_without_a_threshold(scores: list[float], quantile: float, message: str) -> None:
    with pytest.raises(RunError, match=message):
        gamma_threshold(np.array(scores), quantile)
