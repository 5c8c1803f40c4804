"""Encoders from checkpoints, tiny random ones in the format of public ones, and a hub's cache."""

import hashlib
import inspect
import json
import os
import re
import shutil
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from fake_hub import COMMIT, fake_hub
from safetensors.torch import load_file, save, save_file
from torch.nn import functional

from asdlib.errors import AsdError, ConfigError, DownloadError, RunError, StoreError
from asdlib.features import PRESETS, FeatureStore, FrontEnd, write_store
from asdlib.method import pretrained, weights
from asdlib.method.contrastive import Contrastive
from asdlib.method.encoders import Encoder, SmallCNN
from asdlib.method.pretrained import EfficientAT, check_front_end, make_encoder
from asdlib.method.weights import (
    Offer,
    PretrainedParams,
    fetch,
    offer,
    weights_folder,
    weights_sha256,
)

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


@pytest.fixture(scope="module")
def mobilenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of the names and shapes that EfficientAT publishes, of width 0.1."""
    encoder = EfficientAT({"width": 0.1}, PretrainedParams(source="x"))
    generator = torch.Generator().manual_seed(0)
    published = {"classifier.5.bias": torch.zeros(527)}
    for name, tensor in encoder.body.state_dict().items():
        values = 0.5 * torch.randn(tensor.shape, generator=generator)
        if tensor.dim() < 2:
            values = values.abs() + 0.5
        name = re.sub(r"(block\.\d)\.fc", r"\1.conc_se_layers.0.fc", name)
        published[f"features.{name}"] = values.to(tensor.dtype)
    folder = tmp_path_factory.mktemp("checkpoints")
    save_file(published, folder / "mn01.safetensors")
    return folder


def ast(folder: Path, **changes: Any) -> Any:
    return make_encoder("ast", 128, PretrainedParams(source=str(folder), **changes)).eval()


def mobilenet_by_hand(weights: dict[str, torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    """Compute the last feature map of log-mels (B, F, T) from published weights, layer by layer."""

    def layer(x: torch.Tensor, name: str, activation: Any = lambda x: x, stride: int = 1) -> Any:
        kernel, norm = weights[f"{name}.0.weight"], f"{name}.1"
        groups = x.shape[1] // kernel.shape[1]
        x = functional.conv2d(x, kernel, None, stride, kernel.shape[-1] // 2, groups=groups)
        mean, variance, factor, offset = (
            weights[f"{norm}.{part}"][:, None, None]
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        return activation((x - mean) / (variance + 0.001).sqrt() * factor + offset)

    def hardswish(x: torch.Tensor) -> torch.Tensor:
        return x * (x + 3).clamp(0, 6) / 6

    x = layer(x[:, None], "features.0", hardswish, 2)
    for number in range(1, 16):
        before, block = x, f"features.{number}.block"
        activation = torch.relu if number < 7 else hardswish
        stride = 2 if number in (2, 4, 7, 13) else 1
        parts = sorted({int(n.split(".")[3]) for n in weights if n.startswith(f"{block}.")})
        for part in parts:
            name, squeeze = f"{block}.{part}", f"{block}.{part}.conc_se_layers.0"
            if f"{squeeze}.fc1.weight" in weights:
                h = x.mean(dim=(2, 3)) @ weights[f"{squeeze}.fc1.weight"].T
                h = torch.relu(h + weights[f"{squeeze}.fc1.bias"])
                h = h @ weights[f"{squeeze}.fc2.weight"].T + weights[f"{squeeze}.fc2.bias"]
                x = x * torch.sigmoid(h)[:, :, None, None]
            elif part == parts[-1]:
                x = layer(x, name)
            else:
                depthwise = weights[f"{name}.0.weight"].shape[1] == 1
                x = layer(x, name, activation, stride if depthwise else 1)
        x = x + before if x.shape == before.shape else x
    return layer(x, "features.16", hardswish)


def test_mobilenets_compute_what_their_published_weights_say(
    mobilenet: Path,
) -> None:
    folders = {mobilenet: 96}
    if "ASDLIB_REAL_DATA" in os.environ:
        folders[Path(os.environ["ASDLIB_REAL_DATA"]) / "weights"] = 384
    for folder, size in folders.items():
        weights = load_file(next(folder.glob("*.safetensors")))
        encoder = make_encoder("efficientat", 128, PretrainedParams(source=str(folder))).eval()
        for n_frames, n_time in ((64, 2), (40, 2), (200, 7)):
            x = spectrograms(n_frames)
            with torch.inference_mode():
                expected = mobilenet_by_hand(weights, (x + 4.5) / 5)
                assert expected.shape == (3, size, 4, n_time)
                close = {"rtol": 1e-4, "atol": 1e-4 * float(expected.abs().max())}
                torch.testing.assert_close(encoder.feature_map(x), expected, **close)
                rows = expected.mean(dim=3).flatten(1)
                torch.testing.assert_close(encoder.time_mean(x), rows, **close)
                torch.testing.assert_close(encoder(x), expected.mean(dim=(2, 3)), **close)
        assert size == encoder.embedding_size


def spectrograms(n_frames: int = MAX_FRAMES, n_clips: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n_frames)
    return torch.randn(n_clips, 128, n_frames, generator=generator)


def test_it_computes_what_the_model_computes(model: Any, checkpoint: Path) -> None:
    layer = "audio_spectrogram_transformer.encoder.layer.0.attention.attention.query.weight"
    assert layer in load_file(checkpoint / "model.safetensors"), "names as in public ones"
    x = spectrograms()
    with torch.inference_mode():
        # The library's normalisation leaves half the deviation that ours leaves.
        expected = model.audio_spectrogram_transformer(0.5 * x.transpose(1, 2))
        mean = expected.last_hidden_state[:, 2:].mean(dim=1)
        torch.testing.assert_close(ast(checkpoint)(x), mean, rtol=0, atol=1e-5)
        row_3_column_2 = ast(checkpoint).feature_map(x)[:, :, 3, 2]
        torch.testing.assert_close(row_3_column_2, expected.last_hidden_state[:, 2 + 3 * 5 + 2])


def test_it_has_the_shapes_of_an_encoder(checkpoint: Path) -> None:
    encoder = ast(checkpoint)
    for n_frames, n_time in ((16, 1), (40, 3), (MAX_FRAMES, 5), (120, 11)):
        x = spectrograms(n_frames)
        with torch.inference_mode():
            feature_map, time_mean = encoder.feature_map(x), encoder.time_mean(x)
            assert feature_map.shape == (3, 32, 12, n_time)
            rows = time_mean.reshape(3, 32, -1)
            torch.testing.assert_close(rows, feature_map.mean(dim=3))
            assert encoder.embed(time_mean).shape == (3, encoder.embedding_size)
            assert torch.equal(encoder(x), encoder.embed(time_mean))
    for wrong in (spectrograms(15), torch.zeros(1, 64, 64)):
        with pytest.raises(ConfigError, match="128 mel bins, frames. with at least 16 frames"):
            encoder(wrong)


def test_the_frequency_axis_of_the_map_is_that_of_the_input(checkpoint: Path) -> None:
    embeddings = ast(checkpoint).body.embeddings.patch_embeddings
    x = torch.zeros(1, 128, MAX_FRAMES)
    x[:, 100:] = 1.0
    with torch.inference_mode():
        tokens = embeddings(x.transpose(1, 2)) - embeddings(0 * x.transpose(1, 2))
    grid = tokens.transpose(1, 2).reshape(1, 32, 12, 5).abs().amax(dim=(0, 1, 3))
    assert (grid > 0).nonzero().flatten().tolist() == [9, 10, 11]


def test_shorter_inputs_take_the_middle_positions_longer_ones_interpolate(checkpoint: Path) -> None:
    embeddings = ast(checkpoint)
    trained = embeddings.body.embeddings.position_embeddings.detach()
    grid = trained[:, 2:].reshape(12, 5, 32)
    assert torch.equal(embeddings.positions(5), trained)
    short = embeddings.positions(3)
    assert torch.equal(short[:, :2], trained[:, :2])
    assert torch.equal(short[:, 2:].reshape(12, 3, 32), grid[:, 1:4])
    double = embeddings.positions(10)[:, 2:].reshape(12, 10, 32)
    torch.testing.assert_close(double[:, 0], grid[:, 0])
    torch.testing.assert_close(double[:, 1], 0.75 * grid[:, 0] + 0.25 * grid[:, 1])
    torch.testing.assert_close(double[:, 9], grid[:, 4])


def trained_names(encoder: Encoder) -> list[str]:
    """Names of the parameters that one step of training changes."""
    encoder.train()
    before = {name: p.detach().clone() for name, p in encoder.named_parameters()}
    optimiser = torch.optim.AdamW(encoder.parameters(), lr=0.1, weight_decay=0.5)
    head = torch.nn.Linear(encoder.embedding_size, 1)
    head(encoder(spectrograms())).sum().backward()
    optimiser.step()
    return [n for n, p in encoder.named_parameters() if not torch.equal(p, before[n])]


@pytest.mark.parametrize("name", ["ast", "efficientat"])
@pytest.mark.parametrize("mode", ["frozen", "finetune", "lora"])
def test_the_mode_decides_what_is_trained_and_the_rest_is_saved_too(
    name: str, checkpoint: Path, mobilenet: Path, tmp_path: Path, mode: str
) -> None:
    params = PretrainedParams(source=str(tmp_path / "copy"), mode=mode, lora_rank=3)
    shutil.copytree(checkpoint if name == "ast" else mobilenet, tmp_path / "copy")
    encoder, x = make_encoder(name, 128, params).eval(), spectrograms()
    plain = make_encoder(name, 128, params.model_copy(update={"mode": "finetune"})).eval()
    with torch.inference_mode():
        torch.testing.assert_close(encoder(x), plain(x), msg="adapters begin as nothing")
    changed = set(trained_names(encoder))
    adapters = {name: p for name, p in encoder.named_parameters() if "lora_" in name}
    if mode == "lora":
        # Two matrices each: query and value of both layers; 27 convolutions of one point.
        assert len(adapters) == {"ast": 2 * 2 * 2, "efficientat": 2 * 27}[name]
        assert all(3 in p.shape for p in adapters.values())
        assert changed
        assert changed <= set(adapters)
    else:
        assert not adapters
        assert len(changed) > 30 if mode == "finetune" else not changed
    # It is built again without its source.
    save_file(encoder.state_dict(), tmp_path / "weights.safetensors")
    config = json.loads(json.dumps(encoder.config))
    shutil.rmtree(tmp_path / "copy")
    again = make_encoder(name, 128, params, config)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    with torch.inference_mode():
        assert torch.equal(again.eval()(x), encoder.eval()(x))


def test_the_share_of_adapters_in_the_public_size() -> None:
    from transformers import ASTConfig

    params = PretrainedParams(source="x", mode="lora")
    with torch.device("meta"):
        encoder = make_encoder("ast", 128, params, ASTConfig().to_dict())
    trained = [p.numel() for p in encoder.parameters() if p.requires_grad]
    assert sum(trained) == 294_912
    assert sum(p.numel() for p in encoder.parameters()) - sum(trained) == 86_187_264


def test_our_own_encoder_frozen_keeps_its_running_statistics() -> None:
    encoder = SmallCNN(16, width=4, embedding_size=8).requires_grad_(False)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.train()(torch.randn(4, 16, 32))
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
    ("how", "message"),
    [
        ("lacks weights", r"cannot be read .*lacks weights such as layers\.1\."),
        ("cut short", "cannot be read"),
        ("other sizes", "cannot be read"),
        ("no config", r"no readable config\.json"),
        ("other model", "of type 'wav2vec2', expected 'audio-spectrogram-transformer'"),
        ("a pickle", r"only pytorch_model\.bin, a pickle"),
    ],
)
def test_damaged_checkpoints_are_refused(
    checkpoint: Path, tmp_path: Path, how: str, message: str
) -> None:
    with pytest.raises(AsdError, match=message) as raised:
        ast(damaged(checkpoint, tmp_path / "damaged", how))
    assert "\n" not in str(raised.value)


def test_a_checkpoint_is_not_damaged_where_a_package_is_missing(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModuleNotFoundError, match="peft"):
        ast(checkpoint, mode="lora")


@pytest.mark.parametrize("how", ["lacks weights", "cut short", "other network"])
def test_damaged_weights_of_mobilenets_are_refused(
    mobilenet: Path, tmp_path: Path, how: str
) -> None:
    weights, file = load_file(mobilenet / "mn01.safetensors"), tmp_path / "weights.safetensors"
    if how == "lacks weights":
        del weights["features.3.block.1.0.weight"]
    elif how == "other network":
        weights = {"encoder.weight": torch.zeros(3)}
    save_file(weights, file)
    if how == "cut short":
        file.write_bytes(file.read_bytes()[:5000])
    params = PretrainedParams(source=str(tmp_path))
    with pytest.raises(RunError, match="damaged or not those of a MobileNetV3"):
        make_encoder("efficientat", 128, params)


def test_the_fingerprint_is_of_the_weights_and_not_of_the_path(
    checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkpoint, tmp_path / "copy")
    params = PretrainedParams(source=str(checkpoint)).resolved()
    assert params.sha256 == weights_sha256(checkpoint) == weights_sha256(tmp_path / "copy")
    assert params.resolved() == params
    other = damaged(checkpoint, tmp_path / "other", "lacks weights")
    with pytest.raises(RunError, match="have SHA-256 .*, expected"):
        params.model_copy(update={"source": str(other)}).resolved()


def small_store(path: Path, front_end: FrontEnd) -> FeatureStore:
    rows = [(f"{i}.wav", "fan", "00", "train", "normal", "source") for i in range(2)]
    columns = ["clip", "machine", "section", "split", "label", "domain"]
    features = np.zeros((2, front_end.n_mels, 20))
    return write_store(path, pd.DataFrame(rows, columns=columns), features, front_end)


def test_a_store_of_another_front_end_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    params = PretrainedParams(source=str(checkpoint))
    for name in ("ast", "efficientat"):
        check_front_end(name, params, small_store(tmp_path / name, PRESETS[name]))
    store = small_store(tmp_path / "dcase2020", PRESETS["dcase2020"])
    with pytest.raises(StoreError, match=r"asd features … --preset ast$") as raised:
        check_front_end("ast", params, store)
    assert "n_fft 1024 and 512" in str(raised.value)
    with pytest.raises(StoreError, match=r"sample_rate .* --preset efficientat$"):
        check_front_end("efficientat", params, store)
    with pytest.raises(ConfigError, match="takes 128 mel bins, got 64"):
        make_encoder("ast", 64, params)


def test_optional_packages_are_imported_inside_functions_only() -> None:
    for module in [pretrained, weights]:
        source = inspect.getsource(module)
        assert re.search(r"^    +from (transformers|huggingface_hub)", source, re.MULTILINE)
        at_top = r"^(from|import) (transformers|peft|huggingface_hub)"
        assert not re.search(at_top, source, re.MULTILINE)


@pytest.mark.parametrize("pre_norm", [True, False])
def test_a_frozen_network_hears_what_it_was_trained_on(
    mobilenet: Path, tmp_path: Path, pre_norm: bool
) -> None:
    columns = ["clip", "machine", "section", "split", "label", "domain"]
    rows = [(f"{i}.wav", "fan", "00", "train", "normal", "source") for i in range(6)]
    log_mels = np.float16(2.0 * spectrograms(40, 6).numpy() - 6.0)
    manifest = pd.DataFrame(rows, columns=columns)
    store = write_store(tmp_path / "store", manifest, log_mels, PRESETS["efficientat"])
    params = {"augmentation": {"pre_norm": pre_norm}, "crop_frames": 16, "epochs": 1}
    params |= {"encoder": "efficientat", "embedding": "encoder", "backend": "knn"}
    params["pretrained"] = {"source": str(mobilenet), "mode": "frozen"}
    system = Contrastive(**params).fit(store.rows())
    system.save(tmp_path / "system")
    x = (torch.from_numpy(log_mels.astype(np.float32)) + 4.5) / 5
    expected = mobilenet_by_hand(load_file(mobilenet / "mn01.safetensors"), x).mean(dim=(2, 3))
    for each in (system, Contrastive.load(tmp_path / "system")):
        got = torch.from_numpy(each.embed(store.rows()))
        torch.testing.assert_close(got, expected, rtol=1e-3, atol=1e-4 * float(expected.max()))


class Hostile:
    """Makes a file when it is loaded."""

    def __init__(self, witness: Path) -> None:
        self.witness = witness

    def __reduce__(self) -> Any:
        return Path.touch, (self.witness,)


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_of_a_pickle_the_tensors_are_kept_and_nothing_else(
    mobilenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setenv("ASDLIB_CACHE", str(tmp_path / "cache"))
    tensors, file = load_file(mobilenet / "mn01.safetensors"), tmp_path / f"mn01{suffix}"
    torch.save(tensors, file)
    params = PretrainedParams(source=str(file)).resolved()
    with torch.inference_mode():
        from_pickle = make_encoder("efficientat", 128, params).eval()(spectrograms())
        source = params.model_copy(update={"source": str(mobilenet)})
        assert torch.equal(
            make_encoder("efficientat", 128, source).eval()(spectrograms()), from_pickle
        )
    assert [f.name for f in params.folder.iterdir()] == ["weights.safetensors"]

    for content in (
        tensors | {"x": Hostile(tmp_path / "witness")},
        Hostile(tmp_path / "witness"),
        [1],
    ):
        torch.save(content, file)
        with pytest.raises(RunError, match="more than named tensors; it is not loaded"):
            PretrainedParams(source=str(file)).resolved()
    file.write_bytes(b"")
    with pytest.raises(RunError, match="is damaged"):
        PretrainedParams(source=str(file)).resolved()
    assert not (tmp_path / "witness").exists()
    assert len(list((tmp_path / "cache" / "weights").iterdir())) == 1, "nothing half-written"
    with pytest.raises(ConfigError, match="expected a folder with a checkpoint, a file"):
        weights_folder(str(tmp_path / "none.pt"))


def test_a_release_is_fetched_once_agreed_to_and_checked(
    mobilenet: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDLIB_CACHE", str(tmp_path / "cache"))
    made = save(load_file(mobilenet / "mn01.safetensors"))
    torch.save(load_file(mobilenet / "mn01.safetensors"), tmp_path / "mn01.pt")
    torch.save({"x": Hostile(tmp_path / "witness")}, tmp_path / "hostile.pt")
    pinned = {"mn01": hashlib.sha256(made).hexdigest(), "other": 64 * "0", "hostile": None}
    for name, sha256 in pinned.items():
        file = "hostile.pt" if name == "hostile" else "mn01.pt"
        monkeypatch.setitem(weights.RELEASES, name, weights.Release(file, 100, sha256))
    with pytest.raises(RunError, match="fetch them with asd weights mn01"):
        weights_folder("mn01")
    handler = partial(SimpleHTTPRequestHandler, directory=tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        with pytest.raises(DownloadError, match="nothing was fetched"):
            fetch("mn01", confirm=lambda o: o != Offer("mn01", "v0.0.1", "MIT", 100))
        folder = fetch("mn01", confirm=agree, endpoint=address)
        with pytest.raises(DownloadError, match="other tensors than expected"):
            fetch("other", confirm=agree, endpoint=address)
        with pytest.raises(RunError, match="it is not loaded"):
            fetch("hostile", confirm=agree, endpoint=address)
        server.shutdown()
    assert fetch("mn01", confirm=agree, endpoint=address) == weights_folder("mn01") == folder
    assert [f.name for f in folder.iterdir()] == ["weights.safetensors"]
    assert (folder / "weights.safetensors").read_bytes() == made
    assert [f.name for f in folder.parent.iterdir()] == ["mn01"]
    assert not (tmp_path / "witness").exists()


@pytest.mark.skipif("ASDLIB_REAL_DATA" not in os.environ, reason="ASDLIB_REAL_DATA is not set")
def test_the_real_file_is_the_one_that_is_declared() -> None:
    file = Path(os.environ["ASDLIB_REAL_DATA"]) / "weights" / "mn04_as.safetensors"
    assert hashlib.sha256(save(load_file(file))).hexdigest() == weights.RELEASES["mn04"].sha256


NAME = "lab/tiny-ast"
FILES = {
    "config.json": b'{"model_type": "audio-spectrogram-transformer"}',
    "model.safetensors": b"w" * 1000,
    "pytorch_model.bin": b"p" * 2000,
    "README.md": b"# A model",
}
LICENCE = {"cardData": {"license": "bsd-3-clause"}}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    # Read from the environment only once, when the library is imported.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def agree(offered: Offer) -> bool:
    return True


def test_only_what_is_needed_is_fetched_once_licence_and_size_are_agreed_to(cache: Path) -> None:
    shown: list[Offer] = []
    with pytest.raises(RunError, match=f"fetch them with asd weights {NAME}, or"):
        weights_folder(NAME)
    with fake_hub(NAME, FILES, **LICENCE) as (address, sent):
        with pytest.raises(DownloadError, match="nothing was fetched"):
            fetch(NAME, confirm=lambda o: bool(shown.append(o)), endpoint=address)
        size = len(FILES["config.json"]) + len(FILES["model.safetensors"])
        assert shown == [Offer(NAME, COMMIT, "bsd-3-clause", size)]
        assert sent == []
        folder = fetch(NAME, confirm=agree, endpoint=address)
        assert sorted(sent) == ["config.json", "model.safetensors"], "no pickle"
        assert fetch(NAME, confirm=agree, endpoint=address) == folder
        assert len(sent) == 2, "nothing twice"
    # Without the hub it is found again.
    assert weights_folder(NAME) == folder
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    with pytest.raises(RunError, match=f"asd weights {NAME} --revision v2"):
        weights_folder(NAME, "v2")
    with pytest.raises(ConfigError, match="not there; expected a folder"):
        weights_folder(str(cache / "nothing"))


NOT_THERE = [
    ("lab/none", None, "'lab/none' cannot be fetched .RepositoryNotFound.*check its name"),
    (NAME, "v2", "cannot be fetched .*check its name, its revision"),
    (NAME, None, "has no safetensors file"),
    ("no-owner", None, "expected owner/name"),
]


def test_what_the_hub_does_not_have_is_refused() -> None:
    for name, revision, message in NOT_THERE:
        pickles = {file: FILES[file] for file in ("config.json", "pytorch_model.bin")}
        with fake_hub(NAME, pickles) as (address, _), pytest.raises(AsdError, match=message):
            offer(name, revision, endpoint=address)


def test_other_licences_and_no_connection() -> None:
    for page, licence in (({"tags": ["license:apache-2.0"]}, "apache-2.0"), ({}, "not stated")):
        with fake_hub(NAME, FILES, **page) as (address, _):
            assert offer(NAME, endpoint=address).licence == licence
    with pytest.raises(DownloadError, match="cannot be fetched .*and the connection") as raised:
        offer(NAME, endpoint=address)
    assert "\n" not in str(raised.value)
