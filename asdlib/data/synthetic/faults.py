"""Anomalies with a physical cause, a severity and a frequency band.

Two kinds of fault:

- a fault that *emits*: something new is heard (imbalance, worn bearing, leak, loose part). Its
  sound ``e`` is made in a band and added to the healthy machine ``x``:
  ``x + g s e``, s the severity 0 … 1. ``g`` is set so that at s = 1 the power of ``e``, while it is
  on (`episodes`), is ``contrast_db`` above the noise floor in the band (`noise_floor_power`, a
  geometric mean, which leaves tones out). So equal severities are about equally audible in each
  band.
- a fault that *changes* the operation (clogging, voltage change): the same clip of the machine is
  made again at another operating point, and is heard inside the band only; outside it the machine
  sounds healthy.

Bands: "low" 80 Hz … 1 kHz, "mid" 1 … 4 kHz, "high" 4 … 7.6 kHz, and "natural": where the cause
is heard on a real machine (`Cause.natural_hz`); a change of operation is heard everywhere then.
"""

import json
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Literal

import numpy as np
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

BANDS = {"low": (80.0, 1000.0), "mid": (1000.0, 4000.0), "high": (4000.0, 7600.0)}
"""Frequency bands of a fault in Hz; "natural" is the cause's own."""


@dataclass(frozen=True, slots=True)
class Cause:
    """One physical cause of an anomaly."""

    kind: Literal["emits", "changes"]
    natural_hz: tuple[float, float]
    """Band in which the cause is heard on a real machine."""
    contrast_db: float
    """Power of the emission at severity 1 over the machine's noise floor in the band."""
    summary: str
    """What happens in the machine."""


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
      around the centre.
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
    bursts = rng.uniform(0, n, rng.poisson(n / RATE * rng.uniform(3.0, 6.0)) + 1)
    gaps = rng.exponential(0.008 * RATE, (len(bursts), 4)).cumsum(axis=1)
    times = (bursts[:, None] + gaps).ravel()
    strength = rng.lognormal(0.0, 0.5, len(times))
    modes = [0.85 * centre_hz, 1.15 * centre_hz]
    return ring(impulses(times, strength, n), modes, [0.004, 0.004], [1.0, 0.8])


def noise_floor_power(audio: Signal, low_hz: float, high_hz: float) -> float:
    """Power of the noise floor in a band, as heard in an ordinary factory.

    Geometric mean of the machine's power spectrum plus that of noise N(300, 6) at an SNR of 6 dB,
    times the width of the band. The SNR of the corpus does not enter: more noise hides faults.
    """
    f, density = welch(audio, RATE, nperseg=1024)
    factory = rolloff(300.0, 6.0, rise_hz=30.0)(np.maximum(f, 1.0)) ** 2
    factory *= np.mean(audio**2) * 10**-0.6 / np.sum(factory * f[1])
    inside = (density + factory)[(f >= low_hz) & (f <= high_hz)]
    return float(np.exp(np.mean(np.log(inside + 1e-20))) * (high_hz - low_hz))


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
    n = len(healthy.audio)
    low, high = band_edges(cause, band)
    rng = generator(*key, "fault")
    if CAUSES[cause].kind == "changes":
        if cause == "clogging":
            changed = replace(point, flow=point.flow * (1 - 0.35 * severity))
        else:
            sign = 1 if rng.uniform() < 0.5 else -1
            changed = replace(point, voltage=point.voltage * (1 + sign * 0.09 * severity))
        identity, streams = machine.identity(section), generator(*key, "machine")
        faulty = machine.sound(identity, changed, streams, n).audio
        if band == "natural":
            return faulty
        return healthy.audio + in_band(faulty - healthy.audio, low, high)
    centre = fault_centre(machine.name, section, cause, band) * np.exp(0.04 * rng.standard_normal())
    gate = episodes(rng, n)
    sound = in_band(emission(cause, healthy, centre, rng) * gate, low, high)
    target = noise_floor_power(healthy.audio, low, high) * 10 ** (CAUSES[cause].contrast_db / 10)
    power = float(np.mean(sound**2) / np.mean(gate**2))
    return np.asarray(healthy.audio + severity * np.sqrt(target / max(power, 1e-20)) * sound)
