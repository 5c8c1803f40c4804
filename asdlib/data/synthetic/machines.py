"""The machines: their identity, their operating point, and the equations of their sound.

The *identity* of a machine holds the constants of one ID (teeth, blades, resonances …), drawn once
from the ranges in ``machines.json``. The *operating point* holds what changes from clip to clip;
the same random streams with another one give the same clip of a machine in another state. The
equations are explained in notebook 15.

In the models ``f`` is the shaft frequency in Hz, ``phi`` the shaft angle, ``v`` the pace, ``q`` the
free flow. Levels are in dB, relative to each other only. Signals are (S,), S samples.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.resources import files

import numpy as np

from asdlib.data.synthetic.signals import (
    RATE,
    Signal,
    coloured_noise,
    crossings,
    decaying,
    generator,
    harmonics,
    hump,
    impulses,
    ring,
    rolloff,
    shaft_phase,
    struck,
)

MAINS_HZ = 50.0
_MOST_STREAMS = 11

Identity = Mapping[str, float]
Streams = Iterator[np.random.Generator]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """State of a machine in one clip."""

    speed: float = 1.0
    """Speed over nominal speed that the controller asks for."""
    load: float = 0.5
    flow: float = 1.0
    """Free cross-section for air or fluid, or free travel: 1 is clean, 0 blocked."""
    voltage: float = 1.0
    """Supply over nominal supply."""
    unsteady: float = 1.0
    """Scale of how far speed and strokes stray from their rhythm."""
    missed: float = 0.0
    """Share of strokes that fail."""
    surge_db: float = 0.0
    """Depth of the slow swing of the level beyond the machine's own."""
    spread_db: float = 1.0
    """Standard deviation of the level of each part of the sound."""

    @property
    def pace(self) -> float:
        """Speed over nominal speed that results from what is asked for and from the supply."""
        return self.speed * self.voltage


@dataclass(frozen=True, slots=True)
class MachineSound:
    """Sound of a machine close by, and the shaft that a fault can be locked to."""

    audio: Signal
    """Sound pressure on a free scale."""
    phase: Signal
    """Angle of the main shaft in radians."""
    hz: float
    """Mean frequency of the main shaft."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine type."""

    name: str
    ranges: Mapping[str, tuple[float, float]]
    """Constants of an ID and the ranges that they are drawn from, uniformly; whole numbers where
    both ends are written as ``int``."""
    causes: tuple[str, ...]
    """Causes of anomaly that this machine can have (`asdlib.data.synthetic.faults.CAUSES`)."""
    equations: "Model"

    def identity(self, section: str) -> Identity:
        """Return the constants of one ID: the same for every corpus and every seed."""
        rng = generator("identity", self.name, section)
        return {
            key: float(
                rng.integers(low, high + 1)
                if isinstance(low, int) and isinstance(high, int)
                else rng.uniform(low, high)
            )
            for key, (low, high) in self.ranges.items()
        }

    def sound(
        self, identity: Identity, point: OperatingPoint, rng: np.random.Generator, n: int
    ) -> MachineSound:
        """Return `n` samples; the gains of the parts vary from clip to clip.

        The level swings slowly, ``swing_hz`` times a second by ±``swing_db``.
        """
        streams = iter(rng.spawn(_MOST_STREAMS))
        parts, phase, hz = self.equations(identity, point, streams, n)
        shifts = next(streams).standard_normal(len(parts)) * point.spread_db
        audio = np.zeros(n)
        for (gain, part), shift in zip(parts, shifts, strict=True):
            audio += np.power(10.0, (gain + shift) / 20) * part
        turns = identity["swing_hz"] / RATE * np.arange(n) + next(streams).uniform()
        swing = (identity["swing_db"] + point.surge_db) * np.sin(2 * np.pi * turns)
        return MachineSound(audio * np.power(10.0, swing / 20), phase, hz)


Heard = tuple[list[tuple[float, Signal]], Signal, float]
"""Parts of a sound as (gain in dB, signal), angle and mean frequency of the main shaft."""
Model = Callable[[Identity, OperatingPoint, Streams, int], Heard]

_TABLE = json.loads(files(__package__).joinpath("machines.json").read_text(encoding="utf-8"))

