"""The place of a recording: conditions, room, microphone, factory noise, level.

``y = G M ((x * h_d) + b)``: machine sound x through the room response h at distance d, background
b at the chosen signal-to-noise ratio, microphone M (tilt, low cut, self noise), level G. All
signals are (S,) float64 at 16 kHz.

Four conditions, as in DCASE 2022: ``spd`` (speed in % of nominal), ``load`` (%), ``mic`` (number of
a microphone place) and ``noise`` (number of a factory noise). A section shifts one of them from the
source to the target domain, section 00 the first, 01 the second and so on, in this order, and where
a machine has but one section, its place in the list of machine types counts; the others keep to
their source values. The value is in the file name: the one that shifts for machines
of the factory (``spd_104``), all four for the toys (``spd_96_load_30_mic_1_noise_2``).

In the 2020 layout there are no domains: speed and load vary freely around the source values, and
the three source noises are mixed.

A far microphone, as in DCASE 2026, stands at the source of the noise, which reaches the near one
along a path of its own in each room, ``b = p * n``. The far one hears ``n`` and a little of the
machine: ``y' = G' (n + 10^(L/20) (x * h_d))``, L being `FAR_LEAKAGE_DB`, 3 ms late.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from scipy.signal import oaconvolve

from asdlib.data.synthetic.signals import (
    RATE,
    Signal,
    coloured_noise,
    generator,
    harmonics,
    impulses,
    ring,
    rolloff,
    shaft_phase,
    wander,
)

CONDITIONS: dict[str, dict[str, tuple[int, ...]]] = {
    "spd": {"source": (96, 100, 104), "mild": (90, 110), "hard": (84, 116)},
    "load": {"source": (30, 45, 60), "mild": (15, 80), "hard": (5, 95)},
    "mic": {"source": (1, 2), "mild": (3, 4), "hard": (5, 6)},
    "noise": {"source": (1, 2, 3), "mild": (4, 5), "hard": (4, 5)},
}
"""Values of each condition in the source domain, and in the target domain of both shifts."""

MICROPHONES = {
    1: (0.8, 0.0), 2: (1.0, -0.4), 3: (0.65, 0.4), 4: (1.3, -0.8), 5: (0.3, 0.8), 6: (2.2, -1.6),
}  # fmt: skip
"""Microphone place → distance in m, tilt of its frequency response in dB an octave."""

PEAK_LIMIT = 0.9
"""Highest sample value; louder clips are turned down as a whole."""

FAR_LEAKAGE_DB = -15.0
"""Level of the machine at the far microphone relative to the near one, in dB; the noise is equally
loud at both."""

FAR_LEVEL_DB = -32.0
"""Level of the far recording, in dB re full scale for a sound of unit power."""

_PATH = 128  # samples of the path from the noise to the near microphone

SELF_NOISE_DB = -88.0
"""Level of the recorder's white noise in dB re full scale."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions of one recording: the attributes in its name, and what they mean."""

    attributes: str
    """Part of the file name, empty in the 2020 layout."""
    speed: float
    load: float
    mic: int
    """Key of `MICROPHONES`."""
    noises: tuple[int, ...]
    """Numbers of the factory noises in the background."""


def draw_conditions(
    rng: np.random.Generator, layout: str, machine: str, number: int, domain: str, variation: float
) -> Conditions:
    """Draw the conditions of one clip; `domain` is a key of each of `CONDITIONS`.

    `number` says which of them shifts.

    `variation` scales the natural variation: speed ±2 % and load ±0.15 (standard deviations) at 1.
    """
    shifted = tuple(CONDITIONS)[number % len(CONDITIONS)]
    values = {
        name: int(rng.choice(options[domain if name == shifted else "source"]))
        for name, options in CONDITIONS.items()
    }
    speed = 1 + 0.02 * variation * rng.standard_normal()
    load = 0.45 + 0.15 * variation * rng.standard_normal()
    if layout == "dcase2020":
        return Conditions("", float(speed), float(np.clip(load, 0, 1)), 1, (1, 2, 3))
    shown = values if machine.startswith("Toy") else {shifted: values[shifted]}
    # Around the setting in the name the machine keeps to a third of its free variation.
    return Conditions(
        "_".join(f"{name}_{value}" for name, value in shown.items()),
        values["spd"] / 100 * (1 + (speed - 1) / 3),
        float(np.clip(values["load"] / 100 + (load - 0.45) / 3, 0, 1)),
        values["mic"],
        (values["noise"],),
    )


