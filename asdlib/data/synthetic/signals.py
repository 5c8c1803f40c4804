"""Building blocks of machine sound: noise, harmonics, impulses, resonances.

Conventions: sample rate `RATE` = 16 kHz; signals are float64 arrays of shape (S,); a *phase* is the
angle of a shaft in radians, (S,), increasing. Noise, harmonics and rung impulses have an expected
RMS of 1, so that a model states its levels as gains in dB. Everything random comes from the
generator in the first argument. S samples, K harmonics, E events.
"""

import hashlib
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import oaconvolve

RATE = 16000
"""Sample rate in Hz."""

NYQUIST_GUARD = 7600.0
"""No harmonic is made above this frequency (Hz): recorders filter before they sample."""

_TABLE = 4096

Signal = NDArray[np.float64]
Gain = Callable[[Signal], Signal]


def generator(*key: object) -> np.random.Generator:
    """Return the random generator of a key: a `SeedSequence` over the SHA-256 of the key."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    words = np.frombuffer(digest, dtype="<u4").tolist()
    return np.random.default_rng(np.random.SeedSequence(words))


def wander(rng: np.random.Generator, n: int, *, rate_hz: float) -> Signal:
    """Join normal values, ``rate_hz`` of them a second, by straight lines; deviation near 1."""
    knots = rng.standard_normal(int(np.ceil(n / RATE * rate_hz)) + 3)
    places = np.arange(n) * (rate_hz / RATE) + rng.uniform()
    return np.asarray(np.interp(places, np.arange(len(knots)), knots) * np.sqrt(1.5))


def shaft_phase(rng: np.random.Generator, hz: ArrayLike, n: int, *, unsteady: float) -> Signal:
    """Angle of a shaft that turns at ``hz`` (constant or (S,)), with random start.

    ``phi(t) = phi0 + 2 pi * integral of hz(t) (1 + unsteady w(t)) dt``, w a slow random walk.
    """
    start = rng.uniform(0, 2 * np.pi)
    speed = np.asarray(hz, dtype=np.float64) * (1 + unsteady * wander(rng, n, rate_hz=3.0))
    return np.asarray(start + 2 * np.pi / RATE * np.cumsum(np.broadcast_to(speed, (n,))))


def harmonics(rng: np.random.Generator, phase: Signal, hz: float, amplitudes: ArrayLike) -> Signal:
    """Harmonic series of a shaft with random phases, ``sum_k a_k cos(k phi + theta_k)``.

    `phase` is the angle ``phi``, not negative, of mean frequency `hz`; harmonics above
    `NYQUIST_GUARD` are left out. `amplitudes` are scaled so that the full series has RMS 1.
    """
    weights = np.asarray(amplitudes, dtype=np.float64)
    weights = weights / np.sqrt(0.5 * np.sum(weights**2))
    offsets = rng.uniform(0, 2 * np.pi, len(weights))
    audible = min(len(weights), int(NYQUIST_GUARD // hz))
    # One turn as a table, read with linear interpolation: error below -80 dB for 40 harmonics.
    orders = np.arange(1, audible + 1)[:, None]
    turn = np.arange(_TABLE) * (2 * np.pi / _TABLE)
    waves = weights[:audible, None] * np.cos(orders * turn + offsets[:audible, None])
    table = waves.sum(axis=0) if audible else np.zeros(_TABLE)
    steps = np.append(np.diff(table), table[0] - table[-1])
    place = phase * (_TABLE / (2 * np.pi))
    whole = place.astype(np.int64)
    part = place - whole
    whole &= _TABLE - 1
    return np.asarray(table[whole] + part * steps[whole])


def decaying(n: int, exponent: float) -> Signal:
    """Amplitudes ``k ** -exponent`` of ``n`` harmonics."""
    return np.arange(1, n + 1, dtype=np.float64) ** -exponent


def coloured_noise(rng: np.random.Generator, n: int, gain: Gain) -> Signal:
    """Gaussian noise with the amplitude spectrum ``gain(f)``, f in Hz; expected RMS 1."""
    size = next_fast_len(n, real=True)
    spectrum = rfft(rng.standard_normal(size))
    shape = gain(np.maximum(rfftfreq(size, 1 / RATE), 1.0))
    return np.asarray(irfft(spectrum * (shape / np.sqrt(np.mean(shape**2))), size)[:n])


def rolloff(corner_hz: float, db_per_octave: float, *, rise_hz: float = 20.0) -> Gain:
    """Gain that rises to ``rise_hz``, is flat up to the corner, then falls."""
    exponent = db_per_octave / 20 / np.log10(2) / 2

    def gain(f: Signal) -> Signal:
        return np.asarray(
            (1 + (f / corner_hz) ** 2) ** (-exponent) / np.sqrt(1 + (rise_hz / f) ** 4)
        )

    return gain


def hump(centre_hz: float, octaves: float) -> Gain:
    """Gain with one broad maximum, a bell of the given half width on the octave axis."""

    def gain(f: Signal) -> Signal:
        return np.asarray(np.exp(-0.5 * (np.log2(f / centre_hz) / octaves) ** 2))

    return gain


def crossings(phase: Signal, order: float) -> Signal:
    """Return the times (samples, fractional) at which ``order * phase`` completes a turn, (E,)."""
    turns = phase * (order / (2 * np.pi))
    whole = np.arange(np.ceil(turns[0]), np.floor(turns[-1]) + 1)
    return np.asarray(np.interp(whole, turns, np.arange(len(phase), dtype=np.float64)))


def struck(rng: np.random.Generator, strokes: int, missed: float) -> NDArray[np.bool_]:
    """Say which strokes happen, (E,): of the share `missed` that fails, at least one."""
    return np.asarray(rng.permutation(strokes) >= np.ceil(missed * strokes))


def impulses(times: Signal, amplitudes: ArrayLike, n: int) -> Signal:
    """Impulses at fractional sample times, spread over two samples; those outside are dropped."""
    weights = np.broadcast_to(np.asarray(amplitudes, dtype=np.float64), times.shape)
    inside = (times >= 0) & (times < n - 1)
    times, weights = times[inside], weights[inside]
    left = np.floor(times).astype(np.int64)
    part = times - left
    out = np.bincount(left, weights=weights * (1 - part), minlength=n)
    out += np.bincount(left + 1, weights=weights * part, minlength=n)
    return np.asarray(out[:n])


def ring(
    excitation: Signal,
    modes_hz: Sequence[float] | Signal,
    decay_s: Sequence[float] | Signal,
    gains: Sequence[float] | Signal,
    *,
    per_second: float = RATE,
) -> Signal:
    """Excite damped modes, ``h(t) = sum_i g_i exp(-t / tau_i) sin(2 pi f_i t)``.

    ``h`` has unit energy; ``per_second`` unit impulses a second give an RMS of 1.
    """
    tau = np.asarray(decay_s, dtype=np.float64)
    t = np.arange(int(6 * tau.max() * RATE) + 2) / RATE
    response = np.zeros(len(t))
    for f, decay, gain in zip(modes_hz, tau, gains, strict=True):
        response += gain * np.exp(-t / decay) * np.sin(2 * np.pi * f * t)
    response *= np.sqrt(RATE / per_second / np.sum(response**2))
    return np.asarray(oaconvolve(excitation, response)[: len(excitation)])


def in_band(signal: Signal, low_hz: float, high_hz: float) -> Signal:
    """Part of a signal between two frequencies; the edges are raised cosines of 1/3 octave."""
    size = next_fast_len(len(signal), real=True)
    f = np.maximum(rfftfreq(size, 1 / RATE), 1.0)
    up = np.clip(np.log2(f / low_hz) * 3 + 0.5, 0, 1)
    down = np.clip(np.log2(high_hz / f) * 3 + 0.5, 0, 1)
    mask = np.sin(0.5 * np.pi * up) ** 2 * np.sin(0.5 * np.pi * down) ** 2
    return np.asarray(irfft(rfft(signal, size) * mask, size)[: len(signal)])
