"""Many runs: the same results in parallel and one by one, failures told at the end."""

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
from study_stores import QUICK, make_manifest, make_store, score_bytes
from warm_server import start_server

from asdlib.errors import ConfigError, RunError
from asdlib.features import FeatureStore
from asdlib.study import load_run
from asdlib.study import sweep as sweep_module
from asdlib.study.sweep import Job, default_processes, sweep, variants_over_seeds


def jobs_of(store: FeatureStore) -> list[Job]:
    template = Job("reference", "statistics", store.path, store.path)
    quick = Job("quick", "autoencoder", store.path, store.path, 0, QUICK["autoencoder"])
    return [
        replace(template, machines=("fan",)),
        replace(template, variant="the same", machines=("fan",)),
        *variants_over_seeds({"plain": {}, "wide": {"hidden": 12}}, (0, 1), quick),
    ]


@pytest.fixture
def failing(tmp_path: Path) -> Job:
    manifest = make_manifest()
    gone = (manifest["split"] == "train") & (manifest["section"] == "02")
    store = make_store(tmp_path / "gap", manifest[~gone])
    return Job("with a gap", "statistics", store.path, store.path, seed=7)


def test_parallel_runs_give_what_single_ones_give(
    store: FeatureStore, tmp_path: Path, failing: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    start_server()
    monkeypatch.setattr(sweep_module, "get_context", lambda _: get_context("forkserver"))
    jobs = jobs_of(store)
    told: list[tuple[str, int, int]] = []
    with pytest.raises(RunError) as caught:
        sweep(
            [failing, *jobs],
            tmp_path / "parallel",
            processes=2,
            progress=lambda *args: told.append(args),
        )
    assert str(caught.value).startswith(
        "1 of 7 runs failed; the first: with a gap, seed 7: section"
    )
    assert told == [("runs", done, 7) for done in range(1, 8)]

    single = sweep(jobs, tmp_path / "single", processes=1)
    runs = {name: sorted((tmp_path / name).iterdir()) for name in ("parallel", "single")}
    assert [path.name for path in runs["parallel"]] == [path.name for path in runs["single"]]
    assert len(runs["single"]) == 5
    for a, b in zip(runs["parallel"], runs["single"], strict=True):
        assert score_bytes(a) == score_bytes(b)
        assert score_bytes(a)

    found = sweep(jobs, tmp_path / "parallel", processes=1)
    columns = [name for name in single if name not in ("run", "seconds")]
    pd.testing.assert_frame_equal(found[columns], single[columns])


KILLED = """
    import sys
    from pathlib import Path
    from asdlib.study.sweep import Job, sweep

    if __name__ == "__main__":
        store, out = map(Path, sys.argv[1:])
        params = {"epochs": 100_000, "hidden": 8}
        jobs = [Job("long", "autoencoder", store, store, seed, params) for seed in (0, 1)]
        sweep(jobs, out, processes=2)
"""


def test_workers_end_with_a_sweep_that_is_killed(store: FeatureStore, tmp_path: Path) -> None:
    script, out = tmp_path / "killed.py", tmp_path / "runs"
    script.write_text(textwrap.dedent(KILLED))
    process = subprocess.Popen(
        [sys.executable, str(script), str(store.path), str(out)], stderr=subprocess.DEVNULL
    )
    workers: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + 120
        while len(list(out.glob(".*.partial"))) < 2:
            assert process.poll() is None
            assert time.monotonic() < deadline, "no training began"
            time.sleep(0.05)
        workers = psutil.Process(process.pid).children(recursive=True)
        assert len(workers) >= 2
        process.terminate()
        assert process.wait(30) == -signal.SIGTERM
        assert psutil.wait_procs(workers, timeout=20)[1] == []
    finally:
        for left in [process, *(worker for worker in workers if worker.is_running())]:
            left.kill()


def test_the_table(store: FeatureStore, tmp_path: Path) -> None:
    table = sweep(jobs_of(store), tmp_path / "runs", processes=1)
    assert list(table) == [
        *("variant", "system", "seed", "machine", "section", "auc", "pauc", "seconds", "run")
    ]
    order = table.drop_duplicates(["variant", "seed"])[["variant", "seed"]].to_numpy().tolist()
    assert order == [
        ["reference", 0],
        ["the same", 0],
        ["plain", 0],
        ["plain", 1],
        ["wide", 0],
        ["wide", 1],
    ]
    same = table[table["variant"].isin(["reference", "the same"])]
    assert same["run"].nunique() == 1
    assert set(same["machine"]) == {"fan", "Average"}
    wide = table[(table["variant"] == "wide") & (table["seed"] == 1)]
    written = pd.read_csv(Path(wide["run"].iloc[0]) / "metrics.csv", dtype={"section": str})
    pd.testing.assert_frame_equal(wide[list(written)].reset_index(drop=True), written)
    hidden = [
        load_run(run).record["config"]["params"]["hidden"]
        for run in table[table["system"] == "autoencoder"]["run"].unique()
    ]
    assert hidden == [8, 8, 12, 12]


def test_what_is_there_is_not_computed_again(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = sweep(jobs_of(store), tmp_path, processes=1)
    for name in ("statistics:TimeStatistics", "autoencoder:Autoencoder"):
        monkeypatch.setattr(
            f"asdlib.baselines.{name.replace(':', '.')}.fit",
            lambda *_, **__: pytest.fail("fitted again"),
        )
    pd.testing.assert_frame_equal(sweep(jobs_of(store), tmp_path, processes=1), first)


def test_a_failure_is_told_after_the_others_are_done(
    store: FeatureStore, tmp_path: Path, failing: Job
) -> None:
    jobs = jobs_of(store)[:1]
    with pytest.raises(RunError, match="2 of 3 runs failed; the first: with a gap, seed 7: "):
        sweep([failing, replace(failing, seed=8), *jobs], tmp_path / "runs", processes=1)
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_wrong_parameters_stop_at_once(store: FeatureStore, tmp_path: Path) -> None:
    jobs = jobs_of(store)[:1]
    wrong = replace(jobs[0], params={"colour": 1})
    with pytest.raises(ConfigError, match="unknown parameter 'colour'"):
        sweep([wrong, *jobs], tmp_path / "runs", processes=1)
    assert list((tmp_path / "runs").iterdir()) == []


def test_changes_are_laid_over_the_template() -> None:
    template = Job("", "contrastive", Path("a"), Path("b"), 5, {"epochs": 3, "x": 1}, ("fan",))
    jobs = variants_over_seeds({"one": {"x": 2}, "two": {}}, (0, 1), template)
    assert [(job.variant, job.seed, job.params["x"]) for job in jobs] == [
        ("one", 0, 2),
        ("one", 1, 2),
        ("two", 0, 1),
        ("two", 1, 1),
    ]
    for job in jobs:
        assert (job.train, job.test, job.machines) == (Path("a"), Path("b"), ("fan",))
        assert job.params["epochs"] == 3


def test_one_process_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert default_processes() == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sweep_module.os, "cpu_count", lambda: 5)
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

    monkeypatch.setattr(sweep_module, "ProcessPoolExecutor", Pool)
    with pytest.raises(KeyboardInterrupt):
        sweep(jobs_of(store), tmp_path, processes=2)
    assert ended == [{"wait": True, "cancel_futures": True}]


def test_memory_is_given_back_after_each_run_that_was_computed(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []
    monkeypatch.setattr(sweep_module, "give_back_memory", lambda: given.append(1))
    jobs = jobs_of(store)[:1]
    sweep(jobs, tmp_path, processes=1)
    sweep(jobs, tmp_path, processes=1)
    assert len(given) == 1
