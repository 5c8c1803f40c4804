"""Pre-training without labels, and contrastive trainings that start from pre-trained weights."""

import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contrastive_rows import FRONT_END, QUICK, make_store, quick_system
from hypothesis import given, settings, strategies as st
from safetensors.torch import load_file, save_file

from asdlib.errors import AsdError, ConfigError, RunError, StoreError
from asdlib.features import PRESETS, FeatureStore, FrontEnd, write_store
from asdlib.method import Contrastive
from asdlib.method.pretrained import check_front_end, make_encoder
from asdlib.method.pretraining import Pretrained, pretrain
from asdlib.method.weights import PretrainedParams

PARAMS = QUICK | {"loss": "nt_xent"}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    return make_store(tmp_path_factory.mktemp("pretraining") / "store")


@pytest.fixture(scope="module")
def made(store: FeatureStore, tmp_path_factory: pytest.TempPathFactory) -> Pretrained:
    return pretrain(store.path, tmp_path_factory.mktemp("pretrained") / "encoder", **PARAMS, seed=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ASTConfig, ASTModel

    settings = ASTConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_length=32,
    )
    folder = tmp_path_factory.mktemp("checkpoints") / "ast"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        ASTModel(settings).save_pretrained(folder)
    return folder


def ast_store(path: Path, front_end: FrontEnd = PRESETS["ast"]) -> FeatureStore:
    """The small store's clips with as many mel bins as a public model takes."""
    plain = make_store(path.with_name("plain"), n_train=3, n_test=2, frames=(32,))
    features = np.repeat(plain.features.astype(np.float32), 8, axis=1)
    return write_store(path, plain.manifest, features, front_end)


def test_it_writes_weights_and_says_where_they_come_from(
    store: FeatureStore, made: Pretrained
) -> None:
    assert not made.cached
    names = {path.name for path in made.path.iterdir()}
    assert names == {"encoder.safetensors", "encoder.json", "training.csv"}
    told = json.loads((made.path / "encoder.json").read_text())
    assert told["encoder"] == "small_cnn"
    assert told["front_end"] == store.front_end
    assert told["request"]["seed"] == 1
    assert told["request"]["store_fingerprint"] == store.fingerprint
    assert told["clips"] == 28, "no clip of the test split"
    assert told["loss"]["steps"] == 8
    assert list(made.path.parent.iterdir()) == [made.path], "nothing else is left"


def test_the_loss_falls(store: FeatureStore, tmp_path: Path) -> None:
    loss = pretrain(store.path, tmp_path / "encoder", **PARAMS | {"epochs": 12}).description["loss"]
    assert loss["last"] < loss["first"]


def test_a_seed_decides_the_weights(store: FeatureStore, made: Pretrained, tmp_path: Path) -> None:
    again = pretrain(store.path, tmp_path / "again", **PARAMS, seed=1)
    other = pretrain(store.path, tmp_path / "other", **PARAMS, seed=2)
    first, same, third = (
        load_file(which.path / "encoder.safetensors") for which in (made, again, other)
    )
    assert all(torch.equal(tensor, same[name]) for name, tensor in first.items())
    assert not torch.equal(first["last.weight"], third["last.weight"])


