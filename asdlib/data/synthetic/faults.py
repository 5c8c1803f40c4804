"""Anomalies with a physical cause, a severity and a frequency band.

Faults of *energy* change the mean spectrum. Faults of *pattern* (slack, missed strokes, surging,
rare clicks) keep it: the faulty sound is equalised to the mean log spectrum of the healthy one
(`equalised`), so that only its course in time can give it away. Either is made in one of two ways:

- a fault that *emits*: something new is heard (imbalance, worn bearing, leak, loose part, clicks).
  Its sound ``e`` is made in a band and added to the healthy machine ``x``: ``x + g s e``, s the
  severity 0 … 1. ``g`` is set so that at s = 1 the power of ``e``, while it is on (`episodes`), is
  ``contrast_db`` above the noise floor in the band (`noise_floor_power`, a geometric mean, which
  leaves tones out). So equal severities are about equally audible in each band.
- a fault that *changes* the operation (clogging, voltage change, slack …): the same clip of the
  machine is made again at another operating point, and is heard inside the band only; outside it
  the machine sounds healthy.

Bands: "low" 80 Hz … 1 kHz, "mid" 1 … 4 kHz, "high" 4 … 7.6 kHz, and "natural": where the cause
is heard on a real machine (`Cause.natural_hz`); a change of operation is heard everywhere then.
"""

import json
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.ndimage import gaussian_filter1d
from scipy.signal import welch

from asdlib.data.synthetic.machines import Machine, MachineSound, OperatingPoint
from asdlib.data.synthetic.signals import (
    RATE,
    Signal,
    coloured_noise,
    crossings,
    generator,
    hump,
    impulses,
    in_band,
    ring,
    rolloff,
    wander,
)

_FRAME = 1024
_ROUNDS = 4

BANDS = {"low": (80.0, 1000.0), "mid": (1000.0, 4000.0), "high": (4000.0, 7600.0)}
"""Frequency bands of a fault in Hz; "natural" is the cause's own."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One physical cause of an anomaly."""

    kind: Literal["energy", "pattern"]
    """Whether the mean spectrum changes, or only the course in time."""
    natural_hz: tuple[float, float]
    """Band in which the cause is heard on a real machine."""
    summary: str
    """What happens in the machine."""
    contrast_db: float = 0.0
    """Power of the emission at severity 1 over the machine's noise floor in the band."""
    changes: tuple[str, float] | None = None
    """Field of the operating point and its change at severity 1; None for a fault that emits."""


_TABLE = json.loads(files(__package__).joinpath("causes.json").read_text(encoding="utf-8"))

CAUSES = {name: Cause(**said) for name, said in _TABLE.items()}
"""The causes, by name."""


def band_edges(cause: str, band: str) -> tuple[float, float]:
    """Edges in Hz of the band in which a cause is heard."""
    return CAUSES[cause].natural_hz if band == "natural" else BANDS[band]


def fault_centre(machine: str, section: str, cause: str, band: str) -> float:
    """Centre frequency (Hz) at which an ID radiates a fault: a constant of the ID."""
    low, high = band_edges(cause, band)
    place = generator("fault", machine, section, cause).uniform(0.25, 0.75)
    return float(low * (high / low) ** place)


def episodes(rng: np.random.Generator, n: int) -> Signal:
    """Gate, 0 … 1 with soft edges, of a fault that is there for 40 … 90 % of the clip, (S,)."""
    walk = wander(rng, n, rate_hz=1.5)
    level = np.quantile(walk, 1 - rng.uniform(0.4, 0.9))
    return np.asarray(0.5 * (1 + np.tanh(8 * (walk - level))))


def emission(cause: str, sound: MachineSound, centre_hz: float, rng: np.random.Generator) -> Signal:
    """Sound of a fault that emits, on a free scale, (S,).

    - imbalance: noise, a bell 0.5 octaves wide at the centre, in bursts once a turn
      (``max(0, cos phi)^3`` with phi slowed to at most 12 turns a second);
    - worn bearing: impulses at 3.6 times the shaft frequency (at least 8 a second), 1.5 % slip,
      modulated once a turn by the load zone, ring the housing at the centre, Q ≈ 15;
    - leak: stationary noise, a bell 0.4 octaves wide, that swells slowly by ±2 dB;
    - loose part: three to six bursts of impacts a second at random, each a few hits, ring two modes
      around the centre;
    - rare clicks: one or two single hits a second, at random, ring the same modes for 2 ms.
    """
    n = len(sound.phase)
    if cause == "leak":
        noise = coloured_noise(rng, n, hump(centre_hz, 0.4))
        return np.asarray(noise * 10 ** (wander(rng, n, rate_hz=1.0) * 2 / 20))
    if cause == "imbalance":
        order = 1.0 / np.ceil(sound.hz / 12.0)
        rub = np.maximum(0.0, np.cos(order * sound.phase)) ** 3
        return np.asarray(coloured_noise(rng, n, hump(centre_hz, 0.5)) * rub)
    if cause == "worn bearing":
        order = 3.6 * max(1.0, np.ceil(8.0 / (3.6 * sound.hz)))
        times = crossings(sound.phase, order)
        slip = 0.015 * RATE / (order * sound.hz) * rng.standard_normal(len(times))
        zone = 1 + 0.7 * np.cos(np.interp(times, np.arange(n), sound.phase))
        hits = impulses(times + slip, zone * rng.lognormal(0.0, 0.3, len(times)), n)
        return ring(hits, [centre_hz], [15 / (np.pi * centre_hz)], [1.0])
    modes = [0.85 * centre_hz, 1.15 * centre_hz]
    if cause == "rare clicks":
        times = rng.uniform(0, n, int(n / RATE * rng.uniform(1.0, 2.0)) + 1)
        hits = impulses(times, rng.lognormal(0.0, 0.3, len(times)), n)
        return ring(hits, modes, [0.002, 0.002], [1.0, 0.8])
    bursts = rng.uniform(0, n, rng.poisson(n / RATE * rng.uniform(3.0, 6.0)) + 1)
    gaps = rng.exponential(0.008 * RATE, (len(bursts), 4)).cumsum(axis=1)
    times = (bursts[:, None] + gaps).ravel()
    strength = rng.lognormal(0.0, 0.5, len(times))
    return ring(impulses(times, strength, n), modes, [0.004, 0.004], [1.0, 0.8])


