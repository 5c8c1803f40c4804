"""The cell that installs the library on Colab: there when a repository is named, else not."""

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from asdlib.errors import ConfigError
from asdlib.study.launch import expected_source, setup_cell, setup_source, write_setup_cell

ROOT = Path(__file__).parents[2]


class Shell:
    """What a kernel offers as ``get_ipython()``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.commands: list[str] = []

    def __str__(self) -> str:
        return f"<{self.kind} object>"

    def system(self, command: str) -> None:
        self.commands.append(command)


def run_cell(source: str, kind: str) -> list[str]:
    shell = Shell(kind)
    exec(source, {"get_ipython": lambda: shell})
    return shell.commands


def test_the_cell_installs_on_colab_and_does_nothing_elsewhere() -> None:
    source = setup_source("https://example.org/lab/asdlib", "v1")
    assert run_cell(source, "ipykernel.zmqshell.ZMQInteractiveShell") == []
    assert run_cell(source, "google.colab._shell.Shell") == [
        "pip install --quiet 'asdlib[book] @ git+https://example.org/lab/asdlib@v1'"
    ]


def test_only_this_cell_of_a_notebook_is_touched(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    notebook: Any = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_markdown_cell("# Ä title"), nbformat.v4.new_code_cell("profile = 1")]
    )
    nbformat.write(notebook, path)
    before = json.loads(path.read_text())["cells"]
    assert write_setup_cell(path, "old = 1")
    assert write_setup_cell(path, "new = 1\nnew")
    assert not write_setup_cell(path, "new = 1\nnew")
    after = json.loads(path.read_text())["cells"]
    assert [after[0], after[2]] == before
    assert after[1]["source"] == ["new = 1\n", "new"]
    assert after[1]["metadata"]["tags"] == ["colab-setup", "remove-cell"]
    nbformat.validate(nbformat.read(path, as_version=4))
    assert write_setup_cell(path, "")
    assert json.loads(path.read_text())["cells"] == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.ipynb"]


def test_the_address_comes_from_the_settings(tmp_path: Path) -> None:
    (tmp_path / "_config.yml").write_text("repository:\n  url: https://e.org/x\n  branch: b\n")
    assert 'repository = "https://e.org/x@b"' in expected_source(tmp_path)
    with pytest.raises(ConfigError, match="names no repository with url and branch"):
        expected_source(tmp_path / "none")


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_every_notebook_has_the_cell_of_the_repository(path: Path) -> None:
    cell = setup_cell(json.loads(path.read_text(encoding="utf-8")))
    source = "".join(cell["source"]) if cell else ""
    assert source == expected_source(ROOT), "run python -m asdlib.study.launch"
