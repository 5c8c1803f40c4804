import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats
from torch.nn import functional

from asdlib.errors import ConfigError
from asdlib.method.allocator import keep_freed_memory
from asdlib.method.augment import AugmentationParams, SpectrumAugmentation
from asdlib.method.mixing import InputBank, log_mixup_exp
from asdlib.method.normalise import PreNorm, post_normalise
from asdlib.method.resize import cubic_weights, draw_crops, interpolation_taps, resize_crop

sys.path.insert(0, str(Path(__file__).parent))
from slow_reference import Draw, SlowBlock

torch.set_num_threads(1)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def log_mels(n: int, n_mels: int = 32, n_frames: int = 16, seed: int = 0) -> torch.Tensor:
    return -30 + 12 * torch.randn(n, n_mels, n_frames, generator=seeded(seed))


def block(**params: object) -> SpectrumAugmentation:
    frequencies = params.pop("mel_frequencies", None)
    return SpectrumAugmentation(
        AugmentationParams.model_validate(params),
        mean=-30.0,
        std=12.0,
        mel_frequencies=frequencies,  # type: ignore[arg-type]
    )


def replay(n_clips: int, generator: torch.Generator, mixed: bool) -> list[list[Draw]]:
    """Draw what the block draws, in its order: mixing, then crops; views outermost."""
    n = 2 * n_clips
    mix = torch.rand(n, 2, generator=generator, dtype=torch.float64) if mixed else torch.zeros(n, 2)
    crop = torch.rand(n, 4, generator=generator, dtype=torch.float64)
    rows = [Draw(*m, *c) for m, c in zip(mix.tolist(), crop.tolist(), strict=True)]
    return [rows[:n_clips], rows[n_clips:]]


def test_allocator_changes_no_result() -> None:
    before = block()(log_mels(4), seeded(0))
    assert keep_freed_memory() in (True, False)
    assert torch.equal(block()(log_mels(4), seeded(0)), before)


# The whole block against the slow one


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"bank_size": 5},
        {"mix_alpha": 1.0, "mix_eps": 0.01},
        {"frequency_canvas": 1.3, "time_canvas": 2.0},
        {"mixing": "high", "cutoff_hz": 1500.0},
    ],
)
def test_block_equals_slow_reference(changes: dict[str, object]) -> None:
    frequencies = np.linspace(100, 8000, 32)
    augment = block(mel_frequencies=frequencies, **changes)
    slow = SlowBlock(
        mean=-30.0,
        std=12.0,
        alpha=float(changes.get("mix_alpha", 0.4)),  # type: ignore[arg-type]
        eps=float(changes.get("mix_eps", 0.0)),  # type: ignore[arg-type]
        bank_size=int(changes.get("bank_size", 2048)),  # type: ignore[call-overload]
        first_bin=int((frequencies < 1500).sum()) if "mixing" in changes else 0,
        frequency_canvas=float(changes.get("frequency_canvas", 1.0)),  # type: ignore[arg-type]
        time_canvas=float(changes.get("time_canvas", 1.5)),  # type: ignore[arg-type]
    )
    generator, twin = seeded(7), seeded(7)
    for step in range(4):
        batch = log_mels(6, seed=step)
        views = augment(batch, generator)
        expected = slow([x.double() for x in batch], replay(6, twin, mixed=step > 0))
        expected_views = torch.stack([torch.stack(row) for row in expected])
        assert views.shape == (2, 6, 32, 16)
        torch.testing.assert_close(views.double(), expected_views, atol=1e-5, rtol=1e-5)


def test_block_equals_slow_reference_on_full_crops() -> None:
    augment, slow = block(), SlowBlock(mean=-30.0, std=12.0)
    generator, twin = seeded(3), seeded(3)
    for step in range(2):
        batch = log_mels(16, 128, 64, seed=step)
        views = augment(batch, generator)
        expected = slow([x.double() for x in batch], replay(16, twin, mixed=step > 0))
    expected_views = torch.stack([torch.stack(row) for row in expected])
    torch.testing.assert_close(views.double(), expected_views, atol=1e-5, rtol=1e-5)


