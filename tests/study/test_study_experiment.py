"""Experiments: one tidy table, the same in parallel and one by one; networks are shared."""

import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import torch
from study_stores import QUICK, make_manifest, make_store, score_bytes
from warm_server import start_server

from asdlib.errors import ConfigError, RunError
from asdlib.features import FeatureStore
from asdlib.study import Variant, experiment, experiment as function, load_run
from asdlib.study.experiment import default_processes

module = sys.modules[function.__module__]
CONTRAST = QUICK["contrastive"]
VARIANTS = {
    "reference": Variant("statistics", columns={"kind": "simple"}),
    "the same": Variant("statistics", columns={"kind": "simple"}),
    "plain": Variant("autoencoder", QUICK["autoencoder"], columns={"kind": "learned"}),
    "wide": Variant("autoencoder", {**QUICK["autoencoder"], "hidden": 12}, seeds=(1,)),
}


def contrastive(**params: Any) -> Variant:
    return Variant(params={**CONTRAST, **params})


@pytest.fixture
def failing(tmp_path: Path) -> Variant:
    manifest = make_manifest()
    gone = (manifest["split"] == "train") & (manifest["section"] == "02")
    return Variant("statistics", train=make_store(tmp_path / "gap", manifest[~gone]), seeds=(7,))


