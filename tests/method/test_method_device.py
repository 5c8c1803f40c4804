"""Every path from features to scores stays on its device: checked for a GPU, without having one.

Tensors are fake, see `torch._subclasses.fake_tensor`: they have a shape, a type and the device
"cuda:0", and no values. Whoever mixes devices or asks for a value is refused by PyTorch. What it
allows, and a GPU would wait for, is refused by `OnDevice`. The engine of derivatives asks the
driver of the GPU; `gradients` goes its way through the graph without it.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contrastive_rows import QUICK, make_store
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from asdlib.baselines import Autoencoder, MobileNetV2
from asdlib.baselines.windows import _WindowTraining
from asdlib.features import PRESETS, Rows
from asdlib.features.logmel import LogMel
from asdlib.method import Contrastive, SpectrumAugmentation
from asdlib.method.augment import AugmentationParams
from asdlib.method.contrastive import ContrastiveTraining
from asdlib.method.encoders import ProjectionHead, measure_batch_norm
from asdlib.method.pretrained import AudioSpectrogramTransformer, EfficientAT
from asdlib.method.weights import PretrainedParams

CUDA = torch.device("cuda", 0)


@dataclass
class OnDevice(TorchDispatchMode):
    """Refuse what leaves the device, comes to it while the processor waits, or is made elsewhere.

    Random numbers of a CPU generator are made on the CPU: one copy for each drawing.
    """

    arrived: int = 0
    images: list[tuple[torch.dtype, bool]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        given, made = (
            {leaf.device.type for leaf in tree_leaves(tensors) if isinstance(leaf, Tensor)}
            for tensors in ((args, kwargs), out)
        )
        name = func._schema.name
        if given == {"cpu"} and made == {"cuda"}:
            assert kwargs.get("non_blocking"), f"{name} makes the processor wait"
            self.arrived += 1
        elif name != "aten::rand":
            assert "cpu" not in made, f"{name} has a result on the CPU"
        # Of one channel both layouts look alike.
        if name == "aten::convolution" and out.dim() == 4 and args[0].shape[1] > 1:
            last = out.is_contiguous(memory_format=torch.channels_last)
            self.images.append((out.dtype, last))
        return out


@contextmanager
def fake() -> Iterator[None]:
    """Make tensors without values; `Module.to` replaces parameters."""
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with FakeTensorMode(allow_non_fake_inputs=True):
            yield
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)


@torch.no_grad()
def gradients(loss: Tensor) -> dict[Tensor, Tensor]:
    """Compute the derivatives of a loss, by parameter, as PyTorch's engine does."""
    waiting: dict[Any, dict[int, Tensor]] = {loss.grad_fn: {0: torch.ones_like(loss)}}
    found: dict[Tensor, Tensor] = {}
    while waiting:
        # What was computed last comes first; parameters have the highest number of all.
        node = max(waiting, key=lambda node: node._sequence_nr())
        given = waiting.pop(node)
        if hasattr(node, "variable"):
            more = found.get(node.variable)
            found[node.variable] = given[0] if more is None else given[0] + more
            continue
        call = node if callable(node) else node.apply  # of a function written in Python
        made = call(*(given.get(i) for i in range(len(node._input_metadata))))
        parts = made if isinstance(made, tuple) else (made,)
        for (following, i), part in zip(node.next_functions, parts, strict=True):
            if following is not None and part is not None:
                part = part.sum_to_size(following._input_metadata[i].shape)
                to = waiting.setdefault(following, {})
                to[i] = to[i] + part if i in to else part
    return found


def complete(found: dict[Tensor, Tensor], network: nn.Module) -> bool:
    """Whether all that is trained has a derivative of its shape and type, on the device."""
    return all(
        found[weight].device.type == "cuda"
        and (found[weight].shape, found[weight].dtype) == (weight.shape, weight.dtype)
        for weight in network.parameters()
        if weight.requires_grad
    )