def test_forward_is_the_composition_of_its_steps() -> None:
    whole, parts = block(), block()
    for augment in (whole, parts):
        augment(log_mels(8), seeded(1))
    views = whole(log_mels(4, seed=3), seeded(5))
    generator = seeded(5)
    x = parts.pre_normalise(log_mels(4, seed=3)).repeat(2, 1, 1)
    x = parts.random_resize_crop(parts.log_mixup_exp(x, generator), generator)
    assert torch.equal(views.flatten(0, 1), parts.post_normalise(x))


def test_two_crops_of_a_clip_as_views() -> None:
    crops = torch.stack((log_mels(3), log_mels(3, seed=1)))
    augment = block(mixup=False, rrc=False, post_norm=False)
    assert torch.equal(augment(crops), augment.pre_normalise(crops))
    augment = block(rrc=False)
    augment(crops)
    assert len(augment.bank) == 6


# Switches


def test_all_switched_off_is_the_input_twice() -> None:
    x = log_mels(3)
    augment = block(pre_norm=False, mixup=False, rrc=False, post_norm=False)
    assert torch.equal(augment(x), torch.stack((x, x)))
    assert augment.pre_normalise(x) is x


def test_pre_norm_alone() -> None:
    views = block(mixup=False, rrc=False, post_norm=False)(log_mels(3))
    torch.testing.assert_close(views[0], (log_mels(3) + 30) / 12)
    assert torch.equal(views[0], views[1])


def test_mixup_alone_and_off() -> None:
    on = block(rrc=False, post_norm=False)
    off = block(mixup=False, rrc=False, post_norm=False)
    for augment in (on, off):
        augment(log_mels(8), seeded(0))
    x = log_mels(4, seed=9)
    mixed = on(x, seeded(1))
    assert not torch.equal(mixed[0], mixed[1])
    assert torch.equal(off(x, seeded(1))[0], off.pre_normalise(x))
    assert len(off.bank) == 0


def test_rrc_alone_keeps_a_constant_where_the_crop_is_inside() -> None:
    augment = block(pre_norm=False, mixup=False, post_norm=False, time_scale=(0.6, 0.6))
    inside = block(
        pre_norm=False, mixup=False, post_norm=False, time_scale=(0.6, 0.6), time_canvas=1.0
    )
    ones = torch.ones(64, 32, 16)
    torch.testing.assert_close(inside(ones, seeded(0)), torch.ones(2, 64, 32, 16))
    assert augment(ones, seeded(0)).min() < 0.5


def test_post_norm_alone() -> None:
    views = block(pre_norm=False, mixup=False, rrc=False)(log_mels(5))
    assert abs(float(views.double().mean())) < 1e-5
    assert float(views.double().std(correction=0)) == pytest.approx(1, abs=1e-5)


def test_a_constant_batch_becomes_zero() -> None:
    assert torch.equal(post_normalise(torch.full((2, 3, 4, 5), 7.0)), torch.zeros(2, 3, 4, 5))


# Pre-norm


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_running_statistics_are_those_of_all_inputs(sizes: list[int], seed: int) -> None:
    norm = PreNorm(5.0, 2.0, running=True)
    batches = [log_mels(n, 8, 4, seed=seed + i) for i, n in enumerate(sizes)]
    for batch in batches:
        norm.update(batch)
    everything = torch.cat(batches).double()
    assert float(norm.mean) == pytest.approx(float(everything.mean()), abs=1e-3)
    assert float(norm.std) == pytest.approx(float(everything.std(correction=0)), rel=1e-4)


def test_running_statistics_freeze() -> None:
    augment = block(pre_norm_statistics="running", running_batches=2)
    for step in range(2):
        augment(log_mels(4, seed=step))
    frozen = float(augment.pre_norm.mean)
    assert frozen != -30.0
    augment(100 + log_mels(4))
    assert float(augment.pre_norm.mean) == frozen


