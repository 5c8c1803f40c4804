"""The augmentation block: against a slow one, its switches, its memory, its distributions."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError
from scipy import stats
from slow_reference import Draw, SlowBlock
from torch.nn import functional

from asdlib.errors import ConfigError
from asdlib.method.augment import AugmentationParams, SpectrumAugmentation
from asdlib.method.crop import draw_crops, resize_crop
from asdlib.method.mixing import InputBank, log_mixup_exp
from asdlib.method.normalise import PreNorm, post_normalise

torch.set_num_threads(1)
FREQUENCIES = np.linspace(100, 8000, 32)
WRONG_SHAPES = ((32, 16), (3, 4, 32, 16), (0, 32, 16))
ALL_OFF = {"pre_norm": False, "mixup": False, "rrc": False, "post_norm": False}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def log_mels(n: int, n_mels: int = 32, n_frames: int = 16, seed: int = 0) -> torch.Tensor:
    return -30 + 12 * torch.randn(n, n_mels, n_frames, generator=seeded(seed))


def block(mel_frequencies: Any = None, **params: Any) -> SpectrumAugmentation:
    made = AugmentationParams.model_validate(params)
    return SpectrumAugmentation(made, mean=-30.0, std=12.0, mel_frequencies=mel_frequencies)


def replay(n_clips: int, generator: torch.Generator, mixed: bool) -> list[list[Draw]]:
    """Draw what the block draws, in its order: mixing, then crops; views outermost."""
    n = 2 * n_clips
    mix = torch.rand(n, 2, generator=generator, dtype=torch.float64) if mixed else torch.zeros(n, 2)
    crop = torch.rand(n, 4, generator=generator, dtype=torch.float64)
    rows = [Draw(*m, *c) for m, c in zip(mix.tolist(), crop.tolist(), strict=True)]
    return [rows[:n_clips], rows[n_clips:]]


@pytest.mark.parametrize(
    ("size", "changes", "slow_changes"),
    [
        ((32, 16), {"bank_size": 5}, {"bank_size": 5}),
        ((32, 16), {"mix_alpha": 1.0}, {"alpha": 1.0}),
        ((32, 16), {"frequency_canvas": 1.3}, {"frequency_canvas": 1.3}),
        ((32, 16), {"time_canvas": 2.0}, {"time_canvas": 2.0}),
        ((32, 16), {"mixing": "high", "cutoff_hz": FREQUENCIES[6]}, {"first_bin": 6}),
        ((128, 64), {}, {}),
    ],
)
def test_block_equals_slow_reference(
    size: tuple[int, int], changes: dict[str, Any], slow_changes: dict[str, Any]
) -> None:
    augment = block(FREQUENCIES if "mixing" in changes else None, **changes)
    slow = SlowBlock(mean=-30.0, std=12.0, **slow_changes)
    generator, twin = seeded(7), seeded(7)
    for step in range(4):
        batch = log_mels(6, *size, seed=step)
        views = augment(batch, generator)
        expected = slow([x.double() for x in batch], replay(6, twin, mixed=step > 0))
        expected_views = torch.stack([torch.stack(row) for row in expected])
        torch.testing.assert_close(views.double(), expected_views, atol=1e-5, rtol=1e-5)


def test_each_step_has_its_switch() -> None:
    x = log_mels(5)
    off = block(**ALL_OFF)
    assert torch.equal(off(x), torch.stack((x, x)))
    assert off.pre_normalise(x) is x
    assert len(off.bank) == 0
    pre = block(**ALL_OFF | {"pre_norm": True})(x)
    torch.testing.assert_close(pre, ((x + 30) / 12).expand(2, -1, -1, -1))
    post = block(**ALL_OFF | {"post_norm": True})(x).double()
    assert (float(post.mean()), float(post.std(correction=0))) == pytest.approx((0, 1), abs=1e-5)
    for level in (7.0, -41.7, 0.1, 1e-3, 12345.6):
        equal = post_normalise(torch.full((2, 3, 32, 65), level))
        assert not equal.any(), "equal values become zero"
    crop = block(**ALL_OFF | {"rrc": True, "time_scale": (0.6, 0.6), "time_canvas": 1.0})
    ones = torch.ones(64, 32, 16)
    torch.testing.assert_close(crop(ones), torch.ones(2, 64, 32, 16), msg="crops lie inside")
    mix = block(**ALL_OFF | {"mixup": True, "mix_alpha": 1.0})
    assert torch.equal(mix(x)[0], x), "an empty bank leaves the input alone"
    assert not torch.equal(mix(x)[0], x)


def test_each_view_may_have_a_crop_of_its_own() -> None:
    crops = torch.stack((log_mels(3), log_mels(3, seed=1)))
    assert torch.equal(block(**ALL_OFF)(crops), crops)
    augment = block()
    augment(crops)
    assert torch.equal(augment.bank.entries[:6], augment.pre_normalise(crops.flatten(0, 1)))


def test_fixed_statistics_and_evaluation_mode_do_not_move() -> None:
    training, evaluated = block(), block().eval()
    for augment in (training, evaluated):
        augment(100 + log_mels(4))
        assert (float(augment.pre_norm.mean), float(augment.pre_norm.std)) == (-30.0, 12.0)
    assert len(evaluated.bank) == 0


@given(
    x=st.floats(-160, 160),
    z=st.floats(-160, 160),
    ratio=st.floats(0, 1),
)
@settings(max_examples=100)
def test_mixture_in_the_log_domain_is_exact_and_safe(x: float, z: float, ratio: float) -> None:
    ratio = float(np.float32(ratio))
    parts = [math.log(w) + v for w, v in ((1 - ratio, x), (ratio, z)) if w > 0]
    ones = torch.ones(1, 1, 1)
    mixed = log_mixup_exp(x * ones, z * ones, torch.tensor([ratio]))
    assert float(mixed) == pytest.approx(np.logaddexp.reduce(parts), rel=1e-5, abs=1e-5)


def test_the_share_of_the_partner_is_uniform_up_to_alpha() -> None:
    augment = block(bank_size=1)
    augment.bank.push(torch.ones(1, 1, 1))
    mixed = augment.log_mixup_exp(torch.zeros(4000, 1, 1), seeded(2)).flatten()
    ratio = (torch.exp(mixed) - 1) / (math.e - 1)
    assert stats.kstest(ratio.numpy() / 0.4, "uniform").pvalue > 0.01


@given(size=st.integers(1, 7), batches=st.lists(st.integers(1, 9), min_size=1, max_size=8))
@settings(max_examples=50)
def test_bank_holds_the_last_inputs(size: int, batches: list[int]) -> None:
    bank = InputBank(size)
    numbers = torch.arange(float(sum(batches)))
    for batch in torch.split(numbers, batches):
        bank.push(batch[:, None, None])
    held = sorted(bank.entries[: len(bank)].flatten().tolist())
    assert held == numbers[-size:].tolist()


def test_training_resumes_exactly_from_a_state_dict(tmp_path: Path) -> None:
    first, second = block(bank_size=7), block(bank_size=7)
    for step in range(3):
        first(log_mels(3, seed=step), seeded(step))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(3, 7):
        x = log_mels(3, seed=step)
        assert torch.equal(first(x, seeded(step)), second(x, seeded(step)))


@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    corner=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=80)
def test_resize_crop_equals_interpolate_on_the_crop(
    size: tuple[int, int], corner: tuple[float, float], scale: tuple[float, float], seed: int
) -> None:
    x = torch.randn(1, *size, generator=seeded(seed))
    sides = [max(1, int(s * n)) for s, n in zip(scale, size, strict=True)]
    starts = [int(c * (n - s + 1)) for c, n, s in zip(corner, size, sides, strict=True)]
    top, left, height, width = (torch.tensor([v]) for v in (*starts, *sides))
    crop = x[:, starts[0] : starts[0] + sides[0], starts[1] : starts[1] + sides[1]]
    expected = functional.interpolate(
        crop[None].double(), size=size, mode="bicubic", align_corners=True
    )[0]
    result = resize_crop(x, top, left, height, width)
    torch.testing.assert_close(result.double(), expected, atol=2e-5, rtol=1e-5)


def test_crop_sizes_and_offsets_have_their_distributions() -> None:
    n, size, canvas = 20000, (128, 64), (128, 96)
    uniform = torch.rand(n, 4, generator=seeded(3), dtype=torch.float64)
    top, left, height, width = draw_crops(uniform, size, canvas, (0.6, 1.5), (0.6, 1.5))
    assert (int(height.min()), int(height.max())) == (76, 128)
    # 44 % of the draws zoom into frequency: U(0.6, 1.5) below 1.
    assert float((height < 128).double().mean()) == pytest.approx(0.4 / 0.9, abs=0.01)
    # 38.4 to 96 frames, rounded down: 39 to 95 are equally likely.
    assert (int(width.min()), int(width.max())) == (38, 95)
    assert stats.chisquare(torch.bincount(width)[39:96].numpy()).pvalue > 1e-3
    # Offsets cover the canvas: in coordinates of the input from −16 to 80 − width.
    assert bool((top >= 0).all() and (top + height <= 128).all())
    assert bool((left >= -16).all() and (left + width <= 80).all())
    assert set(left[width == 40].tolist()) == set(range(-16, 41))


def test_the_generator_is_the_only_source_of_chance() -> None:
    first, second = block(), block()
    before = torch.random.get_rng_state()
    for step in range(3):
        x = log_mels(1, seed=step).repeat(4, 1, 1).requires_grad_()
        views = first(x, seeded(step))
        assert torch.equal(views, second(x, seeded(step)))
        assert not views.requires_grad
    assert torch.equal(before, torch.random.get_rng_state())
    assert not torch.equal(first(x, seeded(9)), second(x, seeded(10)))
    # Each sample and view draws its own numbers.
    flat = views.flatten(2).flatten(0, 1)
    assert float((torch.cdist(flat, flat) + torch.eye(8)).min()) > 0.5


@pytest.mark.parametrize("autocast", [False, True])
def test_bfloat16(autocast: bool) -> None:
    exact, rounded = block(), block()
    for step in range(3):
        x = log_mels(4, seed=step).bfloat16()
        expected = exact(x.float(), seeded(step))
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            views = rounded(x, seeded(step))
        assert views.dtype == torch.bfloat16
        torch.testing.assert_close(views.float(), expected, atol=0.02, rtol=0.01)


BAD = [
    {"alpha": 0.4},
    {"mix_alpha": 1.5},
    {"bank_size": 0},
    {"mixing": "low"},
    {"frequency_scale": (1.5, 0.6)},
    {"time_scale": (0.0, 1.0)},
    {"time_canvas": 0.5},
]


def test_bad_parameters_are_refused() -> None:
    for bad in BAD:
        with pytest.raises(ValidationError):
            AugmentationParams.model_validate(bad)


MISFITS = [
    *((lambda s=s: block()(torch.zeros(s)), r"expected \(batch, mel") for s in WRONG_SHAPES),
    (lambda: block(FREQUENCIES)(log_mels(2, 31)), "31 mel bins, expected 32"),
    (lambda: [block_ := block(), block_(log_mels(2)), block_(log_mels(2, 32, 20))], "bank"),
    (lambda: block(mixing="high"), "needs the mel frequencies"),
    (lambda: block(FREQUENCIES, mixing="high", cutoff_hz=9e3), r"cutoff_hz 9000 .* \(8000 Hz"),
    (lambda: block(FREQUENCIES[::-1], mixing="high"), "ascending"),
    *((lambda s=s: PreNorm(0.0, s), "std > 0.*silent") for s in (0.0, -1.0, math.nan, 1e400)),
]


def test_what_does_not_fit_is_refused() -> None:
    for make, message in MISFITS:
        with pytest.raises(ConfigError, match=message):
            make()


def test_every_parameter_is_described_with_its_mark() -> None:
    for name, field in AugmentationParams.model_fields.items():
        assert (field.description or "").startswith(("[P]", "[I]", "[O]")), name
