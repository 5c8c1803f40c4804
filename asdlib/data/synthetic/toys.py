"""Models of the toys: car, conveyor, train.

Symbols as in `asdlib.data.synthetic.rotating`. A toy is a brush motor, a train of plastic gears and
something that rolls. Toys start and stop: the drive runs up in the first, and down in the last part
of some clips.
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


def toy_car_sound(
    identity: Identity, point: OperatingPoint, rng: np.random.Generator, n: int
) -> MachineSound:
    """Toy car: brush motor, pinion meshing, wheels on the belt.

    - motor: f 70 … 130 Hz; commutator harmonics of 6 f with amplitude k^-0.8;
    - mesh: pinion of 8 … 12 teeth, ``sum k^-p (1 + 0.3 cos(phi / g)) cos(k z phi)``, gear ratio g
      3 … 5, so the wheels turn at f / g and leave sidebands;
    - wheels: rolling noise N(350, 5) modulated at f / g, level ~ v^2;
    - brushes: noise around 3 … 5.5 kHz modulated by the commutator, 16 dB below.
    """
    streams = rng.spawn(8)
    v = point.pace
    drive = run_profile(streams[0], n)
    f = identity["motor_hz"] * v * (1.04 - 0.08 * point.load)
    phi = shaft_phase(streams[1], f * drive, n, unsteady=0.008)
    motor = harmonics(streams[2], 6 * phi, 6 * f, decaying(8, 0.8)) * drive
    motor += 0.6 * harmonics(streams[3], phi, f, decaying(5, 0.6)) * drive
    teeth, gear = identity["teeth"], identity["gear"]
    mesh = harmonics(streams[4], teeth * phi, teeth * f, decaying(7, identity["mesh_fall"]))
    mesh *= (1 + 0.3 * np.cos(phi / gear)) * drive
    wheels = coloured_noise(streams[5], n, rolloff(350.0, 5.0, rise_hz=70.0))
    wheels *= (1 + 0.35 * np.cos(phi / gear)) * drive**2
    brush = coloured_noise(streams[6], n, hump(identity["brush_hz"], 0.7))
    brush *= (1 + 0.6 * np.cos(6 * phi)) * drive
    audio = mix(
        streams[7],
        point,
        {
            "motor": (-5.0, motor),
            "mesh": (-6.0 + 6.0 * point.load + ratio_db(v, 1), mesh),
            "wheels": (ratio_db(v, 2), wheels),
            "brush": (-16.0 + ratio_db(v, 2), brush),
        },
    )
    return MachineSound(audio, phi / gear, f / gear)


def toy_conveyor_sound(
    identity: Identity, point: OperatingPoint, rng: np.random.Generator, n: int
) -> MachineSound:
    """Toy conveyor: rumbling rollers, a belt seam, a geared motor, goods that shake.

    - rollers: f 5 … 9 Hz, harmonics k^-0.5 up to k = 24, and rumble N(220, 5) modulated by f;
    - motor gear: tones at R f, R 50 … 80, sidebands at f;
    - seam: a thump at f / 6, frame modes 90 … 180 Hz and 400 … 900 Hz, jitter 5 ms;
    - goods: rattle, noise around 1.5 … 3 kHz in slow swells, level with the load.

    Dirt between belt and deck (q < 1) slows the belt and raises rumble.
    """
    streams = rng.spawn(8)
    v, q = point.pace, point.flow
    f = identity["roller_hz"] * v * (0.85 + 0.15 * q) * (1.03 - 0.06 * point.load)
    phi = shaft_phase(streams[0], f, n, unsteady=0.01)
    rollers = harmonics(streams[1], phi, f, decaying(24, 0.5))
    rumble = coloured_noise(streams[2], n, rolloff(220.0, 5.0, rise_hz=40.0))
    rumble *= 1 + 0.3 * np.cos(phi)
    gear = harmonics(streams[3], identity["gear"] * phi, identity["gear"] * f, decaying(7, 0.9))
    gear *= 1 + 0.3 * np.cos(phi)
    times = crossings(phi, 1 / 6)
    times = times + 0.005 * RATE * streams[4].standard_normal(len(times))
    modes = [identity["frame_hz"], identity["deck_hz"]]
    seam = ring(impulses(times, 1.0, n), modes, [0.03, 0.012], [1.0, 0.5], per_second=f / 6)
    goods = coloured_noise(streams[5], n, hump(identity["goods_hz"], 0.6))
    swell = np.exp(0.6 * np.interp(np.arange(n), np.linspace(0, n, 12), streams[6].normal(size=12)))
    audio = mix(
        streams[7],
        point,
        {
            "rollers": (-5.0, rollers),
            "rumble": (ratio_db(v, 2) - ratio_db(q, 1.5), rumble),
            "gear": (-10.0 + 4.0 * point.load + ratio_db(v, 1), gear),
            "seam": (-12.0, seam),
            "goods": (-20.0 + 8.0 * point.load, goods * swell),
        },
    )
    return MachineSound(audio, phi, f)


def toy_train_sound(
    identity: Identity, point: OperatingPoint, rng: np.random.Generator, n: int
) -> MachineSound:
    """Toy train: motor and worm gear, wheels on the rail, joints in pairs.

    - motor: f 60 … 110 Hz, harmonics k^-0.9; worm meshing at z f, z 6 … 10;
    - rolling: N(600, 5) modulated by the axle f / g (g 8 … 14), level ~ v^2;
    - joints: two clacks (front and rear axle, 60 … 120 ms apart at v = 1) at every joint, joints at
      f / (g 9), track modes 500 … 1100 Hz and 2 … 3.6 kHz.
    """
    streams = rng.spawn(7)
    v = point.pace
    drive = run_profile(streams[0], n)
    f = identity["motor_hz"] * v * (1.04 - 0.08 * point.load)
    phi = shaft_phase(streams[1], f * drive, n, unsteady=0.008)
    gear = identity["gear"]
    motor = harmonics(streams[2], phi, f, decaying(14, 0.9)) * drive
    worm = harmonics(
        streams[3], identity["worm"] * phi, identity["worm"] * f, decaying(8, identity["worm_fall"])
    )
    worm *= (1 + 0.25 * np.cos(phi / gear)) * drive
    rolling = coloured_noise(streams[4], n, rolloff(600.0, 5.0, rise_hz=80.0))
    rolling *= (1 + 0.3 * np.cos(phi / gear)) * drive**2
    front = crossings(phi, 1 / (9 * gear))
    rear = front + identity["axles_s"] * RATE / v
    strength = streams[5].lognormal(0.0, 0.3, (2, len(front)))
    modes = [identity["track_hz"], 3.3 * identity["track_hz"]]
    hits = impulses(front, strength[0], n) + impulses(rear, strength[1], n)
    clacks = ring(hits, modes, [0.01, 0.004], [1.0, 0.6], per_second=2 * f / (9 * gear))
    audio = mix(
        streams[6],
        point,
        {
            "motor": (-5.0, motor),
            "worm": (-8.0 + 6.0 * point.load + ratio_db(v, 1), worm),
            "rolling": (ratio_db(v, 2), rolling),
            "clacks": (-8.0 + ratio_db(v, 1), clacks),
        },
    )
    return MachineSound(audio, phi / gear, f / gear)


TOY_CAR = Machine(
    "ToyCar",
    {
        "motor_hz": (70.0, 130.0),
        "teeth": (8, 12),
        "gear": (3.0, 5.0),
        "mesh_fall": (0.6, 1.2),
        "brush_hz": (3000.0, 5500.0),
    },
    ("imbalance", "worn bearing", "loose part", "voltage change"),
    toy_car_sound,
)
TOY_CONVEYOR = Machine(
    "ToyConveyor",
    {
        "roller_hz": (5.0, 9.0),
        "gear": (50, 80),
        "frame_hz": (90.0, 180.0),
        "deck_hz": (400.0, 900.0),
        "goods_hz": (1500.0, 3000.0),
    },
    ("loose part", "imbalance", "clogging", "voltage change"),
    toy_conveyor_sound,
)
TOY_TRAIN = Machine(
    "ToyTrain",
    {
        "motor_hz": (60.0, 110.0),
        "gear": (8.0, 14.0),
        "worm": (6, 10),
        "worm_fall": (0.7, 1.2),
        "axles_s": (0.06, 0.12),
        "track_hz": (500.0, 1100.0),
    },
    ("imbalance", "worn bearing", "loose part", "voltage change"),
    toy_train_sound,
)
