"""The machines: their identity, their operating point, and the equations of their sound.

The *identity* of a machine holds the constants of one ID (teeth, blades, resonances …), drawn once
from the declared ranges; all clips of an ID share it. The *operating point* holds what changes from
clip to clip. The same random streams with another operating point give the same clip of a machine
in another state: that is how faults that change the operation (a wrong voltage, a clogged inlet)
are made.

Symbols: ``f`` shaft frequency in Hz, ``phi`` shaft angle, ``v`` pace (speed × supply, 1 nominal),
``q`` free flow, ``L`` load, ``N(fc, s)`` noise that falls by ``s`` dB an octave above ``fc``. A
*cycle* is one stroke of a machine that moves to and fro, its angle ``c`` runs from 0 to 2 pi.
Levels are in dB, relative to each other only; `rooms` sets the level of the clip. A toy is a brush
motor, a train of plastic gears and something that rolls; toys start and stop (`run_profile`).
S samples.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from asdlib.data.synthetic.signals import (
    RATE,
    Signal,
    coloured_noise,
    crossings,
    decaying,
    decibel,
    generator,
    harmonics,
    hump,
    impulses,
    ring,
    rolloff,
    shaft_phase,
)

MAINS_HZ = 50.0
_MOST_STREAMS = 9

Identity = Mapping[str, float]
Streams = Iterator[np.random.Generator]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """State of a machine in one clip."""

    speed: float = 1.0
    """Speed over nominal speed that the controller asks for."""
    load: float = 0.5
    """Load, 0 … 1."""
    flow: float = 1.0
    """Free cross-section for air or fluid, or free travel: 1 is clean, 0 blocked."""
    voltage: float = 1.0
    """Supply over nominal supply."""
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
    """Sound pressure on a free scale, (S,)."""
    phase: Signal
    """Angle of the main shaft in radians, (S,)."""
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
    """The model of its sound, explained in its docstring."""

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
        """Return `n` samples; the gains of the parts vary from clip to clip."""
        streams = iter(rng.spawn(_MOST_STREAMS))
        parts, phase, hz = self.equations(identity, point, streams, n)
        shifts = next(streams).standard_normal(len(parts)) * point.spread_db
        audio = np.zeros(n)
        for (gain, part), shift in zip(parts.values(), shifts, strict=True):
            audio += decibel(gain + shift) * part
        return MachineSound(audio, phase, hz)


Heard = tuple[dict[str, tuple[float, Signal]], Signal, float]
"""Parts of a sound as (gain in dB, signal), angle and mean frequency of the main shaft."""
Model = Callable[[Identity, OperatingPoint, Streams, int], Heard]

MACHINES: dict[str, Machine] = {}
"""All machine types, by their official names."""


def _machine(name: str, causes: str, **ranges: tuple[float, float]) -> Callable[[Model], Model]:
    """Register a model under the name of its machine type."""

    def register(model: Model) -> Model:
        MACHINES[name] = Machine(name, ranges, tuple(causes.split(", ")), model)
        return model

    return register


def ratio_db(value: float, exponent: float) -> float:
    """Gain in dB of an amplitude that goes with ``value ** exponent``."""
    return float(20 * exponent * np.log10(max(value, 1e-3)))


def trapezoid(angle: Signal, ramp: float) -> Signal:
    """Speed of a carriage over one cycle: forth and back, ramps at the ends, ±1 between them."""
    return np.asarray(np.clip(np.sin(angle) / np.sin(0.5 * np.pi * ramp), -1.0, 1.0))


@_machine(
    "fan",
    "imbalance, clogging, voltage change, worn bearing",
    shaft_hz=(18.0, 30.0),
    blades=(5, 9),
    tone_fall=(1.0, 1.6),
    tone_db=(-6.0, 2.0),
    flow_hz=(300.0, 900.0),
    beat=(0.2, 0.5),
)
def fan(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Axial fan: blade-pass tones, flow noise in beats of the blades, motor hum.

    ``x = T + A + H``:

    - ``T = sum_k k^-p (1 + 0.2 cos phi) cos(k B phi + theta_k)``, B blades (5 … 9), p 1.0 … 1.6,
      level ~ v^2; f = 18 … 30 Hz at v = 1, 6 % slower under full load;
    - ``A = (1 + m cos(B phi)) N(fc, 6)``, fc 300 … 900 Hz moves with v, m 0.2 … 0.5, level ~ v^3
      (the sound power of a dipole source goes with the sixth power of speed);
    - ``H``: harmonics of twice the mains frequency, level with the load.

    Clogging (q < 1) throttles A's upper part (fc ~ q), adds rumble of stalled flow below 200 Hz and
    lets the shaft run up to 4 % faster.
    """
    v, q = point.pace, point.flow
    f = own["shaft_hz"] * v * (1.03 - 0.06 * point.load) * (1 + 0.04 * (1 - q))
    phi = shaft_phase(next(streams), f, n, unsteady=0.003)
    blades = own["blades"]
    tones = harmonics(next(streams), blades * phi, blades * f, decaying(12, own["tone_fall"]))
    tones *= 1 + 0.2 * np.cos(phi)
    air = coloured_noise(next(streams), n, rolloff(own["flow_hz"] * v * q, 6.0, rise_hz=60.0))
    air *= 1 + own["beat"] * np.cos(blades * phi)
    stall = coloured_noise(next(streams), n, hump(110.0, 0.7))
    hum_phase = shaft_phase(next(streams), 2 * MAINS_HZ, n, unsteady=0.0)
    hum = harmonics(next(streams), hum_phase, 2 * MAINS_HZ, decaying(8, 1.2))
    parts = {
        "tones": (own["tone_db"] + ratio_db(v, 2), tones),
        "air": (ratio_db(v, 3) + ratio_db(q, 1), air),
        "stall": (-40.0 + 45.0 * (1 - q), stall),
        "hum": (-14.0 + 6.0 * point.load, hum),
    }
    return parts, phi, f