def test_fixed_statistics_and_evaluation_mode_do_not_move() -> None:
    fixed, evaluated = block(), block(pre_norm_statistics="running").eval()
    for augment in (fixed, evaluated):
        augment(100 + log_mels(4))
        assert (float(augment.pre_norm.mean), float(augment.pre_norm.std)) == (-30.0, 12.0)
    assert len(evaluated.bank) == 0


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan, math.inf])
def test_impossible_statistics_are_refused(std: float) -> None:
    with pytest.raises(ConfigError, match=r"std > 0.*silent"):
        SpectrumAugmentation(mean=0.0, std=std)


# Log-mixup-exp


@given(
    x=st.floats(-150, 150),
    z=st.floats(-150, 150),
    ratio=st.floats(0, 1),
    eps=st.sampled_from([0.0, 1e-7, 2.0]),
)
@settings(max_examples=200, deadline=None)
def test_mixture_in_the_log_domain_is_exact_and_safe(
    x: float, z: float, ratio: float, eps: float
) -> None:
    ratio = float(np.float32(ratio))
    parts = [math.log(w) + v for w, v in ((1 - ratio, x), (ratio, z)) if w > 0]
    parts += [math.log(eps)] if eps else []
    expected = float(np.logaddexp.reduce(parts))
    mixed = log_mixup_exp(
        torch.full((1, 1, 1), x), torch.full((1, 1, 1), z), torch.tensor([ratio]), eps=eps
    )
    assert float(mixed) == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_mixing_with_itself_or_with_nothing_changes_nothing() -> None:
    x, z = log_mels(4), log_mels(4, seed=1)
    torch.testing.assert_close(log_mixup_exp(x, x, torch.rand(4)), x)
    torch.testing.assert_close(log_mixup_exp(x, z, torch.zeros(4)), x)
    torch.testing.assert_close(log_mixup_exp(x, z, torch.ones(4)), z)


def test_decibels_without_pre_norm_stay_finite() -> None:
    augment = block(pre_norm=False)
    loud = torch.full((4, 32, 16), 95.0)
    silent = torch.full((4, 32, 16), -156.5)
    augment(loud, seeded(0))
    assert torch.isfinite(augment(silent, seeded(1))).all()


def test_ratio_is_uniform_up_to_alpha() -> None:
    augment = block(pre_norm=False, rrc=False, post_norm=False, bank_size=1)
    augment.bank.push(torch.ones(1, 1, 1))
    mixed = augment.log_mixup_exp(torch.zeros(4000, 1, 1), seeded(2)).flatten()
    ratio = (torch.exp(mixed) - 1) / (math.e - 1)
    assert stats.kstest(ratio.numpy() / 0.4, "uniform").pvalue > 0.01


def test_high_mixing_leaves_low_bins_untouched() -> None:
    frequencies = np.array([100.0, 500.0, 2000.0, 3000.0])
    augment = block(
        rrc=False, post_norm=False, mixing="high", cutoff_hz=2000.0, mel_frequencies=frequencies
    )
    x = log_mels(6, 4)
    augment(log_mels(6, 4, seed=1), seeded(0))
    views = augment(x, seeded(1))
    assert torch.equal(views[:, :, :2], augment.pre_normalise(x)[None, :, :2].expand(2, -1, -1, -1))
    assert (views[:, :, 2:] != augment.pre_normalise(x)[None, :, 2:]).double().mean() > 0.99


def test_high_mixing_needs_frequencies_and_a_bin_above() -> None:
    with pytest.raises(ConfigError, match="needs the mel frequencies"):
        block(mixing="high")
    with pytest.raises(ConfigError, match=r"cutoff_hz 9000 .* \(8000 Hz\)"):
        block(mixing="high", cutoff_hz=9000.0, mel_frequencies=[0.0, 8000.0])
    with pytest.raises(ConfigError, match="ascending"):
        block(mixing="high", mel_frequencies=[8000.0, 0.0])


