"""Spectrograms: what stands on the axes is where it says."""

import matplotlib as mpl
import numpy as np

mpl.use("agg")

import matplotlib.pyplot as plt

from asdlib import plots
from asdlib.features import PRESETS, FrontEnd


def test_axes_are_in_seconds_and_kilohertz() -> None:
    for name in ["dcase2020", "byola"]:
        front_end = PRESETS[name]
        log_mel = np.random.default_rng(0).normal(size=(front_end.n_mels, 50))
        figure, axes = plt.subplots()
        image = plots.draw_log_mel(axes, log_mel, front_end, limits=(-1.0, 2.0))
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("time (s)", "frequency (kHz)")
        assert image.get_clim() == (-1.0, 2.0)
        seconds = 50 * front_end.hop_length / front_end.sample_rate
        np.testing.assert_allclose(image.get_extent(), (0, seconds, -0.5, front_end.n_mels - 0.5))
        places, labels = plots.mel_ticks(front_end)
        np.testing.assert_array_equal(axes.get_yticks(), places)
        frequencies = front_end.mel_frequencies()
        at_places = np.interp(places, np.arange(front_end.n_mels), frequencies)
        np.testing.assert_allclose(at_places, [1000 * float(label) for label in labels])
        assert float(labels[-1]) * 1000 <= frequencies[-1]
        plt.close(figure)


def test_spectrograms_side_by_side_share_one_scale() -> None:
    front_end = FrontEnd(n_mels=32)
    quiet = np.zeros((32, 20), np.float32)
    pictures = {"quiet": quiet, "middle": quiet + 5, "loud": quiet + 10, "loudest": quiet + 20}
    figure = plots.plot_log_mels(pictures, front_end, columns=3)
    drawn = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title(loc="left") for axes in drawn] == list(pictures)
    assert {axes.images[0].get_clim() for axes in drawn} == {(0.0, 20.0)}
    assert [axes.get_ylabel() for axes in figure.axes[len(drawn) :]] == ["dB"]
    assert [axes.get_xlabel() for axes in drawn] == ["", *["time (s)"] * 3]
    plt.close(figure)


def test_natural_logarithms_are_named_as_such() -> None:
    assert plots.unit_of(PRESETS["byola"]) == "ln(power)"
