"""``asd ablate`` as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from asd_process import Outcome
from study_stores import QUICK, set_arguments

Asd = Callable[..., Outcome]


def test_ablate(asd: Asd, store: Path, tmp_path: Path) -> None:
    out, work = tmp_path / "results", tmp_path / "work"
    command: list[Any] = ["ablate", "--train", store, "--test", store, "--out", out, "--jobs", 1]
    command += ["--work", work, "--only", "data", *set_arguments(QUICK["contrastive"])]
    # The default back-end needs more clips than a share of these has.
    told = asd(*command, "--seeds", 1)
    assert told.code == 1
    assert "2 of 3 runs failed and are not in the tables, the first: half of the" in told.err
    assert set(pd.read_csv(out / "ablation.csv")["variant"]) == {"full"}
    assert not (out / "ablation.svg").exists()

    command += ["--seeds", 2, "--set", "embedding=encoder", "--set", "backend=class_mean"]
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    message = asd(*command).error
    assert f"'{out}' holds results of another call (other seeds, params); choose" in message
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    out = tmp_path / "other"
    command += ["--out", out]
    told = asd(*command).success
    assert f"tables, figure and provenance in {out}" in told.out
    assert "[1/6] full, seed 0: AUC " in told.err
    assert sorted(path.name for path in out.iterdir()) == [
        *("ablation.csv", "ablation.png", "ablation.svg", "provenance.json", "summary.csv")
    ]
    table = pd.read_csv(out / "ablation.csv")
    assert set(table["group"]) == {"reference", "data"}
    assert set(table["seed"]) == {0, 1}
    assert all((work / "runs" / run).is_dir() for run in table["run"])
    summary = pd.read_csv(out / "summary.csv")
    assert summary[summary["variant"] != "full"]["verdict"].str.contains("points").all()
    provenance = json.loads((out / "provenance.json").read_text())
    assert provenance["params"]["epochs"] == 1
    assert provenance["stores"]["train"]["clips"] == 56
    # Nothing in the results names a place of this machine.
    for path in out.glob("*.[cj]s*"):
        assert str(tmp_path) not in path.read_text()

    before = (out / "ablation.csv").read_bytes()
    again = asd(*command).success
    assert again.err.count("found") == again.err.count("seed") == 6
    assert (out / "ablation.csv").read_bytes() == before


def test_ablate_refuses_what_it_does_not_know(asd: Asd, store: Path, tmp_path: Path) -> None:
    command: list[Any] = ["ablate", "--train", store, "--test", store, "--out", tmp_path / "out"]
    assert "unknown group 'colour' (known: steps" in asd(*command, "--only", "colour").error
    assert "unknown parameter 'colour'" in asd(*command, "--set", "colour=1").error
    assert not (tmp_path / "out").exists()
