"""What every machine model shares: its identity, its operating point, the sound it returns.

A model is a function ``sound(identity, point, rng, n)``. The *identity* holds the constants of one
machine (teeth, blades, resonances …), drawn once from the model's declared ranges; all clips of an
ID share it. The *operating point* holds what changes from clip to clip. The same generator state
with another operating point gives the same clip of a machine in another state: that is how faults
that change the operation (a wrong voltage, a clogged inlet) are made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from asdlib.data.synthetic.signals import Signal, decibel, generator

Identity = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """State of a machine in one clip.

    Attributes
    ----------
    speed : float
        Speed over nominal speed that the controller asks for.
    load : float
        Load, 0 … 1.
    flow : float
        Free cross-section for air or fluid, or free travel of a moving part: 1 is clean,
        0 blocked.
    voltage : float
        Supply over nominal supply.
    spread_db : float
        Standard deviation of the level of each part of the sound.
    """

    speed: float = 1.0
    load: float = 0.5
    flow: float = 1.0
    voltage: float = 1.0
    spread_db: float = 1.0

    @property
    def pace(self) -> float:
        """Speed over nominal speed that results from what is asked for and from the supply."""
        return self.speed * self.voltage


@dataclass(frozen=True, slots=True)
class MachineSound:
    """Sound of a machine close by, and the shaft that a fault can be locked to.

    Attributes
    ----------
    audio : numpy.ndarray
        Sound pressure on a free scale, (S,).
    phase : numpy.ndarray
        Angle of the main shaft in radians, (S,).
    hz : float
        Mean frequency of the main shaft.
    """

    audio: Signal
    phase: Signal
    hz: float


SoundFunction = Callable[[Identity, OperatingPoint, np.random.Generator, int], MachineSound]


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine type.

    Attributes
    ----------
    name : str
        Official name of the machine type.
    ranges : Mapping[str, tuple[float, float]]
        Constants of an ID and the ranges that they are drawn from, uniformly; whole numbers where
        both ends are written as ``int``.
    causes : tuple[str, ...]
        Causes of anomaly that this machine can have (`asdlib.data.synthetic.anomalies.CAUSES`).
    sound : Callable
        The model; its docstring holds the equations.
    """

    name: str
    ranges: Mapping[str, tuple[float, float]]
    causes: tuple[str, ...]
    sound: SoundFunction

    def identity(self, section: str) -> Identity:
        """Constants of one ID: the same for every corpus and every seed."""
        rng = generator("identity", self.name, section)
        drawn: dict[str, float] = {}
        for key, (low, high) in self.ranges.items():
            if isinstance(low, int) and isinstance(high, int):
                drawn[key] = float(rng.integers(low, high + 1))
            else:
                drawn[key] = float(rng.uniform(low, high))
        return drawn


def mix(
    rng: np.random.Generator, point: OperatingPoint, parts: Mapping[str, tuple[float, Signal]]
) -> Signal:
    """Sum parts of a sound, each ``(gain in dB, signal)``; the gains vary from clip to clip."""
    shifts = rng.standard_normal(len(parts)) * point.spread_db
    total = np.zeros(len(next(iter(parts.values()))[1]))
    for (gain, part), shift in zip(parts.values(), shifts, strict=True):
        total += decibel(gain + shift) * part
    return total


def ratio_db(value: float, exponent: float) -> float:
    """Gain in dB of an amplitude that goes with ``value ** exponent``."""
    return float(20 * exponent * np.log10(max(value, 1e-3)))