@pytest.mark.slow
def test_parallel_runs_give_what_single_ones_give(
    store: FeatureStore, tmp_path: Path, failing: Variant, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_server()
    monkeypatch.setattr(module, "get_context", lambda _: get_context("forkserver"))
    told: list[tuple[str, bool, int, int]] = []
    asked: dict[str, Any] = {"train": store, "seeds": (0, 1), "machines": ("fan",)}
    with pytest.raises(RunError, match=r"^1 of 6 runs failed; the first: with a gap, seed 7: sec"):
        experiment(
            {"with a gap": failing, **VARIANTS},
            tmp_path / "parallel",
            processes=2,
            on_done=lambda name, made, i, n: told.append((name, isinstance(made, str), i, n)),
            **asked,
        )
    assert sorted(i for *_, i, n in told if n == 6) == [1, 2, 3, 4, 5, 6]
    assert [name for name, failed, *_ in told if failed] == ["with a gap, seed 7"]

    single = experiment(VARIANTS, tmp_path / "single", processes=1, **asked)
    runs = {name: sorted((tmp_path / name / "runs").iterdir()) for name in ("parallel", "single")}
    assert [path.name for path in runs["parallel"]] == [path.name for path in runs["single"]]
    assert len(runs["single"]) == 4
    for a, b in zip(runs["parallel"], runs["single"], strict=True):
        assert score_bytes(a) == score_bytes(b)
        assert score_bytes(a)
    found = experiment(VARIANTS, tmp_path / "parallel", processes=1, **asked)
    columns = [name for name in single if name not in ("run", "seconds")]
    pd.testing.assert_frame_equal(found[columns], single[columns])

    assert list(single) == [
        *("kind", "variant", "system", "seed", "machine", "section"),
        *("auc", "pauc", "seconds", "run"),
    ]
    order = single.drop_duplicates(["variant", "seed"])[["variant", "seed"]].to_numpy().tolist()
    # What is not random is run once, whatever the seeds.
    assert order == [["reference", 0], ["the same", 0], ["plain", 0], ["plain", 1], ["wide", 1]]
    assert single[single["variant"].isin(["reference", "the same"])]["run"].nunique() == 1
    assert set(single["machine"]) == {"fan", "Average"}
    wide = single[single["variant"] == "wide"]
    written = pd.read_csv(Path(wide["run"].iloc[0]) / "metrics.csv", dtype={"section": str})
    pd.testing.assert_frame_equal(wide[list(written)].reset_index(drop=True), written)
    assert load_run(wide["run"].iloc[0]).record.config.params["hidden"] == 12


def test_what_is_there_is_not_computed_again(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr("asdlib.method.training.give_back_memory", lambda: given.append(1))
    variants = {name: VARIANTS[name] for name in ("reference", "wide")}
    first = experiment(variants, tmp_path, train=store, processes=1)
    for name in ("statistics.TimeStatistics", "autoencoder.Autoencoder"):
        monkeypatch.setattr(
            f"asdlib.baselines.{name}.fit", lambda *_, **__: pytest.fail("fitted again")
        )
    pd.testing.assert_frame_equal(experiment(variants, tmp_path, train=store, processes=1), first)
    # Memory is given back after each run that was computed.
    assert len(given) == 2


@pytest.mark.slow
def test_runs_that_are_trained_alike_share_one_network(store: FeatureStore, tmp_path: Path) -> None:
    """They are told apart by what trains, and give what runs with networks of their own give."""
    other = make_store(tmp_path / "other", seed=1)
    variants = {
        # Its back-end needs more clips than there are: the others train without it.
        "fails": contrastive(backend="local_density_knn"),
        "knn": contrastive(backend="knn", embedding="feature_map"),
        "the default, written out": contrastive(temperature=0.1, segment="sliding"),
        "other clips to score": Variant(params=CONTRAST, test=other),
        "other clips to train on": Variant(params=CONTRAST, train=other, test=store),
        "other training": contrastive(temperature=0.2),
    }
    few = make_store(tmp_path / "few", n_train=4, n_test=4)
    failures: list[str] = []
    asked: dict[str, Any] = {"train": few, "processes": 1, "failures": failures}
    table = experiment(variants, tmp_path / "shared", **asked)
    assert len(failures) == 1
    assert failures[0].startswith("fails, seed 0: ")
    assert "needs at least" in failures[0]
    runs = {name: Path(run) for name, run in zip(table["variant"], table["run"], strict=True)}
    taken = {name: load_run(run).record.network_of is not None for name, run in runs.items()}
    assert list(taken) == list(variants)[1:]
    assert sum(not took for took in taken.values()) == 5
    own = {name: variants[name] for name in list(variants)[1:4]}
    shared = experiment(own, tmp_path / "again", **asked)
    took = [load_run(run).record.network_of is not None for run in shared["run"].unique()]
    assert took == [False, True, True]
    for (name, variant), run in zip(own.items(), shared["run"].unique(), strict=True):
        alone = experiment({name: variant}, tmp_path / "alone" / name, **asked)
        assert score_bytes(Path(alone["run"].iloc[0])) == score_bytes(Path(run))
        assert Path(alone["run"].iloc[0]).name == Path(run).name


@pytest.mark.slow
def test_a_share_of_the_clips_is_trained_on_for_as_many_steps(
    store: FeatureStore, tmp_path: Path
) -> None:
    params = {**CONTRAST, "backend": "class_mean", "embedding": "encoder"}
    variants = {"all": Variant(params=params), "half": Variant(params=params, share=0.5)}
    table = experiment(variants, tmp_path, train=store, seeds=(0, 1), processes=1)
    runs = table.drop_duplicates("run").set_index(["variant", "seed"])["run"]
    records = {key: load_run(run).record for key, run in runs.items()}
    assert {key: record.train.clips for key, record in records.items()} == {
        ("all", 0): 24,
        ("all", 1): 24,
        ("half", 0): 12,
        ("half", 1): 12,
    }
    assert {record.config.params["epochs"] for record in records.values()} == {1, 2}
    # Each seed draws clips of its own.
    assert len({record.config.train_fingerprint for record in records.values()}) == 3


def test_failures(store: FeatureStore, tmp_path: Path, failing: Variant) -> None:
    gaps = {"with a gap": replace(failing, seeds=(7, 8))}
    told: dict[str, Any] = {"train": store, "processes": 1}
    with pytest.raises(RunError, match="2 of 3 runs failed; the first: with a gap, seed 7: "):
        experiment({**gaps, "fine": VARIANTS["reference"]}, tmp_path / "out", **told)
    assert len(list((tmp_path / "out" / "runs").iterdir())) == 1
    failures: list[str] = []
    with pytest.raises(RunError, match="2 of 2 runs failed"):
        experiment(gaps, tmp_path / "all", failures=failures, **told)
    assert len(failures) == 2
    for variants, message in (
        (
            {"fine": VARIANTS["reference"], "wrong": contrastive(colour=1)},
            "unknown parameter 'colour'",
        ),
        ({"wrong": Variant("svm")}, "unknown system 'svm'"),
    ):
        with pytest.raises(ConfigError, match=message):
            experiment(variants, tmp_path / "bad", **told)
    with pytest.raises(ConfigError, match="variant 'x' has no store; give the experiment train="):
        experiment({"x": Variant()}, tmp_path / "bad")
    with pytest.raises(ConfigError, match="variant 'x' has no store"):
        experiment({"x": Variant(train=store)}, tmp_path / "bad")
    with pytest.raises(ConfigError, match="nothing to run"):
        experiment({}, tmp_path / "bad", **told)
    assert not (tmp_path / "bad").exists()


KILLED = """
    import sys
    from pathlib import Path
    from asdlib.study import Variant, experiment

    if __name__ == "__main__":
        store, out = map(Path, sys.argv[1:])
        long = Variant("autoencoder", {"epochs": 100_000, "hidden": 8})
        experiment({"long": long}, out, train=store, seeds=(0, 1), processes=2)
"""


@pytest.mark.slow
def test_workers_end_with_an_experiment_that_is_killed(store: FeatureStore, tmp_path: Path) -> None:
    script, out = tmp_path / "killed.py", tmp_path / "out"
    script.write_text(textwrap.dedent(KILLED))
    process = subprocess.Popen(
        [sys.executable, str(script), str(store.path), str(out)], stderr=subprocess.DEVNULL
    )
    workers: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 600
        while len(list(out.glob("runs/.*.partial"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline, "no training began"
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.terminate()
        assert process.wait(300) == -signal.SIGTERM
        assert psutil.wait_procs(workers, timeout=300)[1] == []
    finally:
        for left in [process, *(worker for worker in workers if worker.is_running())]:
            left.kill()


def test_one_process_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_processes() == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module.os, "cpu_count", lambda: 5)
    assert default_processes() == 5


def test_ctrl_c_begins_no_further_run(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[dict[str, Any]] = []

    class Pool:
        def __init__(self, *_: Any) -> None:
            pass

        def submit(self, *_: Any) -> Any:
            raise KeyboardInterrupt

        def shutdown(self, **told: Any) -> None:
            ended.append(told)

    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        experiment(VARIANTS, tmp_path, train=store, processes=2)
    assert ended == [{"wait": True, "cancel_futures": True}]
