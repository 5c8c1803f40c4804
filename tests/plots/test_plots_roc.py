"""ROC curves: the area below what is drawn is the AUC."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

mpl.use("agg")

import matplotlib.pyplot as plt

from asdlib import plots


def test_the_area_below_a_drawn_curve_is_its_auc() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat(["normal", "anomaly"], 30)
    curves = {}
    for system, shift in (("statistics", 0.5), ("contrastive", 1.5)):
        score = rng.normal(size=60) + shift * (label == "anomaly")
        curves[system] = pd.DataFrame({"label": label, "anomaly_score": score})
    figure, axes = plt.subplots()
    plots.draw_roc(axes, curves, max_fpr=0.2)
    lines = {line.get_label(): line for line in axes.lines}
    for system, scores in curves.items():
        x, y = (np.asarray(side, float) for side in lines[system].get_data())
        area = (np.diff(x) * (y[1:] + y[:-1]) / 2).sum()
        expected = roc_auc_score(scores["label"] == "anomaly", scores["anomaly_score"])
        assert area == pytest.approx(expected)
        assert lines[system].get_color() == plots.colour_of(system)
    region = axes.patches[0].get_extents().transformed(axes.transData.inverted())
    assert (region.x0, region.x1) == (pytest.approx(0), pytest.approx(0.2))
    plt.close(figure)
