"""The interactive figure and the table of presets, until their pages hold them."""

import json
import re

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("agg")

from asdlib import plots
from asdlib.errors import ScoreError
from asdlib.features import PRESETS
from asdlib.plots.threshold import section_scores, threshold_table


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


def test_no_preset_is_written_as_missing() -> None:
    presets = plots.preset_table(PRESETS).astype(str)
    assert not {"nan", "None"} & set(presets.to_numpy().ravel())
    assert presets.set_index("parameter").loc["eps", "dcase2020"] == "2.22e-16"


def test_interactive_figure_needs_both_labels() -> None:
    scores = made_scores()
    with pytest.raises(ScoreError, match="labelled test set"):
        section_scores(scores[scores["label"] == "normal"])
