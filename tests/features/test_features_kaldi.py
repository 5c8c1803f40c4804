"""The front end of Audio Spectrogram Transformers, against the library that they come with."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asdlib.errors import ConfigError, DataError
from asdlib.features import PRESETS, FeatureStore, FrontEnd, LogMel
from asdlib.features.build import build_store

AST = PRESETS["ast"]


def waveform(seconds: float = 1.0) -> np.ndarray:
    """Noise, a tone and an offset."""
    rng = np.random.default_rng(0)
    n = int(16000 * seconds)
    tone = 0.2 * np.sin(2 * np.pi * 440 * np.arange(n) / 16000)
    return (rng.normal(scale=0.05, size=n) + tone + 0.01).astype(np.float32)


def ours(samples: np.ndarray, dtype: torch.dtype = torch.float32) -> np.ndarray:
    return LogMel(AST, dtype=dtype)(torch.from_numpy(samples)[None])[0].numpy()


def by_hand(samples: np.ndarray) -> np.ndarray:
    """The same features from the formulas, in double precision."""
    n_frames = 1 + (len(samples) - 400) // 160
    frames = np.stack([samples[160 * t : 160 * t + 400] for t in range(n_frames)]).astype(float)
    frames -= frames.mean(axis=1, keepdims=True)
    before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - 0.97 * before) * (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 399))
    power = np.abs(np.fft.rfft(frames, 512)) ** 2
    mel = 1127.0 * np.log(1.0 + np.arange(257) * 16000 / 512 / 700.0)
    low, high = 1127.0 * np.log(1.0 + np.array([20.0, 8000.0]) / 700.0)
    edges = np.linspace(low, high, 130)[:, None]
    rise = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    filters = np.clip(np.minimum(rise, fall), 0, None)
    filters[:, -1] = 0.0
    return np.log(np.maximum(filters @ power.T, np.finfo(np.float32).eps))


def test_it_is_what_the_formulas_say() -> None:
    got = ours(waveform())
    assert got.dtype == np.float32
    assert got.shape == (128, 98) == (AST.n_mels, AST.n_frames(16000))
    np.testing.assert_allclose(got, by_hand(waveform()), rtol=0, atol=2e-3)


def test_it_is_what_the_checkpoints_were_trained_on() -> None:
    from transformers import ASTFeatureExtractor

    extractor = ASTFeatureExtractor()
    told = extractor(waveform(), sampling_rate=16000, return_tensors="np")["input_values"][0]
    # Undo its normalisation, which a training does with statistics of its own.
    expected = told[:98] * 2 * extractor.std + extractor.mean
    np.testing.assert_allclose(ours(waveform()).T, expected, rtol=0, atol=1e-5)


def test_silence_is_eps() -> None:
    assert ours(np.zeros(16000, np.float32)) == pytest.approx(-15.9424, abs=1e-3)


def test_ten_seconds_have_998_frames_and_short_clips_are_refused() -> None:
    assert AST.n_frames(160_000) == 998
    assert AST.shortest == 400
    assert ours(waveform()[:400]).shape == (128, 1)
    with pytest.raises(DataError, match="at least 400 samples"):
        ours(waveform()[:399])


def test_the_description_says_what_is_special_and_comes_back() -> None:
    told = json.loads(json.dumps(AST.describe()))
    assert FrontEnd.from_description(told) == AST
    assert told["framing"] == "kaldi"
    assert told["win_length"] == 400
    assert told["preemphasis"] == 0.97
    assert told["center"] is False
    assert told["unit"] == "neper"
    assert "framing" not in PRESETS["dcase2020"].describe(), "older stores do not name it"


def test_what_kaldi_cannot_do_is_refused() -> None:
    for change, said in [
        ({"n_fft": 1024}, "needs n_fft 512, not 1024"),
        ({"hop_length": 512}, "needs hop_length 160, not 512"),
        ({"scale": "ln(mel + eps)"}, "needs scale"),
        ({"norm": "slaney"}, "needs norm None"),
    ]:
        with pytest.raises(ConfigError, match=said):
            FrontEnd.from_description(AST.describe() | change)


def test_a_store_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "wav" / "fan" / "train"
    folder.mkdir(parents=True)
    for i, seconds in enumerate((0.5, 1.0)):
        soundfile.write(folder / f"normal_id_00_{i:08d}.wav", waveform(seconds), 16000)
    store = build_store(tmp_path / "wav", tmp_path / "store", preset="ast", jobs=1)
    assert store.frames.tolist() == [48, 98]
    decoded, _ = soundfile.read(folder / "normal_id_00_00000001.wav", dtype="float32")
    # Half the spacing of float16 between 8 and 16 is 1/256.
    np.testing.assert_allclose(store.features[1], ours(decoded), rtol=0, atol=0.004)
    again = FeatureStore.open(store.path)
    assert FrontEnd.from_description(again.front_end) == AST
    np.testing.assert_allclose(again.mel_frequencies(), AST.mel_frequencies())
