"""Building blocks against closed forms and slow references."""

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from scipy.signal import welch

from asdlib.data.synthetic.signals import (
    RATE,
    coloured_noise,
    crossings,
    decaying,
    generator,
    harmonics,
    hump,
    impulses,
    in_band,
    ring,
    rolloff,
    shaft_phase,
    wander,
)

N = 4 * RATE


def test_a_key_names_one_stream() -> None:
    first = generator("clip", 0, "fan", "00").random(4)
    assert np.array_equal(first, generator("clip", 0, "fan", "00").random(4))
    for other in (("clip", 1, "fan", "00"), ("clip", 0, "fan0", "0"), ("clip", "0", "fan", "00")):
        assert not np.array_equal(first, generator(*other).random(4))


@given(hz=st.floats(20.0, 400.0), n=st.integers(1, 24), seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_harmonics_equal_the_sum_of_cosines(hz: float, n: int, seed: int) -> None:
    amplitudes = decaying(n, 0.7)
    phase = shaft_phase(np.random.default_rng(seed), hz, 2000, unsteady=0.01)
    got = harmonics(np.random.default_rng(seed), phase, hz, amplitudes)
    offsets = np.random.default_rng(seed).uniform(0, 2 * np.pi, n)
    scaled = amplitudes / np.sqrt(0.5 * np.sum(amplitudes**2))
    want = np.zeros(2000)
    for k in range(1, n + 1):
        if k * hz <= 7600:
            want += scaled[k - 1] * np.cos(k * phase + offsets[k - 1])
    assert np.max(np.abs(got - want)) < 2e-3


def test_harmonics_above_the_guard_are_left_out() -> None:
    phase = shaft_phase(np.random.default_rng(0), 3000.0, N, unsteady=0.0)
    tone = harmonics(np.random.default_rng(1), phase, 3000.0, [1.0, 1.0, 1.0])
    f, density = welch(tone, RATE, nperseg=4096)
    assert density[f > 6500].max() < 1e-6 * density.max()
    assert not harmonics(np.random.default_rng(1), phase, 7700.0, [1.0]).any()


def test_a_steady_shaft_turns_at_its_frequency() -> None:
    phase = shaft_phase(np.random.default_rng(3), 25.0, N, unsteady=0.0)
    assert np.diff(phase) == pytest.approx(2 * np.pi * 25 / RATE)
    assert len(crossings(phase, 3.0)) in (299, 300, 301)
    assert np.diff(crossings(phase, 3.0)) == pytest.approx(RATE / 75)


@given(
    times=st.lists(st.floats(-5.0, 105.0), max_size=20),
    seed=st.integers(0, 100),
)
@settings(max_examples=60)
def test_impulses_equal_a_loop(times: list[float], seed: int) -> None:
    weights = np.random.default_rng(seed).uniform(0.1, 1.0, len(times))
    want = np.zeros(100)
    for time, weight in zip(times, weights, strict=True):
        if 0 <= time < 99:
            left = int(np.floor(time))
            want[left] += weight * (1 - (time - left))
            want[left + 1] += weight * (time - left)
    assert impulses(np.array(times), weights, 100) == pytest.approx(want)


def test_noise_has_the_asked_spectrum_and_unit_rms() -> None:
    gain = rolloff(500.0, 6.0)
    noise = coloured_noise(np.random.default_rng(0), 20 * RATE, gain)
    assert np.sqrt(np.mean(noise**2)) == pytest.approx(1.0, rel=0.03)
    f, density = welch(noise, RATE, nperseg=1024)
    inside = (f > 60) & (f < 7500)
    error = 10 * np.log10(density[inside] / gain(f[inside]) ** 2)
    assert np.std(error) < 0.5
    # Far above the corner the slope is what was asked for.
    assert 20 * np.log10(gain(np.array([4000.0])) / gain(np.array([8000.0])))[0] == pytest.approx(
        6.0, abs=0.1
    )


def test_a_hump_is_a_bell_on_the_octave_axis() -> None:
    at = hump(1000.0, 0.5)(np.array([1000.0, 1000 * 2**0.5, 1000 / 2**0.5]))
    assert at == pytest.approx([1.0, np.exp(-0.5), np.exp(-0.5)])


def test_rung_impulses_ring_at_their_modes_with_unit_rms() -> None:
    rng = np.random.default_rng(0)
    times = np.sort(rng.uniform(0, 20 * RATE, 20 * 50))
    signal = ring(impulses(times, 1.0, 20 * RATE), [2000.0], [0.005], [1.0], per_second=50)
    assert np.sqrt(np.mean(signal**2)) == pytest.approx(1.0, rel=0.1)
    f, density = welch(signal, RATE, nperseg=2048)
    assert f[np.argmax(density)] == pytest.approx(2000.0, abs=25)


def test_wander_is_slow_and_has_unit_deviation() -> None:
    walk = wander(np.random.default_rng(0), 200 * RATE, rate_hz=2.0)
    assert np.std(walk) == pytest.approx(1.0, abs=0.15)
    assert np.max(np.abs(np.diff(walk))) < 20 * 2.0 / RATE


@pytest.mark.parametrize(("low", "high"), [(80.0, 1000.0), (1000.0, 4000.0), (4000.0, 7600.0)])
def test_a_band_holds_what_is_inside_and_nothing_else(low: float, high: float) -> None:
    t = np.arange(N) / RATE
    inside, outside = np.sqrt(low * high), (low / 2 if low > 100 else 2 * high)
    held = in_band(np.sin(2 * np.pi * inside * t), low, high)
    assert np.std(held[1000:-1000]) == pytest.approx(np.sqrt(0.5), rel=0.02)
    lost = in_band(np.sin(2 * np.pi * outside * t), low, high)
    assert np.std(lost[1000:-1000]) < 2e-3
