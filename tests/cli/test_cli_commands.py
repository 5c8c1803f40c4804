"""The commands about features, runs and scores as a user types them."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd
import pytest
from asd_process import Outcome
from study_stores import QUICK, make_store, score_bytes, set_arguments, write_recordings

import asdlib
from asdlib.features import FeatureStore
from asdlib.study import load_run
from asdlib.study.config import SYSTEMS, describe_parameters

Asd = Callable[..., Outcome]
GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"


def test_the_module_is_the_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "asdlib", "--version"], capture_output=True, text=True, check=True
    )
    assert (done.stdout.strip(), done.stderr) == (asdlib.__version__, "")


def test_help(asd: Asd) -> None:
    done = asd().success
    assert done.err == ""
    for command in ("synth", "features", "run", "evaluate", "study", "book"):
        assert command in done.out
        for option in ("--help", "-h"):
            assert "Usage:" in asd(command, option).success.out
    assert "Usage:" in asd("store", "info", "-h").success.out


def test_help_is_whole_on_a_narrow_screen(asd: Asd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TERMINAL_WIDTH", "60")
    for words in ([], ["store"], ["run"], ["compare"]):
        text = asd(*words, "--help").success.out
        assert "..." not in text.replace("[ARGS]...", "").replace("RUN]...", "")
        assert max(map(len, text.splitlines())) <= 60, words
    assert "precision" not in asd("-h").success.out
    assert "--install-completion" in asd("-h").success.out


def test_help_lists_the_parameters_of_a_system(asd: Asd) -> None:
    assert "asd run SYSTEM --help lists the parameters" in asd("run", "-h").success.out
    for system in SYSTEMS:
        text = " ".join(asd("run", system, "--help").success.out.split())
        for name, _ in describe_parameters(system):
            assert f" {name} " in text, (system, name)
    text = " ".join(asd("run", "contrastive", "-h").success.out.split())
    assert "augmentation.mixup" in text
    assert '[default: "level_sum"]' in text


def test_help_starts_without_what_computes() -> None:
    code = "import sys, asdlib.cli; print(*{'torch', 'pandas', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_quiet_and_json(asd: Asd, store: Path, tmp_path: Path) -> None:
    """For programs: nothing but the answer, and errors."""
    stores: list[Any] = ["--train", store, "--test", store]
    a, b = tmp_path / "a", tmp_path / "b"
    run = ["run", "statistics", *stores, "--held-out", 2]
    other = ["--set", "covariance=pooled"]
    quick = set_arguments(QUICK["contrastive"] | {"embedding": "encoder", "backend": "class_mean"})
    commands: list[list[Any]] = [
        [*run, "--out", a],
        [*run, *other, "--out", b],
        ["fuse", a, b, "--out", tmp_path / "fused"],
        ["decide", a],
        ["export", a, tmp_path / "a.onnx", "--section", "pump/02"],
        ["compare", a, b, "--kind", "synthetic", "--paired", "--out", tmp_path / "compared"],
        ["ablate", *stores, *quick, "--only", "data", "--seeds", 1, "--jobs", 1, "--out"],
    ]
    commands[-1].append(tmp_path / "ablated")
    for command in commands:
        done = asd(*command, "--quiet").success
        assert (done.out, done.err) == ("", ""), command[0]
    answers = [json.loads(asd(*command, "--json").success.out) for command in commands]
    ran, _, fused, decided, exported, compared, ablated = answers
    assert ran["run"]["key"] == load_run(a).record.key
    assert ran["metrics"][-1]["auc"] == load_run(a).auc
    assert (ran["found"], fused["folder"]) == (True, str(tmp_path / "fused"))
    assert {row["machine"] for row in decided["thresholds"]} == {"fan", "pump"}
    assert (exported["sections"], exported["system"]) == (["pump/02"], "statistics")
    assert compared["comparison"][0]["system"] == "statistics"
    assert compared["paired"][0]["reference"] == "statistics"
    assert {row["variant"] for row in ablated["summary"]} > {"full"}
    assert "is not a feature store" in asd(*run[:2], *["--train", a, "--test", a, "--out", b],
                                           "--quiet").error  # fmt: skip


def test_long_names_are_cut_in_the_middle(asd: Asd, store: Path, tmp_path: Path) -> None:
    run = ["run", "contrastive", "--train", store, "--test", store, "--out", tmp_path / "run"]
    for words in (
        [*run, "--set", "n" * 5000 + "=1"],
        [*run, "--set", "encoder=" + "n " * 5000],
        [*run[:3], "/" + "n" * 3000, *run[4:]],
        ["n" * 5000],
        ["decide", "n" * 200 + "/" + "m" * 200],
    ):
        message = asd(*words).error
        assert len(message) <= 400
        assert "…" in message


def test_evaluating_and_comparing_do_not_wait_for_torch(tmp_path: Path) -> None:
    """Importing torch takes longer than either."""
    scores = str(GOLDEN / "dcase2020")
    code = f"""
