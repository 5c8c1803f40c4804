"""The commands as a user types them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from asd_process import Outcome
from study_stores import QUICK, make_store, score_bytes, set_arguments, write_recordings

import asdlib
from asdlib.features import FeatureStore
from asdlib.study import load_run

Asd = Callable[..., Outcome]
GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"


def test_the_module_is_the_command() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "asdlib", "--version"], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == asdlib.__version__
    assert told.stderr == ""


def test_without_arguments_there_is_help(asd: Asd) -> None:
    told = asd()
    assert told.code == 0
    assert told.err == ""
    for command in ("synth", "features", "run", "evaluate", "study", "book"):
        assert command in told.out
    for command in ("features", "run", "evaluate", "study", "book"):
        assert "Usage:" in asd(command, "--help").success.out


def test_features(asd: Asd, tmp_path: Path) -> None:
    root = write_recordings(tmp_path / "wav")
    out = tmp_path / "store"
    told = asd("features", root, out).success
    assert told.err == ""
    assert told.out == f"16 clips, 128 mel bins, 32 frames in {out}\n"
    store = FeatureStore.open(out)
    assert store.front_end["scale"] == "10*log10(mel + eps)"
    assert len(store.rows(split="train", section="02")) == 4
    assert set(store.manifest["year"]) == {"2020"}

    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    assert asd("features", root, out).success.out == told.out
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == before
    assert "built otherwise" in asd("features", root, out, "--preset", "byola").error
    other = asd("features", root / "fan", tmp_path / "byola", "--preset", "byola").success
    assert "64 mel bins, 101 frames" in other.out
    hidden = [path.name for path in tmp_path.iterdir() if path.name.startswith(".")]
    assert hidden == []


@pytest.mark.parametrize("system", sorted(QUICK))
def test_run_on_recordings(asd: Asd, tmp_path: Path, system: str) -> None:
    store, out = tmp_path / "store", tmp_path / "runs" / "run"
    asd("features", write_recordings(tmp_path / "wav", machines=("fan", "pump")), store)
    command = ["run", system, "--train", store, "--test", store, "--seed", 3, "--out", out]
    command += set_arguments(QUICK[system])
    told = asd(*command).success
    assert told.err == ""
    assert "scores and metrics in" in told.out
    assert [line for line in told.out.splitlines() if "Average" in line]

    metrics = pd.read_csv(out / "metrics.csv", dtype={"section": str})
    assert list(metrics) == ["machine", "section", "auc", "pauc"]
    assert metrics[["machine", "section"]].to_numpy().tolist() == [
        ["fan", "00"],
        ["fan", "02"],
        ["fan", "Average"],
        ["pump", "00"],
        ["pump", "02"],
        ["pump", "Average"],
        ["Average", "Average"],
    ]
    assert metrics[["auc", "pauc"]].notna().all(axis=None)
    for row in metrics.itertuples():
        assert f"{100 * row.auc:.2f}" in told.out
    for name, content in score_bytes(out).items():
        lines = content.decode().splitlines()
        assert len(lines) == 4, name
        assert all(len(line.split(",")) == 2 for line in lines)
    assert set(score_bytes(out)) == {
        f"anomaly_score_{m}_id_{s}.csv" for m in ("fan", "pump") for s in ("00", "02")
    }
    record = json.loads((out / "run.json").read_text())
    assert record["config"]["seed"] == 3
    for key, value in QUICK[system].items():
        assert record["config"]["params"][key] == value
    assert [path.name for path in out.parent.iterdir()] == ["run"]

    evaluated = json.loads(asd("evaluate", out, "--year", 2020, "--json").success.out)
    assert evaluated["average"]["auc"] == metrics["auc"].iloc[-1]
    assert evaluated["machines"]["fan"]["sections"]["02"]["pauc"] == metrics["pauc"].iloc[1]

    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    again = asd(*command).success
    assert "found, not computed again" in again.out
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before
    assert "holds another run" in asd(*command, "--seed", 4).error
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before


def test_options_of_run(asd: Asd, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["run", "statistics", "--train", store, "--test", store, "--out", out]
    command += ["--set", "statistics=mean+deviation+quantiles", "--set", "quantiles=[0.25, 0.75]"]
    told = asd(*command, "--machine", "pump").success
    assert "fan" not in told.out
    record = load_run(out).record
    assert record["config"]["machines"] == ["pump"]
    assert record["config"]["params"]["quantiles"] == [0.25, 0.75]
    assert record["config"]["params"]["statistics"] == "mean+deviation+quantiles"
    assert record["config"]["seed"] == 0
    both = asd(*command[:7], tmp_path / "both", "--machine", "pump", "--machine", "fan").success
    assert "fan" in both.out


def test_nested_parameters(asd: Asd, store: Path, tmp_path: Path) -> None:
    command = ["run", "contrastive", "--train", store, "--test", store, "--out", tmp_path / "run"]
    command += set_arguments(QUICK["contrastive"] | {"epochs": 0})
    asd(*command, "--set", "augmentation.mixup=false", "--set", "augmentation.mix_alpha=0.2")
    told = load_run(tmp_path / "run").record["config"]["params"]["augmentation"]
    assert (told["mixup"], told["mix_alpha"], told["rrc"]) == (False, 0.2, True)


def test_the_network_of_another_run(asd: Asd, store: Path, tmp_path: Path) -> None:
    """Scoring a trained network anew gives what a training of its own gives, without training."""
    command = ["run", "contrastive", "--train", store, "--test", store]
    command += set_arguments(QUICK["contrastive"])
    anew = ["--set", "embedding=encoder", "--set", "backend=mahalanobis"]
    asd(*command, "--out", tmp_path / "donor")
    asd(*command, *anew, "--out", tmp_path / "trained")
    asd(*command, *anew, "--network-of", tmp_path / "donor", "--out", tmp_path / "taken")
    assert score_bytes(tmp_path / "taken") == score_bytes(tmp_path / "trained")
    assert score_bytes(tmp_path / "taken") != score_bytes(tmp_path / "donor")
    donor, taken = load_run(tmp_path / "donor").record, load_run(tmp_path / "taken").record
    assert taken["network_of"] == donor["key"]

    assert (taken["key"], taken["network_trained_by"]) == (
        load_run(tmp_path / "trained").record["key"],
        donor["config"]["code_version"],
    )

    other = [*command, *anew, "--network-of", tmp_path / "donor", "--out", tmp_path / "other"]
    assert "cannot be taken: another seed" in asd(*other, "--seed", 1).error
    assert "holds no finished run" in asd(*other[:-3], tmp_path, "--out", tmp_path / "other").error
    assert not (tmp_path / "other").exists()


def test_the_network_of_another_version_of_the_code(asd: Asd, store: Path, tmp_path: Path) -> None:
    """It is taken, under a key of its own that names the run which trained it."""
    command = ["run", "contrastive", "--train", store, "--test", store]
    command += set_arguments(QUICK["contrastive"])
    anew = ["--set", "embedding=encoder", "--set", "backend=mahalanobis"]
    asd(*command, "--out", tmp_path / "donor")
    asd(*command, *anew, "--network-of", tmp_path / "donor", "--out", tmp_path / "same")
    told = json.loads((tmp_path / "donor/run.json").read_text())
    told["config"]["code_version"] = "0.0.1+old"
    (tmp_path / "donor/run.json").write_text(json.dumps(told))
    asd(*command, *anew, "--network-of", tmp_path / "donor", "--out", tmp_path / "old")
    asd(*command, "--network-of", tmp_path / "old", "--out", tmp_path / "again")
    same, old, again = (load_run(tmp_path / name).record for name in ("same", "old", "again"))
    assert score_bytes(tmp_path / "old") == score_bytes(tmp_path / "same")
    assert score_bytes(tmp_path / "again") == score_bytes(tmp_path / "donor")
    assert old["key"] != same["key"]
    assert same["config"]["network_of"] is None
    for record in (old, again):
        assert record["config"]["network_of"] == record["network_of"] == told["key"]
        assert record["network_trained_by"] == "0.0.1+old"
        assert record["config"]["code_version"] == same["config"]["code_version"]


def test_run_in_the_layout_of_2022(asd: Asd, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", year=2022).path
    out = tmp_path / "run"
    told = asd("run", "statistics", "--train", store, "--test", store, "--out", out).success
    assert "auc_target" in told.out
    evaluated = json.loads(asd("evaluate", out, "--year", 2022, "--json").success.out)
    assert 0 < evaluated["omega"] < 1
    printed = asd("evaluate", out, "--year", 2022).success.out
    assert f"official score Ω: {100 * evaluated['omega']:.2f} %" in printed


def test_notices_are_printed(asd: Asd, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", year=2020)
    manifest = store.manifest.copy()
    manifest.loc[manifest["section"] == "00", "label"] = "normal"
    one_class = make_store(tmp_path / "one", manifest.drop(columns="frames"))
    told = asd(
        "run",
        "statistics",
        *("--train", one_class.path, "--test", one_class.path, "--out", tmp_path / "run"),
    ).success
    assert "note: auc of fan/00 is not defined: 8 normal and 0 anomalous clips" in told.err
    assert (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1] == "fan,00,,"


def close(a: Any, b: Any) -> bool:
    if isinstance(b, dict):
        return all(close(a[key], value) for key, value in b.items())
    return a == b or (isinstance(b, float) and bool(np.isclose(a, b, rtol=0, atol=1e-12)))


@pytest.mark.parametrize(
    ("folder", "year", "truth"),
    [
        ("dcase2020", 2020, []),
        ("dcase2022", 2022, []),
        ("dcase2022_blind", 2022, ["--ground-truth", GOLDEN / "dcase2022_blind_ground_truth"]),
    ],
)
def test_evaluate(asd: Asd, folder: str, year: int, truth: list[Any]) -> None:
    command = ["evaluate", GOLDEN / folder, "--year", year, *truth]
    told = json.loads(asd(*command, "--json").success.out)
    expected = json.loads((GOLDEN / "expected.json").read_text())[folder]
    assert close(told, expected)
    assert told["year"] == year
    assert ("omega" in told) == (year == 2022)
    table = asd(*command).success.out
    for machine in expected["machines"]:
        assert machine in table
    assert f"{100 * expected['average']['auc']:.2f}" in table


def test_evaluate_takes_names_with_test_in_them(asd: Asd, tmp_path: Path) -> None:
    truth = ["--ground-truth", GOLDEN / "dcase2022_blind_ground_truth", "--json"]
    plain = asd("evaluate", GOLDEN / "dcase2022_blind", "--year", 2022, *truth).success.out
    for file in (GOLDEN / "dcase2022_blind").glob("*.csv"):
        section = file.stem.split("_")[-2]
        text = file.read_text().replace(f"section_{section}_", f"section_{section}_test_")
        (tmp_path / file.name.replace("_test.csv", ".csv")).write_text(text)
    assert asd("evaluate", tmp_path, "--year", 2022, *truth).success.out == plain


def test_evaluate_with_the_list_of_2020(asd: Asd, tmp_path: Path) -> None:
    scores = tmp_path / "scores"
    scores.mkdir()
    (scores / "anomaly_score_fan_id_01.csv").write_text(
        "".join(f"id_01_{i:08d}.wav,{score}\n" for i, score in enumerate([0.1, 0.9, 0.5, 0.4]))
    )
    truth = tmp_path / "eval_data_list.csv"
    labels = ["normal", "anomaly", "normal", "anomaly"]
    truth.write_text(
        "fan\n"
        + "".join(
            f"id_01_{i:08d}.wav,{label}_id_01_{i:08d}.wav,{int(label == 'anomaly')}\n"
            for i, label in enumerate(labels)
        )
    )
    command = ["evaluate", scores, "--year", 2020, "--json"]
    told = json.loads(asd(*command, "--ground-truth", truth).success.out)
    assert told["machines"]["fan"]["sections"]["01"]["auc"] == 0.75
    assert "give the ground truth" in asd(*command).error
