"""Encoders from checkpoints: tiny random ones, in the format that public ones have."""

import inspect
import json
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from asdlib.errors import ConfigError, RunError, StoreError
from asdlib.features import PRESETS, FeatureStore, FrontEnd, write_store
from asdlib.method import pretrained, weights
from asdlib.method.encoders import SmallCNN
from asdlib.method.pretrained import (
    Frozen,
    PretrainedParams,
    check_front_end,
    describe_encoder,
    make_encoder,
    resolve,
)
from asdlib.method.weights import weights_folder, weights_sha256

MAX_FRAMES = 64


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import ASTConfig, ASTForAudioClassification

    settings = ASTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=48,
        max_length=MAX_FRAMES,
        num_labels=5,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = ASTForAudioClassification(settings).eval()
        for parameter in made.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return made


@pytest.fixture(scope="module")
def checkpoint(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints") / "ast"
    model.save_pretrained(folder)
    return folder


def ast(folder: Path, **changes: Any) -> Any:
    return make_encoder("ast", 128, PretrainedParams(source=str(folder), **changes)).eval()


def spectrograms(n_frames: int = MAX_FRAMES, n_clips: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n_frames)
    return torch.randn(n_clips, 128, n_frames, generator=generator)


def test_the_checkpoint_has_the_names_of_public_ones(checkpoint: Path) -> None:
    names = load_file(checkpoint / "model.safetensors")
    layer = "audio_spectrogram_transformer.encoder.layer.0"
    assert f"{layer}.attention.attention.query.weight" in names


def test_it_computes_what_the_model_computes(model: Any, checkpoint: Path) -> None:
    x = spectrograms()
    with torch.inference_mode():
        # The library's normalisation leaves half the deviation that ours leaves.
        expected = model.audio_spectrogram_transformer(0.5 * x.transpose(1, 2))
        tokens = ast(checkpoint, pooling="tokens")
        assert torch.equal(tokens(x), expected.pooler_output)
        patches = ast(checkpoint)
        mean = expected.last_hidden_state[:, 2:].mean(dim=1)
        torch.testing.assert_close(patches(x), mean, rtol=0, atol=1e-5)


@pytest.mark.parametrize("pooling", ["patches", "tokens"])
def test_it_has_the_shapes_of_an_encoder(checkpoint: Path, pooling: str) -> None:
    encoder = ast(checkpoint, pooling=pooling)
    for n_frames, n_time in ((16, 1), (40, 3), (MAX_FRAMES, 5), (120, 11)):
        x = spectrograms(n_frames)
        with torch.inference_mode():
            feature_map, time_mean = encoder.feature_map(x), encoder.time_mean(x)
            assert feature_map.shape == (3, 32, 12, n_time)
            assert time_mean.shape == (3, encoder.time_mean_size)
            rows = time_mean.reshape(3, 32, -1)
            torch.testing.assert_close(rows[:, :, :12], feature_map.mean(dim=3))
            assert encoder.embed(time_mean).shape == (3, encoder.embedding_size)
            assert torch.equal(encoder(x), encoder.embed(time_mean))


def test_the_frequency_axis_of_the_map_is_that_of_the_input(checkpoint: Path) -> None:
    encoder = ast(checkpoint)
    embeddings = encoder.body.embeddings.patch_embeddings
    x = torch.zeros(1, 128, MAX_FRAMES)
    x[:, 100:] = 1.0
    with torch.inference_mode():
        tokens = embeddings(x.transpose(1, 2)) - embeddings(0 * x.transpose(1, 2))
    grid = tokens.transpose(1, 2).reshape(1, 32, 12, 5).abs().amax(dim=(0, 1, 3))
    assert (grid > 0).nonzero().flatten().tolist() == [9, 10, 11]


def test_shorter_inputs_take_the_middle_positions_longer_ones_interpolate(checkpoint: Path) -> None:
    embeddings = ast(checkpoint).body.embeddings
    trained = embeddings.position_embeddings.detach()
    grid = trained[:, 2:].reshape(12, 5, 32)
    assert torch.equal(embeddings.positions(5), trained)
    short = embeddings.positions(3)
    assert torch.equal(short[:, :2], trained[:, :2])
    assert torch.equal(short[:, 2:].reshape(12, 3, 32), grid[:, 1:4])
    double = embeddings.positions(10)[:, 2:].reshape(12, 10, 32)
    torch.testing.assert_close(double[:, 0], grid[:, 0])
    torch.testing.assert_close(double[:, 1], 0.75 * grid[:, 0] + 0.25 * grid[:, 1])
    torch.testing.assert_close(double[:, 9], grid[:, 4])


def test_inputs_that_do_not_fit_are_refused(checkpoint: Path) -> None:
    encoder = ast(checkpoint)
    with pytest.raises(ConfigError, match="at least 16 frames"):
        encoder(spectrograms(15))
    with pytest.raises(ConfigError, match="128 mel bins"):
        encoder(torch.zeros(1, 64, 64))
    with pytest.raises(ConfigError, match="takes 128 mel bins, got 64"):
        make_encoder("ast", 64, PretrainedParams(source=str(checkpoint)))


def trained_names(encoder: torch.nn.Module) -> list[str]:
    """Names of the parameters that one step of training changes."""
    encoder.train()
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=0.1, weight_decay=0.5)
    head = torch.nn.Linear(32, 1)
    head(encoder(spectrograms())).sum().backward()
    optimiser.step()
    return [n for n, p in encoder.named_parameters() if not torch.equal(p, before[n])]


