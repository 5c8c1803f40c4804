"""Recording conditions, and how they shift from the source to the target domain.

Four conditions, as in DCASE 2022: ``spd`` (speed in % of nominal), ``load`` (%), ``mic`` (number of
a microphone place) and ``noise`` (number of a factory noise). A section shifts one of them, section
00 the first, 01 the second and so on, in this order; the others keep to their source values. The
value is in the file name: the one that shifts for machines of the factory (``spd_104``), all four
for the toys (``spd_96_load_30_mic_1_noise_2``).

In the 2020 layout there are no domains: speed and load vary freely around the source values, and
the three source noises are mixed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

CONDITIONS: Mapping[str, Mapping[str, tuple[int, ...]]] = MappingProxyType(
    {
        "spd": {"source": (96, 100, 104), "target": (84, 116)},
        "load": {"source": (30, 45, 60), "target": (5, 95)},
        "mic": {"source": (1, 2), "target": (3, 4)},
        "noise": {"source": (1, 2, 3), "target": (4, 5)},
    }
)
"""Values of each condition in both domains."""

MICROPHONES: Mapping[int, tuple[float, float]] = MappingProxyType(
    {1: (0.8, 0.0), 2: (1.0, -0.4), 3: (0.3, 0.8), 4: (2.2, -1.6)}
)
"""Microphone place → distance in m, tilt of its frequency response in dB an octave."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Conditions of one recording: the attributes in its name, and what they mean.

    Attributes
    ----------
    attributes : str
        Part of the file name, ``""`` in the 2020 layout.
    speed, load : float
        For the operating point.
    mic : int
        Key of `MICROPHONES`.
    noises : tuple[int, ...]
        Numbers of the factory noises in the background.
    """

    attributes: str
    speed: float
    load: float
    mic: int
    noises: tuple[int, ...]


def shifted_condition(section: str) -> str:
    """Return the condition that shifts in a section of the 2022 layout."""
    return tuple(CONDITIONS)[int(section) % len(CONDITIONS)]


def draw_conditions(
    rng: np.random.Generator, layout: str, machine: str, section: str, domain: str, variation: float
) -> Conditions:
    """Draw the conditions of one clip.

    Parameters
    ----------
    rng
        The clip's generator.
    layout, machine, section, domain
        Where the clip stands.
    variation
        Scale of the natural variation: speed ±2 % and load ±0.15 (standard deviations) at 1.
    """
    shifted = shifted_condition(section)
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
