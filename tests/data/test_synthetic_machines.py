"""Machine models: what their docstrings promise can be measured in their sound."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import stft, welch

from asdlib.data.synthetic.corpus import LAYOUT_MACHINES, SyntheticSpec
from asdlib.data.synthetic.faults import (
    BANDS,
    CAUSES,
    apply_fault,
    band_edges,
    fault_centre,
)
from asdlib.data.synthetic.machines import MACHINES, Identity, Machine, MachineSound, OperatingPoint
from asdlib.data.synthetic.signals import RATE, coloured_noise, generator, rolloff

N = 3 * RATE
CALM = OperatingPoint(spread_db=0.0)
KEY = (0, "test")


def make(machine: Machine, point: OperatingPoint = CALM) -> tuple[Identity, MachineSound]:
    identity = machine.identity("00")
    return identity, machine.sound(identity, point, generator(*KEY, "machine"), N)


def band_power(audio: np.ndarray, low: float, high: float) -> float:
    f, density = welch(audio, RATE, nperseg=2048)
    return float(density[(f >= low) & (f <= high)].sum())


def test_an_identity_is_constant_within_its_ranges_and_its_own() -> None:
    for machine in MACHINES.values():
        seen = set()
        for section in ("00", "01", "02", "03"):
            identity = machine.identity(section)
            assert identity == machine.identity(section)
            assert identity.keys() == machine.ranges.keys()
            for key, (low, high) in machine.ranges.items():
                assert low <= identity[key] <= high
                if isinstance(low, int) and isinstance(high, int):
                    assert identity[key] == int(identity[key])
            seen.add(tuple(identity.values()))
        assert len(seen) == 4


@pytest.mark.parametrize("name", MACHINES)
def test_sound_is_finite_reproducible_and_follows_the_point(name: str) -> None:
    machine = MACHINES[name]
    _, sound = make(machine)
    assert sound.audio.shape == sound.phase.shape == (N,)
    assert np.isfinite(sound.audio).all()
    assert np.std(sound.audio) > 0.1
    assert (np.diff(sound.phase) >= 0).all()
    assert np.array_equal(sound.audio, make(machine)[1].audio)
    faster = make(machine, replace(CALM, speed=1.1))[1]
    assert faster.hz == pytest.approx(1.1 * sound.hz, rel=0.01)
    assert not np.array_equal(sound.audio, faster.audio)


def test_the_fan_sings_at_its_blade_pass_frequency() -> None:
    identity, sound = make(MACHINES["fan"])
    f, density = welch(sound.audio, RATE, nperseg=8192)
    blade_pass = identity["blades"] * sound.hz
    near = np.abs(f - blade_pass) < 0.4 * sound.hz
    peak = f[near][np.argmax(density[near])]
    assert peak == pytest.approx(blade_pass, abs=4)
    beside = (f > blade_pass + 2.2 * sound.hz) & (f < blade_pass + 2.8 * sound.hz)
    assert density[near].max() > 5 * density[beside].max()


def test_the_gearbox_meshes_with_sidebands() -> None:
    identity, sound = make(MACHINES["gearbox"])
    mesh = identity["teeth_in"] * sound.hz
    f, density = welch(sound.audio, RATE, nperseg=16384)

    def level(at: float) -> float:
        return float(density[np.abs(f - at) < 0.012 * at].max())

    floor = np.median(density[(f > mesh - 3 * sound.hz) & (f < mesh + 3 * sound.hz)])
    assert level(mesh) > 20 * floor
    assert level(mesh - sound.hz) + level(mesh + sound.hz) > 6 * floor


def test_the_slider_is_quiet_where_it_turns() -> None:
    identity, sound = make(MACHINES["slider"])
    power = np.convolve(sound.audio**2, np.full(800, 1 / 800), mode="same")
    assert power[2000:-2000].max() > 10 * power[2000:-2000].min()
    assert identity["cycle_hz"] < 1.2


def test_the_valve_clicks_twice_a_cycle() -> None:
    identity, sound = make(MACHINES["valve"])
    click = band_power(sound.audio, 4500, 7000)
    weak = make(MACHINES["valve"], replace(CALM, voltage=0.8))[1]
    assert band_power(weak.audio, 4500, 7000) < click
    assert sound.hz == pytest.approx(identity["cycle_hz"])


def test_every_machine_knows_its_causes() -> None:
    for machine in MACHINES.values():
        assert set(machine.causes) <= set(CAUSES)
        assert len(machine.causes) >= 3


def test_layouts_have_official_machines_and_sections() -> None:
    assert all(set(names) <= set(MACHINES) for names in LAYOUT_MACHINES.values())
    assert SyntheticSpec(n_sections=4).sections("fan") == ("00", "02", "04", "06")
    assert SyntheticSpec(n_sections=4).sections("ToyCar") == ("01", "02", "03", "04")
    assert SyntheticSpec(layout="dcase2022").sections("fan") == ("00", "01", "02")


def power(audio: np.ndarray) -> float:
    return float(np.mean(audio**2))


@pytest.mark.parametrize("name", MACHINES)
def test_a_fault_stays_in_its_band_and_grows_with_its_severity_from_nothing(name: str) -> None:
    machine = MACHINES[name]
    _, healthy = make(machine)

    def added(cause: str, severity: float, band: str) -> np.ndarray:
        faulty = apply_fault(machine, "00", cause, severity, band, CALM, healthy, KEY)
        return faulty - healthy.audio

    for cause in machine.causes:
        for band, (low, high) in BANDS.items():
            difference = added(cause, 1.0, band)
            inside = band_power(difference, 0.9 * low, 1.1 * high)
            assert inside > 0
            # Some changes of operation are not heard in every band.
            outside = band_power(difference, 0, 8000) - inside
            assert outside < 0.02 * inside + 1e-9 * power(healthy.audio), (cause, band)
        sizes = [power(added(cause, severity, "natural")) for severity in (0.0, 0.5, 1.0)]
        assert sizes[0] == pytest.approx(0.0, abs=1e-18)
        if CAUSES[cause].changes is None:
            linear = CAUSES[cause].kind == "energy"
            assert sizes[2] == pytest.approx(4 * sizes[1], rel=1e-6 if linear else 0.4), cause
        else:
            # A changed speed decorrelates both sounds at once: the difference need not grow.
            assert min(sizes[1:]) > 1e-4 * power(healthy.audio), cause


def log_spectra(audio: np.ndarray) -> np.ndarray:
    """Log power in twelfths of the band over time, in dB, with factory noise beside, (12, T)."""
    noise = coloured_noise(generator("factory"), N, rolloff(300.0, 6.0)) * 0.5
    squared = np.abs(stft(audio + noise, RATE, nperseg=1024)[2][12:492]) ** 2
    return np.asarray(10 * np.log10(squared.reshape(12, 40, -1).mean(axis=1)))


@pytest.mark.parametrize("name", MACHINES)
def test_faults_of_pattern_keep_the_mean_spectrum(name: str) -> None:
    machine = MACHINES[name]
    _, healthy = make(machine)
    before = log_spectra(healthy.audio)
    for cause in machine.causes:
        if CAUSES[cause].kind == "pattern":
            sound = apply_fault(machine, "00", cause, 1.0, "natural", CALM, healthy, KEY)
            change = log_spectra(sound) - before
            assert np.abs(change.mean(axis=1)).max() < 1.3, cause
            assert np.abs(change).mean(axis=1).max() > 0.1, cause


def test_an_id_radiates_a_fault_at_its_own_frequency_within_the_band() -> None:
    emitted = [name for name, cause in CAUSES.items() if cause.changes is None]
    for cause, band in itertools.product(emitted, (*BANDS, "natural")):
        low, high = band_edges(cause, band)
        centres = [fault_centre("fan", section, cause, band) for section in ("00", "02", "04")]
        assert all(low < centre < high for centre in centres)
        assert len(set(centres)) == 3


def test_a_worn_bearing_hits_periodically() -> None:
    from asdlib.data.synthetic.faults import emission

    machine = MACHINES["bearing"]
    _, healthy = make(machine)
    sound = emission("worn bearing", healthy, 3000.0, np.random.default_rng(0))
    envelope = np.convolve(sound**2, np.full(32, 1 / 32), mode="same")
    spectrum = np.abs(np.fft.rfft(envelope - envelope.mean()))
    f = np.fft.rfftfreq(N, 1 / RATE)
    rate = 3.6 * healthy.hz
    near = np.abs(f - rate) < 0.04 * rate
    assert spectrum[near].max() > 5 * np.median(spectrum[(f > 20) & (f < 500)])
