"""The README as a newcomer reads it: its commands and its Python run, its figures are measured."""

import csv
import io
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from fake_microphone import plug_in

from asdlib.cli import _main
from results.main_result import main_result

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MACHINES = {
    "ToyCar": ROOT / "results" / "toycar" / "confirmation" / "differences.csv",
    "slider": ROOT / "results" / "machines" / "slider" / "paired.csv",
}


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


def test_one_s_own_folder_is_learnt_scored_and_listened_to_as_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands = blocks("console", section("Your own recordings"))[0].splitlines()
    assert len(commands) == 3
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ASDLIB_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    Path("recordings").mkdir()
    names = [f"recordings/take {i}.wav" for i in range(12)]
    for name in [*names, "today.wav"]:  # a phone's rate, two channels
        soundfile.write(name, rng.normal(scale=0.02, size=(24000, 2)), 48000)
    plug_in(monkeypatch, rng.normal(scale=0.2, size=4 * 16000))
    said = []
    for command in commands:
        monkeypatch.setattr(sys, "argv", shlex.split(command[2:], comments=True))
        assert _main() == 0, command
        said.append(capsys.readouterr().out)
    (row,) = csv.DictReader(io.StringIO(said[1]))
    assert row["clip"] == "today.wav"
    assert row["decision"] in ("normal", "anomaly")
    assert "energy" in row["reason"]
    assert json.loads(said[2].splitlines()[0])["event"] == "begin"  # ten times as loud


def test_the_main_result_of_the_first_pages_is_the_kept_one() -> None:
    means = main_result().groupby(["machine", "system"])[["auc", "pauc"]].mean()
    kept = {}
    for machine, folder in MACHINES.items():
        table = pd.read_csv(folder)
        if "machine" in table:
            table = table[table["machine"].eq(machine) & table["section"].eq("Average")]
        table = table.drop_duplicates(["system", "reference", "metric"])
        kept[machine] = table.set_index(["system", "reference", "metric"])
    alone = ", encoder alone"
    pooled, frozen = "statistics, pooled", "AudioSet network, frozen"
    told = [
        words.format(*means.loc[(machine, system)])
        for machine, system, words in (
            ("ToyCar", "autoencoder", "autoencoder reaches {:.1f} and {:.1f} percent"),
            ("ToyCar", pooled, "pooled covariance {:.1f} and {:.1f}"),
            ("ToyCar", "contrastive", "contrastive system {:.1f} and {:.1f}. Slide"),
            ("slider", "autoencoder", "given clips: the autoencoder reaches {:.1f} and {:.1f}"),
            ("slider", pooled, "pooled covariance {:.1f} and {:.1f}, the contrastive"),
            ("slider", "contrastive", "contrastive system {:.1f} and {:.1f}, the frozen"),
            ("slider", frozen, "AudioSet network {:.1f} and {:.1f}."),
        )
    ] + [
        words.format(*(100 * kept[machine].loc[(*pair, "auc"), ["difference", "low", "high"]]))
        for machine, pair, words in (
            ("ToyCar", ("contrastive", pooled), "AUC {:+.1f} points, 95 % interval {:.1f} to"),
            ("ToyCar", ("contrastive", "no augmentation"), "tation ({:+.1f}, {:.1f} to {:.1f}"),
            ("ToyCar", ("contrastive" + alone, "no augmentation" + alone),
             "alone {:+.1f}, {:.1f} to {:.1f})"),
            ("slider", ("contrastive", pooled), "better by {:.1f} points ({:.1f} to {:.1f})"),
            ("slider", (frozen, pooled), "on a machine ({:.1f}, {:.1f} to {:.1f})"),
        )
    ]  # fmt: skip
    changes = pd.read_csv(MACHINES["slider"].parent / "changes" / "paired.csv")
    changes = changes[changes["machine"].eq("Average") & changes["metric"].eq("auc")]
    (lost,) = changes[
        changes["system"].eq("contrast of views only") & changes["reference"].eq("as it is")
    ].itertuples()
    assert lost.shown
    bounds = [-100 * value for value in (lost.difference, lost.high, lost.low)]
    told.append("{:.1f} points are lost ({:.1f} to {:.1f})".format(*bounds))
    slider = pd.read_csv(MACHINES["slider"])
    slider = slider[slider["machine"].eq("Average") & slider["metric"].eq("auc")]
    shown = slider.set_index(["system", "reference"])["shown"]
    assert shown[("contrastive", pooled)]
    assert shown[(frozen, pooled)]
    assert not shown[(frozen, "contrastive")]
    assert not shown[("no augmentation", "contrastive")]
    for page in (README, (ROOT / "book" / "intro.md").read_text(encoding="utf-8")):
        flat = " ".join(page.split()).replace("−", "-")
        assert [words for words in told if words not in flat] == []
    drawn = (ROOT / "book" / "_static" / "main_result.svg").read_text(encoding="utf-8")
    for value in means.stack():
        assert f"<!-- {value:.1f} -->" in drawn