@_machine(
    "pump",
    "leak, clogging, worn bearing, imbalance",
    shaft_hz=(24.0, 48.0),
    vanes=(4, 7),
    slots=(28, 44),
    pipe1_hz=(180.0, 420.0),
    pipe2_hz=(500.0, 1100.0),
    pipe3_hz=(1300.0, 2600.0),
    pulse_db=(-8.0, 0.0),
)
def pump(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Centrifugal pump: vane-pass pulsation, pipe resonances, motor slots, cavitation.

    ``x = P + F + S + C``:

    - ``P = sum_k k^-1.3 cos(k Z phi + theta_k)`` with shaft harmonics k = 1 … 3 beside it, Z vanes
      (4 … 7), f 24 … 48 Hz;
    - ``F``: flow noise through three pipe modes (180 … 2600 Hz), level ~ q v^2;
    - ``S``: slot tone of the motor at R f, R 28 … 44, with sidebands at ±100 Hz;
    - ``C``: cavitation, bubbles that collapse at random (Poisson, 60 … 1200 a second, more when
      the inlet is clogged) through a broad resonance near 3.5 kHz.

    Clogging (q < 1) weakens F, moves its modes down and feeds C.
    """
    v, q = point.pace, point.flow
    f = own["shaft_hz"] * v * (1.02 - 0.04 * point.load)
    phi = shaft_phase(next(streams), f, n, unsteady=0.002)
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
    parts = {
        "pulse": (own["pulse_db"] + ratio_db(v, 2), pulse),
        "flow": (ratio_db(q, 1) + ratio_db(v, 2), flow),
        "slot": (-18.0 + 6.0 * point.load, slot),
        "bubbles": (-26.0, bubbles),
    }
    return parts, phi, f


@_machine(
    "bearing",
    "worn bearing, imbalance, loose part",
    shaft_hz=(16.0, 40.0),
    pass_order=(3.0, 5.2),
    housing_hz=(1600.0, 4500.0),
    shaft_db=(-8.0, 0.0),
)
def bearing(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Bearing rig: a shaft in rolling bearings, healthy but never smooth.

    ``x = S + R + B``:

    - ``S = sum_k k^-1 cos(k phi + theta_k)``, f 16 … 40 Hz;
    - ``R``: rolling noise N(700, 6), modulated by the load zone, ``1 + 0.4 cos phi``, level ~ v^2;
    - ``B``: weak impulses at the outer-race pass frequency ``c f`` (c 3.0 … 5.2 = Z/2 (1 - d/D)),
      with 1 % slip, through two housing modes (1.6 … 4.5 kHz); level with the load.
    """
    v = point.pace
    f = own["shaft_hz"] * v
    phi = shaft_phase(next(streams), f, n, unsteady=0.002)
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
    parts = {
        "shaft": (own["shaft_db"], shaft),
        "rolling": (ratio_db(v, 2), rolling),
        "hits": (-24.0 + 6.0 * point.load, hits),
    }
    return parts, phi, f


@_machine(
    "gearbox",
    "worn bearing, imbalance, loose part, voltage change",
    shaft_hz=(16.0, 30.0),
    teeth_in=(17, 29),
    teeth_out=(30, 53),
    mesh_fall=(0.7, 1.3),
    side_in=(0.1, 0.4),
    side_out=(0.1, 0.3),
    casing_hz=(900.0, 2600.0),
)
def gearbox(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Gearbox: meshing tones with the sidebands of both shafts.

    ``x = M + W + N``:

    - ``M = sum_k k^-p (1 + a cos phi + b cos(phi z1/z2)) cos(k z1 phi + theta_k)``; z1 17 … 29
      teeth on the input shaft (f 16 … 30 Hz), z2 30 … 53 on the output shaft, a 0.1 … 0.4,
      b 0.1 … 0.3; level with the load;
    - ``W``: motor harmonics of f;
    - ``N``: oil and casing noise N(450, 6) plus a casing mode (0.9 … 2.6 kHz).
    """
    v = point.pace
    f = own["shaft_hz"] * v * (1.02 - 0.04 * point.load)
    phi = shaft_phase(next(streams), f, n, unsteady=0.003)
    z1, z2 = own["teeth_in"], own["teeth_out"]
    mesh = harmonics(next(streams), z1 * phi, z1 * f, decaying(9, own["mesh_fall"]))
    mesh *= 1 + own["side_in"] * np.cos(phi) + own["side_out"] * np.cos(phi * z1 / z2)
    motor = harmonics(next(streams), phi, f, decaying(8, 0.8))
    oil = coloured_noise(next(streams), n, rolloff(450.0, 6.0, rise_hz=60.0))
    casing = ring(next(streams).standard_normal(n), [own["casing_hz"]], [0.004], [1.0])
    parts = {
        "mesh": (-6.0 + 8.0 * point.load + ratio_db(v, 1), mesh),
        "motor": (-6.0, motor),
        "oil": (ratio_db(v, 2), oil),
        "casing": (-12.0 + ratio_db(v, 2), casing),
    }
    return parts, phi, f


@_machine(
    "slider",
    "worn bearing, loose part, clogging, imbalance",
    cycle_hz=(0.5, 1.1),
    ramp=(0.2, 0.4),
    mesh_hz=(250.0, 600.0),
    mesh_fall=(0.7, 1.2),
    frame_hz=(140.0, 320.0),
    plate_hz=(700.0, 1500.0),
    driver_hz=(2500.0, 4000.0),
)
def slider(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Slide rail: belt meshing and rail friction that follow the carriage, thuds where it turns.

    Cycle 0.5 … 1.1 Hz; carriage speed ``u(c) = clip(sin c / sin(pi r / 2))``, ramp r 0.2 … 0.4.

    - belt: harmonics of the meshing frequency ``F |u|`` (F 250 … 600 Hz at v = 1), amplitude |u|;
    - friction: N(900, 5) times ``|u|^1.5``, plus rolling of the balls at ``F |u| / 7``;
    - thuds: two a cycle where u = 0, jitter 4 ms, frame modes 140 … 320 Hz and 700 … 1500 Hz;
    - motor driver: tone at 2.5 … 4 kHz, 30 dB below.

    Dirt on the rail (q < 1) slows the carriage and raises the friction.
    """
    v, q = point.pace, point.flow
    cycle = shaft_phase(next(streams), own["cycle_hz"] * v, n, unsteady=0.01)
    u = np.abs(trapezoid(cycle, own["ramp"]))
    full = own["mesh_hz"] * v * (0.97 + 0.03 * q) * (1.02 - 0.04 * point.load)
    phi = shaft_phase(next(streams), full * np.maximum(u, 0.02), n, unsteady=0.004)
    belt = harmonics(next(streams), phi, full, decaying(9, own["mesh_fall"])) * u
    friction = coloured_noise(next(streams), n, rolloff(900.0, 5.0, rise_hz=120.0)) * u**1.5
    friction *= 1 + 0.4 * np.cos(phi / 7)
    turns = crossings(cycle, 2.0)
    jitter = 0.004 * RATE * next(streams).standard_normal(len(turns))
    strength = next(streams).lognormal(0.0, 0.3, len(turns))
    modes = [own["frame_hz"], own["plate_hz"]]
    thuds = ring(impulses(turns + jitter, strength, n), modes, [0.03, 0.01], [1.0, 0.4])
    thuds *= np.sqrt(RATE / (2 * own["cycle_hz"]))
    rng = next(streams)
    driver_phase = shaft_phase(rng, own["driver_hz"], n, unsteady=0.0003)
    driver = harmonics(rng, driver_phase, own["driver_hz"], [1.0])
    parts = {
        "belt": (-4.0 + 4.0 * point.load + ratio_db(v, 1), belt),
        "friction": (ratio_db(v, 2) - ratio_db(q, 1), friction),
        "thuds": (-6.0, thuds),
        "driver": (-30.0, driver),
    }
    # The pulley turns once for twenty teeth of the belt.
    return parts, phi / 20, full / 20


@_machine(
    "valve",
    "leak, clogging, loose part, voltage change",
    cycle_hz=(1.1, 2.2),
    duty=(0.3, 0.55),
    mode1_hz=(700.0, 1200.0),
    mode2_hz=(1500.0, 2400.0),
    mode3_hz=(2800.0, 4200.0),
    mode4_hz=(4800.0, 6500.0),
    soft_db=(4.0, 10.0),
    hiss_hz=(1200.0, 3000.0),
)
def valve(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Solenoid valve: clicks in a rhythm with jitter, fluid while it is open, coil hum.

    Cycle 1.1 … 2.2 Hz, open for the share d 0.3 … 0.55 of it.

    - opening and closing clicks with jitter of 5 ms; four body modes between 0.7 and 6.5 kHz, decay
      2 … 8 ms; closing is 4 … 10 dB softer; click level ~ supply^4;
    - a weak coil opens late, by ``40 ms (1 / supply^2 - 1)``;
    - fluid: hiss, a bell around 1.2 … 3 kHz, one octave wide, in a gate that opens within 15 ms;
      level ~ q, and its centre moves up as the passage narrows, ``~ q^-0.5``;
    - coil: 100 Hz hum while open; a quiet floor N(350, 6) from the rig always.
    """
    cycle = shaft_phase(next(streams), own["cycle_hz"] * point.speed, n, unsteady=0.004)
    supply, q = point.voltage, point.flow
    opening = crossings(cycle, 1.0)
    period = RATE / (own["cycle_hz"] * point.speed)
    late = 0.04 * RATE * (1 / supply**2 - 1)
    opening = opening + late + 0.005 * RATE * next(streams).standard_normal(len(opening))
    closing = opening - late + period * own["duty"]
    closing = closing + 0.005 * RATE * next(streams).standard_normal(len(closing))
    modes = [own[f"mode{i}_hz"] for i in (1, 2, 3, 4)]
    decay = [0.008, 0.005, 0.003, 0.002]
    force = supply**4 * next(streams).lognormal(0.0, 0.15, len(opening))
    strike = ring(impulses(opening, force, n), modes, decay, [1.0, 0.8, 0.7, 0.5])
    soft = 10 ** (-own["soft_db"] / 20) * next(streams).lognormal(0.0, 0.15, len(closing))
    strike += ring(impulses(closing, soft, n), modes, decay, [0.7, 1.0, 0.4, 0.3])
    strike *= np.sqrt(RATE / own["cycle_hz"])
    steps = impulses(opening, 1.0, n) - impulses(closing, 1.0, n)
    gate = np.cumsum(steps)
    gate = np.clip(gate - gate.min(), 0.0, 1.0)
    ramp = int(0.015 * RATE)
    gate = np.convolve(gate, np.full(ramp, 1 / ramp))[:n]
    hiss = coloured_noise(next(streams), n, hump(own["hiss_hz"] * q**-0.5, 1.0)) * gate
    rng = next(streams)
    coil_phase = shaft_phase(rng, 100.0, n, unsteady=0.0)
    coil = harmonics(rng, coil_phase, 100.0, decaying(6, 1.5)) * gate
    rig = coloured_noise(next(streams), n, rolloff(350.0, 6.0, rise_hz=40.0))
    parts = {
        "strike": (0.0, strike),
        "hiss": (-8.0 + 5.0 * point.load + ratio_db(q, 1), hiss),
        "coil": (-12.0 + ratio_db(supply, 2), coil),
        "rig": (-8.0, rig),
    }
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


@_machine(
    "ToyCar",
    "imbalance, worn bearing, loose part, voltage change",
    motor_hz=(70.0, 130.0),
    teeth=(8, 12),
    gear=(3.0, 5.0),
    mesh_fall=(0.6, 1.2),
    brush_hz=(3000.0, 5500.0),
)
def toy_car(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Toy car: brush motor, pinion meshing, wheels on the belt.

    - motor: f 70 … 130 Hz; commutator harmonics of 6 f with amplitude k^-0.8;
    - mesh: pinion of 8 … 12 teeth, ``sum k^-p (1 + 0.3 cos(phi / g)) cos(k z phi)``, gear ratio g
      3 … 5, so the wheels turn at f / g and leave sidebands;
    - wheels: rolling noise N(350, 5) modulated at f / g, level ~ v^2;
    - brushes: noise around 3 … 5.5 kHz modulated by the commutator, 16 dB below.
    """
    v = point.pace
    drive = run_profile(next(streams), n)
    f = own["motor_hz"] * v * (1.04 - 0.08 * point.load)
    phi = shaft_phase(next(streams), f * drive, n, unsteady=0.008)
    motor = harmonics(next(streams), 6 * phi, 6 * f, decaying(8, 0.8)) * drive
    motor += 0.6 * harmonics(next(streams), phi, f, decaying(5, 0.6)) * drive
    teeth, gear = own["teeth"], own["gear"]
    mesh = harmonics(next(streams), teeth * phi, teeth * f, decaying(7, own["mesh_fall"]))
    mesh *= (1 + 0.3 * np.cos(phi / gear)) * drive
    wheels = coloured_noise(next(streams), n, rolloff(350.0, 5.0, rise_hz=70.0))
    wheels *= (1 + 0.35 * np.cos(phi / gear)) * drive**2
    brush = coloured_noise(next(streams), n, hump(own["brush_hz"], 0.7))
    brush *= (1 + 0.6 * np.cos(6 * phi)) * drive
    parts = {
        "motor": (-5.0, motor),
        "mesh": (-6.0 + 6.0 * point.load + ratio_db(v, 1), mesh),
        "wheels": (ratio_db(v, 2), wheels),
        "brush": (-16.0 + ratio_db(v, 2), brush),
    }
    return parts, phi / gear, f / gear


@_machine(
    "ToyConveyor",
    "loose part, imbalance, clogging, voltage change",
    roller_hz=(5.0, 9.0),
    gear=(50, 80),
    frame_hz=(90.0, 180.0),
    deck_hz=(400.0, 900.0),
    goods_hz=(1500.0, 3000.0),
)
def toy_conveyor(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Toy conveyor: rumbling rollers, a belt seam, a geared motor, goods that shake.

    - rollers: f 5 … 9 Hz, harmonics k^-0.5 up to k = 24, and rumble N(220, 5) modulated by f;
    - motor gear: tones at R f, R 50 … 80, sidebands at f;
    - seam: a thump at f / 6, frame modes 90 … 180 Hz and 400 … 900 Hz, jitter 5 ms;
    - goods: rattle, noise around 1.5 … 3 kHz in slow swells, level with the load.

    Dirt between belt and deck (q < 1) slows the belt and raises rumble.
    """
    v, q = point.pace, point.flow
    f = own["roller_hz"] * v * (0.85 + 0.15 * q) * (1.03 - 0.06 * point.load)
    phi = shaft_phase(next(streams), f, n, unsteady=0.01)
    rollers = harmonics(next(streams), phi, f, decaying(24, 0.5))
    rumble = coloured_noise(next(streams), n, rolloff(220.0, 5.0, rise_hz=40.0))
    rumble *= 1 + 0.3 * np.cos(phi)
    gear = harmonics(next(streams), own["gear"] * phi, own["gear"] * f, decaying(7, 0.9))
    gear *= 1 + 0.3 * np.cos(phi)
    times = crossings(phi, 1 / 6)
    times = times + 0.005 * RATE * next(streams).standard_normal(len(times))
    modes = [own["frame_hz"], own["deck_hz"]]
    seam = ring(impulses(times, 1.0, n), modes, [0.03, 0.012], [1.0, 0.5], per_second=f / 6)
    goods = coloured_noise(next(streams), n, hump(own["goods_hz"], 0.6))
    swell = np.exp(
        0.6 * np.interp(np.arange(n), np.linspace(0, n, 12), next(streams).normal(size=12))
    )
    parts = {
        "rollers": (-5.0, rollers),
        "rumble": (ratio_db(v, 2) - ratio_db(q, 1.5), rumble),
        "gear": (-10.0 + 4.0 * point.load + ratio_db(v, 1), gear),
        "seam": (-12.0, seam),
        "goods": (-20.0 + 8.0 * point.load, goods * swell),
    }
    return parts, phi, f


@_machine(
    "ToyTrain",
    "imbalance, worn bearing, loose part, voltage change",
    motor_hz=(60.0, 110.0),
    gear=(8.0, 14.0),
    worm=(6, 10),
    worm_fall=(0.7, 1.2),
    axles_s=(0.06, 0.12),
    track_hz=(500.0, 1100.0),
)
def toy_train(own: Identity, point: OperatingPoint, streams: Streams, n: int) -> Heard:
    """Toy train: motor and worm gear, wheels on the rail, joints in pairs.

    - motor: f 60 … 110 Hz, harmonics k^-0.9; worm meshing at z f, z 6 … 10;
    - rolling: N(600, 5) modulated by the axle f / g (g 8 … 14), level ~ v^2;
    - joints: two clacks (front and rear axle, 60 … 120 ms apart at v = 1) at every joint, joints at
      f / (g 9), track modes 500 … 1100 Hz and 2 … 3.6 kHz.
    """
    v = point.pace
    drive = run_profile(next(streams), n)
    f = own["motor_hz"] * v * (1.04 - 0.08 * point.load)
    phi = shaft_phase(next(streams), f * drive, n, unsteady=0.008)
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
    modes = [own["track_hz"], 3.3 * own["track_hz"]]
    hits = impulses(front, strength[0], n) + impulses(rear, strength[1], n)
    clacks = ring(hits, modes, [0.01, 0.004], [1.0, 0.6], per_second=2 * f / (9 * gear))
    parts = {
        "motor": (-5.0, motor),
        "worm": (-8.0 + 6.0 * point.load + ratio_db(v, 1), worm),
        "rolling": (ratio_db(v, 2), rolling),
        "clacks": (-8.0 + ratio_db(v, 1), clacks),
    }
    return parts, phi / gear, f / gear