def test_gradients_are_those_of_the_engine(rows: Rows) -> None:
    system = build(rows, {"encoder": "mobilefacenet", "classifier": "arcface"})
    training = ContrastiveTraining(
        system.network_, system.augmentation_, rows, system.params, seed=0
    )
    loss = training.training_step(next(iter(training.batches)), 0)
    found = gradients(loss)
    torch.autograd.backward(loss)
    for weight in system.network_.parameters():
        torch.testing.assert_close(found[weight], weight.grad, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    store = make_store(tmp_path_factory.mktemp("device") / "store", domains=True)
    return store.rows(split="train")


AUGMENTATIONS: list[dict[str, Any]] = [
    {},
    {"mixing": "high", "bank_size": 10, "frequency_canvas": 1.5},
    {"post_norm": False},
]
SYSTEMS: list[dict[str, Any]] = [
    {},
    {"cross_domain": True, "crops": "different", "encoder": "mobilefacenet"},
    {"loss": "nt_xent", "classifier": "arcface", "crop_frames": 16},
    {"classifier": "arcface", "precision": "bfloat16", "augmentation": AUGMENTATIONS[1]},
    {"encoder": "efficientat", "crop_frames": 16},
    {"encoder": "ast", "crop_frames": 16},
]
AST = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "max_length": 32,
    "num_mel_bins": 16,
}
PUBLISHED = {
    "efficientat": lambda: EfficientAT({"width": 0.1}, PretrainedParams(source="none")),
    "ast": lambda: AudioSpectrogramTransformer(AST, PretrainedParams(source="none")),
}


@pytest.mark.parametrize("params", AUGMENTATIONS)
def test_augmentation(params: dict[str, Any]) -> None:
    frequencies = np.linspace(100, 8000, 24)
    block = SpectrumAugmentation(
        AugmentationParams(**params), mean=0, std=1, mel_frequencies=frequencies
    )
    generator = torch.Generator()
    block(torch.randn(3, 24, 16), generator)  # the bank of a resumed training is on the CPU
    with fake():
        block.to(CUDA)
        x = torch.randn(6, 24, 16, device=CUDA)
        block.log_mixup_exp(x)  # brings the bank
        with OnDevice() as watch:
            for _ in range(2):
                assert block(x, generator).device.type == "cuda"
    assert watch.arrived == 2 * 2


def build(rows: Rows, params: dict[str, Any]) -> Contrastive:
    """Make an untrained network, on the CPU and with values."""
    name = params.get("encoder", "small_cnn")
    params = params | {"encoder": "small_cnn"} if name in PUBLISHED else params
    system = Contrastive(**QUICK | {"embedding": "levels", "backend": "level_sum"} | params)
    system.sections_ = ("fan/00", "fan/02", "pump/00", "pump/02")
    n_mels = 128 if name == "efficientat" else 16
    frequencies = np.linspace(50, 4000, n_mels)
    system._build((-40.0, 6.0), frequencies, n_classes=4)
    if name in PUBLISHED:
        system.network_.encoder = encoder = PUBLISHED[name]()
        system.network_.head = ProjectionHead(encoder.embedding_size, 8)
    system.levels_ = system._all_levels
    return system


@contextmanager
def bfloat16() -> Iterator[None]:
    """Be an autocast on a GPU; the public one looks whether there is one."""
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    torch.set_autocast_enabled("cuda", True)
    try:
        yield
    finally:
        torch.set_autocast_enabled("cuda", False)


SLOW = ("mobilefacenet", *PUBLISHED)


