"""The script beside the kept results asks for just the runs that they hold."""

import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from typer.main import get_command

from asdlib.cli import app

ROOT = Path(__file__).parents[2]
TOYCAR = ROOT / "results" / "toycar"


@pytest.fixture
def commands(tmp_path: Path) -> list[list[str]]:
    """Let the script run with an ``asd`` that only notes what it is asked for."""
    noted = tmp_path / "noted"
    fake = tmp_path / "bin" / "asd"
    fake.parent.mkdir()
    fake.write_text(
        f"#!{sys.executable}\nimport json, sys\n"
        f"open({str(noted)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
    )
    fake.chmod(0o755)
    path = f"{fake.parent}{os.pathsep}{os.environ['PATH']}"
    script = ["bash", TOYCAR / "make.sh", "STORE", "WORK"]
    subprocess.run(script, env={**os.environ, "PATH": path}, check=True, cwd=tmp_path)
    return [json.loads(line) for line in noted.read_text().splitlines()]


@pytest.mark.slow
def test_every_command_is_one_that_asd_understands(commands: list[list[str]]) -> None:
    known = get_command(app).commands
    assert {command[0] for command in commands} == {"run", "fuse", "compare", "ablate"}
    for name, *arguments in commands:
        known[name].make_context(name, list(arguments))


@pytest.mark.slow
def test_the_commands_make_the_runs_that_are_kept(commands: list[list[str]]) -> None:
    made = [
        Path(command[command.index("--out") + 1]).name
        for command in commands
        if command[0] in ("run", "fuse")
    ]
    systems = pd.read_csv(TOYCAR / "systems.csv")
    assert sorted(made) == sorted(systems["run"].unique())
    (compared,) = (command for command in commands if command[0] == "compare")
    named = {tuple(text.split("=WORK/")) for text in compared if "=WORK/" in text}
    assert named == set(zip(systems["system"], systems["run"], strict=True))


@pytest.mark.slow
def test_the_ablation_has_the_groups_and_parameters_that_are_kept(
    commands: list[list[str]],
) -> None:
    (command,) = (command for command in commands if command[0] == "ablate")
    told = json.loads((TOYCAR / "ablation" / "provenance.json").read_text())
    pairs = list(itertools.pairwise(command))
    chosen = {name: [b for a, b in pairs if a == name] for name in ("--only", "--seeds", "--set")}
    # Front ends were a group before 0.2.0; their rows are kept.
    assert set(chosen["--only"]) == set(told["groups"]) - {"front-ends"}
    assert chosen["--seeds"] == [str(told["seeds"])]
    assert set(chosen["--set"]) == {f"{key}={value}" for key, value in told["params"].items()}


@pytest.mark.slow
def test_differences_on_unseen_clips_are_made_from_the_tables_beside_them(tmp_path: Path) -> None:
    kept = TOYCAR / "confirmation"
    copy = shutil.copytree(kept, tmp_path / "confirmation")
    (copy / "differences.csv").unlink()
    subprocess.run([sys.executable, copy / "differences.py"], check=True, cwd=tmp_path)
    assert (copy / "differences.csv").read_bytes() == (kept / "differences.csv").read_bytes()
    # Where nothing is random, the interval is that of the clips.
    clips, both = (pd.read_csv(copy / f"{name}.csv") for name in ("paired", "differences"))
    first = clips.iloc[0]
    assert (first["system"], first["reference"]) == ("statistics", "statistics, pooled")
    widths = [table.iloc[0]["high"] - table.iloc[0]["low"] for table in (clips, both)]
    assert widths[1] == pytest.approx(widths[0], abs=2e-4)


def test_the_page_prints_the_kept_costs_of_exported_files() -> None:
    page = (ROOT / "book" / "own_machine.md").read_text(encoding="utf-8")
    for row in pd.read_csv(ROOT / "results" / "export" / "export.csv").itertuples():
        figures = f"{row.size_kb:.0f} | {row.ms_per_s:.1f} | {row.mib:.0f} | {100 * row.auc:.1f}"
        change = f"{100 * (row.auc - row.auc_library):+.1f} | {row.off_in_deviations:.0e}"
        assert f"| {row.system} | {row.weights} | {figures} | {change} |" in page
