"""The kept tables of how hard the synthetic machines are, and how real their normal clips."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdlib.data.synthetic.corpus import SyntheticSpec

FOLDER = Path(__file__).parents[2] / "results" / "synthetic"


def kept(folder: Path) -> tuple[pd.DataFrame, dict[str, list[object]]]:
    dtype = {"section": str, "severity": str}
    table = pd.read_csv(folder / "calibration.csv", dtype=dtype, keep_default_na=False)
    return table, json.loads((folder / "calibration.json").read_text())


def test_the_kept_calibration_is_whole_and_reaches_its_targets() -> None:
    table, made_by = kept(FOLDER)
    assert len(made_by["seeds"]) == 5
    fixed = table[table["severity"] != "corpus"]
    cells = fixed.groupby(["machine", "section", "seed", "system", "severity", "band"]).size()
    wanted = [made_by[key] for key in ("machines", "seeds", "severities", "bands")]
    assert len(cells) == np.prod([len(values) for values in wanted]) * 3 * 2  # sections, systems
    assert (cells == 1).all()
    assert table["auc"].between(0, 100).all()
    # Faults of energy are heard in the mean spectrum, those of pattern hardly; none trivially.
    corpus = table[(table["severity"] == "corpus") & (table["system"] == "statistics")]
    means = corpus.groupby("faults")["auc"].mean()
    assert 65 < means["energy"] < 85
    assert 48 < means["pattern"] < 60
    alike = pd.read_csv(FOLDER / "likeness.csv")
    named = alike[(alike["figure"].str.startswith("ID")) & (alike["data"] == "synthetic")]
    assert 60 <= named["value"].mean() <= 80


@pytest.mark.parametrize("shift", ["mild", "hard"])
def test_both_shifts_are_kept(shift: str) -> None:
    table, made_by = kept(FOLDER / shift)
    spec = SyntheticSpec.model_validate(made_by["spec"])
    assert (spec.shift, spec.layout, len(made_by["seeds"])) == (shift, "dcase2022", 5)
    means = table.groupby("domain")["auc"].mean()
    assert means["target"] < means["source"]
