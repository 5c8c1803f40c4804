"""Sound, cards, tables and sentences, against what they claim to show."""

import io
import re
from base64 import b64decode

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

mpl.use("agg")

from asdlib import plots
from asdlib.features import PRESETS, FrontEnd, LogMel


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    """Samples of a tone with a little noise."""
    time = np.arange(int(16000 * seconds)) / 16000
    noise = np.random.default_rng(0).normal(size=len(time))
    return (0.3 * np.sin(2 * np.pi * hz * time) + 0.001 * noise).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "loud", "close"),
    [("dcase2020", 20.0, 1.0), ("dcase2022", 20, 1), ("byola", 4.6, 0.25)],
)
def test_resynthesis_returns_to_the_spectrogram_it_came_from(
    name: str, loud: float, close: float
) -> None:
    front_end = PRESETS[name]
    log_mel = LogMel(front_end)(torch.from_numpy(tone(1000.0))[None])[0].numpy()
    samples = plots.log_mel_to_audio(log_mel, front_end, peak=None)
    again = LogMel(front_end)(torch.from_numpy(samples)[None])[0].numpy()
    frames = slice(2, min(log_mel.shape[1], again.shape[1]) - 2)
    heard = log_mel[:, frames] > log_mel[:, frames].max() - loud
    assert np.median(np.abs(again[:, frames] - log_mel[:, frames])[heard]) < close
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(np.argmax(spectrum) * 16000 / len(samples) - 1000) < 20


def test_resynthesis_is_repeatable_and_refuses_other_front_ends() -> None:
    log_mel = LogMel("dcase2020")(torch.from_numpy(tone(500.0, 0.3))[None])[0].numpy()
    first, second = (plots.log_mel_to_audio(log_mel, FrontEnd()) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first).max() == pytest.approx(0.7)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        plots.log_mel_to_audio(log_mel[:64], FrontEnd())


def test_cards_carry_picture_sound_and_note() -> None:
    samples = tone(440.0, 0.2)
    log_mel = np.zeros((128, 7), np.float32)
    cards = {
        "fan & <valve>": plots.Card(log_mel, samples, note="a < b"),
        "silent": plots.Card(log_mel + 1),
    }
    page = plots.show_cards(cards, FrontEnd()).data
    assert page.count("<img") == page.count('alt="Log-mel spectrogram') == 2
    assert page.count('aria-label="fan &amp; &lt;valve&gt;"') == 1
    assert "a &lt; b</details>" in page
    (sound,) = re.findall(r'src="data:audio/flac;base64,([^"]+)"', page)
    heard, rate = soundfile.read(io.BytesIO(b64decode(sound)), dtype="float32")
    assert rate == 16000
    np.testing.assert_allclose(heard, samples, atol=1e-4)


def test_players_need_something_to_play() -> None:
    assert "nothing to hear" in plots.listen({}).data
    assert plots.listen({"a": tone(440.0, 0.1), "b": tone(880.0, 0.1)}).data.count("<audio") == 2
    with pytest.raises(soundfile.LibsndfileError, match=r"nowhere\.wav"):
        plots.listen({"nowhere": "nowhere.wav"})


def test_tables_are_written_for_readers() -> None:
    data = pd.DataFrame({"auc_source (%)": [71.26, -0.04], "pauc": [-1.5, float("nan")]})
    page = plots.table(data).data
    for text in ("AUC source (%)", ">pAUC<", "71.3", "−1.5", "–"):
        assert text in page
    assert "71.260" in plots.table(data, digits=3).data