def noise_path(machine: str) -> Signal:
    """Way of the noise from far to near in the room of a machine type, (S,), of unit energy.

    Direct sound within 3 ms and three reflections, all within 8 ms.
    """
    rng = generator("path", machine)
    places = np.append(rng.uniform(8, 48), rng.uniform(48, _PATH - 2, 3))
    path = impulses(places, np.append(1.0, rng.uniform(-0.4, 0.4, 3)), _PATH)
    return np.asarray(path / np.sqrt(np.sum(path**2)))


@lru_cache(maxsize=64)
def reflections(machine: str) -> Signal:
    """Reflections in the room of a machine type: what follows the direct sound, which is 1 at 1 m.

    Eight early ones within 25 ms, and a tail that decays by 60 dB in 0.15 … 0.45 s, high
    frequencies twice as fast, 12 … 6 dB below the direct sound.
    """
    rng = generator("room", machine)
    t60 = rng.uniform(0.15, 0.45)
    n = int(t60 * RATE)
    t = np.arange(n) / RATE
    dull = coloured_noise(rng, n, rolloff(1500.0, 6.0)) * np.exp(-6.9 * t / t60)
    bright = rng.standard_normal(n) * np.exp(-13.8 * t / t60)
    tail = dull + 0.5 * bright
    tail *= 10 ** (rng.uniform(-12, -6) / 20) / np.sqrt(np.sum(tail**2))
    places = rng.uniform(0.002, 0.025, 8)
    early = rng.uniform(-0.25, 0.25, 8)
    response = tail + impulses(places * RATE, early, n)
    response[: int(0.002 * RATE)] *= 0.2
    response.flags.writeable = False  # one array for all callers
    return response


def factory_noise(rng: np.random.Generator, number: int, n: int, *, variation: float) -> Signal:
    """One of the factory noises: coloured noise, a neighbouring machine, and bangs; RMS near 1.

    Each number has its own constants; from clip to clip slope, neighbour and swells vary.
    """
    own = generator("factory", number)
    corner, slope = own.uniform(120, 500), own.uniform(5.0, 7.0)
    shaft, gear, rate = own.uniform(30, 90), own.integers(8, 30), own.uniform(0.03, 0.15)
    modes = own.uniform(300, 3500, 3)
    slope += 0.25 * variation * rng.standard_normal()
    noise = coloured_noise(rng, n, rolloff(corner, slope, rise_hz=30.0))
    noise *= 10 ** (0.06 * variation * wander(rng, n, rate_hz=0.7))
    phase = shaft_phase(rng, shaft * (1 + 0.02 * rng.standard_normal()), n, unsteady=0.002)
    tones = harmonics(rng, phase, shaft, [1.0, 0.7, 0.5, 0.3, 0.3, 0.2])
    tones += 0.2 * harmonics(rng, gear * phase, gear * shaft, [1.0, 0.5])
    noise += tones * 10 ** ((-12 + 3 * variation * rng.standard_normal()) / 20)
    events = rng.uniform(0, n, rng.poisson(rate * n / RATE))
    if not len(events):
        return np.asarray(noise)
    hits = impulses(events, rng.lognormal(0.0, 0.6, len(events)), n)
    bangs = ring(hits, modes, [0.05, 0.03, 0.02], rng.uniform(0.3, 1.0, 3), per_second=RATE)
    return np.asarray(noise + bangs * np.sqrt(RATE * 0.02))


