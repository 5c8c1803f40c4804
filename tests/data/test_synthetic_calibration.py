"""The table of how hard the synthetic machines are."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from asdlib.data.synthetic.calibration import (
    read_calibration,
    summarise_calibration,
    wrong_way,
)
from asdlib.errors import DataError

AUC = {"0.5": [60.0, 64.0, 68.0], "1": [80.0, 85.0, 90.0], "corpus": [30.0, 31.0, 32.0]}


def rows(machine: str = "fan", auc: dict[str, list[float]] = AUC) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "machine": machine,
                "section": section,
                "seed": seed,
                "system": "statistics",
                "severity": severity,
                "band": "low",
                "auc": value + shift,
            }
            for severity, values in auc.items()
            for seed, value in enumerate(values)
            for section, shift in (("00", -2.0), ("02", 2.0))
        ]
    )


def test_mean_and_interval_over_seeds_equal_scipy() -> None:
    summary = summarise_calibration(rows()).set_index(["machine", "severity"])
    for severity, values in AUC.items():
        low, high = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
        for machine in ("fan", "all"):
            found = summary.loc[(machine, severity)]
            assert found["seeds"] == 3
            assert found["auc"] == pytest.approx(np.mean(values))
            assert found["low"] == pytest.approx(low)
            assert found["high"] == pytest.approx(min(high, 100.0))


def test_all_is_the_mean_of_machines_and_one_seed_has_no_interval() -> None:
    other = {severity: [value + 10 for value in values] for severity, values in AUC.items()}
    both = summarise_calibration(pd.concat([rows(), rows("pump", other)]))
    means = both.set_index(["machine", "severity"])["auc"]
    assert means["all", "1"] == pytest.approx(90.0)
    single = summarise_calibration(rows(auc={"1": [70.0]}))
    assert single[["low", "high"]].to_numpy().tolist() == [[0.0, 100.0]] * 2


def test_what_goes_the_wrong_way_is_found() -> None:
    told = wrong_way(summarise_calibration(rows()))
    assert told[["machine", "severity", "why"]].to_numpy().tolist() == [
        ["all", "corpus", "below chance"],
        ["fan", "corpus", "below chance"],
    ]
    falling = {"0.5": AUC["1"], "1": AUC["0.5"]}
    told = wrong_way(summarise_calibration(rows(auc=falling)))
    assert told["why"].tolist() == ["lower than a smaller severity"] * 2
    assert set(told["severity"]) == {"1"}


def test_a_calibration_is_read_back(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="calibration.csv' cannot be read.*--publish"):
        read_calibration(tmp_path)
    rows().to_csv(tmp_path / "calibration.csv", index=False)
    (tmp_path / "calibration.json").write_text(json.dumps({"seeds": [0, 1, 2]}))
    table, made_by = read_calibration(tmp_path)
    pd.testing.assert_frame_equal(table, rows(), check_dtype=False)
    assert made_by == {"seeds": [0, 1, 2]}
    rows().drop(columns="band").to_csv(tmp_path / "calibration.csv", index=False)
    with pytest.raises(DataError, match="lacks band; make it by"):
        read_calibration(tmp_path)


def test_the_kept_calibration_is_whole() -> None:
    table, made_by = read_calibration(Path(__file__).parents[2] / "results" / "synthetic")
    assert len(made_by["seeds"]) == 5
    fixed = table[table["severity"] != "corpus"]
    cells = fixed.groupby(["machine", "section", "seed", "system", "severity", "band"]).size()
    wanted = [made_by[key] for key in ("machines", "seeds", "severities", "bands")]
    assert len(cells) == np.prod([len(values) for values in wanted]) * 2 * 2  # sections, systems
    assert (cells == 1).all()
    assert table["auc"].between(0, 100).all()
    # Its machines are neither trivial nor hopeless for the statistical reference.
    corpus = summarise_calibration(table[table["severity"] == "corpus"])
    means = corpus[corpus["system"] == "statistics"]["auc"]
    assert means.between(55, 97).all()
