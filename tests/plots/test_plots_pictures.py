"""Pictures, sounds and the interactive figure, against what they claim to show."""

import json
import math
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

mpl.use("agg")

from asdlib import plots
from asdlib.errors import ConfigError, DataError, ScoreError
from asdlib.features import PRESETS, FrontEnd, LogMel
from asdlib.plots.sound import player
from asdlib.plots.threshold import section_scores, threshold_table
from asdlib.study.parameters import check_number


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    """Samples of a tone with a little noise."""
    time = np.arange(int(16000 * seconds)) / 16000
    noise = np.random.default_rng(0).normal(size=len(time))
    return (0.3 * np.sin(2 * np.pi * hz * time) + 0.001 * noise).astype(np.float32)


@pytest.mark.parametrize("name", sorted(set(PRESETS) & {"dcase2020", "dcase2022", "byola"}))
def test_resynthesis_returns_to_the_spectrogram_it_came_from(name: str) -> None:
    front_end = PRESETS[name]
    log_mel = LogMel(front_end)(torch.from_numpy(tone(1000.0))[None])[0].numpy()
    samples = plots.log_mel_to_audio(log_mel, front_end, peak=None)
    again = LogMel(front_end)(torch.from_numpy(samples)[None])[0].numpy()
    frames = slice(2, min(log_mel.shape[1], again.shape[1]) - 2)
    loud = log_mel[:, frames] > log_mel[:, frames].max() - (4.6 if name == "byola" else 20.0)
    difference = np.abs(again[:, frames] - log_mel[:, frames])[loud]
    assert np.median(difference) < (0.25 if name == "byola" else 1.0)
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(np.argmax(spectrum) * 16000 / len(samples) - 1000) < 20


def test_resynthesis_is_repeatable_and_refuses_other_front_ends() -> None:
    log_mel = LogMel("dcase2020")(torch.from_numpy(tone(500.0, 0.3))[None])[0].numpy()
    first, second = (plots.log_mel_to_audio(log_mel, FrontEnd()) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert np.abs(first).max() == pytest.approx(0.7)
    with pytest.raises(ConfigError, match="128 mel bins"):
        plots.log_mel_to_audio(log_mel[:64], FrontEnd())


def test_players_carry_their_sound_and_name() -> None:
    written = player(tone(440.0), "fan & <valve>")
    assert 'aria-label="fan &amp; &lt;valve&gt;"' in written
    assert "data:audio/flac;base64," in written
    with pytest.raises(DataError, match="no recording"):
        player("nowhere.wav", "nowhere")


def made_scores() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    parts = []
    for section, shift in (("00", 0.5), ("02", 2.0), ("04", 1.0)):
        for label, mean in (("normal", 3.0), ("anomaly", 3.0 + shift)):
            parts.append(
                pd.DataFrame(
                    {
                        "machine": "fan",
                        "section": section,
                        "label": label,
                        "anomaly_score": rng.normal(mean, 1, 20),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)


def test_interactive_figure_holds_real_scores_and_opens_on_the_median() -> None:
    scores = made_scores()
    page = plots.explore_threshold(scores).data
    found = re.search(r'<script type="application/json">(.*?)</script>', page)
    assert found is not None
    data = json.loads(found[1])
    aucs = [section["auc"] for section in data["sections"]]
    assert aucs[data["start"]] == sorted(aucs)[1]
    for section in data["sections"]:
        normal, anomaly = np.array(section["normal"]), np.array(section["anomaly"])
        assert np.median(normal) == pytest.approx(1.0, abs=1e-5)
        pairs = anomaly[:, None] - normal[None, :]
        assert section["auc"] == pytest.approx((pairs > 0).mean() + 0.5 * (pairs == 0).mean())
    assert "threshold-fallback" in page
    table = threshold_table(data["sections"][0])
    assert (table["false alarms (%)"] <= [0, 10, 25, 50]).all()
    assert table["hits (%)"].is_monotonic_increasing


@pytest.mark.parametrize("shift", [0.0, -9.0])
def test_anomalous_scores_stay_on_the_right_whatever_the_sign(shift: float) -> None:
    scores = made_scores().assign(anomaly_score=lambda table: table["anomaly_score"] + shift)
    for section in section_scores(scores):
        assert np.median(section["anomaly"]) > np.median(section["normal"])
        assert ("quartile" in section["axis"]) == (shift < 0)
    figure = plots.plot_scores(scores)
    handles = figure.axes[1].patches
    edges = np.array([patch.get_x() for patch in handles])
    heights = np.array([patch.get_height() for patch in handles])
    normal, anomaly = np.split(edges * heights, 2)
    assert anomaly.sum() > normal.sum()


def test_tables_are_written_for_readers() -> None:
    data = pd.DataFrame({"auc_source (%)": [71.26, -0.04], "pauc": [-1.5, float("nan")]})
    page = plots.table(data).data
    for text in ("AUC source (%)", ">pAUC<", "71.3", "−1.5", "–"):
        assert text in page
    presets = plots.preset_table(PRESETS).astype(str)
    assert not {"nan", "None"} & set(presets.to_numpy().ravel())
    assert presets.set_index("parameter").loc["eps", "dcase2020"] == "2.22e-16"


def test_interactive_figure_needs_both_labels() -> None:
    scores = made_scores()
    with pytest.raises(ScoreError, match="labelled test set"):
        section_scores(scores[scores["label"] == "normal"])


def test_numbers_that_chapters_quote() -> None:
    cases = plots.loss_landmarks(classes=8, views=16)
    assert cases["collapsed"] == pytest.approx(math.log(127), abs=1e-4)
    assert cases["ideal"] == pytest.approx(math.log(15), abs=5e-3)
    assert cases["random"] > cases["collapsed"]


@pytest.mark.parametrize("value", [-1, 1.5, True, "3", None, float("nan")])
def test_wrong_parameters_are_refused_with_what_is_allowed(value: object) -> None:
    with pytest.raises(ConfigError, match="expected a whole number from 0 on; give another seed"):
        check_number("seed", value, 0, whole=True)


def test_right_parameters_pass() -> None:
    check_number("seed", 0, 0, whole=True)
    check_number("cutoff_hz", 2000.0, 0, 7000)
    with pytest.raises(ConfigError, match="from 0 to 7000"):
        check_number("cutoff_hz", 8000, 0, 7000)
