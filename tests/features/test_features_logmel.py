"""The front end: parameters, and values against librosa as an independent reference."""

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import librosa
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings, strategies as st

from asdlib.errors import ConfigError, DataError
from asdlib.features import PRESETS, FeatureStore, FrontEnd, LogMel

TOLERANCE_DB = 1e-3
CENTRED = [name for name, front_end in PRESETS.items() if front_end.framing == "stft"]


def by_librosa(waveform: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    """The same features by librosa."""
    mel = librosa.feature.melspectrogram(
        y=waveform,
        sr=front_end.sample_rate,
        n_fft=front_end.n_fft,
        hop_length=front_end.hop_length,
        n_mels=front_end.n_mels,
        fmin=front_end.f_min,
        fmax=front_end.f_max,
        power=front_end.power,
        htk=front_end.mel_scale == "htk",
        norm=front_end.norm,
        pad_mode=front_end.pad_mode,
        dtype=np.float64,
    )
    if front_end.scale == "ln(mel + eps)":
        return np.log(mel + front_end.eps)
    if front_end.scale == "10*log10(mel + eps)":
        return 10 * np.log10(mel + front_end.eps)
    return 10 * np.log10(np.maximum(mel, front_end.eps))


def ours(waveform: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    transform = LogMel(front_end, dtype=torch.from_numpy(waveform).dtype)
    return transform(torch.from_numpy(waveform)[None])[0].numpy()


def clip_by_clip(waveform: np.ndarray, front_end: FrontEnd) -> np.ndarray:
    return LogMel(front_end).of_clip(waveform.astype(np.float32)).numpy()


def noise(seconds: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(scale=0.05, size=int(16000 * seconds)).astype(np.float32)


@pytest.mark.slow
def test_noise_equals_librosa() -> None:
    waveform = noise(11.0)  # more frames than one piece of a clip
    for name in CENTRED:
        front_end = PRESETS[name]
        expected = by_librosa(waveform, front_end)
        for compute in (ours, clip_by_clip):
            got = compute(waveform, front_end)
            assert got.dtype == np.float32
            assert got.shape == expected.shape == (front_end.n_mels, front_end.n_frames(176000))
            np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE_DB)


def test_tones_equal_librosa() -> None:
    # A pure tone leaves bins so empty that single precision shows its own rounding there; the
    # comparison of the formula is therefore in double precision.
    for hz in (0.0, 997.0, 7990.0):
        tone = 0.5 * np.cos(2 * np.pi * hz * np.arange(16000) / 16000)
        for front_end in (PRESETS[name] for name in CENTRED):
            expected = by_librosa(tone, front_end)
            np.testing.assert_allclose(ours(tone, front_end), expected, rtol=0, atol=TOLERANCE_DB)


def test_tones_in_single_precision_differ_only_in_empty_bins() -> None:
    for hz in [50.0, 997.0, 4000.0]:
        tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(16000) / 16000)
        front_end = PRESETS["dcase2020"]
        expected = by_librosa(tone, front_end)
        loud, empty = (expected > expected.max(axis=0) - 80, expected < expected.max(axis=0) - 130)
        assert loud.sum() > 3 * loud.shape[1]
        for compute in (ours, clip_by_clip):
            got = compute(tone.astype(np.float32), front_end)
            np.testing.assert_allclose(got[loud], expected[loud], rtol=0, atol=0.01)
            assert (got[empty] < (got.max(axis=0) - 110)[np.nonzero(empty)[1]]).all()


@settings(max_examples=25)
@given(
    n_samples=st.integers(1100, 5000),
    n_fft=st.sampled_from([256, 512, 1024]),
    hop_length=st.integers(50, 600),
    n_mels=st.integers(5, 40),
    mel_scale=st.sampled_from(["slaney", "htk"]),
    norm=st.sampled_from(["slaney", None]),
    pad_mode=st.sampled_from(["reflect", "constant"]),
    power=st.sampled_from([1.0, 2.0]),
)
def test_any_parameters_equal_librosa(n_samples: int, **parameters: object) -> None:
    front_end = FrontEnd.model_validate(parameters)
    waveform = noise()[:n_samples].astype(np.float64)
    got = ours(waveform, front_end)
    assert got.shape[1] == front_end.n_frames(n_samples)
    expected = by_librosa(waveform, front_end)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE_DB)


