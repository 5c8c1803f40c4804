from pathlib import Path

import numpy as np
import pytest
import torch
from baseline_stores import make_store, poison
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score
from torch import nn

from asdlib.baselines import Autoencoder, Autoencoder2022, AutoencoderParams, gamma_threshold
from asdlib.baselines.autoencoder import AutoencoderNetwork
from asdlib.errors import RunError
from asdlib.features import FeatureStore

QUICK = dict(  # noqa: C408
    epochs=3, batch_size=32, hidden=16, bottleneck=4, device="cpu"
)


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
    params = AutoencoderParams()
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
            given_back = system.networks_[store.manifest["machine"][row]](torch.from_numpy(vectors))
        expected = np.mean((vectors - given_back.numpy()) ** 2)
        assert scores[position] == pytest.approx(expected, rel=1e-5)


def test_learns_and_finds_anomalies(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", machines=("fan",))
    params = QUICK | {"epochs": 60, "learning_rate": 1e-2}
    system = Autoencoder(**params).fit(store.rows(split="train"))
    losses = list(system.history_["loss"])
    assert len(losses) == 60
    assert losses[-1] < 0.1 * losses[0]
    test = store.rows(split="test")
    assert roc_auc_score(test.manifest["label"] == "anomaly", system.score(test)) > 0.9


def test_seed_decides_and_the_global_generator_does_not(store: FeatureStore) -> None:
    train = store.rows(split="train")
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(Autoencoder(**QUICK).fit(train))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, weights(Autoencoder(**QUICK).fit(train)))
    assert not same(first, weights(Autoencoder(**QUICK, seed=1).fit(train)))


def test_a_machine_does_not_depend_on_the_others(store: FeatureStore) -> None:
    both = weights(Autoencoder(**QUICK).fit(store.rows(split="train")))
    alone = weights(Autoencoder(**QUICK).fit(store.rows(split="train", machine="pump")))
    assert same({k: v for k, v in both.items() if k.startswith("pump/")}, alone)
    assert not torch.equal(both["fan/0.weight"], both["pump/0.weight"])


def test_the_order_of_the_rows_does_not_matter(store: FeatureStore) -> None:
    train = store.rows(split="train", machine="fan")
    shuffled = train.select(np.random.default_rng(0).permutation(len(train)))
    assert same(
        weights(Autoencoder(**QUICK).fit(train)), weights(Autoencoder(**QUICK).fit(shuffled))
    )


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


@pytest.mark.parametrize("system", [Autoencoder, Autoencoder2022])
def test_round_trip_is_exact(
    store: FeatureStore, tmp_path: Path, system: type[Autoencoder]
) -> None:
    fitted = system(**QUICK, seed=5).fit(store.rows(split="train"))
    test = store.rows(split="test")
    scores = fitted.score(test)
    fitted.save(tmp_path / "model")
    again = system.load(tmp_path / "model")
    assert np.array_equal(again.score(test), scores)
    assert (again.params, again.seed, again.sections_) == (fitted.params, 5, fitted.sections_)
    names = {path.name for path in (tmp_path / "model").iterdir()}
    assert names == {"model.json", "model.safetensors"}


def test_threshold_of_2022(store: FeatureStore, tmp_path: Path) -> None:
    train = store.rows(split="train")
    system = Autoencoder2022(**QUICK).fit(train)
    of_fan = (train.manifest["machine"] == "fan").to_numpy()
    expected = gamma_threshold(system.score(train)[of_fan], 0.9)
    assert system.thresholds() == {
        "fan": pytest.approx(expected),
        "pump": pytest.approx(gamma_threshold(system.score(train)[~of_fan], 0.9)),
    }
    system.save(tmp_path / "model")
    assert Autoencoder2022.load(tmp_path / "model").thresholds() == system.thresholds()
    assert system.thresholds(0.5)["fan"] < system.thresholds(0.9)["fan"]
    with pytest.raises(RunError, match="'autoencoder' keeps no scores"):
        Autoencoder(**QUICK).fit(train).thresholds()


def test_same_network_and_scores_in_2022(store: FeatureStore) -> None:
    train, test = store.rows(split="train"), store.rows(split="test")
    scores = Autoencoder(**QUICK).fit(train).score(test)
    assert np.array_equal(Autoencoder2022(**QUICK).fit(train).score(test), scores)


def test_unknown_section_and_machine(store: FeatureStore) -> None:
    system = Autoencoder(**QUICK).fit(store.rows(split="train", machine="fan", section="02"))
    with pytest.raises(RunError, match=r"section '00' is not .* \(known: 02\)"):
        system.score(store.rows(machine="fan"))
    with pytest.raises(RunError, match=r"machine 'pump' has no training rows"):
        system.score(store.rows(machine="pump"))


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_values_that_are_not_finite(store: FeatureStore, value: float) -> None:
    system = Autoencoder(**QUICK).fit(store.rows(split="train"))
    broken = poison(store, 1, value).rows(split="train")
    with pytest.raises(RunError, match=r"normal_id_00_00000001.wav' holds NaN or infinite"):
        Autoencoder(**QUICK).fit(broken)
    with pytest.raises(RunError, match=r"normal_id_00_00000001.wav' holds NaN or infinite"):
        system.score(broken)


def test_too_short_and_another_front_end(store: FeatureStore, tmp_path: Path) -> None:
    system = Autoencoder(**QUICK).fit(store.rows(split="train"))
    short = make_store(tmp_path / "short", n_frames=4)
    for act in (system.score, Autoencoder(**QUICK).fit):
        with pytest.raises(RunError, match="has 4 frames, expected at least 5"):
            act(short.rows(split="train"))
    wide = make_store(tmp_path / "wide", n_mels=16)
    with pytest.raises(RunError, match="n_mels 8 in training and 16 here"):
        system.score(wide.rows(split="test"))


def test_a_loss_that_diverges(store: FeatureStore) -> None:
    params = QUICK | {"learning_rate": 1e30}
    with pytest.raises(RunError, match=r"training loss is (nan|inf) .*lower learning_rate"):
        Autoencoder(**params).fit(store.rows(split="train"))


@pytest.mark.parametrize(
    "wrong", [{"epoch": 3}, {"batch_size": 1}, {"device": "tpu"}, {"validation_fraction": 1.0}]
)
def test_wrong_parameters(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AutoencoderParams.model_validate(wrong)