def test_an_interrupted_one_goes_on(store: FeatureStore, made: Pretrained, tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    steps: list[int] = []
    with pytest.raises(KeyboardInterrupt):
        pretrain(store.path, tmp_path / "encoder", **PARAMS, seed=1, progress=stop)
    assert not (tmp_path / "encoder").exists()
    resumed = pretrain(
        store.path,
        tmp_path / "encoder",
        **PARAMS,
        seed=1,
        progress=lambda *told: steps.append(told[1]),
    )
    assert steps == [5, 6, 7, 8], "the finished epoch is kept"
    for name, tensor in load_file(made.path / "encoder.safetensors").items():
        assert torch.equal(tensor, load_file(resumed.path / "encoder.safetensors")[name])


def test_what_another_request_left_behind_is_not_gone_on_with(
    store: FeatureStore, tmp_path: Path
) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if done == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(store.path, tmp_path / "encoder", **PARAMS, seed=1, progress=stop)
    steps: list[int] = []
    pretrain(
        store.path,
        tmp_path / "encoder",
        **PARAMS,
        seed=2,
        progress=lambda *told: steps.append(told[1]),
    )
    assert steps == list(range(1, 9))


def test_the_same_request_is_not_done_twice_and_another_is_refused(
    store: FeatureStore, made: Pretrained
) -> None:
    again = pretrain(
        store.path, made.path, **PARAMS, seed=1, progress=lambda *_: pytest.fail("trained again")
    )
    assert again.cached
    assert again.description == made.description
    with pytest.raises(RunError, match="another store, other parameters or another seed"):
        pretrain(store.path, made.path, **PARAMS, seed=2)
    with pytest.raises(RunError, match="holds no pre-trained encoder"):
        pretrain(store.path, made.path.parent, **PARAMS)


REFUSED = [
    ({"loss": "supervised_contrastive"}, "input should be 'nt_xent'"),
    ({"classifier": "arcface"}, "input should be 'none'"),
    ({"epochs": 0}, "epochs=0 is refused"),
    ({"pretrained": "x"}, "pretrained=.* is refused: input should be None"),
    ({"encoder": "ast"}, "encoder ast needs weights"),
    ({"epoch": 1}, "unknown parameter 'epoch' of pretrain .did you mean 'epochs'"),
    ({"crop_frames": 21}, "they need crop_frames=21 frames or more"),
]


def test_what_cannot_be_pre_trained_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    for changes, message in REFUSED:
        with pytest.raises(AsdError, match=message):
            pretrain(store.path, tmp_path / "encoder", **PARAMS | changes)


def test_clips_shorter_than_a_crop_are_left_out(store: FeatureStore, tmp_path: Path) -> None:
    left = pretrain(store.path, tmp_path / "encoder", **PARAMS | {"crop_frames": 20}).description
    assert left["clips"] + left["clips_left_out"] == 28
    assert left["clips_left_out"] > 0


def fitted(store: FeatureStore, **changes: Any) -> Contrastive:
    return quick_system(**changes).fit(store.rows(split="train"))


def test_a_training_starts_from_the_weights(store: FeatureStore, made: Pretrained) -> None:
    weights = load_file(made.path / "encoder.safetensors")
    as_they_are = {"batch_norm": "training", "epochs": 0, "pretrained": str(made.path)}
    kept = fitted(store, **as_they_are).network_.encoder.state_dict()
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights.items())
    tuned = fitted(store, pretrained=str(made.path)).network_.encoder.state_dict()
    assert not torch.equal(tuned["last.weight"], weights["last.weight"])
    frozen = {"source": str(made.path), "mode": "frozen"}
    left = fitted(store, pretrained=frozen).network_.encoder.state_dict()
    assert all(torch.equal(left[name], tensor) for name, tensor in weights.items())


@pytest.mark.parametrize("mode", ["finetune", "frozen"])
def test_the_trained_system_needs_its_source_no_more(
    store: FeatureStore, tmp_path: Path, mode: str
) -> None:
    source = pretrain(store.path, tmp_path / "encoder", **PARAMS).path
    system = fitted(store, pretrained={"source": str(source), "mode": mode})
    expected = system.score(store.rows(split="test"))
    system.save(tmp_path / "model")
    for file in source.iterdir():
        file.unlink()
    again = Contrastive.load(tmp_path / "model")
    assert again.params == system.params
    assert np.array_equal(again.score(store.rows(split="test")), expected)
    if mode == "frozen":  # version 0.2 wrapped the encoder once more
        file, about = (tmp_path / "model" / f"model.{end}" for end in ("safetensors", "json"))
        old = {k.replace("encoder.", "encoder.encoder.", 1): v for k, v in load_file(file).items()}
        save_file(old, file)
        about.write_text(json.dumps(json.loads(about.read_text()) | {"sha256": None}))
        again = Contrastive.load(tmp_path / "model")
        assert np.array_equal(again.score(store.rows(split="test")), expected)


