"""What every system promises, checked for each: parameters, rows, scores, saving and loading.

To check a system of your own, add it to `SYSTEMS`.
"""

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from baseline_stores import make_store, poison
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file, save_file

from asdlib.baselines import Autoencoder, Autoencoder2022, MobileNetV2, TimeStatistics
from asdlib.errors import AsdError, ConfigError, RunError, StoreError
from asdlib.features import FeatureStore, FrontEnd, Rows, write_store
from asdlib.method import Contrastive
from asdlib.system import System, choose_device

AE = {"epochs": 1, "batch_size": 64, "hidden": 8, "bottleneck": 2, "device": "cpu"}
CNN = {"epochs": 1, "batch_size": 8, "n_frames": 32, "alpha": 0.1, "device": "cpu"}
CNN |= {"learning_rate": 0.01, "batch_norm_momentum": 0.2}
CONTRASTIVE = {"epochs": 1, "crop_frames": 8, "batch_size": 8, "backend": "knn"}
SYSTEMS: dict[str, tuple[type[System[Any]], dict[str, Any]]] = {
    "statistics": (TimeStatistics, {"covariance": "pooled"}),
    "autoencoder": (Autoencoder, AE),
    "autoencoder2022": (Autoencoder2022, AE),
    "mobilenetv2": (MobileNetV2, CNN),
    "contrastive": (Contrastive, CONTRASTIVE),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    folder = tmp_path_factory.mktemp("systems")
    return make_store(folder / "store", n_frames=48, n_mels=32, ragged=True, n_train=5, n_test=3)


@pytest.fixture(scope="module", params=SYSTEMS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def build(name: str, seed: int = 3) -> System[Any]:
    system, params = SYSTEMS[name]
    return system(seed=seed, **params)


@pytest.fixture(scope="module")
def fitted(name: str, store: FeatureStore) -> System[Any]:
    return build(name).fit(store.rows(split="train"))


@pytest.fixture(scope="module")
def scores(fitted: System[Any], store: FeatureStore) -> np.ndarray:
    return fitted.score(store.rows(split="test"))


@pytest.fixture(scope="module")
def saved(fitted: System[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(fitted.name) / "model"
    fitted.save(folder)
    return folder


def test_constructed_with_keywords(name: str) -> None:
    system, params = SYSTEMS[name]
    made = build(name)
    assert (made.name, made.seed, made.params) == (name, 3, system.Params(**params))
    assert system().params == system.Params()


def test_scores_are_one_finite_number_per_clip_in_the_order_of_the_rows(
    fitted: System[Any], scores: np.ndarray, store: FeatureStore
) -> None:
    test = store.rows(split="test")
    assert (scores.shape, scores.dtype) == ((12,), np.float64)
    assert np.isfinite(scores).all()
    assert len(np.unique(scores)) == 12
    turned = np.random.default_rng(0).permutation(12)
    np.testing.assert_allclose(fitted.score(test.select(turned)), scores[turned], rtol=1e-4)
    alone = [fitted.score(test.select([i]))[0] for i in range(3)]
    np.testing.assert_allclose(alone, scores[:3], rtol=1e-4)


def test_the_seed_decides_and_global_random_numbers_do_not(
    name: str, scores: np.ndarray, store: FeatureStore
) -> None:
    torch.manual_seed(1)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    train, test = store.rows(split="train"), store.rows(split="test")
    assert np.array_equal(build(name).fit(train).score(test), scores)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    other = build(name, seed=4).fit(train).score(test)
    assert np.array_equal(other, scores) == (name == "statistics")


def test_what_is_saved_comes_back_exactly(
    fitted: System[Any], scores: np.ndarray, saved: Path, store: FeatureStore, tmp_path: Path
) -> None:
    again = type(fitted).load(saved)
    assert (again.params, again.seed, again.sections_) == (
        fitted.params,
        3,
        ("fan/00", "fan/02", "pump/00", "pump/02"),
    )
    assert again.history_ is None
    assert np.array_equal(again.score(store.rows(split="test")), scores)
    again.save(tmp_path / "new" / "model")
    files = ["model.json", "model.safetensors"]
    assert sorted(path.name for path in saved.iterdir()) == files
    for file in files:
        assert (tmp_path / "new" / "model" / file).read_bytes() == (saved / file).read_bytes()
    facts = json.loads((saved / "model.json").read_text())
    assert (facts["system"], facts["seed"]) == (fitted.name, 3)
    assert facts["front_end"]["n_mels"] == 32


@pytest.mark.parametrize("trained", ["autoencoder", "mobilenetv2"])
def test_a_stopped_training_ends_like_one_that_was_not(
    trained: str, store: FeatureStore, tmp_path: Path
) -> None:
    system, params = SYSTEMS[trained]
    params = params | {"epochs": 3}
    rows = store.rows(split="train")
    calls: list[tuple[str, int, int]] = []
    whole = system(**params).fit(rows, progress=lambda *call: calls.append(call))
    steps = [call for call in calls if call[0] == calls[0][0]]
    assert steps == [(steps[0][0], i, steps[-1][2]) for i in range(1, steps[-1][2] + 1)]
    per_epoch = len(steps) // 3

    def stop(what: str, done: int, total: int) -> None:
        if done == 2 * per_epoch + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        system(**params).fit(rows, workdir=tmp_path / "work", progress=stop)
    calls.clear()
    resumed = system(**params).fit(
        rows, workdir=tmp_path / "work", progress=lambda *call: calls.append(call)
    )
    assert calls[0][1] == 2 * per_epoch + 1, "finished epochs are kept"
    pd.testing.assert_frame_equal(resumed.history_, whole.history_)
    test = store.rows(split="test")
    assert np.array_equal(resumed.score(test), whole.score(test))


def empty(store: FeatureStore) -> Rows:
    return store.rows(np.arange(0))


BAD_TRAINING: dict[str, tuple[Callable[[FeatureStore], Rows], str]] = {
    "none": (empty, "no training clips selected"),
    "anomalous": (lambda store: store.rows(), r"anomaly_id_00_00000005.wav' .* labelled 'anomaly'"),
    "not finite": (
        lambda store: poison(store, 2, np.inf).rows(split="train"),
        r"normal_id_00_00000002.wav' holds NaN or infinite values",
    ),
}


def test_rows_that_cannot_be_trained_on(name: str, store: FeatureStore, tmp_path: Path) -> None:
    shutil.copytree(store.path, tmp_path / "store")
    for rows, message in BAD_TRAINING.values():
        system = build(name)
        with pytest.raises((RunError, StoreError), match=message):
            system.fit(rows(FeatureStore.open(tmp_path / "store")))
        with pytest.raises(RunError, match=f"'{name}' is not fitted"):
            system.score(store.rows(split="test"))


def test_too_little_to_learn_from(store: FeatureStore) -> None:
    for few, message in [
        ("statistics", "section 'fan/00' has too few training clips: 1; .* needs at least 2"),
        ("mobilenetv2", "machine 'fan' has the one section '00', expected at least 2"),
        ("contrastive", "too few training clips: 1; the contrastive system needs at least 2"),
    ]:
        with pytest.raises(RunError, match=message):
            build(few).fit(store.rows([0]))


def test_rows_that_cannot_be_scored(
    name: str, fitted: System[Any], store: FeatureStore, tmp_path: Path
) -> None:
    with pytest.raises(RunError, match="no clips .* to score"):
        fitted.score(empty(store))
    other = make_store(tmp_path / "other", n_frames=48, n_mels=16)
    with pytest.raises(StoreError, match="different front ends: n_mels 16 and 32; build both"):
        fitted.score(other.rows(split="test"))
    shutil.copytree(store.path, tmp_path / "store")
    broken = poison(FeatureStore.open(tmp_path / "store"), 1)
    with pytest.raises(StoreError, match=r"normal_id_00_00000001.wav' holds NaN or infinite"):
        fitted.score(broken.rows(split="train"))
    new = make_store(tmp_path / "new", n_frames=48, n_mels=32, machines=("fan", "valve"))
    with pytest.raises(RunError, match=r"'valve/00' has no training rows \(known: fan/00, fan"):
        fitted.score(new.rows(split="test"))
    new = make_store(tmp_path / "sections", n_frames=48, n_mels=32, sections=("02", "04"))
    with pytest.raises(RunError, match="section 'fan/04' has no training rows"):
        fitted.score(new.rows(split="test"))


def test_a_score_that_is_not_finite_is_refused(
    fitted: System[Any], store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitted, "_score", lambda rows: np.array([0.0, np.nan]))
    with pytest.raises(RunError, match=r"score of clip 'normal_id_00_00000001.wav' is nan"):
        fitted.score(store.rows([0, 1]))


WRONG: dict[str, list[tuple[dict[str, Any], str]]] = {
    "statistics": [
        ({"quantiles": (0.5, 1.5)}, "statistics: quantiles.1=1.5 is refused: .* less than"),
        ({"statistic": "mean"}, r"'statistic' of statistics \(did you mean 'statistics'"),
        ({"self": 1}, r"unknown parameter 'self' of statistics \(known: batch_size, "),
    ],
    "autoencoder": [
        ({"epoch": 3}, "did you mean 'epochs'"),
        ({"batch_size": 1}, "batch_size=1 is refused"),
        ({"device": "tpu"}, "device='tpu' is refused"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0 is refused"),
    ],
    "autoencoder2022": [({"epochs": 0}, "autoencoder2022: epochs=0 is refused")],
    "mobilenetv2": [({"n_frames": 31}, "n_frames=31 is refused")],
    "contrastive": [
        ({"augmentation": {"mixing_up": 1}}, r"'augmentation.mixing_up' .*did you mean 'mixing'"),
        ({"contrast_weight": 0, "classifier": "none"}, "leaves no loss; set classifier"),
        ({"crop_frames": 4}, "greater than or equal to 8"),
        ({"classifier": "softmax"}, "'none' or 'arcface'"),
        ({"arcface_margin": 1.6}, "less than 1.57"),
        ({"encoder": "ast"}, r"needs weights; set pretrained\.source"),
        ({"pretrained": {"source": "x", "mode": "lora"}}, "no layers for adapters"),
    ],
}


def test_wrong_parameters_are_refused(name: str) -> None:
    for wrong, message in WRONG[name]:
        with pytest.raises(ConfigError, match=message) as told:
            SYSTEMS[name][0](**wrong)
        assert "\n" not in str(told.value)


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_tensors(folder: Path, make: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Change tensors of a folder without a digest, as version 0.1 wrote it."""
    facts = json.loads((folder / "model.json").read_text())
    del facts["sha256"]
    (folder / "model.json").write_text(json.dumps(facts))
    save_file(make(load_file(folder / "model.safetensors")), folder / "model.safetensors")


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:300])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, r"model.json' cannot be read \(No such file"),
    "no model.json": (lambda at: (at / "model.json").unlink(), "model.json' .*No such file"),
    "no numbers": (lambda at: (at / "model.safetensors").unlink(), "model.safetensors' .*No such"),
    "cut facts": (
        lambda at: (at / "model.json").write_text('{"system": "con'),
        "Invalid JSON: EOF",
    ),
    "no text": (lambda at: (at / "model.json").write_bytes(b"\xff\xfe\x00"), "Invalid JSON"),
    "a list": (lambda at: (at / "model.json").write_text("[1, 2]"), "should be an object"),
    "an empty object": (
        lambda at: (at / "model.json").write_text("{}"),
        "system: Field required",
    ),
    "another system": (
        lambda at: change(at / "model.json", system="diffusion"),
        "holds system 'diffusion' of format 1, expected .* load it with its own class",
    ),
    "another format": (lambda at: change(at / "model.json", format=2), "of format 2, expected"),
    "unknown parameter": (lambda at: change(at / "model.json", params={"foo": 1}), "'foo'"),
    "no sections": (
        lambda at: change(at / "model.json", sections=None),
        "sections: Input should be",
    ),
    "other numbers": (lambda at: change(at / "model.json", sha256="0" * 64), "does not belong"),
    "a flipped bit": (lambda at: flip(at / "model.safetensors", -5), "does not belong"),
    "no section": (lambda at: change(at / "model.json", sections=["fan"]), "match pattern"),
    "other sections": (
        lambda at: change(at / "model.json", sections=["fan/00", "fan/77"]),
        "train again",
    ),
    "a deep list": (
        lambda at: (at / "model.json").write_text("[" * 5000 + "]" * 5000),
        "recursion limit|Invalid JSON",
    ),
    "cut numbers": (lambda at: cut(at / "model.safetensors"), "does not belong"),
    "a tensor less": (
        lambda at: change_tensors(at, lambda tensors: dict(list(tensors.items())[:-1])),
        "train again",
    ),
    "other sizes": (
        lambda at: change_tensors(
            at, lambda tensors: {k: torch.zeros((3, *v.shape)) for k, v in tensors.items()}
        ),
        "train again",
    ),
}


def test_a_damaged_model_is_refused_in_one_line(name: str, saved: Path, tmp_path: Path) -> None:
    for number, (make, reason) in enumerate(DAMAGES.values()):
        folder = tmp_path / str(number)
        shutil.copytree(saved, folder)
        make(folder)
        with pytest.raises(RunError, match=reason) as told:
            SYSTEMS[name][0].load(folder)
        message = str(told.value)
        assert message.startswith(f"'{folder}")
        assert "\n" not in message
        assert message.endswith(("output folder", "its own class", "check it and its permissions"))


def test_weights_of_another_seed_are_noticed(
    name: str, fitted: System[Any], saved: Path, store: FeatureStore, tmp_path: Path
) -> None:
    build(name, seed=4).fit(store.rows(split="train", machine="fan")).save(tmp_path / "other")
    shutil.copytree(saved, tmp_path / "model")
    shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "model")
    with pytest.raises(RunError, match=r"model\.safetensors does not belong to model\.json"):
        type(fitted).load(tmp_path / "model")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(data=st.data())
@settings(max_examples=25)
def test_any_model_is_loaded_or_refused_in_one_line(
    name: str, saved: Path, store: FeatureStore, data: st.DataObject
) -> None:
    """Facts of any kind in the place of others, or any bit flipped."""
    with tempfile.TemporaryDirectory() as folder:
        at = Path(shutil.copytree(saved, Path(folder) / "model"))
        facts = json.loads((at / "model.json").read_text())
        if data.draw(st.booleans()):
            del facts["sha256"]
            position = data.draw(st.integers(0, 2000))
            flip(at / "model.safetensors", position)
        else:
            inner = data.draw(st.sampled_from([facts, facts["params"], facts["front_end"]]))
            inner[data.draw(st.sampled_from(sorted(inner)))] = data.draw(JSON)
        (at / "model.json").write_text(json.dumps(facts))
        message = ""
        try:
            SYSTEMS[name][0].load(at).score(store.rows(split="test"))
        except AsdError as error:
            message = str(error)
        assert "\n" not in message


HUGE = [10**18, 10**30]
COUNTS = {
    "statistics": ["batch_size"],
    "autoencoder": ["epochs", "batch_size", "n_frames", "hidden", "bottleneck", "score_batch_size"],
    "autoencoder2022": ["epochs"],
    "mobilenetv2": ["epochs", "batch_size", "train_hop_frames", "test_hop_frames", "alpha"],
    "contrastive": ["epochs", "batch_size", "projection_size", "score_batch_size"],
}


def test_no_parameter_is_without_bounds(name: str) -> None:
    system = SYSTEMS[name][0]
    for key in COUNTS[name]:
        for value in (-1, *HUGE):
            with pytest.raises(ConfigError, match=f"{name}: {key}={value} is refused: "):
                system(**{key: value})
    for seed in (-1, 2**63, 10**30):
        with pytest.raises(ConfigError, match=f"seed={seed} is refused: expected 0 to "):
            system(seed=seed)
    assert system(seed=2**63 - 1).seed == 2**63 - 1


def test_values_of_any_length_and_depth_are_refused_in_a_short_line() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    for wrong in ({"crop_frames": deep}, {"backend": "x" * 5000}, {"y" * 5000: 1}, {"loss": deep}):
        with pytest.raises(ConfigError) as told:
            Contrastive(**wrong)
        assert len(str(told.value)) < 800
    for wrong in ({"bank_size": 10**18}, {"time_canvas": 1e30}):
        with pytest.raises(ConfigError, match="is refused"):
            Contrastive(augmentation=wrong)


def test_a_silent_machine_is_refused(name: str, store: FeatureStore, tmp_path: Path) -> None:
    features = store.features.astype(np.float32)
    features[(store.manifest["machine"] == "pump").to_numpy()] = -100.0
    front_end = FrontEnd.model_validate(
        {k: v for k, v in store.front_end.items() if k in FrontEnd.model_fields}
    )
    silent = write_store(tmp_path / "silent", store.manifest, features, front_end)
    with pytest.raises(RunError, match="machine 'pump' all|section 'pump/00' are all alike"):
        build(name).fit(silent.rows(split="train"))


def test_a_failed_write_leaves_no_model(
    fitted: System[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(RunError, match="disk of .* is full"):
        fitted.save(tmp_path / "model")
    assert not list((tmp_path / "model").iterdir())


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device() == Autoencoder().device == Contrastive().device == torch.device("cpu")
    with pytest.raises(RunError, match="device 'cuda:1' is not available"):
        _ = Autoencoder(device="cuda:1").device
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device() == torch.device("cuda")