def record(
    sound: Signal,
    reference_power: float,
    machine: str,
    section: str,
    conditions: Conditions,
    *,
    snr_db: float,
    variation: float,
    rng: np.random.Generator,
    part: str = "both",
    far: bool = False,
) -> Signal:
    """Record the sound of a machine; return the samples, (S,) float64, full scale 1.

    With a `far` microphone the shape is (S, 2), near and far.

    Parameters
    ----------
    sound
        The machine, with its fault if it has one, (S,).
    reference_power
        Mean square of the healthy machine; SNR and level refer to it, so that neither shows
        whether there is a fault.
    machine, section, conditions
        They choose room, microphone and noises.
    snr_db
        Signal-to-noise ratio at 1 m.
    variation
        Scale of the natural variation: at 1, standard deviations of 1.5 dB for level and SNR, of
        0.4 dB an octave for the microphone's tilt, and of 1.6 dB in each octave.
    rng
        The scene's generator.
    part
        What is heard: "both", or the "machine" or the "noise" alone.
    far
        Whether there is a far microphone.
    """
    n = len(sound)
    distance, tilt = MICROPHONES[conditions.mic]
    distance *= 1 + 0.05 * variation * rng.standard_normal()
    # Direct sound 1/d, then reflections, which do not depend on the distance; unit energy at 1 m.
    response = reflections(machine).copy()
    energy = float(np.sum(response**2)) + 1.0
    response[0] += 1.0 / distance
    wet = oaconvolve(sound, response / np.sqrt(energy))[:n] / np.sqrt(reference_power)
    snr = snr_db + 1.5 * variation * rng.standard_normal()
    weights = np.sqrt(rng.dirichlet(np.full(len(conditions.noises), 2.0)))
    noise = np.zeros(n)
    for number, weight in zip(conditions.noises, weights, strict=True):
        noise += weight * factory_noise(rng, number, n, variation=variation)
    noise = noise / np.sqrt(np.mean(noise**2)) * 10 ** (-snr / 20)
    level_db = generator("level", machine).uniform(-36.0, -28.0)
    level_db += generator("level", machine, section).uniform(-0.5, 0.5)
    level_db += 1.5 * variation * rng.standard_normal()
    tilt += 0.4 * variation * rng.standard_normal()
    size = next_fast_len(n, real=True)
    f = np.maximum(rfftfreq(size, 1 / RATE), 1.0)
    # Anti-aliasing filter of the recorder, low cut of the capsule, tilt around 1 kHz.
    curve = (f / 1000.0) ** (tilt / 6.02) / np.sqrt(1 + (35.0 / f) ** 4)
    curve /= np.sqrt(1 + (f / 7700.0) ** 60)
    # The place of the microphone is never quite the same: a colour of its own for every clip.
    knots = 1.6 * variation * rng.standard_normal(8)
    curve *= 10 ** ((level_db + np.interp(np.log2(f / 62.5), np.arange(8), knots)) / 20)
    heard = {"machine": wet, "noise": noise}
    if part != "both":
        heard = {part: heard[part]}
    if far:
        path = {"machine": np.ones(1), "noise": noise_path(machine)}
        leak = np.zeros(48)
        leak[-1] = 10 ** (FAR_LEAKAGE_DB / 20)
        way = {"machine": leak, "noise": np.ones(1)}
        away = np.sum([oaconvolve(sound, way[name])[:n] for name, sound in heard.items()], axis=0)
        heard = {name: oaconvolve(sound, path[name])[:n] for name, sound in heard.items()}
    audio = np.sum([irfft(rfft(sound, size) * curve, size)[:n] for sound in heard.values()], axis=0)
    audio = audio + 10 ** (SELF_NOISE_DB / 20) * rng.standard_normal(n)
    if far:
        away = 10 ** (FAR_LEVEL_DB / 20) * away
        away += 10 ** (SELF_NOISE_DB / 20) * rng.standard_normal(n)
        audio = np.stack([audio, away], axis=1)
    gain = min(1.0, PEAK_LIMIT / float(np.max(np.abs(audio))))
    return np.asarray(gain * audio)