# Bank


@given(size=st.integers(1, 7), batches=st.lists(st.integers(1, 9), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_bank_holds_the_last_inputs(size: int, batches: list[int]) -> None:
    bank = InputBank(size)
    numbers = torch.arange(float(sum(batches)))
    for batch in torch.split(numbers, batches):
        bank.push(batch[:, None, None])
    held = sorted(bank.entries[: len(bank)].flatten().tolist())
    assert held == numbers[-size:].tolist()


def test_bank_drops_the_oldest_first() -> None:
    bank = InputBank(3)
    for value in range(5):
        bank.push(torch.full((1, 1, 1), float(value)))
    bank.push(torch.full((1, 1, 1), 9.0))
    assert sorted(bank.entries.flatten().tolist()) == [3.0, 4.0, 9.0]


def test_partners_are_uniform_over_the_filled_part() -> None:
    bank = InputBank(100)
    bank.push(torch.arange(8.0)[:, None, None])
    uniform = torch.rand(8000, dtype=torch.float64, generator=seeded(0))
    partners = bank.draw(uniform, torch.zeros(8000, 1, 1)).flatten().long()
    counts = torch.bincount(partners, minlength=8)
    assert len(counts) == 8
    assert stats.chisquare(counts.numpy()).pvalue > 0.01


def test_bank_holds_pre_normalised_unmixed_inputs() -> None:
    augment = block()
    batches = [log_mels(3, seed=i) for i in range(3)]
    for batch in batches:
        augment(batch, seeded(0))
    assert torch.equal(augment.bank.entries[:9], augment.pre_normalise(torch.cat(batches)))


def test_other_crop_size_is_refused() -> None:
    augment = block()
    augment(log_mels(2))
    with pytest.raises(ConfigError, match=r"\(32, 20\).*\(32, 16\)"):
        augment(log_mels(2, n_frames=20))


def test_training_resumes_exactly_from_a_state_dict(tmp_path: Path) -> None:
    first = block(pre_norm_statistics="running", bank_size=7)
    for step in range(3):
        first(log_mels(3, seed=step), seeded(step))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = block(pre_norm_statistics="running", bank_size=7)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(3, 6):
        x = log_mels(3, seed=step)
        assert torch.equal(first(x, seeded(step)), second(x, seeded(step)))
    assert torch.equal(first.pre_norm.mean, second.pre_norm.mean)
    assert first.pre_norm.n_inputs == second.pre_norm.n_inputs == 18


# Random resize crop


@given(
    size=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    corner=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)),
    scale=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=100, deadline=None)
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


def test_whole_input_as_crop_is_the_identity() -> None:
    x = log_mels(2)
    zero, height, width = torch.zeros(2, dtype=torch.int64), torch.tensor(32), torch.tensor(16)
    assert torch.equal(resize_crop(x, zero, zero, height.expand(2), width.expand(2)), x)


def test_taps_stay_in_the_crop_and_sum_to_one_inside_the_input() -> None:
    start, length = torch.tensor([0, 3, 5, -4]), torch.tensor([10, 4, 1, 5])
    taps, weights = interpolation_taps(start, length, 10)
    torch.testing.assert_close(weights[:3].sum(dim=2), torch.ones(3, 10))
    assert taps[1].min() == 3
    assert taps[1].max() == 6
    assert set(taps[2].flatten().tolist()) == {5}
    torch.testing.assert_close(weights[3].sum(dim=1)[[0, -1]], torch.tensor([0.0, 1.0]))


def test_crop_outside_the_input_is_zero() -> None:
    x = torch.ones(1, 6, 6)
    top, left = torch.tensor([0]), torch.tensor([-3])
    out = resize_crop(x, top, left, torch.tensor([6]), torch.tensor([6]))
    assert torch.equal(out[0, :, :3], torch.zeros(6, 3))
    assert torch.equal(out[0, :, 3:], torch.ones(6, 3))