@pytest.mark.parametrize(
    "params",
    [
        pytest.param(params, marks=[pytest.mark.slow] if params.get("encoder") in SLOW else [])
        for params in SYSTEMS
    ],
)
def test_training_step(rows: Rows, params: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    system = build(rows, params)
    training = ContrastiveTraining(
        system.network_, system.augmentation_, rows, system.params, seed=0
    )
    # As many mel bins as the encoder takes.
    more = training.network.encoder.n_mels // 16
    batches = [
        (torch.cat([crops] * more, dim=-2), *numbers)
        for crops, *numbers in list(training.batches)[:3]
    ]
    monkeypatch.setattr(ContrastiveTraining, "device", CUDA)
    training.on_train_start()
    reduced = system.params.precision == "bfloat16"
    with fake():
        training.network.to(CUDA)
        training.augmentation.to(CUDA)
        moved = [tuple(part.to(CUDA) for part in batch) for batch in batches]
        with OnDevice() as watch:
            losses = []
            for batch in moved:
                with bfloat16() if reduced else nullcontext():
                    losses.append(training.training_step(batch, 0))
            assert complete(gradients(losses[-1]), training.network)
        assert {loss.device.type for loss in losses} == {"cuda"}
        assert {loss.dtype for loss in losses} == {torch.float32}
        embedding = torch.bfloat16 if reduced else torch.float32
        assert {dtype for dtype, _ in watch.images} <= {embedding}
        assert watch.images or params.get("encoder") == "ast"
        # Of bfloat16, no layout can be told without a GPU.
        assert reduced or all(last for _, last in watch.images), "not channels-last"
    # Two drawings a step, and in the first nothing is mixed in.
    assert watch.arrived == 2 * len(moved) - 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "segment"),
    [("small_cnn", "sliding"), ("mobilefacenet", "clip"), ("efficientat", "clip"), ("ast", "clip")],
)
def test_embedding(rows: Rows, name: str, segment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # The mean over batches needs the number of them, which nothing fake has.
    plain = lambda batches, encoder: [encoder(batch) for batch in batches]  # noqa: E731
    monkeypatch.setattr("asdlib.method.encoders.update_bn", plain)
    system = build(rows, {"encoder": name, "segment": segment})
    encoder = system.network_.encoder
    system.levels_ = (*encoder.level_names, "projection")
    with fake():
        network = system.network_.to(CUDA).eval()
        block = system.augmentation_.to(CUDA).eval()
        x = torch.randn(3, encoder.n_mels, 20, device=CUDA)
        with torch.inference_mode(), OnDevice() as watch:
            made = system._embed_batch(network, block.pre_normalise(x))
            assert made.shape == (3, sum(network.size_of(system.levels_)))
        assert made.device.type == "cuda"
        assert watch.arrived == 0
        if name not in PUBLISHED:
            measure_batch_norm(encoder, block.pre_normalise, rows, batch_size=8)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Autoencoder, MobileNetV2])
def test_baseline(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "store", frames=(80,))
    system, own = kind(), store.rows(split="train", machine="fan")
    system.sections_, system.front_end_ = ("fan/00", "fan/02"), store.described
    monkeypatch.setattr(kind, "device", CUDA)
    network = system._network("fan", torch.Generator())
    monkeypatch.setattr(system, "_network", lambda *_: network)
    with fake():
        training = _WindowTraining(system, "fan", own)
        training.network.to(CUDA)
        training.on_train_epoch_start()
        numbers = torch.arange(6, device=CUDA)
        with OnDevice() as watch:
            loss = training.training_step(numbers, 0)
            assert loss.device.type == "cuda"
            assert complete(gradients(loss), training.network)
            windows = torch.randn(5, system.params.n_frames, 16, device=CUDA)
            scores = system.window_scores(training.network.eval(), windows, numbers[:5] % 2)
        assert scores.device.type == "cuda"
        assert watch.arrived == 0


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_features(name: str) -> None:
    front_end = PRESETS[name]
    log_mel = LogMel(front_end)
    # The filters of torchaudio's Kaldi come from the CPU each time.
    watch = nullcontext() if front_end.framing == "kaldi" else OnDevice()
    with fake():
        log_mel.to(CUDA)
        waveform = torch.randn(2, 16000, device=CUDA)
        with watch:
            made = log_mel(waveform)
        assert made.shape[:2] == (2, front_end.n_mels)
        assert made.device.type == "cuda"


BOUNDS = {"bfloat16": (0.01, 0.1), "compile": (1e-5, 1e-3)}
"""Largest relative difference from float32 on the CPU: of the first loss, and of all."""


@pytest.mark.slow
@pytest.mark.parametrize("how", BOUNDS)
def test_faster_ways_give_nearly_the_same(
    rows: Rows, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[Any] = []

    def translate(function: Any) -> Any:
        compiled.append(function)
        return original(function, backend="aot_eager", fullgraph=True)

    original = torch.compile
    monkeypatch.setattr(torch, "compile", translate)
    changes = {"compile": True} if how == "compile" else {"precision": how}
    histories = [
        Contrastive(**QUICK | {"crop_frames": 16} | more).fit(rows).history_["loss"].to_numpy()
        for more in ({"precision": "float32"}, changes)
    ]
    apart = np.abs(histories[1] / histories[0] - 1)
    assert apart[0] <= BOUNDS[how][0]
    assert apart.max() <= BOUNDS[how][1]
    assert (apart.max() > 0) == (how == "bfloat16") or compiled
