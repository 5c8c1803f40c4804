"""Log-mels of one front end from those of another."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torchaudio.functional import resample

from asdlib.errors import ConfigError
from asdlib.features import PRESETS, FeatureStore, LogMel, translate_store, write_store
from asdlib.features.logmel import Translation

RATES = {"dcase2020": 16000, "efficientat": 32000}


def sound(seconds: float = 4.0) -> np.ndarray:
    """Make noise with a slope, and a tone that is switched on and off, at 16 kHz."""
    rng = np.random.default_rng(0)
    t = np.arange(int(16000 * seconds)) / 16000
    noise = np.convolve(rng.normal(size=len(t)), [0.05, 0.04, 0.02], "same")
    return np.asarray(noise + 0.2 * np.sin(2 * np.pi * 1800 * t) * (t % 1 < 0.5), np.float32)


def log_mel(name: str) -> np.ndarray:
    """Log-mel of the sound by the front end itself."""
    samples = resample(torch.from_numpy(sound())[None], 16000, RATES[name])
    return LogMel(name)(samples)[0].numpy()


def test_a_translation_is_near_to_what_the_sound_gives() -> None:
    """A level that is 6 dB off, or a shifted axis, is far outside."""
    translated = Translation(PRESETS["dcase2020"], PRESETS["efficientat"])(log_mel("dcase2020"))
    exact = log_mel("efficientat")
    assert abs(translated.shape[1] - exact.shape[1]) <= 4, (
        "the last frame may lie beyond the source"
    )
    shared = min(translated.shape[1], exact.shape[1])
    inside = PRESETS["efficientat"].mel_frequencies() < 7500
    translated, exact = translated[:, :shared], exact[:, :shared]
    difference = (translated - exact)[inside, 10:-10]
    assert abs(difference.mean()) < 0.4, "neper; noise in logarithms has a mean of its own"
    assert np.corrcoef(translated[inside].mean(1), exact[inside].mean(1))[0, 1] > 0.99
    tone = np.argmax(exact.mean(1))
    assert np.corrcoef(translated[tone], exact[tone])[0, 1] > 0.9
    assert translated[-1].max() < -11, "nothing is above the band of the source"


def test_between_two_frames_the_level_lies_between_theirs() -> None:
    source = PRESETS["dcase2020"]
    twice_as_many = source.model_copy(update={"hop_length": source.hop_length // 2})
    rising = np.broadcast_to(np.linspace(-10.0, 10.0, 21), (source.n_mels, 21))
    translated = Translation(source, twice_as_many)(rising)
    np.testing.assert_allclose(np.diff(translated, axis=1), 0.5, atol=1e-6)


def test_a_store_is_translated_clip_by_clip(tmp_path: Path) -> None:
    features = np.stack([log_mel("dcase2020"), log_mel("dcase2020") + 10.0])
    manifest = {"clip": ["a", "b"], "machine": "fan", "section": "00", "split": "train"}
    table = pd.DataFrame(manifest | {"label": "normal", "domain": "source"})
    frames = [features.shape[2], 40]
    table["frames"] = frames
    store = write_store(tmp_path / "from", table, features, PRESETS["dcase2020"])
    made = translate_store(store, tmp_path / "to", "efficientat")
    again = FeatureStore.open(tmp_path / "to")
    assert made.fingerprint == again.fingerprint
    assert again.front_end["translated_from"]["hop_length"] == 512
    assert again.front_end["framing"] == "efficientat"
    assert list(again.frames) == [1 + int((n - 1) * 3.2) for n in frames]
    translation = Translation(store.parameters, PRESETS["efficientat"])
    for row, (before, after) in enumerate(zip(frames, again.frames, strict=True)):
        expected = translation(store.features[row, :, :before])
        np.testing.assert_array_equal(again.features[row, :, :after], expected.astype(np.float16))
        assert not again.features[row, :, after:].any()


def test_kaldi_frames_are_refused() -> None:
    with pytest.raises(ConfigError, match="framing 'kaldi' .* build the store from the recordings"):
        Translation(PRESETS["dcase2020"], PRESETS["ast"])
