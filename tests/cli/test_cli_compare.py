"""Commands about finished runs, as a user types them."""

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from asd_process import Outcome
from study_stores import make_store

Asd = Callable[..., Outcome]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a store and runs, made by the command itself."""
    import sys

    from asdlib.cli import _main

    folder = tmp_path_factory.mktemp("runs")
    store = make_store(folder / "store").path
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDLIB_CACHE", str(folder / "cache"))
        for name, kind in (
            ("reference", "mean"),
            ("c0", "mean+deviation"),
            ("c1", "mean+deviation"),
        ):
            command = ["asd", "run", "statistics", "--set", f"statistics={kind}", "--held-out", 3]
            command += ["--train", store, "--test", store, "--out", folder / name]
            command += ["--seed", name[-1] if name != "reference" else 0]
            patch.setattr(sys, "argv", [str(word) for word in command])
            assert _main() == 0
    return folder


def test_fuse(asd: Asd, folder: Path, tmp_path: Path) -> None:
    runs = [folder / "reference", folder / "c0"]
    held_out = pd.read_csv(runs[0] / "held_out.csv")
    assert list(held_out) == ["machine", "section", "clip", "domain", "anomaly_score"]
    out = tmp_path / "fused"
    done = asd("fuse", *runs, "--out", out).success
    assert done.err == ""
    assert f"2 runs fused; scores and metrics in {out}" in done.out
    assert "found, not computed again" in asd("fuse", *runs, "--out", out).success.out
    assert "Average" in asd("evaluate", out, "--year", 2020).success.out
    assert "expected at least two" in asd("fuse", runs[0], "--out", tmp_path / "no").error
    assert "holds no finished run" in asd("fuse", runs[0], tmp_path, "--out", out).error


def test_compare(asd: Asd, folder: Path, tmp_path: Path) -> None:
    runs = [folder / "reference", *(f"ours={folder / name}" for name in ("c0", "c1"))]
    out = tmp_path / "results"
    command = ["compare", *runs, "--kind", "synthetic", "--data", "drawn features"]
    command += ["--scores", f"again={folder / 'reference'}", "--published", "--paired"]
    done = asd(*command, "--out", out).success
    assert done.err == ""
    assert "paired over clips and seeds" in done.out
    for word in ("measured;", "synthetic;", "published;", "real;"):
        assert word in done.out
    assert sorted(path.name for path in out.iterdir()) == [
        *("comparison.csv", "comparison.md", "paired.csv", "provenance.json", "systems.csv")
    ]
    table = pd.read_csv(out / "comparison.csv")
    assert table["system"].tolist()[:3] == ["statistics", "ours", "again"]
    assert set(table["origin"][:3]) == {"measured"}
    assert set(table["origin"][3:]) == {"published"}
    for column in ("data", "data_kind", "split", "training_data", "selection", "source"):
        assert table[column].notna().all()
    assert set(pd.read_csv(out / "paired.csv")["system"]) == {"ours", "again"}
    for path in out.iterdir():
        assert str(folder) not in path.read_text()
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    command += ["--against", "ours", "--against", "again"]
    assert "holds results of another call (other against)" in asd(*command, "--out", out).error
    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept
    out = tmp_path / "against"
    asd(*command, "--out", out).success  # noqa: B018
    assert list(pd.read_csv(out / "paired.csv")["reference"].unique()) == ["ours", "again"]


def test_tables_are_written_together_or_not_at_all(
    asd: Asd, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, text: str) -> None:
        if path.name == "comparison.md":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        path.write_text(text)

    monkeypatch.setattr("asdlib.files.write_text", full)
    monkeypatch.setattr("asdlib.study.result.write_text", full)
    out, mine = tmp_path / "results", tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for place in (out, mine):
        command = ["compare", folder / "reference", "--kind", "synthetic", "--out", place]
        assert f"the disk of '{place}' is full" in asd(*command).error
    assert not out.exists()
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    monkeypatch.undo()
    (mine / "systems.csv").write_text("years of work")
    assert f"'{mine / 'systems.csv'}' exists; choose another --out" in asd(*command).error
    assert sorted(path.name for path in mine.iterdir()) == ["systems.csv", "thesis.txt"]


def test_compare_asks_for_what_it_cannot_know(asd: Asd, folder: Path) -> None:
    run = folder / "reference"
    assert "--kind real or --kind synthetic" in asd("compare", run).error
    assert "nothing to compare" in asd("compare", "--kind", "real").error


def test_decide(asd: Asd, folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folder / "c1", run)
    done = asd("decide", run, "--quantile", 0.8).success
    assert done.err == ""
    assert f"decision files and decisions.json in {run}" in done.out
    assert "recall" in done.out
    assert len(list(run.glob("decision_result_*.csv"))) == 4
    assert '"f1"' in asd("evaluate", run, "--year", 2020, "--json").success.out
