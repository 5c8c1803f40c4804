"""Models of rotating machines: fan, pump, bearing rig, gearbox.

Symbols: ``f`` shaft frequency in Hz, ``phi`` shaft angle, ``v`` pace (speed × supply, 1 nominal),
``q`` free flow, ``L`` load, ``N(fc, s)`` noise that falls by ``s`` dB an octave above ``fc``. The
constants and their ranges stand in each model's ``ranges``. Levels are in dB, relative to each
other only; `scene` sets the level of the clip.
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

MAINS_HZ = 50.0


def fan_sound(
    identity: Identity, point: OperatingPoint, rng: np.random.Generator, n: int
) -> MachineSound:
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
    streams = rng.spawn(7)
    v, q = point.pace, point.flow
    f = identity["shaft_hz"] * v * (1.03 - 0.06 * point.load) * (1 + 0.04 * (1 - q))
    phi = shaft_phase(streams[0], f, n, unsteady=0.003)
    blades = identity["blades"]
    tones = harmonics(streams[1], blades * phi, blades * f, decaying(12, identity["tone_fall"]))
    tones *= 1 + 0.2 * np.cos(phi)
    air = coloured_noise(streams[2], n, rolloff(identity["flow_hz"] * v * q, 6.0, rise_hz=60.0))
    air *= 1 + identity["beat"] * np.cos(blades * phi)
    stall = coloured_noise(streams[3], n, hump(110.0, 0.7))
    hum_phase = shaft_phase(streams[4], 2 * MAINS_HZ, n, unsteady=0.0)
    hum = harmonics(streams[5], hum_phase, 2 * MAINS_HZ, decaying(8, 1.2))
    audio = mix(
        streams[6],
        point,
        {
            "tones": (identity["tone_db"] + ratio_db(v, 2), tones),
            "air": (ratio_db(v, 3) + ratio_db(q, 1), air),
            "stall": (-40.0 + 45.0 * (1 - q), stall),
            "hum": (-14.0 + 6.0 * point.load, hum),
        },
    )
    return MachineSound(audio, phi, f)


def pump_sound(
    identity: Identity, point: OperatingPoint, rng: np.random.Generator, n: int
) -> MachineSound:
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
    streams = rng.spawn(8)
    v, q = point.pace, point.flow
    f = identity["shaft_hz"] * v * (1.02 - 0.04 * point.load)
    phi = shaft_phase(streams[0], f, n, unsteady=0.002)
    vanes = identity["vanes"]
    pulse = harmonics(streams[1], vanes * phi, vanes * f, decaying(10, 1.3))
    pulse += 0.5 * harmonics(streams[2], phi, f, decaying(3, 0.5))
    pipes = [identity[f"pipe{i}_hz"] * (0.9 + 0.1 * q) for i in (1, 2, 3)]
    flow = ring(streams[3].standard_normal(n), pipes, [0.012, 0.006, 0.003], [1.0, 0.6, 0.4])
    flow = 0.8 * flow + 0.6 * coloured_noise(streams[4], n, rolloff(500.0, 7.0, rise_hz=50.0))
    slots = identity["slots"]
    slot = harmonics(streams[5], slots * phi, slots * f, [1.0, 0.3])
    slot *= 1 + 0.5 * np.cos(2 * np.pi * 100 / 16000 * np.arange(n))
    rate = 60.0 + 1200.0 * (1 - q)
    # A fixed number of candidates keeps the streams of two operating points aligned.
    strength = streams[6].exponential(size=n) * (streams[6].uniform(size=n) < rate / 16000)
    bubbles = ring(strength, [3400.0, 5200.0], [0.0008, 0.0005], [1.0, 0.7], per_second=300.0)
    audio = mix(
        streams[7],
        point,
        {
            "pulse": (identity["pulse_db"] + ratio_db(v, 2), pulse),
            "flow": (ratio_db(q, 1) + ratio_db(v, 2), flow),
            "slot": (-18.0 + 6.0 * point.load, slot),
            "bubbles": (-26.0, bubbles),
        },
    )
    return MachineSound(audio, phi, f)


def bearing_sound(
    identity: Identity, point: OperatingPoint, rng: np.random.Generator, n: int
) -> MachineSound:
    """Bearing rig: a shaft in rolling bearings, healthy but never smooth.

    ``x = S + R + B``:

    - ``S = sum_k k^-1 cos(k phi + theta_k)``, f 16 … 40 Hz;
    - ``R``: rolling noise N(700, 6), modulated by the load zone, ``1 + 0.4 cos phi``, level ~ v^2;
    - ``B``: weak impulses at the outer-race pass frequency ``c f`` (c 3.0 … 5.2 = Z/2 (1 - d/D)),
      with 1 % slip, through two housing modes (1.6 … 4.5 kHz); level with the load.
    """
    streams = rng.spawn(6)
    v = point.pace
    f = identity["shaft_hz"] * v
    phi = shaft_phase(streams[0], f, n, unsteady=0.002)
    shaft = harmonics(streams[1], phi, f, decaying(20, 1.0))
    rolling = coloured_noise(streams[2], n, rolloff(700.0 * v, 6.0, rise_hz=80.0))
    rolling *= 1 + 0.4 * np.cos(phi)
    times = crossings(phi, identity["pass_order"])
    slip = 0.01 * 16000 / (f * identity["pass_order"]) * streams[3].standard_normal(len(times))
    modes = [identity["housing_hz"], 1.7 * identity["housing_hz"]]
    size = streams[4].lognormal(0.0, 0.5, len(times))
    hits = ring(
        impulses(times + slip, size, n), modes, [0.003, 0.002], [1.0, 0.6], per_second=f * 4
    )
    audio = mix(
        streams[5],
        point,
        {
            "shaft": (identity["shaft_db"], shaft),
            "rolling": (ratio_db(v, 2), rolling),
            "hits": (-24.0 + 6.0 * point.load, hits),
        },
    )
    return MachineSound(audio, phi, f)


def gearbox_sound(
    identity: Identity, point: OperatingPoint, rng: np.random.Generator, n: int
) -> MachineSound:
    """Gearbox: meshing tones with the sidebands of both shafts.

    ``x = M + W + N``:

    - ``M = sum_k k^-p (1 + a cos phi + b cos(phi z1/z2)) cos(k z1 phi + theta_k)``; z1 17 … 29
      teeth on the input shaft (f 16 … 30 Hz), z2 30 … 53 on the output shaft, a 0.1 … 0.4,
      b 0.1 … 0.3; level with the load;
    - ``W``: motor harmonics of f;
    - ``N``: oil and casing noise N(450, 6) plus a casing mode (0.9 … 2.6 kHz).
    """
    streams = rng.spawn(6)
    v = point.pace
    f = identity["shaft_hz"] * v * (1.02 - 0.04 * point.load)
    phi = shaft_phase(streams[0], f, n, unsteady=0.003)
    z1, z2 = identity["teeth_in"], identity["teeth_out"]
    mesh = harmonics(streams[1], z1 * phi, z1 * f, decaying(9, identity["mesh_fall"]))
    mesh *= 1 + identity["side_in"] * np.cos(phi) + identity["side_out"] * np.cos(phi * z1 / z2)
    motor = harmonics(streams[2], phi, f, decaying(8, 0.8))
    oil = coloured_noise(streams[3], n, rolloff(450.0, 6.0, rise_hz=60.0))
    casing = ring(streams[4].standard_normal(n), [identity["casing_hz"]], [0.004], [1.0])
    audio = mix(
        streams[5],
        point,
        {
            "mesh": (-6.0 + 8.0 * point.load + ratio_db(v, 1), mesh),
            "motor": (-6.0, motor),
            "oil": (ratio_db(v, 2), oil),
            "casing": (-12.0 + ratio_db(v, 2), casing),
        },
    )
    return MachineSound(audio, phi, f)


FAN = Machine(
    "fan",
    {
        "shaft_hz": (18.0, 30.0),
        "blades": (5, 9),
        "tone_fall": (1.0, 1.6),
        "tone_db": (-6.0, 2.0),
        "flow_hz": (300.0, 900.0),
        "beat": (0.2, 0.5),
    },
    ("imbalance", "clogging", "voltage change", "worn bearing"),
    fan_sound,
)
PUMP = Machine(
    "pump",
    {
        "shaft_hz": (24.0, 48.0),
        "vanes": (4, 7),
        "slots": (28, 44),
        "pipe1_hz": (180.0, 420.0),
        "pipe2_hz": (500.0, 1100.0),
        "pipe3_hz": (1300.0, 2600.0),
        "pulse_db": (-8.0, 0.0),
    },
    ("leak", "clogging", "worn bearing", "imbalance"),
    pump_sound,
)
BEARING = Machine(
    "bearing",
    {
        "shaft_hz": (16.0, 40.0),
        "pass_order": (3.0, 5.2),
        "housing_hz": (1600.0, 4500.0),
        "shaft_db": (-8.0, 0.0),
    },
    ("worn bearing", "imbalance", "loose part"),
    bearing_sound,
)
GEARBOX = Machine(
    "gearbox",
    {
        "shaft_hz": (16.0, 30.0),
        "teeth_in": (17, 29),
        "teeth_out": (30, 53),
        "mesh_fall": (0.7, 1.3),
        "side_in": (0.1, 0.4),
        "side_out": (0.1, 0.3),
        "casing_hz": (900.0, 2600.0),
    },
    ("worn bearing", "imbalance", "loose part", "voltage change"),
    gearbox_sound,
)