@settings(max_examples=60)
@given(
    n_samples=st.integers(1025, 5000),
    n_fft=st.sampled_from([256, 512, 1000, 1024, 2048]),
    hop_length=st.integers(50, 600),
    n_mels=st.integers(5, 40),
    power=st.sampled_from([1.0, 1.5, 2.0]),
    scale=st.sampled_from(get_args(FrontEnd.model_fields["scale"].annotation)),
    pad_mode=st.sampled_from(["reflect", "constant"]),
)
def test_clip_by_clip_equals_batches_in_double(n_samples: int, **parameters: object) -> None:
    front_end = FrontEnd.model_validate(parameters)
    waveform = noise()[:n_samples]
    expected = ours(waveform.astype(np.float64), front_end)
    got = clip_by_clip(waveform, front_end)
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE_DB)
    for name in ("ast", "efficientat"):
        got, expected = clip_by_clip(waveform, PRESETS[name]), ours(waveform, PRESETS[name])
        np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE_DB)


def test_silence_is_eps() -> None:
    assert ours(np.zeros(16000), PRESETS["dcase2020"]) == pytest.approx(-156.5356, abs=1e-3)
    assert ours(np.zeros(16000), PRESETS["dcase2022"]) == pytest.approx(-156.5356, abs=1e-3)
    assert ours(np.zeros(16000), PRESETS["byola"]) == pytest.approx(-15.9424, abs=1e-3)


def test_a_missing_value_stays_within_its_frames() -> None:
    waveform = noise()
    waveform[8000] = np.nan
    missing = np.isnan(clip_by_clip(waveform, PRESETS["dcase2020"])).all(axis=0)
    assert np.flatnonzero(missing).tolist() == [15, 16]


def test_presets_differ_only_at_the_ends() -> None:
    old, new = ours(noise(), PRESETS["dcase2020"]), ours(noise(), PRESETS["dcase2022"])
    np.testing.assert_allclose(old[:, 1:-1], new[:, 1:-1], atol=1e-4)
    assert np.abs(old[:, 0] - new[:, 0]).max() > 0.1


def test_published_frame_counts() -> None:
    assert FrontEnd().n_frames(160_000) == 313
    assert FrontEnd().n_frames(176_000) == 344


def test_mel_frequencies_equal_librosa() -> None:
    for scale in ["slaney", "htk"]:
        front_end = FrontEnd(mel_scale=scale, f_min=60.0, f_max=7800.0, n_mels=64)
        edges = librosa.mel_frequencies(66, fmin=60.0, fmax=7800.0, htk=scale == "htk")
        np.testing.assert_allclose(front_end.mel_frequencies(), edges[1:-1], rtol=1e-9)


def test_description_round_trips_through_json() -> None:
    for front_end in PRESETS.values():
        told = json.loads(json.dumps(front_end.describe()))
        assert FrontEnd.from_description(told) == front_end
        assert told["layout"] == "clip, mel, frame"
    assert PRESETS["dcase2020"].unit == "dB"
    assert PRESETS["byola"].unit == "neper"


def test_wrong_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_mels: Input should be greater"):
        FrontEnd.from_description({"n_mels": 0})
    with pytest.raises(ConfigError, match="half the sample rate"):
        FrontEnd.from_description({"f_max": 9000.0})
    with pytest.raises(ConfigError, match="n_fft: Input should be a multiple of 2"):
        FrontEnd.from_description({"n_fft": 255})
    with pytest.raises(ConfigError, match=r"'dcase2019' is not known \(known: dcase2020"):
        LogMel("dcase2019")
    with pytest.raises(DataError, match="at least 513 samples"):
        LogMel()(torch.zeros(1, 512))


def test_reading_a_store_does_not_import_torch() -> None:
    code = "import sys, asdlib.features as f; f.FeatureStore; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_real_recordings_equal_librosa(real_data: Path) -> None:
    files = sorted((real_data / "wav").rglob("*.wav"))
    assert files
    for file in files:
        waveform, _ = soundfile.read(file, dtype="float32")
        for name in ("dcase2020", "dcase2022"):
            expected = by_librosa(waveform, PRESETS[name])
            for compute in (ours, clip_by_clip):
                got = compute(waveform, PRESETS[name])
                np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE_DB)


def test_toycar_store_equals_its_recordings(real_data: Path) -> None:
    store = FeatureStore.open(real_data / "toycar")
    row_of = {clip: row for row, clip in enumerate(store.manifest["clip"])}
    compared = 0
    for file in sorted((real_data / "wav" / "ToyCar").rglob("*.wav")):
        if file.name not in row_of:
            continue
        waveform, _ = soundfile.read(file, dtype="float32")
        got = ours(waveform, PRESETS["dcase2020"])[:, 50:250]
        expected = store.features[row_of[file.name]].astype(np.float32)
        # Half the spacing of float16 is 1/64 dB below 64 dB and 1/32 dB from there on.
        np.testing.assert_allclose(got, expected, rtol=0, atol=0.05)
        compared += 1
    assert compared > 0
