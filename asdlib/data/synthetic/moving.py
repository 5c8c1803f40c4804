"""Models of machines that move in cycles: slide rail and valve.

Symbols as in `asdlib.data.synthetic.rotating`; a *cycle* is one stroke of the machine, its angle
``c`` runs from 0 to 2 pi.
"""

import numpy as np

from asdlib.data.synthetic.machine import (
    Identity,
    Machine,
    MachineSound,
    OperatingPoint,
    mix,
    ratio_db,
)
from asdlib.data.synthetic.signals import (
    RATE,
    Signal,
    coloured_noise,
    crossings,
    decaying,
    harmonics,
    hump,
    impulses,
    ring,
    rolloff,
    shaft_phase,
)


def trapezoid(angle: Signal, ramp: float) -> Signal:
    """Speed of a carriage over one cycle: forth and back, ramps at the ends, ±1 between them."""
    return np.asarray(np.clip(np.sin(angle) / np.sin(0.5 * np.pi * ramp), -1.0, 1.0))


def slider_sound(
    identity: Identity, point: OperatingPoint, rng: np.random.Generator, n: int
) -> MachineSound:
    """Slide rail: belt meshing and rail friction that follow the carriage, thuds where it turns.

    Cycle 0.5 … 1.1 Hz; carriage speed ``u(c) = clip(sin c / sin(pi r / 2))``, ramp r 0.2 … 0.4.

    - belt: harmonics of the meshing frequency ``F |u|`` (F 250 … 600 Hz at v = 1), amplitude |u|;
    - friction: N(900, 5) times ``|u|^1.5``, plus rolling of the balls at ``F |u| / 7``;
    - thuds: two a cycle where u = 0, jitter 4 ms, frame modes 140 … 320 Hz and 700 … 1500 Hz;
    - motor driver: tone at 2.5 … 4 kHz, 30 dB below.

    Dirt on the rail (q < 1) slows the carriage and raises the friction.
    """
    streams = rng.spawn(8)
    v, q = point.pace, point.flow
    cycle = shaft_phase(streams[0], identity["cycle_hz"] * v, n, unsteady=0.01)
    u = np.abs(trapezoid(cycle, identity["ramp"]))
    full = identity["mesh_hz"] * v * (0.97 + 0.03 * q) * (1.02 - 0.04 * point.load)
    phi = shaft_phase(streams[1], full * np.maximum(u, 0.02), n, unsteady=0.004)
    belt = harmonics(streams[2], phi, full, decaying(9, identity["mesh_fall"])) * u
    friction = coloured_noise(streams[3], n, rolloff(900.0, 5.0, rise_hz=120.0)) * u**1.5
    friction *= 1 + 0.4 * np.cos(phi / 7)
    turns = crossings(cycle, 2.0)
    jitter = 0.004 * RATE * streams[4].standard_normal(len(turns))
    strength = streams[5].lognormal(0.0, 0.3, len(turns))
    modes = [identity["frame_hz"], identity["plate_hz"]]
    thuds = ring(impulses(turns + jitter, strength, n), modes, [0.03, 0.01], [1.0, 0.4])
    thuds *= np.sqrt(RATE / (2 * identity["cycle_hz"]))
    driver_phase = shaft_phase(streams[6], identity["driver_hz"], n, unsteady=0.0003)
    driver = harmonics(streams[6], driver_phase, identity["driver_hz"], [1.0])
    audio = mix(
        streams[7],
        point,
        {
            "belt": (-4.0 + 4.0 * point.load + ratio_db(v, 1), belt),
            "friction": (ratio_db(v, 2) - ratio_db(q, 1), friction),
            "thuds": (-6.0, thuds),
            "driver": (-30.0, driver),
        },
    )
    # The pulley turns once for twenty teeth of the belt.
    return MachineSound(audio, phi / 20, full / 20)


