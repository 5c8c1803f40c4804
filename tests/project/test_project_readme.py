"""The README as a newcomer reads it: its commands and its Python run, its figures are measured."""

import re
import shlex
import sys
from pathlib import Path

import pandas as pd
import pytest

from asdlib.cli import _main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
CONFIRMATION = ROOT / "results" / "toycar" / "confirmation"


def section(title: str) -> str:
    return README.split(f"## {title}\n")[1].split("\n## ")[0]


def blocks(language: str, text: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.slow
def test_the_first_result_comes_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = section("A first result in a minute")
    commands = [line[2:] for block in blocks("console", text) for line in block.splitlines()]
    (code,) = blocks("python", text)
    assert len([line for line in code.splitlines() if line and "import" not in line]) == 5
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASDLIB_CACHE", str(tmp_path / "cache"))
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command))
        assert _main() == 0, command
    capsys.readouterr()
    exec(code, {"__name__": "__main__"})
    assert (tmp_path / "runs" / "statistics" / "metrics.csv").is_file()
    printed = capsys.readouterr().out.split()
    assert {"machine", "section", "auc", "pauc", "Average"} <= set(printed)


def test_its_figures_are_those_of_the_confirmation() -> None:
    sections = pd.read_csv(CONFIRMATION / "sections.csv")
    means = 100 * sections.groupby("recipe")[["auc", "pauc"]].mean()
    for recipe, words in {
        "autoencoder": "autoencoder reaches {:.1f} and {:.1f} percent",
        "statistics-pooled": "pooled covariance {:.1f} and {:.1f}",
        "contrastive": "full contrastive method {:.1f} and {:.1f}",
    }.items():
        assert words.format(*means.loc[recipe]) in README
    kept = pd.read_csv(CONFIRMATION / "differences.csv")
    kept = kept.set_index(["system", "reference", "metric"])[["difference", "low", "high"]]
    drawn = (CONFIRMATION / "main_result.svg").read_text(encoding="utf-8")
    for recipe in ("contrastive", "statistics-pooled"):
        assert f"{means.loc[recipe, 'pauc']:.1f}" in drawn
    alone = ", encoder alone"
    for (system, reference), words in {
        ("contrastive", "statistics, pooled"): "AUC {:+.1f} points, 95 % interval {:.1f} to {:.1f}",
        ("contrastive", "no augmentation"): "augmentation ({:+.1f}, {:.1f} to {:.1f};",
        ("contrastive" + alone, "no augmentation" + alone): "alone {:+.1f}, {:.1f} to {:.1f})",
    }.items():
        row = 100 * kept.loc[(system, reference, "auc")]
        flat = " ".join(README.split()).replace("−", "-")
        assert words.format(*row) in flat
