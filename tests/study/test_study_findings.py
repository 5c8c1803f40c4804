"""Answers in words: from kept results made by hand, with numbers that can be checked."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from asdlib.study import effects, findings
from asdlib.study.committed import Kept, load_kept
from asdlib.study.findings import clips_words, contrasts_words, spread_words, variants_words

TOYCAR = Path(__file__).parents[2] / "results" / "toycar"


@pytest.fixture
def kept() -> Kept:
    systems = pd.DataFrame(
        {
            "system": ["a", "a", "a", "b"],
            "seed": [0, 1, 2, 0],
            "machine": "Average",
            "section": "Average",
            "auc": [0.9, 0.95, 0.93, 0.8],
            "pauc": 0.7,
        }
    )
    pair = {"machine": "Average", "section": "Average"}
    paired = pd.DataFrame(
        [
            {"system": "a", "reference": "b", "metric": "auc"}
            | {"difference": 0.05, "low": 0.01, "high": 0.09},
            {"system": "a", "reference": "b", "metric": "pauc"}
            | {"difference": 0.05, "low": -0.01, "high": 0.11},
            {"system": "a", "reference": "b", "metric": "auc", "machine": "ToyCar"}
            | {"difference": 0.5, "low": 0.5, "high": 0.5},
        ]
    )
    paired = paired.fillna(pair).assign(section="Average")
    summary = pd.DataFrame(
        {
            "group": "losses",
            "variant": ["x", "x", "x"],
            "machine": ["Average", "Average", "ToyCar"],
            "metric": ["auc", "pauc", "auc"],
            "verdict": ["+1.0 points", "+2.0 points", "+9.0 points"],
        }
    )
    return Kept(systems, pd.DataFrame(), paired, None, summary, {})


def test_over_clips(kept: Kept) -> None:
    assert clips_words(kept, "a", "b") == (
        "- **a** against b: AUC +5.0 points [+1.0, +9.0], shown; "
        "pAUC +5.0 points [−1.0, +11.0], not shown to differ."
    )
    assert clips_words(kept, "b", "a", "c") == (
        "- **b** against a: AUC −5.0 points [−9.0, −1.0], shown; "
        "pAUC −5.0 points [−11.0, +1.0], not shown to differ.\n"
        "- **b** against c: no paired test is kept."
    )
    assert "asd compare --against" in clips_words(replace(kept, paired=None), "a", "b")


def test_variants(kept: Kept) -> None:
    assert variants_words(kept, "x", "y") == (
        "- **x**: AUC +1.0 points; pAUC +2.0 points.\n- **y**: not kept."
    )
    assert "asd ablate" in variants_words(replace(kept, summary=None), "x")


def test_spread(kept: Kept) -> None:
    assert spread_words(kept, "a", "c") == (
        "- **a**: 3 seeds, AUC from 90.0 to 95.0: 5.0 points apart.\n- **c**: not kept."
    )
    assert spread_words(kept, "b") == "- **b**: one seed, AUC 80.0."


def test_contrasts() -> None:
    found = pd.DataFrame(
        [
            ("low", "high", "mixup", 4.0, 3.0, 5.0, True),
            ("low", "high", "RRC", -7.0, -12.0, -2.0, True),
            ("low", "high", "post-norm", -0.2, -1.0, 1.0, False),
            ("low", "", "mixup", 2.0, 1.0, 3.0, True),
        ],
        columns=["level", "against", "step", "effect", "low", "high", "shown"],
    )
    assert contrasts_words(found, "low", ["mixup", "RRC", "post-norm"]).splitlines() == [
        "- **mixup**: shown to do more for *low* than for *high*: +4.0 [+3.0, +5.0] points of AUC.",
        "- **RRC**: shown to do less for *low* than for *high*: −7.0 [−12.0, −2.0] points of AUC.",
        "- **post-norm**: not shown to do more or less for *low* than for *high*: −0.2 "
        "[−1.0, +1.0] points of AUC.",
    ]
    assert contrasts_words(found, "target", ["mixup"]) == "- Nothing is kept about 'target'."


def test_the_page_asks_for_what_is_kept() -> None:
    """No line of the page of findings says that something is not there."""
    notebook = json.loads((TOYCAR.parents[1] / "notebooks/40_findings.ipynb").read_text())
    code = "\n".join(
        "".join(cell["source"])
        for cell in notebook["cells"]
        if cell["cell_type"] == "code" and "-words" in cell["id"]
    )
    told: list[str] = []
    plots = SimpleNamespace(say=told.append)
    found = effects.effects_of(effects.read_conditions(TOYCAR.parent / "synthetic/conditions")[0])
    exec(code, {"plots": plots, "findings": findings, "kept": load_kept(TOYCAR), "found": found})
    assert len(told) == 7
    assert not [text for text in told if "kept" in text]