import sys
from asdlib.cli import _main
for words in ["evaluate {scores}", "compare --kind real --scores x={scores}"]:
    sys.argv = ["asd", *words.split(), "--year", "2020"]
    assert _main() == 0
print(*{{"torch", "matplotlib"}} & set(sys.modules), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == []


def test_features(asd: Asd, tmp_path: Path) -> None:
    root = write_recordings(tmp_path / "wav")
    out = tmp_path / "store"
    made = asd("features", root, out).success
    assert (made.out, made.err) == (f"16 clips, 128 mel bins, 32 frames in {out}\n", "")
    store = FeatureStore.open(out)
    assert store.front_end["scale"] == "10*log10(mel + eps)"
    assert len(store.rows(split="train", section="02")) == 4
    assert set(store.manifest["year"]) == {"2020"}

    before = {file: file.stat().st_mtime_ns for file in out.iterdir()}
    assert asd("features", root, out).success.out == made.out
    assert {file: file.stat().st_mtime_ns for file in out.iterdir()} == before
    assert "built otherwise" in asd("features", root, out, "--preset", "byola").error
    other = asd("features", root / "fan", tmp_path / "byola", "--preset", "byola").success
    assert "64 mel bins, 101 frames" in other.out
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_from_recordings_to_metrics(asd: Asd, tmp_path: Path) -> None:
    store, out = tmp_path / "store", tmp_path / "runs" / "run"
    asd("features", write_recordings(tmp_path / "wav", machines=("fan", "pump")), store)
    command = ["run", "contrastive", "--train", store, "--test", store, "--seed", 3, "--out", out]
    command += set_arguments(QUICK["contrastive"] | {"temperature": 0.2})
    command += ["--set", "augmentation.mixup=false", "--set", "augmentation.mix_alpha=0.2"]
    done = asd(*command).success
    assert done.err == ""
    assert "scores and metrics in" in done.out
    metrics = pd.read_csv(out / "metrics.csv", dtype={"section": str})
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
    for value in metrics["auc"]:
        assert f"{100 * value:.2f}" in done.out
    for name, content in score_bytes(out).items():
        lines = content.decode().splitlines()
        assert [len(line.split(",")) for line in lines] == [2] * 4, name
    config = load_run(out).record.config
    assert config.seed == 3
    assert config.params["temperature"] == 0.2
    augmentation = config.params["augmentation"]
    assert (augmentation["mixup"], augmentation["mix_alpha"], augmentation["rrc"]) == (
        *(False, 0.2),
        True,
    )
    assert [path.name for path in out.parent.iterdir()] == ["run"]

    evaluated = json.loads(asd("evaluate", out, "--year", 2020, "--json").success.out)
    assert evaluated["average"]["auc"] == metrics["auc"].iloc[-1]
    assert evaluated["machines"]["fan"]["sections"]["02"]["pauc"] == metrics["pauc"].iloc[1]

    before = {file: file.stat().st_mtime_ns for file in out.rglob("*")}
    assert "found, not computed again" in asd(*command).success.out
    assert "holds another run" in asd(*command, "--seed", 4).error
    assert {file: file.stat().st_mtime_ns for file in out.rglob("*")} == before

    anew = ["--set", "embedding=encoder", "--set", "backend=mahalanobis"]
    taken = [*command, *anew, "--network-of", out, "--out", tmp_path / "taken"]
    asd(*taken).success  # noqa: B018
    assert load_run(tmp_path / "taken").record.network_of == load_run(out).record.key
    assert score_bytes(tmp_path / "taken") != score_bytes(out)
    other = [*taken, "--out", tmp_path / "other"]
    assert "cannot be taken: another seed" in asd(*other, "--seed", 1).error
    assert "holds no finished run" in asd(*other, "--network-of", tmp_path).error
    assert not (tmp_path / "other").exists()


def test_options_of_run(asd: Asd, store: Path, tmp_path: Path) -> None:
    command = ["run", "statistics", "--train", store, "--test", store]
    command += ["--set", "statistics=mean+deviation+quantiles", "--set", "quantiles=[0.25, 0.75]"]
    done = asd(*command, "--machine", "pump", "--out", tmp_path / "run").success
    assert "fan" not in done.out
    config = load_run(tmp_path / "run").record.config
    assert (config.machines, config.seed) == (("pump",), 0)
    assert config.params["quantiles"] == [0.25, 0.75]
    assert config.params["statistics"] == "mean+deviation+quantiles"
    command += ["--machine", "pump", "--machine", "fan", "--held-out", "2"]
    module = importlib.import_module("asdlib.study.run")
    with mock.patch.object(module, "plan", wraps=module.plan) as planned:
        assert "fan" in asd(*command, "--out", tmp_path / "both").success.out
    assert planned.call_count == 1
    assert (tmp_path / "both" / "held_out.csv").is_file()


def test_run_in_the_layout_of_2022(asd: Asd, tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", year=2022).path
    out = tmp_path / "run"
    done = asd("run", "statistics", "--train", store, "--test", store, "--out", out).success
    assert "auc_target" in done.out
    evaluated = json.loads(asd("evaluate", out, "--year", 2022, "--json").success.out)
    assert 0 < evaluated["omega"] < 1
    printed = asd("evaluate", out, "--year", 2022).success.out
    assert f"official score of 2022, in %: Ω {100 * evaluated['omega']:.2f} [" in printed


def test_two_microphones_of_a_first_shot_corpus(asd: Asd, tmp_path: Path) -> None:
    wav, store = tmp_path / "wav", tmp_path / "store"
    made = asd("synth", wav, "--profile", "smoke", "--layout", "dcase2026").success
    assert "88 clips" in made.out  # 20 + 24 of each of two machines
    asked = ("features", wav, store, "--year", 2026)
    assert "or use --far" in asd(*asked).error
    assert "88 clips" in asd(*asked, "--far", "subtract").success.out
    counts = json.loads(asd("store", "info", store, "--json").success.out)
    assert counts["front_end"]["far"] == "subtract"
    domains = {(row["split"], row["domain"]): row["clips"] for row in counts["counts"]}
    assert domains["train", "target"] == 1


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
    evaluated = json.loads(asd(*command, "--json").success.out)
    expected = json.loads((GOLDEN / "expected.json").read_text())[folder]
    assert close(evaluated, expected)
    assert evaluated["year"] == year
    assert ("omega" in evaluated) == (year == 2022)
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
    labels = ["normal", "anomaly", "normal", "anomaly"]
    rows = [
        f"id_01_{i:08d}.wav,{label}_id_01_{i:08d}.wav,{int(label == 'anomaly')}\n"
        for i, label in enumerate(labels)
    ]
    truth = tmp_path / "eval_data_list.csv"
    truth.write_text("fan\n" + "".join(rows))
    command = ["evaluate", scores, "--year", 2020, "--json"]
    evaluated = json.loads(asd(*command, "--ground-truth", truth).success.out)
    assert evaluated["machines"]["fan"]["sections"]["01"]["auc"] == 0.75
    assert "give the ground truth" in asd(*command).error
