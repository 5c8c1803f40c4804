"""Encoders of our own: shapes, the mean over time alone, training."""

import pytest
import torch
from torch import nn

from asdlib.errors import ConfigError
from asdlib.method.encoders import ENCODERS, Encoder, ProjectionHead, SmallCNN, build_encoder

torch.set_num_threads(1)


def build(name: str, n_mels: int = 40) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_encoder(name, n_mels)


def spectrograms(n: int, n_mels: int = 40, n_frames: int = 32) -> torch.Tensor:
    return torch.randn(n, n_mels, n_frames, generator=torch.Generator().manual_seed(1))


def n_parameters(*modules: nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("n_mels", "n_frames"), [(128, 64), (40, 17)])
def test_shapes_and_the_mean_over_time_alone(name: str, n_mels: int, n_frames: int) -> None:
    encoder = build(name, n_mels).eval()
    x = spectrograms(3, n_mels, n_frames)
    feature_map = encoder.feature_map(x)
    halved = [-(-n // 16) for n in (n_mels, n_frames)]
    assert list(feature_map.shape[2:]) == halved
    rows = torch.stack([row.mean(dim=-1).reshape(-1) for row in feature_map])
    assert rows.shape == (3, feature_map.shape[1] * halved[0])
    torch.testing.assert_close(encoder.time_mean(x), rows)
    assert encoder(x).shape == (3, encoder.embedding_size) == (3, 128)
    torch.testing.assert_close(encoder(x), encoder.embed(rows))
    # In evaluation the batch does not matter.
    torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]), atol=1e-5, rtol=1e-4)


def test_number_of_parameters() -> None:
    small = build("small_cnn", 128)
    assert 0.22e6 < n_parameters(small, ProjectionHead(small.embedding_size)) < 0.26e6
    assert 0.9e6 < n_parameters(build("mobilefacenet", 128)) < 1.1e6


def test_where_on_the_frequency_axis_matters() -> None:
    for name in ENCODERS:
        encoder = build(name, 128).eval()
        low, high = torch.zeros(1, 128, 64), torch.zeros(1, 128, 64)
        low[:, 32:40], high[:, 80:88] = 3.0, 3.0
        difference = (encoder(low) - encoder(high)).norm() / encoder(low).norm()
        assert float(difference.detach()) > 0.05


@pytest.mark.parametrize("name", ENCODERS)
def test_every_parameter_learns_and_the_seed_decides_them(name: str) -> None:
    encoder, twin = build(name).train(), build(name)
    encoder(spectrograms(4)).square().mean().backward()
    for (key, parameter), other in zip(encoder.named_parameters(), twin.parameters(), strict=True):
        assert torch.equal(parameter, other), key
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


def test_small_cnn_overfits_two_classes() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(SmallCNN(32, width=8, embedding_size=16), nn.Linear(16, 2))
    x, labels = spectrograms(16, 32, 16), torch.arange(16) % 2
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1)
    for _ in range(40):
        loss = nn.functional.cross_entropy(network(x), labels)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    assert float(loss.detach()) < 0.05


@pytest.mark.parametrize("autocast", [False, True])
def test_projection_has_unit_length_in_float32(autocast: bool) -> None:
    head, x = ProjectionHead(48, 16), torch.randn(5, 48)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        z = head(x)
    assert (z.shape, z.dtype) == ((5, 16), torch.float32)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5))


def test_bfloat16_under_autocast() -> None:
    encoder, x = build("small_cnn").eval(), spectrograms(2)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(x)
    torch.testing.assert_close(rounded.float(), encoder(x), atol=0.05, rtol=0.1)


def test_unknown_names_and_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'resnet' is not known \(known: .*small_cnn"):
        build("resnet")
    with pytest.raises(ConfigError, match=r"\(2, 64, 16\), expected \(batch, 40 mel bins"):
        build("small_cnn")(spectrograms(2, 64, 16))
