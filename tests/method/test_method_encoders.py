import pytest
import torch
from torch import nn

from asdlib.errors import ConfigError
from asdlib.method.encoders import (
    ENCODERS,
    Encoder,
    ProjectionHead,
    SmallCNN,
    build_encoder,
    halved,
)

torch.set_num_threads(1)


def build(name: str, n_mels: int = 128) -> Encoder:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build_encoder(name, n_mels)


def spectrograms(n: int, n_mels: int = 128, n_frames: int = 64) -> torch.Tensor:
    return torch.randn(n, n_mels, n_frames, generator=torch.Generator().manual_seed(1))


def n_parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("n_mels", "n_frames"), [(128, 64), (128, 313), (64, 96), (40, 17)])
def test_shapes(name: str, n_mels: int, n_frames: int) -> None:
    encoder = build(name, n_mels).eval()
    x = spectrograms(2, n_mels, n_frames)
    feature_map = encoder.feature_map(x)
    assert feature_map.dim() == 4
    assert feature_map.shape[2:] == (halved(n_mels, times=4), halved(n_frames, times=4))
    assert encoder.time_mean(x).shape == (2, encoder.time_mean_size)
    assert encoder(x).shape == (2, 128)
    assert encoder.embedding_size == 128


@pytest.mark.parametrize("name", ENCODERS)
def test_pooling_is_the_mean_over_time_alone(name: str) -> None:
    encoder = build(name).eval()
    x = spectrograms(2)
    feature_map = encoder.feature_map(x)
    expected = torch.stack([row.mean(dim=-1).reshape(-1) for row in feature_map])
    torch.testing.assert_close(encoder.time_mean(x), expected)
    torch.testing.assert_close(encoder(x), encoder.embed(expected))


def test_number_of_parameters() -> None:
    small = build("small_cnn")
    head = ProjectionHead(small.embedding_size)
    assert 0.22e6 < n_parameters(small) + n_parameters(head) < 0.26e6
    assert 0.9e6 < n_parameters(build("mobilefacenet")) < 1.1e6


@pytest.mark.parametrize("name", ENCODERS)
def test_batch_does_not_matter_in_evaluation(name: str) -> None:
    encoder = build(name).eval()
    x = spectrograms(3)
    torch.testing.assert_close(encoder(x)[1:2], encoder(x[1:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_where_on_the_frequency_axis_matters(name: str) -> None:
    encoder = build(name).eval()
    low, high = torch.zeros(1, 128, 64), torch.zeros(1, 128, 64)
    low[:, 32:40], high[:, 80:88] = 3.0, 3.0
    difference = (encoder(low) - encoder(high)).norm() / encoder(low).norm()
    assert float(difference.detach()) > 0.05


@pytest.mark.parametrize("name", ENCODERS)
def test_every_parameter_learns(name: str) -> None:
    encoder = build(name).train()
    encoder(spectrograms(4)).square().mean().backward()
    for key, parameter in encoder.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key


def test_same_seed_same_weights() -> None:
    first, second = build("small_cnn"), build("small_cnn")
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_small_cnn_overfits_two_classes() -> None:
    torch.manual_seed(0)
    encoder = SmallCNN(32, width=8, embedding_size=16)
    last = nn.Linear(16, 2)
    x, labels = spectrograms(16, 32, 16), torch.arange(16) % 2
    parameters = [*encoder.parameters(), *last.parameters()]
    for _ in range(40):
        loss = nn.functional.cross_entropy(last(encoder(x)), labels)
        with torch.no_grad():
            for parameter, gradient in zip(
                parameters, torch.autograd.grad(loss, parameters), strict=True
            ):
                parameter.sub_(0.1 * gradient)
    assert float(loss.detach()) < 0.05


def test_projection_has_unit_length_in_float32() -> None:
    head = ProjectionHead(48, 16)
    z = head(torch.randn(5, 48))
    assert z.shape == (5, 16)
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5))
    with torch.autocast("cpu", torch.bfloat16):
        z = head(torch.randn(5, 48))
    assert z.dtype == torch.float32
    torch.testing.assert_close(z.norm(dim=1), torch.ones(5))


def test_bfloat16_under_autocast() -> None:
    encoder = build("small_cnn").eval()
    x = spectrograms(2)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = encoder(x)
    torch.testing.assert_close(rounded.float(), encoder(x), atol=0.05, rtol=0.1)


def test_unknown_names_and_sizes_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"'resnet' is not known \(known: .*small_cnn"):
        build("resnet")
    with pytest.raises(ConfigError, match=r"\(2, 64, 16\), expected \(batch, 128 mel bins"):
        build("small_cnn")(spectrograms(2, 64, 16))