def valve_sound(
    identity: Identity, point: OperatingPoint, rng: np.random.Generator, n: int
) -> MachineSound:
    """Solenoid valve: clicks in a rhythm with jitter, fluid while it is open, coil hum.

    Cycle 1.1 … 2.2 Hz, open for the share d 0.3 … 0.55 of it.

    - opening and closing clicks with jitter of 5 ms; four body modes between 0.7 and 6.5 kHz, decay
      2 … 8 ms; closing is 4 … 10 dB softer; click level ~ supply^4;
    - a weak coil opens late, by ``40 ms (1 / supply^2 - 1)``;
    - fluid: hiss, a bell around 1.2 … 3 kHz, one octave wide, in a gate that opens within 15 ms;
      level ~ q, and its centre moves up as the passage narrows, ``~ q^-0.5``;
    - coil: 100 Hz hum while open; a quiet floor N(350, 6) from the rig always.
    """
    streams = rng.spawn(9)
    cycle = shaft_phase(streams[0], identity["cycle_hz"] * point.speed, n, unsteady=0.004)
    supply, q = point.voltage, point.flow
    opening = crossings(cycle, 1.0)
    period = RATE / (identity["cycle_hz"] * point.speed)
    late = 0.04 * RATE * (1 / supply**2 - 1)
    opening = opening + late + 0.005 * RATE * streams[1].standard_normal(len(opening))
    closing = opening - late + period * identity["duty"]
    closing = closing + 0.005 * RATE * streams[2].standard_normal(len(closing))
    modes = [identity[f"mode{i}_hz"] for i in (1, 2, 3, 4)]
    decay = [0.008, 0.005, 0.003, 0.002]
    force = supply**4 * streams[3].lognormal(0.0, 0.15, len(opening))
    strike = ring(impulses(opening, force, n), modes, decay, [1.0, 0.8, 0.7, 0.5])
    soft = 10 ** (-identity["soft_db"] / 20) * streams[4].lognormal(0.0, 0.15, len(closing))
    strike += ring(impulses(closing, soft, n), modes, decay, [0.7, 1.0, 0.4, 0.3])
    strike *= np.sqrt(RATE / identity["cycle_hz"])
    steps = impulses(opening, 1.0, n) - impulses(closing, 1.0, n)
    gate = np.cumsum(steps)
    gate = np.clip(gate - gate.min(), 0.0, 1.0)
    ramp = int(0.015 * RATE)
    gate = np.convolve(gate, np.full(ramp, 1 / ramp))[:n]
    hiss = coloured_noise(streams[5], n, hump(identity["hiss_hz"] * q**-0.5, 1.0)) * gate
    coil_phase = shaft_phase(streams[6], 100.0, n, unsteady=0.0)
    coil = harmonics(streams[6], coil_phase, 100.0, decaying(6, 1.5)) * gate
    rig = coloured_noise(streams[7], n, rolloff(350.0, 6.0, rise_hz=40.0))
    audio = mix(
        streams[8],
        point,
        {
            "strike": (0.0, strike),
            "hiss": (-8.0 + 5.0 * point.load + ratio_db(q, 1), hiss),
            "coil": (-12.0 + ratio_db(supply, 2), coil),
            "rig": (-8.0, rig),
        },
    )
    return MachineSound(audio, cycle, identity["cycle_hz"] * point.speed)


SLIDER = Machine(
    "slider",
    {
        "cycle_hz": (0.5, 1.1),
        "ramp": (0.2, 0.4),
        "mesh_hz": (250.0, 600.0),
        "mesh_fall": (0.7, 1.2),
        "frame_hz": (140.0, 320.0),
        "plate_hz": (700.0, 1500.0),
        "driver_hz": (2500.0, 4000.0),
    },
    ("worn bearing", "loose part", "clogging", "imbalance"),
    slider_sound,
)
VALVE = Machine(
    "valve",
    {
        "cycle_hz": (1.1, 2.2),
        "duty": (0.3, 0.55),
        "mode1_hz": (700.0, 1200.0),
        "mode2_hz": (1500.0, 2400.0),
        "mode3_hz": (2800.0, 4200.0),
        "mode4_hz": (4800.0, 6500.0),
        "soft_db": (4.0, 10.0),
        "hiss_hz": (1200.0, 3000.0),
    },
    ("leak", "clogging", "loose part", "voltage change"),
    valve_sound,
)
