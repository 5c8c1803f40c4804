"""``asd conditions`` as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from asd_process import Outcome

Asd = Callable[..., Outcome]

TINY = [
    *("seeds=1", "epochs=1", "n_sections=2", "n_train=8", "n_test=2", "target_share=0.25"),
    *("seconds=1.5", "params.crop_frames=16", "params.batch_size=8"),
    'machines={"dcase2020": ["fan"], "dcase2022": ["valve"]}',
]


def test_conditions(asd: Asd, tmp_path: Path) -> None:
    out, work = tmp_path / "results", tmp_path / "work"
    command: list[Any] = ["conditions", "--out", out, "--work", work, "--jobs", 1]
    for change in TINY:
        command += ["--set", change]
    told = asd(*command).success
    assert "[42/42]" in told.err
    assert "without mixup, seed 0" in told.err
    assert sorted(path.name for path in out.iterdir()) == [
        *("conditions.csv", "conditions.png", "conditions.svg", "effects.csv"),
        *("provenance.json", "verdict.md"),
    ]
    assert len(pd.read_csv(out / "conditions.csv")) == 42 * 2
    assert not pd.read_csv(out / "effects.csv")["shown"].any()
    assert "0 of" in (out / "verdict.md").read_text()
    assert json.loads((out / "provenance.json").read_text())["spec"]["seeds"] == 1


def test_conditions_refuses_what_it_does_not_know(asd: Asd, tmp_path: Path) -> None:
    command: list[Any] = ["conditions", "--out", tmp_path / "out", "--set"]
    assert "--set colour: Extra inputs are not permitted (known: machines" in (
        asd(*command, "colour=1").error
    )
    assert "--set n_train: Input should be greater than or equal to 8" in (
        asd(*command, "n_train=4").error
    )
    assert "unknown parameter 'colour'" in asd(*command, "params.colour=1").error
    assert not (tmp_path / "out").exists()
