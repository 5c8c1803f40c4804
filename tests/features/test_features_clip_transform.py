"""The transform that builds stores, against librosa and against `LogMel` in double precision."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings, strategies as st
from numba.core.caching import FunctionCache
from test_features_logmel import CENTRED, TOLERANCE_DB, by_librosa, noise

from asdlib.features import PRESETS, FrontEnd, LogMel, clip_transform
from asdlib.features.clip_transform import ClipTransform, Samples


def ours(samples: Samples, front_end: FrontEnd) -> np.ndarray:
    out = torch.full((front_end.n_mels, front_end.n_frames(len(samples))), torch.nan)
    ClipTransform(front_end)(samples, out)
    return out.numpy()


def as_pcm(waveform: np.ndarray) -> np.ndarray:
    return np.round(waveform * 32767).astype(np.int16)


@pytest.mark.slow
def test_noise_equals_librosa() -> None:
    for name in CENTRED:
        for kind in ["float32", "int16"]:
            waveform, front_end = noise(11.0), PRESETS[name]
            samples = as_pcm(waveform) if kind == "int16" else waveform
            if kind == "int16":
                waveform = samples / 32768
            expected = by_librosa(waveform, front_end)
            # More frames than one piece holds.
            assert expected.shape[1] > 320
            np.testing.assert_allclose(
                ours(samples, front_end), expected, rtol=0, atol=TOLERANCE_DB
            )


@settings(max_examples=60)
@given(
    n_samples=st.integers(1025, 5000),
    n_fft=st.sampled_from([256, 512, 1000, 1024, 2048]),
    hop_length=st.integers(50, 600),
    n_mels=st.integers(5, 40),
    mel_scale=st.sampled_from(["slaney", "htk"]),
    norm=st.sampled_from(["slaney", None]),
    pad_mode=st.sampled_from(["reflect", "constant"]),
    power=st.sampled_from([1.0, 1.5, 2.0]),
    scale=st.sampled_from(
        [
            "10*log10(mel + eps)",
            "10*log10(max(mel, eps))",
            "ln(mel + eps)",
            "ln(max(mel, eps))",
        ]
    ),
    stride=st.sampled_from([1, 2]),
)
def test_any_parameters_equal_logmel_in_double(
    n_samples: int, stride: int, **parameters: object
) -> None:
    front_end = FrontEnd.model_validate(parameters)
    samples = as_pcm(noise())[: stride * n_samples : stride]
    waveform = torch.from_numpy(samples / 32768)[None]
    expected = LogMel(front_end, dtype=torch.float64)(waveform)[0].numpy()
    np.testing.assert_allclose(ours(samples, front_end), expected, rtol=0, atol=TOLERANCE_DB)


def test_tones_differ_from_librosa_only_in_empty_bins() -> None:
    for hz in [50.0, 997.0, 4000.0]:
        tone = 0.5 * np.sin(2 * np.pi * hz * np.arange(16000) / 16000)
        front_end = PRESETS["dcase2020"]
        expected, got = by_librosa(tone, front_end), ours(tone.astype(np.float32), front_end)
        loud = expected > expected.max(axis=0) - 80
        assert loud.sum() > 3 * loud.shape[1]
        np.testing.assert_allclose(got[loud], expected[loud], rtol=0, atol=0.01)
        empty = expected < expected.max(axis=0) - 130
        assert (got[empty] < (got.max(axis=0) - 110)[np.nonzero(empty)[1]]).all()


def test_clips_of_different_lengths_by_one_object() -> None:
    front_end, waveform = PRESETS["dcase2020"], noise(2.0)
    transform = ClipTransform(front_end)
    for n_samples in (16000, 32000, 600, 16000):
        samples = waveform[:n_samples]
        out = torch.empty(front_end.n_mels, front_end.n_frames(n_samples), dtype=torch.float16)
        transform(samples, out)
        expected = torch.from_numpy(ours(samples, front_end)).half()
        assert torch.equal(out, expected)


def test_silence_is_eps_and_a_missing_value_stays_one() -> None:
    front_end = PRESETS["dcase2020"]
    assert ours(np.zeros(16000, np.int16), front_end) == pytest.approx(-156.5356, abs=1e-3)
    samples = noise()
    samples[8000] = np.nan
    missing = np.isnan(ours(samples, front_end)).all(axis=0)
    assert np.flatnonzero(missing).tolist() == [15, 16]


def test_real_recordings_equal_librosa(real_data: Path) -> None:
    files = sorted((real_data / "wav").rglob("*.wav"))
    assert files
    for file in files:
        samples, _ = soundfile.read(file, dtype="int16")
        for name in ("dcase2020", "dcase2022"):
            expected = by_librosa(samples / 32768, PRESETS[name])
            got = ours(samples, PRESETS[name])
            np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE_DB)


def test_kernels_work_where_nothing_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise RuntimeError("cannot cache function: no locator available")

    monkeypatch.setattr(FunctionCache, "__init__", refuse)
    samples, frames = np.arange(8, dtype=np.float32), np.empty((2, 4), np.float32)
    again = clip_transform._compiled(clip_transform.window_frames.py_func)
    again(samples, np.ones(4, np.float32), 4, True, 0, frames)
    assert frames.tolist() == [[2, 1, 0, 1], [2, 3, 4, 5]]
