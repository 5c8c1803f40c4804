"""The front end of EfficientAT, against its formulas written anew."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from scipy import signal

from asdlib.errors import ConfigError, DataError
from asdlib.features import PRESETS, FrontEnd, LogMel
from asdlib.features.build import build_store

FRONT_END = PRESETS["efficientat"]


def waveform(seconds: float = 1.0) -> np.ndarray:
    """Noise, a tone and an offset, in 16 bits."""
    rng = np.random.default_rng(0)
    time = np.arange(int(32000 * seconds)) / 32000
    samples = rng.normal(scale=0.05, size=len(time)) + 0.2 * np.sin(2760 * time) + 0.01
    return np.round(32767 * samples).astype(np.int16)


def by_hand(samples: np.ndarray) -> np.ndarray:
    """Compute the features in double precision, as SciPy and the formula of the mel scale say."""
    emphasised = signal.lfilter([1.0, -0.97], [1.0], samples / 32768)[1:]
    padded = np.pad(emphasised, 512, mode="reflect")
    _, _, spectrum = signal.stft(
        padded[112:],  # The window of 800 samples stands in the middle of 1024.
        window=signal.windows.hann(800, sym=True),
        nperseg=800,
        noverlap=480,
        nfft=1024,
        boundary=None,
        padded=False,
    )
    # SciPy divides by the sum of the window.
    power = np.abs(spectrum * signal.windows.hann(800, sym=True).sum()) ** 2
    power = power[:, : 1 + len(emphasised) // 320]
    mel = 1127.0 * np.log1p(np.arange(513) * 32000 / 1024 / 700.0)
    edges = np.linspace(0.0, 1127.0 * np.log1p(15000.0 / 700.0), 130)
    filters = np.stack([np.interp(mel, edges[i : i + 3], [0.0, 1.0, 0.0]) for i in range(128)])
    return np.log(filters @ power + 1e-5)


def test_both_ways_are_what_the_formulas_say() -> None:
    samples = waveform(4.0)
    expected = by_hand(samples)
    assert expected.shape == (128, FRONT_END.n_frames(len(samples))) == (128, 400)
    got = LogMel(FRONT_END)(torch.from_numpy(samples / 32768)[None])[0].numpy()
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    # More frames than one piece holds.
    clip = LogMel(FRONT_END).of_clip((samples / 32768).astype(np.float32))
    np.testing.assert_allclose(clip.numpy(), expected, rtol=0, atol=1e-4)


def test_it_is_described_and_what_does_not_fit_is_refused() -> None:
    told = json.loads(json.dumps(FRONT_END.describe()))
    assert FrontEnd.from_description(told) == FRONT_END
    assert (told["win_length"], told["preemphasis"], told["unit"]) == (800, 0.97, "neper")
    for change, said in (({"n_fft": 512}, "needs n_fft 1024"), ({"norm": "slaney"}, "norm None")):
        with pytest.raises(ConfigError, match=said):
            FrontEnd.from_description(told | change)
    assert LogMel(FRONT_END)(torch.zeros(1, 514)).shape == (1, 128, 2)
    with pytest.raises(DataError, match="at least 514 samples"):
        LogMel(FRONT_END)(torch.zeros(1, 513))


def test_a_store_of_clips_at_half_the_rate(tmp_path: Path) -> None:
    file = tmp_path / "wav" / "fan" / "train" / "normal_id_00_00000000.wav"
    file.parent.mkdir(parents=True)
    soundfile.write(file, waveform(0.5), 16000)
    with pytest.warns(UserWarning, match="resampled to 32000 Hz"):
        store = build_store(
            tmp_path / "wav", tmp_path / "store", preset="efficientat", jobs=1, resample=True
        )
    assert store.frames.tolist() == [100]
    # The recording ends at 8 kHz; the filter lets mirror images through just above.
    log_mel, frequencies = store.features[0][:, 2:-2].astype(float), FRONT_END.mel_frequencies()
    assert log_mel[(frequencies > 4000) & (frequencies < 7500)].mean() > 1
    assert log_mel[frequencies > 12000].mean() < -9
