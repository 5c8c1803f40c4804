"""MobileNetV2: the layers of Keras, the score of a section."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from baseline_stores import make_store
from torch import nn

from asdlib.baselines import MobileNetV2
from asdlib.baselines.mobilenet import (
    InvertedResidual,
    MobileNetV2Network,
    SameConv2d,
    section_score,
)
from asdlib.features import FeatureStore
from asdlib.method.encoders import whole_width

QUICK: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "n_frames": 32,
    "learning_rate": 1e-3,
    "device": "cpu",
    "validation_fraction": 0.0,
    "batch_norm_momentum": 0.2,
}


@pytest.fixture
def short_store(tmp_path: Path) -> FeatureStore:
    """Clips of 46 to 48 frames over 32 mel bins: two or three training windows each."""
    return make_store(tmp_path / "short", n_frames=48, n_mels=32, ragged=True, n_train=6, n_test=3)


def keras_size(module: nn.Module) -> int:
    """Weights and running statistics, which is what Keras calls parameters."""
    buffers = {k: v for k, v in module.named_buffers() if "num_batches" not in k}
    return sum(t.numel() for t in [*module.parameters(), *buffers.values()])


def test_published_sizes_without_top() -> None:
    for alpha, size in [(0.35, 410_208), (0.5, 706_224), (1.0, 2_257_984)]:
        with torch.device("meta"):
            assert keras_size(MobileNetV2Network(6, alpha).features) == size


def test_size_by_arithmetic() -> None:
    """Count alpha 0.5 from table 2 of the paper: kernels, and four numbers a channel of a norm."""
    stages = [(1, 8, 1), (6, 16, 2), (6, 16, 3), (6, 32, 4), (6, 48, 3), (6, 80, 3), (6, 160, 1)]
    n_in, total = 16, 3 * 9 * 16 + 4 * 16
    for expansion, n_out, n_blocks in stages:
        for _ in range(n_blocks):
            inner = n_in * expansion
            total += (n_in * inner + 4 * inner) * (expansion != 1)
            total += 9 * inner + 4 * inner + inner * n_out + 4 * n_out
            n_in = n_out
    total += 160 * 1280 + 4 * 1280
    assert total == 706_224
    network = MobileNetV2().build(n_mels=128, n_sections=6)
    assert keras_size(network) == total + 1280 * 6 + 6


def test_widths_are_multiples_of_eight() -> None:
    for width, alpha, rounded in [
        (32, 0.5, 16),
        (24, 0.5, 16),
        (16, 0.35, 8),
        (32, 0.35, 16),
        (24, 1.0, 24),
        (96, 0.75, 72),
    ]:
        assert whole_width(width * alpha) == rounded


def test_keras_conventions_of_the_layers() -> None:
    network = MobileNetV2Network(6)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.001)}
    convolutions = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(norms) == len(convolutions) == 52
    assert all(convolution.bias is None for convolution in convolutions)
    assert sum(isinstance(m, nn.ReLU6) for m in network.modules()) == 35
    assert not any(isinstance(m, nn.Dropout) for m in network.modules())
    blocks = [m for m in network.modules() if hasattr(m, "adds_input")]
    # At alpha 0.5 the widths 24 and 32 both become 16, yet stride 2 keeps them apart.
    assert sum(block.adds_input for block in blocks) == 10


def test_same_padding_of_keras() -> None:
    """`first`: where the first kernel starts. Even sizes with stride 2 are padded at the end."""
    for size, stride, first in [(8, 2, 0), (7, 2, -1), (8, 1, -1), (7, 1, -1)]:
        convolution = SameConv2d(1, 1, stride)
        nn.init.zeros_(convolution.weight)
        with torch.no_grad():
            convolution.weight[0, 0, 0, 0] = 1.0
        ramp = torch.arange(1.0, size + 1)
        image = ramp[:, None] * ramp[None]
        with torch.no_grad():
            out = convolution(image[None, None])[0, 0]
        n_out = -(-size // stride)
        picked = torch.tensor(
            [max(first + stride * i + 1, 0) for i in range(n_out)], dtype=torch.float
        )
        assert out.shape == (n_out, n_out)
        assert torch.equal(out, picked[:, None] * picked[None])


def test_a_block_adds_its_input_only_where_the_shape_is_kept() -> None:
    image = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
    for n_out, stride, adds in ((8, 1, True), (16, 1, False), (8, 2, False)):
        block = InvertedResidual(8, n_out, stride=stride, expansion=6, momentum=0.1).eval()
        nn.init.zeros_(block.layers[-2].weight)
        with torch.inference_mode():
            out = block(image)
        assert torch.equal(out, image) if adds else not out.any()


def test_shapes_and_three_equal_channels() -> None:
    network = MobileNetV2Network(4).eval()
    windows = torch.randn(3, 64, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = network(windows)
        features = network.features(torch.stack([windows] * 3, dim=1))
        assert logits.shape == (3, 4)
        assert features.shape == (3, 1280, 2, 4)
        assert torch.allclose(logits, network.classifier(features.mean((2, 3))), atol=1e-6)


def test_official_defaults() -> None:
    params = MobileNetV2().params
    assert (params.epochs, params.batch_size, params.n_frames) == (20, 32, 64)
    assert (params.learning_rate, params.adam_epsilon, params.alpha) == (1e-5, 1e-7, 0.5)
    assert params.batch_norm_momentum == 0.001
    assert MobileNetV2().hops == (8, 1)
    assert params.validation_fraction == 0.1


def test_section_score() -> None:
    eps = sys.float_info.epsilon
    probability = torch.tensor([0.5, 0.25, 0.0, 1.0], dtype=torch.float64)
    expected = [0.0, np.log(0.75) - np.log(0.25), -np.log(eps), np.log(eps)]
    assert section_score(probability).tolist() == pytest.approx(expected)


def test_score_equals_the_plain_computation(short_store: FeatureStore) -> None:
    system = MobileNetV2(**QUICK).fit(short_store.rows(split="train"))
    test = short_store.rows(split="test")
    scores = system.score(test)
    for position in (0, 4, 7, 11):
        row = test.index[position]
        log_mel = short_store.features[row, :, : short_store.frames[row]].astype(np.float32)
        windows = np.stack([log_mel[:, t : t + 32].T for t in range(log_mel.shape[1] - 31)])
        network = system.networks_[short_store.manifest["machine"][row]]
        with torch.inference_mode():
            p = torch.softmax(network(torch.from_numpy(windows)), 1).numpy()
        own = p[:, ["00", "02"].index(short_store.manifest["section"][row])]
        eps = sys.float_info.epsilon
        expected = np.mean(np.log(np.maximum(1 - own, eps)) - np.log(np.maximum(own, eps)))
        assert scores[position] == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.slow
def test_learns_the_sections(short_store: FeatureStore) -> None:
    train = short_store.rows(split="train", machine="fan")
    system = MobileNetV2(**QUICK | {"epochs": 15}).fit(train)
    losses = list(system.history_["loss"])
    # With a few dozen windows the loss jumps, so no single epoch is held to the mark.
    assert min(losses) < 0.5 * losses[0]
    own = system.score(short_store.rows(split="train", machine="fan"))
    assert own.mean() < -0.5