def test_a_run_is_known_by_the_weights(
    store: FeatureStore, made: Pretrained, tmp_path: Path
) -> None:
    params = quick_system(pretrained=str(made.path)).params.pretrained
    assert params is not None
    other = pretrain(store.path, tmp_path / "encoder", **PARAMS, seed=2).path
    theirs = quick_system(pretrained=str(other)).params.pretrained
    assert theirs is not None
    assert None is not params.sha256 != theirs.sha256
    stale = quick_system(pretrained={"source": str(other), "sha256": params.sha256})
    with pytest.raises(RunError, match="have SHA-256"):
        stale.fit(store.rows(split="train"))


def test_weights_of_another_front_end_or_encoder_are_refused(
    store: FeatureStore, made: Pretrained, tmp_path: Path
) -> None:
    manifest = store.manifest
    others = {
        "hop_length 64 and 128": FRONT_END.model_copy(update={"hop_length": 64}),
        "mel_scale 'htk' and 'slaney'": FRONT_END.model_copy(update={"mel_scale": "htk"}),
    }
    for i, (said, front_end) in enumerate(others.items()):
        other = write_store(tmp_path / str(i), manifest, store.features, front_end)
        with pytest.raises(StoreError, match=said):
            fitted(other, pretrained=str(made.path))
    with pytest.raises(
        ConfigError, match="holds the encoder small_cnn, asked for is mobilefacenet"
    ):
        fitted(store, encoder="mobilefacenet", pretrained=str(made.path))
    with pytest.raises(RunError, match=r"no readable encoder\.json|no \*\.safetensors"):
        fitted(store, pretrained=str(tmp_path))


@given(data=st.data())
@settings(max_examples=25)
def test_any_folder_of_weights_is_used_or_refused_in_one_line(
    store: FeatureStore, made: Pretrained, checkpoint: Path, data: st.DataObject
) -> None:
    public = data.draw(st.booleans())
    source = checkpoint if public else made.path
    file = "config.json" if public else "encoder.json"
    weights = "model.safetensors" if public else "encoder.safetensors"
    with tempfile.TemporaryDirectory() as folder:
        at = Path(shutil.copytree(source, Path(folder) / "weights"))
        if data.draw(st.booleans()):
            content = bytearray((at / weights).read_bytes())
            content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
            (at / weights).write_bytes(content)
        else:
            facts = json.loads((at / file).read_text())
            facts[data.draw(st.sampled_from(sorted(facts)))] = data.draw(
                st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just([1])
            )
            (at / file).write_text(json.dumps(facts))
        params = PretrainedParams(source=str(at))
        message = ""
        try:
            check_front_end("ast" if public else "small_cnn", params, store)
        except AsdError as error:
            message = str(error)
        try:
            make_encoder("ast" if public else "small_cnn", 128 if public else 16, params)
        except AsdError as error:
            message += str(error)
        assert "\n" not in message


@pytest.mark.parametrize("mode", ["frozen", "lora"])
def test_a_public_model_is_a_system_of_its_own(checkpoint: Path, tmp_path: Path, mode: str) -> None:
    store = ast_store(tmp_path / "store")
    given = {"source": str(checkpoint), "mode": mode}
    system = fitted(store, encoder="ast", pretrained=given, crop_frames=24, epochs=1)
    scores = system.score(store.rows(split="test"))
    assert np.isfinite(scores).all()
    system.save(tmp_path / "model")
    moved = checkpoint.rename(checkpoint.with_name("moved"))
    try:
        again = Contrastive.load(tmp_path / "model")
        assert np.array_equal(again.score(store.rows(split="test")), scores)
    finally:
        moved.rename(checkpoint)


def test_a_public_model_refuses_another_front_end(checkpoint: Path, tmp_path: Path) -> None:
    store = ast_store(tmp_path / "store", PRESETS["dcase2020"])
    with pytest.raises(StoreError, match=r"n_fft 1024 and 512.*--preset ast"):
        fitted(store, encoder="ast", pretrained=str(checkpoint))