def test_frozen_has_no_gradient_and_stays_as_it_is(checkpoint: Path) -> None:
    encoder = ast(checkpoint, mode="frozen")
    assert isinstance(encoder, Frozen)
    assert trained_names(encoder) == []
    assert all(p.grad is None for p in encoder.parameters())


def test_lora_trains_the_adapters_and_nothing_else(checkpoint: Path) -> None:
    plain, encoder = ast(checkpoint), ast(checkpoint, mode="lora", lora_rank=3)
    x = spectrograms()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x), plain(x), msg="adapters begin as nothing")
    adapters = [name for name, _ in encoder.named_parameters() if "lora_" in name]
    assert len(adapters) == 2 * 2 * 2, "two matrices for query and value of both layers"
    assert {min(p.shape) for n, p in encoder.named_parameters() if "lora_" in n} == {3}
    changed = trained_names(encoder)
    assert changed
    assert set(changed) <= set(adapters)


def test_the_share_of_adapters_in_the_public_size() -> None:
    with torch.device("meta"):
        encoder = ast_of_public_size()
    trained = [p.numel() for p in encoder.parameters() if p.requires_grad]
    assert sum(trained) == 294_912
    assert sum(p.numel() for p in encoder.parameters()) - sum(trained) == 86_187_264


def ast_of_public_size() -> torch.nn.Module:
    from transformers import ASTConfig

    params = PretrainedParams(source="x", mode="lora")
    return make_encoder("ast", 128, params, {"config": ASTConfig().to_dict()})


def test_fine_tuning_trains_everything(checkpoint: Path) -> None:
    encoder = ast(checkpoint)
    assert len(trained_names(encoder)) > 30


@pytest.mark.parametrize("mode", ["frozen", "finetune", "lora"])
def test_it_is_built_again_without_its_source(checkpoint: Path, tmp_path: Path, mode: str) -> None:
    params = PretrainedParams(source=str(tmp_path / "copy"), mode=mode)
    shutil.copytree(checkpoint, tmp_path / "copy")
    encoder = make_encoder("ast", 128, params)
    trained_names(encoder)
    save_file(encoder.state_dict(), tmp_path / "weights.safetensors")
    description = json.loads(json.dumps(describe_encoder(encoder)))
    shutil.rmtree(tmp_path / "copy")
    again = make_encoder("ast", 128, params, description)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    x = spectrograms()
    with torch.inference_mode():
        assert torch.equal(again.eval()(x), encoder.eval()(x))