def test_cubic_weights_reproduce_constants_and_samples() -> None:
    weights = cubic_weights(torch.linspace(0, 1, 11))
    torch.testing.assert_close(weights.sum(dim=1), torch.ones(11))
    torch.testing.assert_close(weights[0], torch.tensor([0.0, 1.0, 0.0, 0.0]))
    torch.testing.assert_close(weights[-1], torch.tensor([0.0, 0.0, 1.0, 0.0]))


def test_crop_sizes_and_offsets_have_their_distributions() -> None:
    n, size, canvas = 20000, (128, 64), (128, 96)
    uniform = torch.rand(n, 4, generator=seeded(3), dtype=torch.float64)
    top, left, height, width = draw_crops(uniform, size, canvas, (0.6, 1.5), (0.6, 1.5))
    assert (int(height.min()), int(height.max())) == (76, 128)
    assert (int(width.min()), int(width.max())) == (38, 95)
    # 44 % of the draws zoom into frequency: U(0.6, 1.5) below 1.
    assert float((height < 128).double().mean()) == pytest.approx(0.4 / 0.9, abs=0.01)
    # 38.4 to 96 frames, rounded down: 39 to 95 are equally likely.
    assert stats.chisquare(torch.bincount(width)[39:96].numpy()).pvalue > 1e-3
    # Offsets cover the canvas: in coordinates of the input from −16 to 80 − width.
    assert not top[height == 128].any()
    assert bool((top >= 0).all() and (top + height <= 128).all())
    assert bool((left >= -16).all() and (left + width <= 80).all())
    narrow = left[width == 40]
    assert set(narrow.tolist()) == set(range(-16, 41))


# Reproducibility and types


def test_same_seed_same_views() -> None:
    first, second, other = block(), block(), block()
    for step in range(3):
        x = log_mels(4, seed=step)
        views = first(x, seeded(step))
        assert torch.equal(views, second(x, seeded(step)))
        assert not torch.equal(views, other(x, seeded(step + 100)))


def test_generator_is_the_only_source_of_chance() -> None:
    augment = block()
    torch.manual_seed(0)
    before = torch.random.get_rng_state()
    augment(log_mels(4), seeded(0))
    augment(log_mels(4), seeded(0))
    assert torch.equal(before, torch.random.get_rng_state())


def test_each_sample_and_view_draws_its_own_numbers() -> None:
    augment = block()
    x = log_mels(1).repeat(8, 1, 1)
    augment(log_mels(8, seed=1), seeded(0))
    views = augment(x, seeded(1)).flatten(0, 1)
    distances = torch.cdist(views.flatten(1), views.flatten(1)) + torch.eye(16)
    assert float(distances.min()) > 0.5


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


def test_views_carry_no_gradient() -> None:
    x = log_mels(2).requires_grad_()
    assert not block()(x).requires_grad


# Parameters


@pytest.mark.parametrize(
    "bad",
    [
        {"alpha": 0.4},
        {"mix_alpha": 1.5},
        {"bank_size": 0},
        {"mixing": "low"},
        {"frequency_scale": (1.5, 0.6)},
        {"time_scale": (0.0, 1.0)},
        {"time_canvas": 0.5},
    ],
)
def test_bad_parameters_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        AugmentationParams.model_validate(bad)


def test_every_parameter_is_described_with_its_mark() -> None:
    for name, field in AugmentationParams.model_fields.items():
        assert field.description, name
        assert field.description.startswith(("[P]", "[I]", "[O]")), name


@pytest.mark.parametrize("shape", [(32, 16), (3, 4, 32, 16), (0, 32, 16)])
def test_wrong_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match="expected \\(batch, mel bins, frames\\)"):
        block()(torch.zeros(shape))


def test_wrong_number_of_mel_bins_is_refused() -> None:
    with pytest.raises(ConfigError, match="32 mel bins, expected 4"):
        block(mel_frequencies=[1.0, 2.0, 3.0, 4.0])(log_mels(2))
