"""The calibration of the synthetic machines as tables, figure and words."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

mpl.use("agg")

from asdlib import plots
from asdlib.data.synthetic import BANDS
from asdlib.data.synthetic.calibration import summarise_calibration


@pytest.fixture
def summary() -> pd.DataFrame:
    """Two machines, two systems, three severities: AUC rises with severity, but for one cell."""
    rng = np.random.default_rng(0)
    rows = []
    for machine, ease in (("fan", 0.0), ("pump", 10.0)):
        for system in ("statistics", "autoencoder"):
            for seed in range(3):
                for band in ("natural", *BANDS):
                    for severity, auc in (("0.25", 55.0), ("0.5", 65.0), ("1", 80.0)):
                        value = auc + ease + rng.normal(scale=0.1)
                        if (machine, system, band, severity) == ("fan", "autoencoder", "low", "1"):
                            value = 40.0 + seed / 10
                        rows.append((machine, system, severity, band, "00", seed, value))
                rows.append((machine, system, "corpus", "natural", "00", seed, 70.0 + ease))
    columns = ["machine", "system", "severity", "band", "section", "seed", "auc"]
    return summarise_calibration(pd.DataFrame(rows, columns=columns))


def test_the_table_has_a_row_for_each_machine_and_band(summary: pd.DataFrame) -> None:
    table = plots.calibration_table(summary, "statistics")
    assert list(table) == ["machine", "band", "severity 0.25", "severity 0.5", "severity 1"]
    bands = ["natural", "low", "mid", "high"]
    rows = [(machine, band) for machine in ("fan", "pump", "all") for band in bands]
    assert list(zip(table["machine"], table["band"], strict=True)) == rows
    cell = table.set_index(["machine", "band"]).loc[("pump", "mid"), "severity 0.5"]
    found = summary.set_index(["machine", "system", "severity", "band"])
    mean, low, high = found.loc[("pump", "statistics", "0.5", "mid"), ["auc", "low", "high"]]
    assert cell == f"{mean:.0f} [{low:.0f}, {high:.0f}]"
    assert low < mean < high


def test_the_corpus_has_a_row_for_each_machine(summary: pd.DataFrame) -> None:
    table = plots.corpus_table(summary).set_index("machine")
    assert list(table.index) == ["fan", "pump", "all"]
    assert list(table) == ["statistics", "autoencoder"]
    assert table.loc["all", "statistics"] == "75 [75, 75]"


def test_one_seed_has_no_interval(summary: pd.DataFrame) -> None:
    single = summary.assign(seeds=1, low=0.0, high=100.0)
    assert plots.corpus_table(single)["autoencoder"].tolist() == ["70", "80", "75"]


def test_the_figure_draws_every_mean(summary: pd.DataFrame) -> None:
    figure = plots.plot_calibration(summary)
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["statistics", "autoencoder"]
    means = summary[(summary["machine"] == "all") & (summary["severity"] != "corpus")]
    for axes in figure.axes:
        drawn = [line.get_ydata() for line in axes.lines if len(line.get_ydata()) == 3]
        part = means[means["system"] == axes.get_title(loc="left")].sort_values(
            "severity", key=pd.to_numeric
        )
        for _, values in part.groupby("band")["auc"]:
            assert any(np.allclose(np.asarray(line, float), values) for line in drawn)
        assert axes.get_xlabel() == "severity of the fault"
    assert figure.axes[0].get_ylabel() == "AUC, mean over machines (%)"


def test_the_words_name_what_goes_the_wrong_way(summary: pd.DataFrame) -> None:
    words = plots.calibration_verdict(summary)
    assert "AUC is below chance: fan, autoencoder, low, 1 (40)." in words
    assert "AUC is lower than a smaller severity: fan, autoencoder, low, 1 (40)." in words
    assert "0 are above 99 %" in words
    fine = summary[(summary["system"] == "statistics") & (summary["severity"] != "corpus")]
    assert "Nowhere is AUC below chance" in plots.calibration_verdict(fine)
