"""The script beside the kept results asks for just the runs that they hold."""

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
MACHINES = ROOT / "results" / "machines"


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> list[list[str]]:
    """Let the script run with an ``asd`` that only notes what it is asked for."""
    noted, folder = (tmp_path_factory.mktemp(name) for name in ("noted", "bin"))
    for name in ("asd", "python"):
        fake = folder / name
        fake.write_text(
            f"#!{sys.executable}\nimport json, sys\n"
            f"open({str(noted / name)!r}, 'a').write(json.dumps(sys.argv[1:]) + '\\n')\n"
        )
        fake.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    script = shutil.copy(MACHINES / "make.sh", folder)  # it removes the tables beside it
    call = ["bash", script, "SLIDER", "TOYCAR", "WEIGHTS", "WORK"]
    subprocess.run(call, env={**os.environ, "PATH": path}, check=True, cwd=folder)
    return [json.loads(line) for line in (noted / "asd").read_text().splitlines()]


@pytest.mark.slow
def test_every_command_is_one_that_asd_understands(commands: list[list[str]]) -> None:
    known = get_command(app).commands
    assert {command[0] for command in commands} == {"run", "fuse", "compare", "store"}
    for name, *arguments in commands:
        command = known[name]
        if name == "store":
            command = command.commands[arguments.pop(0)]
        command.make_context(name, list(arguments))


@pytest.mark.slow
def test_the_commands_make_the_runs_that_are_kept(commands: list[list[str]]) -> None:
    made = [c[c.index("--out") + 1] for c in commands if c[0] in ("run", "fuse")]
    assert len(made) == len(set(made))
    compared = [command for command in commands if command[0] == "compare"]
    rows = [[text.split("=") for text in c if "=WORK/" in text] for c in compared]
    assert {run for named in rows for _, run in named} == set(made)
    for command, named in zip(compared, rows, strict=True):
        made_in = command[command.index("--out") + 1].partition("/bin0/")[2]
        systems = pd.read_csv(MACHINES / made_in / "systems.csv")
        kept = set(zip(systems["system"], systems["run"], strict=True))
        assert kept == {(name, Path(run).name) for name, run in named}


@pytest.mark.slow
def test_differences_on_unseen_clips_are_made_from_the_tables_beside_them(tmp_path: Path) -> None:
    kept = ROOT / "results" / "toycar" / "confirmation"
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


def test_the_printed_table_of_exported_files_says_what_was_measured() -> None:
    kept = pd.read_csv(ROOT / "results" / "export" / "export.csv")
    printed = pd.read_csv(ROOT / "results" / "export" / "table.csv", index_col="Detector")
    assert list(printed.index) == list(kept["system"] + ", " + kept["weights"])
    for row in kept.itertuples():
        shown = printed.loc[f"{row.system}, {row.weights}"]
        assert shown["Size, kB"] == round(row.size_kb)
        assert shown["AUC, %"] == round(100 * row.auc, 1)
        assert shown["Change of AUC"].startswith(
            f"{100 * (row.auc - row.auc_library):+.1f}".replace("-", "−")
        )
