"""Two microphones: factors by least squares, scenes with known leakage, stores of both channels."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy import signal

from asdlib.data import index_folder
from asdlib.data.synthetic import SyntheticSpec, write_corpus
from asdlib.data.synthetic.rooms import Conditions, record
from asdlib.errors import DataError, StoreError
from asdlib.features import FeatureStore
from asdlib.features.build import HOP, WINDOW, build_store, fit_far, subtract_far
from asdlib.features.front_end import differences
from asdlib.features.logmel import LogMel

SPEC = SyntheticSpec(
    layout="dcase2026", machines=("fan",), n_train=4, n_test_normal=2, n_test_anomaly=2, seconds=1.0
)


def noises(n: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, 2, 8000)).astype(np.float32)


def test_factors_are_those_of_least_squares_at_each_frequency() -> None:
    clips = [(near + signal.lfilter([0, 0.5, 0.2], 1, far), far) for near, far in noises(3)]
    found = fit_far(clips)
    kept = {"window": signal.windows.hann(WINDOW, sym=False), "nperseg": WINDOW, "detrend": False}
    kept |= {"noverlap": WINDOW - HOP, "boundary": "zeros", "padded": True, "return_onesided": True}
    near, far = (
        np.concatenate([signal.stft(clip[k].astype(float), **kept)[2] for clip in clips], axis=1)
        for k in (0, 1)
    )
    for k in range(5, 500, 45):
        (expected,), *_ = np.linalg.lstsq(far[k, :, None], near[k], rcond=None)
        assert found[k] == pytest.approx(expected, abs=0.05)
    silent = [(near, np.zeros_like(far)) for near, far in clips]
    assert not fit_far(silent).any()


def test_noise_along_a_path_is_taken_away_and_without_factors_nothing_changes() -> None:
    path = np.zeros(40)
    path[[3, 20]] = 0.8, -0.3
    clips = [(signal.lfilter(path, 1, far).astype(np.float32), far) for _, far in noises(3)]
    left = subtract_far(clips[0], fit_far(clips))
    assert left.dtype == np.float32
    assert left.shape == clips[0][0].shape
    assert 20 * np.log10(np.std(left) / np.std(clips[0][0])) < -20
    same = subtract_far(clips[0], np.zeros(WINDOW // 2 + 1, dtype=complex))
    np.testing.assert_allclose(same, clips[0][0], atol=1e-5)


def test_a_synthetic_scene_with_leakage_keeps_the_machine_and_loses_noise() -> None:
    def scene(part: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng([1, seed])
        sound = signal.lfilter([1], [1, -0.5], rng.normal(size=32000))
        conditions = Conditions("", 1.0, 0.5, 2, (1,))
        kept = {"snr_db": 0.0, "variation": 0.0, "rng": np.random.default_rng(seed)}
        samples = record(sound, np.var(sound), "fan", "00", conditions, part=part, far=True, **kept)
        return samples[:, 0], samples[:, 1]

    factors = fit_far([scene("both", seed) for seed in range(4)])
    change = {}
    for part in ("noise", "machine"):
        clip = scene(part, 9)
        change[part] = 20 * np.log10(np.std(subtract_far(clip, factors)) / np.std(clip[0]))
    assert change["noise"] < -10
    assert abs(change["machine"]) < 1.5


def test_stores_of_two_microphones(tmp_path: Path) -> None:
    wav = tmp_path / "wav"
    write_corpus(SPEC, wav, jobs=1)
    table = index_folder(wav, year=2026)

    def build(far: str | None, channel: int | None = None) -> FeatureStore:
        out = tmp_path / f"{far}{channel}"
        return build_store(wav, out, table=table, far=far, channel=channel, jobs=2)  # type: ignore[arg-type]

    near, far, both, less = build(None, 0), build(None, 1), build("keep"), build("subtract")
    away = both.rows(split="far")
    assert len(both) == 2 * len(near)
    assert set(away.manifest["label"]) == {""}
    np.testing.assert_array_equal(both.features[: len(near)], near.features)
    np.testing.assert_array_equal(both.features[away.index], far.features)
    # The store without the noise is that of recordings from which it was taken by hand.
    train = [
        soundfile.read(wav / row.path, dtype="float32")[0].T
        for row in table.itertuples()
        if row.split == "train"
    ]
    factors = fit_far([(clip[0], clip[1]) for clip in train])
    row = int(np.flatnonzero(table["split"] == "test")[0])
    clip = soundfile.read(wav / table["path"][row], dtype="float32")[0].T
    wave = torch.from_numpy(subtract_far((clip[0], clip[1]), factors))[None]
    np.testing.assert_allclose(less.features[row], LogMel()(wave)[0], atol=0.2)
    # It is not mistaken for another one.
    assert differences(less.described, near.described) == "far 'subtract' and 'left out'"
    assert not differences(both.described, near.described)
    assert build("subtract").fingerprint == less.fingerprint


def test_what_does_not_fit_two_microphones_is_refused(tmp_path: Path) -> None:
    wav, out = tmp_path / "wav", tmp_path / "store"
    write_corpus(SPEC, wav, jobs=1)
    table = index_folder(wav, year=2026)
    with pytest.raises(DataError, match="has 2 channels, expected one; .* or use --far"):
        build_store(wav, out, table=table)
    with pytest.raises(StoreError, match="leave channel 0 out"):
        build_store(wav, out, table=table, far="subtract", channel=0)
    with pytest.raises(DataError, match="'fan/00' has no normal training clips to fit"):
        build_store(wav, out, table=table[table["split"] == "test"], far="subtract")
    one = tmp_path / "one"
    write_corpus(SPEC.model_copy(update={"layout": "dcase2023"}), one, jobs=1)
    with pytest.raises(DataError, match="has 1 channels, --far needs two"):
        build_store(one, out, far="keep")
    assert not out.exists()