def test_our_own_encoder_frozen_keeps_its_running_statistics() -> None:
    encoder = Frozen(SmallCNN(16, width=4, embedding_size=8))
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.train()(torch.randn(4, 16, 32))
    assert encoder.training
    assert all(torch.equal(t, before[n]) for n, t in encoder.state_dict().items())


def damaged(checkpoint: Path, folder: Path, how: str) -> Path:
    shutil.copytree(checkpoint, folder)
    file = folder / "model.safetensors"
    if how == "lacks weights":
        kept = {n: t for n, t in load_file(file).items() if "layer.1" not in n}
        save_file(kept, file, metadata={"format": "pt"})
    elif how == "cut short":
        file.write_bytes(file.read_bytes()[:5000])
    elif how == "other sizes":
        config = json.loads((folder / "config.json").read_text()) | {"hidden_size": 64}
        (folder / "config.json").write_text(json.dumps(config))
    elif how == "no config":
        (folder / "config.json").unlink()
    elif how == "other model":
        (folder / "config.json").write_text('{"model_type": "wav2vec2"}')
    elif how == "a pickle":
        file.rename(folder / "pytorch_model.bin")
    return folder


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("lacks weights", r"lacks 16 weights, the first is 'layers\.1\."),
        ("cut short", "cannot be read"),
        ("other sizes", "cannot be read"),
        ("no config", r"no readable config\.json"),
        ("other model", "of type 'wav2vec2', expected 'audio-spectrogram-transformer'"),
        ("a pickle", r"only pytorch_model\.bin, a pickle"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_told(
    checkpoint: Path, tmp_path: Path, how: str, said: str
) -> None:
    with pytest.raises((RunError, ConfigError), match=said) as raised:
        ast(damaged(checkpoint, tmp_path / "damaged", how))
    assert "\n" not in str(raised.value)


def test_a_source_that_is_not_there_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError, match="neither|not there; expected a folder"):
        weights_folder(str(tmp_path / "nothing"))
    with pytest.raises(RunError, match="fetch them with asd weights nobody/no-such-model, or"):
        weights_folder("nobody/no-such-model")


def test_the_fingerprint_is_of_the_weights_and_not_of_the_path(
    checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkpoint, tmp_path / "copy")
    assert weights_sha256(tmp_path / "copy") == weights_sha256(checkpoint)
    params = resolve(PretrainedParams(source=str(checkpoint)))
    assert params is not None
    assert params.sha256 == weights_sha256(checkpoint)
    assert resolve(params) == params
    other = damaged(checkpoint, tmp_path / "other", "lacks weights")
    assert weights_sha256(other) != params.sha256
    with pytest.raises(RunError, match="have SHA-256 .*, expected"):
        resolve(params.model_copy(update={"source": str(other)}))


def small_store(path: Path, front_end: FrontEnd) -> FeatureStore:
    rows = [(f"{i}.wav", "fan", "00", "train", "normal", "source") for i in range(2)]
    columns = ["clip", "machine", "section", "split", "label", "domain"]
    features = np.zeros((2, front_end.n_mels, 20))
    return write_store(path, pd.DataFrame(rows, columns=columns), features, front_end)


def test_a_store_of_another_front_end_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    params = PretrainedParams(source=str(checkpoint))
    check_front_end("ast", params, small_store(tmp_path / "ast", PRESETS["ast"]))
    for name in ("dcase2020", "byola"):
        store = small_store(tmp_path / name, PRESETS[name])
        with pytest.raises(StoreError, match=r"asd features … --preset ast$") as raised:
            check_front_end("ast", params, store)
        assert "n_fft 1024 instead of 512" in str(raised.value)
        check_front_end("ast", None, store)


@pytest.mark.parametrize("module", [pretrained, weights])
def test_optional_packages_are_imported_inside_functions_only(module: ModuleType) -> None:
    source = inspect.getsource(module)
    assert re.search(r"^    +from transformers|^    +from huggingface_hub", source, re.MULTILINE)
    assert not re.search(
        r"^(from|import) (transformers|peft|huggingface_hub)", source, re.MULTILINE
    )