def factory_power(audio: Signal, f: Signal) -> Signal:
    """Power density at `f` (Hz) of factory noise N(300, 6) at an SNR of 6 dB, (F,).

    The SNR of the corpus does not enter: more noise hides faults.
    """
    density = rolloff(300.0, 6.0, rise_hz=30.0)(np.maximum(f, 1.0)) ** 2
    return np.asarray(density * np.mean(audio**2) * 10**-0.6 / np.sum(density * f[1]))


def noise_floor_power(audio: Signal, low_hz: float, high_hz: float) -> float:
    """Power of the noise floor in a band, as heard in an ordinary factory.

    Geometric mean of the power spectra of the machine and of `factory_power`, times the width of
    the band.
    """
    f, density = welch(audio, RATE, nperseg=_FRAME)
    inside = (density + factory_power(audio, f))[(f >= low_hz) & (f <= high_hz)]
    return float(np.exp(np.mean(np.log(inside + 1e-20))) * (high_hz - low_hz))


def equalised(sound: Signal, like: Signal) -> Signal:
    """Filter a sound so that in a factory its mean log spectrum is that of another, (S,)."""
    window = np.hanning(_FRAME)
    f = rfftfreq(_FRAME, 1 / RATE)
    spectra = [
        np.abs(rfft(sliding_window_view(x, _FRAME)[:: _FRAME // 4] * window)) ** 2
        for x in (sound, like)
    ]
    noise = factory_power(like, f) * RATE / 2 * np.sum(window**2)
    wanted = np.log(spectra[1] + noise).mean(axis=0)
    gain = np.zeros(len(f))
    for _ in range(_ROUNDS):
        found = np.log(spectra[0] * np.exp(gain) + noise).mean(axis=0)
        gain = np.clip(gain + gaussian_filter1d(wanted - found, 2.0), -3.0, 3.0)
    size = next_fast_len(len(sound), real=True)
    curve = np.exp(0.5 * np.interp(rfftfreq(size, 1 / RATE), f, gain))
    return np.asarray(irfft(rfft(sound, size) * curve, size)[: len(sound)])


def apply_fault(
    machine: Machine,
    section: str,
    cause: str,
    severity: float,
    band: str,
    point: OperatingPoint,
    healthy: MachineSound,
    key: tuple[object, ...],
) -> Signal:
    """Return the sound of the machine with a fault, (S,).

    `point` and `healthy` are operating point and sound of the healthy clip, which the streams
    ``(*key, "machine")`` made.
    """
    said, n = CAUSES[cause], len(healthy.audio)
    low, high = band_edges(cause, band)
    rng = generator(*key, "fault")
    if said.changes:
        name, amount = said.changes
        if name == "voltage" and rng.uniform() >= 0.5:
            amount = -amount
        changed = replace(point, **{name: getattr(point, name) + amount * severity})
        identity, streams = machine.identity(section), generator(*key, "machine")
        faulty = machine.sound(identity, changed, streams, n).audio
    else:
        centre = fault_centre(machine.name, section, cause, band)
        centre *= np.exp(0.04 * rng.standard_normal())
        gate = episodes(rng, n) if said.kind == "energy" else np.ones(n)
        sound = in_band(emission(cause, healthy, centre, rng) * gate, low, high)
        floor = noise_floor_power(healthy.audio, low, high)
        power = float(np.mean(sound**2) / np.mean(gate**2))
        gain = np.sqrt(floor * 10 ** (said.contrast_db / 10) / max(power, 1e-20))
        faulty = healthy.audio + severity * gain * sound
    if said.kind == "pattern":
        faulty = equalised(faulty, healthy.audio)
    if band == "natural" and said.changes:
        return faulty
    return healthy.audio + in_band(faulty - healthy.audio, low, high)