MACHINES: dict[str, Machine] = {}
"""All machine types, by their official names."""


def _machine(name: str) -> Callable[[Model], Model]:
    """Register a model under the name of its machine type."""

    def register(model: Model) -> Model:
        ranges, causes = _TABLE[name]["ranges"], tuple(_TABLE[name]["causes"])
        MACHINES[name] = Machine(name, ranges, causes, model)
        return model

    return register


def ratio_db(value: float, exponent: float) -> float:
    """Gain in dB of an amplitude that goes with ``value ** exponent``."""
    return float(20 * exponent * np.log10(max(value, 1e-3)))


def trapezoid(angle: Signal, ramp: float) -> Signal:
    """Speed of a carriage over one cycle: forth and back, ramps at the ends, ±1 between them."""
    return np.asarray(np.clip(np.sin(angle) / np.sin(0.5 * np.pi * ramp), -1.0, 1.0))


@_machine("fan")
def fan(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Axial fan: blade-pass tones, flow noise in beats of the blades, motor hum."""
    v, q = point.pace, point.flow
    f = own["shaft_hz"] * v * (1.03 - 0.06 * point.load) * (1 + 0.04 * (1 - q))
    phi = shaft_phase(next(streams), f, n, unsteady=0.005 * point.unsteady)
    blades = own["blades"]
    tones = harmonics(next(streams), blades * phi, blades * f, decaying(12, own["tone_fall"]))
    tones *= 1 + 0.2 * np.cos(phi)
    air = coloured_noise(next(streams), n, rolloff(own["flow_hz"] * v * q, 6.0, rise_hz=60.0))
    air *= 1 + own["beat"] * np.cos(blades * phi)
    stall = coloured_noise(next(streams), n, hump(110.0, 0.7))
    hum_phase = shaft_phase(next(streams), 2 * MAINS_HZ, n, unsteady=0.0)
    hum = harmonics(next(streams), hum_phase, 2 * MAINS_HZ, decaying(8, 1.2))
    parts = [
        (own["tone_db"] + ratio_db(v, 2), tones),
        (ratio_db(v, 3) + ratio_db(q, 1), air),
        (-40.0 + 45.0 * (1 - q), stall),
        (-14.0 + 6.0 * point.load, hum),
    ]
    return parts, phi, f


@_machine("pump")
def pump(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Centrifugal pump: vane-pass pulsation, pipe resonances, motor slots, cavitation."""
    v, q = point.pace, point.flow
    f = own["shaft_hz"] * v * (1.02 - 0.04 * point.load)
    phi = shaft_phase(next(streams), f, n, unsteady=0.004 * point.unsteady)
    vanes = own["vanes"]
    pulse = harmonics(next(streams), vanes * phi, vanes * f, decaying(10, 1.3))
    pulse += 0.5 * harmonics(next(streams), phi, f, decaying(3, 0.5))
    pipes = [own[f"pipe{i}_hz"] * (0.9 + 0.1 * q) for i in (1, 2, 3)]
    flow = ring(next(streams).standard_normal(n), pipes, [0.012, 0.006, 0.003], [1.0, 0.6, 0.4])
    flow = 0.8 * flow + 0.6 * coloured_noise(next(streams), n, rolloff(500.0, 7.0, rise_hz=50.0))
    slots = own["slots"]
    slot = harmonics(next(streams), slots * phi, slots * f, [1.0, 0.3])
    slot *= 1 + 0.5 * np.cos(2 * np.pi * 100 / RATE * np.arange(n))
    rate = 60.0 + 1200.0 * (1 - q)
    # A fixed number of candidates keeps the streams of two operating points aligned.
    rng = next(streams)
    strength = rng.exponential(size=n) * (rng.uniform(size=n) < rate / RATE)
    bubbles = ring(strength, [3400.0, 5200.0], [0.0008, 0.0005], [1.0, 0.7], per_second=300.0)
    parts = [
        (own["pulse_db"] + ratio_db(v, 2), pulse),
        (ratio_db(q, 1) + ratio_db(v, 2), flow),
        (-18.0 + 6.0 * point.load, slot),
        (-26.0, bubbles),
    ]
    return parts, phi, f


@_machine("bearing")
def bearing(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Bearing rig: a shaft in rolling bearings, healthy but never smooth."""
    v = point.pace
    f = own["shaft_hz"] * v
    phi = shaft_phase(next(streams), f, n, unsteady=0.004 * point.unsteady)
    shaft = harmonics(next(streams), phi, f, decaying(20, 1.0))
    rolling = coloured_noise(next(streams), n, rolloff(700.0 * v, 6.0, rise_hz=80.0))
    rolling *= 1 + 0.4 * np.cos(phi)
    times = crossings(phi, own["pass_order"])
    slip = 0.01 * RATE / (f * own["pass_order"]) * next(streams).standard_normal(len(times))
    modes = [own["housing_hz"], 1.7 * own["housing_hz"]]
    size = next(streams).lognormal(0.0, 0.5, len(times))
    hits = ring(
        impulses(times + slip, size, n), modes, [0.003, 0.002], [1.0, 0.6], per_second=f * 4
    )
    parts = [
        (own["shaft_db"], shaft),
        (ratio_db(v, 2), rolling),
        (-24.0 + 6.0 * point.load, hits),
    ]
    return parts, phi, f


@_machine("gearbox")
def gearbox(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Gearbox: meshing tones with the sidebands of both shafts."""
    v = point.pace
    f = own["shaft_hz"] * v * (1.02 - 0.04 * point.load)
    phi = shaft_phase(next(streams), f, n, unsteady=0.003 * point.unsteady)
    z1, z2 = own["teeth_in"], own["teeth_out"]
    mesh = harmonics(next(streams), z1 * phi, z1 * f, decaying(9, own["mesh_fall"]))
    mesh *= 1 + own["side_in"] * np.cos(phi) + own["side_out"] * np.cos(phi * z1 / z2)
    motor = harmonics(next(streams), phi, f, decaying(8, 0.8))
    oil = coloured_noise(next(streams), n, rolloff(450.0, 6.0, rise_hz=60.0))
    casing = ring(next(streams).standard_normal(n), [own["casing_hz"]], [0.004], [1.0])
    parts = [
        (-6.0 + 8.0 * point.load + ratio_db(v, 1), mesh),
        (-6.0, motor),
        (ratio_db(v, 2), oil),
        (-12.0 + ratio_db(v, 2), casing),
    ]
    return parts, phi, f


@_machine("slider")
def slider(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Slide rail: belt meshing and rail friction that follow the carriage, thuds where it turns."""
    v, q = point.pace, point.flow
    cycle = shaft_phase(next(streams), own["cycle_hz"] * v, n, unsteady=0.01 * point.unsteady)
    u = np.abs(trapezoid(cycle, own["ramp"]))
    full = own["mesh_hz"] * v * (0.97 + 0.03 * q) * (1.02 - 0.04 * point.load)
    phi = shaft_phase(next(streams), full * np.maximum(u, 0.02), n, unsteady=0.004 * point.unsteady)
    belt = harmonics(next(streams), phi, full, decaying(9, own["mesh_fall"])) * u
    friction = coloured_noise(next(streams), n, rolloff(900.0, 5.0, rise_hz=120.0)) * u**1.5
    friction *= 1 + 0.4 * np.cos(phi / 7)
    turns = crossings(cycle, 2.0)
    jitter = 0.004 * point.unsteady * RATE * next(streams).standard_normal(len(turns))
    strength = next(streams).lognormal(0.0, 0.3, len(turns))
    strength *= struck(next(streams), len(turns), point.missed)
    modes = [own["frame_hz"], own["plate_hz"]]
    thuds = ring(impulses(turns + jitter, strength, n), modes, [0.03, 0.01], [1.0, 0.4])
    thuds *= np.sqrt(RATE / (2 * own["cycle_hz"]))
    rng = next(streams)
    driver_phase = shaft_phase(rng, own["driver_hz"], n, unsteady=0.0003 * point.unsteady)
    driver = harmonics(rng, driver_phase, own["driver_hz"], [1.0])
    parts = [
        (-4.0 + 4.0 * point.load + ratio_db(v, 1), belt),
        (ratio_db(v, 2) - ratio_db(q, 1), friction),
        (-2.0, thuds),
        (-30.0, driver),
    ]
    # The pulley turns once for twenty teeth of the belt.
    return parts, phi / 20, full / 20


@_machine("valve")
def valve(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Solenoid valve: clicks in a rhythm with jitter, fluid while it is open, coil hum."""
    cycle = shaft_phase(
        next(streams), own["cycle_hz"] * point.speed, n, unsteady=0.004 * point.unsteady
    )
    supply, q = point.voltage, point.flow
    opening = crossings(cycle, 1.0)
    period = RATE / (own["cycle_hz"] * point.speed)
    late = 0.04 * RATE * (1 / supply**2 - 1)
    jitter = 0.005 * point.unsteady * RATE
    opening = opening + late + jitter * next(streams).standard_normal(len(opening))
    closing = opening - late + period * own["duty"]
    closing = closing + 0.005 * RATE * next(streams).standard_normal(len(closing))
    works = struck(next(streams), len(opening), point.missed)
    modes = [own[f"mode{i}_hz"] for i in (1, 2, 3, 4)]
    decay = [0.008, 0.005, 0.003, 0.002]
    force = works * supply**4 * next(streams).lognormal(0.0, 0.15, len(opening))
    strike = ring(impulses(opening, force, n), modes, decay, [1.0, 0.8, 0.7, 0.5])
    soft = works * 10 ** (-own["soft_db"] / 20) * next(streams).lognormal(0.0, 0.15, len(closing))
    strike += ring(impulses(closing, soft, n), modes, decay, [0.7, 1.0, 0.4, 0.3])
    strike *= np.sqrt(RATE / own["cycle_hz"])
    steps = impulses(opening, works, n) - impulses(closing, works, n)
    gate = np.cumsum(steps)
    gate = np.clip(gate - gate.min(), 0.0, 1.0)
    ramp = int(0.015 * RATE)
    gate = np.convolve(gate, np.full(ramp, 1 / ramp))[:n]
    hiss = coloured_noise(next(streams), n, hump(own["hiss_hz"] * q**-0.5, 1.0)) * gate
    rng = next(streams)
    coil_phase = shaft_phase(rng, 100.0, n, unsteady=0.0)
    coil = harmonics(rng, coil_phase, 100.0, decaying(6, 1.5)) * gate
    rig = coloured_noise(next(streams), n, rolloff(350.0, 6.0, rise_hz=40.0))
    parts = [
        (0.0, strike),
        (-8.0 + 5.0 * point.load + ratio_db(q, 1), hiss),
        (-12.0 + ratio_db(supply, 2), coil),
        (-8.0, rig),
    ]
    return parts, cycle, own["cycle_hz"] * point.speed


def run_profile(rng: np.random.Generator, n: int) -> Signal:
    """Drive over one clip, 0.35 … 1: up within the first tenth, down within the last, or neither.

    Each end ramps in a quarter of the clips; the ramp lasts 3 … 10 % of the clip.
    """
    t = np.linspace(0.0, 1.0, n)
    ends = rng.uniform(0.03, 0.10, 2)
    ramps = rng.uniform(size=2) < 0.25
    drive = np.ones(n)
    if ramps[0]:
        drive = np.minimum(drive, t / ends[0])
    if ramps[1]:
        drive = np.minimum(drive, (1 - t) / ends[1])
    return np.maximum(drive, 0.35)


@_machine("ToyCar")
def toy_car(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Toy car: brush motor, pinion meshing, wheels on the belt."""
    v = point.pace
    drive = run_profile(next(streams), n)
    f = own["motor_hz"] * v * (1.04 - 0.08 * point.load)
    phi = shaft_phase(next(streams), f * drive, n, unsteady=0.006 * point.unsteady)
    motor = harmonics(next(streams), 6 * phi, 6 * f, decaying(8, 0.8)) * drive
    motor += 0.6 * harmonics(next(streams), phi, f, decaying(5, 0.6)) * drive
    teeth, gear = own["teeth"], own["gear"]
    mesh = harmonics(next(streams), teeth * phi, teeth * f, decaying(7, own["mesh_fall"]))
    mesh *= (1 + 0.3 * np.cos(phi / gear)) * drive
    wheels = coloured_noise(next(streams), n, rolloff(350.0, 5.0, rise_hz=70.0))
    wheels *= (1 + 0.35 * np.cos(phi / gear)) * drive**2
    brush = coloured_noise(next(streams), n, hump(own["brush_hz"], 0.7))
    brush *= (1 + 0.6 * np.cos(6 * phi)) * drive
    parts = [
        (-5.0, motor),
        (-6.0 + 6.0 * point.load + ratio_db(v, 1), mesh),
        (ratio_db(v, 2), wheels),
        (-16.0 + ratio_db(v, 2), brush),
    ]
    return parts, phi / gear, f / gear


@_machine("ToyConveyor")
def toy_conveyor(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Toy conveyor: rumbling rollers, a belt seam, a geared motor, goods that shake."""
    v, q = point.pace, point.flow
    f = own["roller_hz"] * v * (0.85 + 0.15 * q) * (1.03 - 0.06 * point.load)
    phi = shaft_phase(next(streams), f, n, unsteady=0.01 * point.unsteady)
    rollers = harmonics(next(streams), phi, f, decaying(24, 0.5))
    rumble = coloured_noise(next(streams), n, rolloff(220.0, 5.0, rise_hz=40.0))
    rumble *= 1 + 0.3 * np.cos(phi)
    gear = harmonics(next(streams), own["gear"] * phi, own["gear"] * f, decaying(7, 0.9))
    gear *= 1 + 0.3 * np.cos(phi)
    times = crossings(phi, 1 / 6)
    times += 0.005 * point.unsteady * RATE * next(streams).standard_normal(len(times))
    modes = [own["frame_hz"], own["deck_hz"]]
    works = struck(next(streams), len(times), point.missed)
    seam = ring(impulses(times, works, n), modes, [0.03, 0.012], [1.0, 0.5], per_second=f / 6)
    goods = coloured_noise(next(streams), n, hump(own["goods_hz"], 0.6))
    swell = np.exp(
        0.6 * np.interp(np.arange(n), np.linspace(0, n, 12), next(streams).normal(size=12))
    )
    parts = [
        (-5.0, rollers),
        (ratio_db(v, 2) - ratio_db(q, 1.5), rumble),
        (-10.0 + 4.0 * point.load + ratio_db(v, 1), gear),
        (-3.0, seam),
        (-20.0 + 8.0 * point.load, goods * swell),
    ]
    return parts, phi, f


@_machine("ToyTrain")
def toy_train(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Toy train: motor and worm gear, wheels on the rail, joints in pairs."""
    v = point.pace
    drive = run_profile(next(streams), n)
    f = own["motor_hz"] * v * (1.04 - 0.08 * point.load)
    phi = shaft_phase(next(streams), f * drive, n, unsteady=0.006 * point.unsteady)
    gear = own["gear"]
    motor = harmonics(next(streams), phi, f, decaying(14, 0.9)) * drive
    worm = harmonics(
        next(streams),
        own["worm"] * phi,
        own["worm"] * f,
        decaying(8, own["worm_fall"]),
    )
    worm *= (1 + 0.25 * np.cos(phi / gear)) * drive
    rolling = coloured_noise(next(streams), n, rolloff(600.0, 5.0, rise_hz=80.0))
    rolling *= (1 + 0.3 * np.cos(phi / gear)) * drive**2
    front = crossings(phi, 1 / (9 * gear))
    rear = front + own["axles_s"] * RATE / v
    strength = next(streams).lognormal(0.0, 0.3, (2, len(front)))
    strength *= struck(next(streams), len(front), point.missed)
    modes = [own["track_hz"], 3.3 * own["track_hz"]]
    hits = impulses(front, strength[0], n) + impulses(rear, strength[1], n)
    clacks = ring(hits, modes, [0.01, 0.004], [1.0, 0.6], per_second=2 * f / (9 * gear))
    parts = [
        (-5.0, motor),
        (-8.0 + 6.0 * point.load + ratio_db(v, 1), worm),
        (ratio_db(v, 2), rolling),
        (-4.0 + ratio_db(v, 1), clacks),
    ]
    return parts, phi / gear, f / gear
