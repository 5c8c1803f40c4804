"""The kept table of how hard the synthetic machines are."""

import json
from pathlib import Path

import numpy as np
import pandas as pd

FOLDER = Path(__file__).parents[2] / "results" / "synthetic"


def test_the_kept_calibration_is_whole() -> None:
    table = pd.read_csv(
        FOLDER / "calibration.csv", dtype={"section": str, "severity": str}, keep_default_na=False
    )
    made_by = json.loads((FOLDER / "calibration.json").read_text())
    assert len(made_by["seeds"]) == 5
    fixed = table[table["severity"] != "corpus"]
    cells = fixed.groupby(["machine", "section", "seed", "system", "severity", "band"]).size()
    wanted = [made_by[key] for key in ("machines", "seeds", "severities", "bands")]
    assert len(cells) == np.prod([len(values) for values in wanted]) * 2 * 2  # sections, systems
    assert (cells == 1).all()
    assert table["auc"].between(0, 100).all()
    # Its machines are neither trivial nor hopeless for the statistical reference.
    corpus = table[(table["severity"] == "corpus") & (table["system"] == "statistics")]
    per_machine = corpus.groupby(["machine", "seed"])["auc"].mean().groupby("machine").mean()
    assert per_machine.between(55, 97).all()
