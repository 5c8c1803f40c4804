"""One run: what it writes, what it refuses, and what it finds again."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from study_stores import (
    FRONT_END,
    QUICK,
    listing,
    make_manifest,
    make_store,
    score_bytes,
)

from asdlib.errors import AsdError, RunError, ScoreError, StoreError
from asdlib.features import FeatureStore, write_store
from asdlib.study import load_run, read_scores
from asdlib.study import run as run_system
from asdlib.study.config import system_class
from asdlib.study.paths import cache_folder, default_workspace, lock_file
from asdlib.study.result import RunResult
from asdlib.study.run import execute, plan


def quick_run(store: FeatureStore, out: Path, system: str = "statistics", **told: Any) -> RunResult:
    return run_system(system, store.path, store.path, out, params=QUICK[system], **told)


@pytest.mark.parametrize("system", sorted(QUICK))
def test_a_run_writes_all_that_is_promised(
    store: FeatureStore, tmp_path: Path, system: str, cache: Path
) -> None:
    told: list[tuple[str, int, int]] = []
    result = quick_run(
        store, tmp_path / "run", system, seed=3, progress=lambda *args: told.append(args)
    )

    files = listing(result.path)
    assert [name for name in files if name.startswith("anomaly_score")] == [
        f"anomaly_score_{machine}_id_{section}.csv"
        for machine in ("fan", "pump")
        for section in ("00", "02")
    ]
    assert {"metrics.csv", "run.json", "model/model.json", "model/model.safetensors"} <= set(files)
    assert not [name for name in files if "partial" in name or name.endswith(".tmp")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "run", "store"]
    assert not list((cache / "training").glob("*")), "a finished training needs no checkpoint"

    record = result.record
    assert record == json.loads((result.path / "run.json").read_text())
    assert record["config"]["system"] == system
    assert record["config"]["seed"] == 3
    assert record["config"]["train_fingerprint"] == store.fingerprint
    assert set(record["config"]["params"]) == set(system_class(system).Params.model_fields)
    assert record["train"] == {"store": "store", "clips": 24}
    assert record["test"] == {"store": "store", "clips": 32}
    assert record["year"] == 2020
    assert record["notices"] == []
    assert min(record["seconds"].values()) > 0
    assert record["environment"]["packages"]["torch"]
    assert not result.cached
    if system != "statistics":
        assert told
        assert all(0 <= done <= total for _, done, total in told)


def test_metrics_are_those_of_the_scores(store: FeatureStore, tmp_path: Path) -> None:
    result = quick_run(store, tmp_path / "run")
    lines = (result.path / "metrics.csv").read_text().splitlines()
    assert lines[0] == "machine,section,auc,pauc"
    written = pd.read_csv(result.path / "metrics.csv", dtype={"section": str})
    pd.testing.assert_frame_equal(written, result.metrics)

    scores = pd.concat(
        [
            pd.read_csv(file, header=None, names=["clip", "score"]).assign(
                machine=file.stem.split("_")[2], section=file.stem.split("_")[-1]
            )
            for file in result.path.glob("anomaly_score_*.csv")
        ]
    )
    assert len(scores) == 32
    expected, by_machine = [], []
    for machine, of_machine in scores.groupby("machine"):
        rows = []
        for section, group in of_machine.groupby("section"):
            y = group["clip"].str.startswith("anomaly")
            auc = roc_auc_score(y, group["score"])
            pauc = roc_auc_score(y, group["score"], max_fpr=0.1)
            rows.append((machine, section, auc, pauc))
        mean = tuple(np.mean([row[2:] for row in rows], axis=0))
        by_machine.append(mean)
        expected += [*rows, (machine, "Average", *mean)]
    expected.append(("Average", "Average", *np.mean(by_machine, axis=0)))
    pd.testing.assert_frame_equal(
        written, pd.DataFrame(expected, columns=list(written)), check_exact=False, rtol=1e-12
    )
    assert result.auc == pytest.approx(expected[-1][2])
    assert result.pauc == pytest.approx(expected[-1][3])
    assert 0.5 < result.auc < 1.0


def test_the_saved_model_gives_the_written_scores(store: FeatureStore, tmp_path: Path) -> None:
    for system in sorted(QUICK):
        result = quick_run(store, tmp_path / system, system)
        model = system_class(system).load(result.path / "model")
        rows = store.rows(split="test")
        expected = rows.manifest.assign(anomaly_score=model.score(rows))
        expected = expected.sort_values(["machine", "section", "clip"], ignore_index=True)
        read = read_scores(result.path)
        assert read["clip"].tolist() == expected["clip"].tolist()
        np.testing.assert_array_equal(read["anomaly_score"], expected["anomaly_score"])
        assert read["label"].tolist() == expected["label"].tolist()


def test_an_equal_call_computes_nothing(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = quick_run(store, tmp_path / "run", machines=["pump", "fan"])
    before = {file: file.stat().st_mtime_ns for file in first.path.rglob("*")}
    cls = system_class("statistics")
    monkeypatch.setattr(cls, "fit", lambda *_, **__: pytest.fail("fitted again"))
    again = quick_run(store, tmp_path / "run", machines=["fan", "pump"])
    assert again.cached
    assert again.record == first.record
    pd.testing.assert_frame_equal(again.metrics, first.metrics)
    assert {file: file.stat().st_mtime_ns for file in first.path.rglob("*")} == before
    pd.testing.assert_frame_equal(load_run(first.path).metrics, first.metrics)


def test_another_run_does_not_take_the_place(store: FeatureStore, tmp_path: Path) -> None:
    out = tmp_path / "run"
    quick_run(store, out)
    before = {file: file.read_bytes() for file in out.rglob("*") if file.is_file()}
    other = make_store(tmp_path / "other", seed=1)
    calls: list[dict[str, Any]] = [
        {"seed": 1},
        {"params": {"statistics": "mean+deviation"}},
        {"machines": ["fan"]},
        {"test": other.path},
        {"train": other.path},
    ]
    for call in calls:
        told = {"train": store.path, "test": store.path} | call
        with pytest.raises(RunError, match=r"holds another run .* choose another --out"):
            run_system("statistics", told.pop("train"), told.pop("test"), out, **told)
    assert {file: file.read_bytes() for file in out.rglob("*") if file.is_file()} == before


def test_a_folder_of_something_else_is_not_touched(store: FeatureStore, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(RunError, match="exists and holds no run"):
        quick_run(store, out)
    with pytest.raises(RunError, match="exists and holds no run"):
        quick_run(store, out / "thesis.txt")
    assert listing(out) == ["thesis.txt"]


@pytest.mark.parametrize("content", ["", "{", "{}", '{"key": 3}'])
def test_a_damaged_run_is_told(store: FeatureStore, tmp_path: Path, content: str) -> None:
    out = tmp_path / "run"
    quick_run(store, out)
    (out / "run.json").write_text(content)
    with pytest.raises(RunError, match=r"holds (another|no finished) run"):
        quick_run(store, out)


def test_an_empty_folder_is_used(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert (quick_run(store, tmp_path / "run").path / "run.json").is_file()


def test_a_failing_system_leaves_nothing(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no more")

    for method in ("fit", "score", "save"):
        with monkeypatch.context() as patch:
            patch.setattr(system_class("statistics"), method, fail)
            with pytest.raises(RuntimeError, match="no more"):
                quick_run(store, tmp_path / "runs" / "run")
        assert listing(tmp_path / "runs") == []
    assert not quick_run(store, tmp_path / "runs" / "run").cached


def test_scores_that_are_not_finite_are_refused(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = system_class("statistics")
    monkeypatch.setattr(cls, "score", lambda self, rows: np.full(len(rows), np.nan))
    with pytest.raises(ScoreError, match="finite"):
        quick_run(store, tmp_path / "runs" / "run")
    assert listing(tmp_path / "runs") == []


def test_training_rows_are_the_normal_ones(tmp_path: Path) -> None:
    manifest = make_manifest()
    clean = make_store(tmp_path / "clean", manifest)
    odd = manifest.copy()
    odd.loc[2, "label"] = "anomaly"
    mixed = write_store(tmp_path / "mixed", odd, clean.features, FRONT_END)
    planned = plan("statistics", mixed.path, mixed.path)
    assert len(planned.train_rows) == 23
    assert set(planned.train_rows.manifest["label"]) == {"normal"}
    assert set(planned.test_rows.manifest["split"]) == {"test"}


def test_training_and_test_in_two_stores_of_other_lengths(tmp_path: Path) -> None:
    manifest = make_manifest()
    train = make_store(tmp_path / "train", manifest[manifest["split"] == "train"])
    test = make_store(tmp_path / "test", manifest[manifest["split"] == "test"], n_frames=40)
    result = run_system("statistics", train.path, test.path, tmp_path / "run")
    assert (result.record["train"]["clips"], result.record["test"]["clips"]) == (24, 32)
    with pytest.raises(RunError, match="has no train rows"):
        run_system("statistics", test.path, test.path, tmp_path / "other")
    with pytest.raises(RunError, match="has no test rows"):
        run_system("statistics", train.path, train.path, tmp_path / "other")


def test_machines_narrow_both_sides(store: FeatureStore, tmp_path: Path) -> None:
    result = quick_run(store, tmp_path / "run", machines=["pump"])
    assert result.record["test"]["clips"] == 16
    assert set(result.metrics["machine"]) == {"pump", "Average"}
    with pytest.raises(StoreError, match=r"machine 'valve' is not in the store .*'fan', 'pump'"):
        quick_run(store, tmp_path / "other", machines=["valve"])


def test_the_layout_of_2022(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", year=2022)
    result = quick_run(store, tmp_path / "run")
    assert "anomaly_score_fan_section_00_test.csv" in listing(result.path)
    header = (result.path / "metrics.csv").read_text().splitlines()[0]
    assert header == "machine,section,auc,pauc,auc_source,auc_target"
    assert set(read_scores(result.path)["domain"]) == {"source", "target"}


@pytest.mark.parametrize("year", [2020, 2022])
def test_the_year_comes_from_the_names_where_the_manifest_does_not_tell(
    tmp_path: Path, year: int
) -> None:
    manifest = make_manifest(year)
    for name, table in {
        "without": manifest.drop(columns="year"),
        "empty": manifest.assign(year=""),
    }.items():
        store = make_store(tmp_path / name, table)
        assert quick_run(store, tmp_path / f"run {name}").record["year"] == year


@pytest.mark.parametrize("years", [["2020", "2022"], ["MMXX", "MMXX"], ["2019", "2019"]])
def test_years_that_cannot_be_evaluated_are_refused(tmp_path: Path, years: list[str]) -> None:
    manifest = make_manifest()
    manifest["year"] = manifest["machine"].map(dict(zip(("fan", "pump"), years, strict=True)))
    store = make_store(tmp_path / "store", manifest)
    with pytest.raises(AsdError, match=f"year.*{years[0]}"):
        quick_run(store, tmp_path / "run")


def relabelled(tmp_path: Path, where: str, label: str) -> FeatureStore:
    manifest = make_manifest()
    manifest.loc[manifest.eval(where), "label"] = label
    return make_store(tmp_path / "relabelled", manifest)


def test_without_labels_there_are_scores_and_no_metrics(tmp_path: Path) -> None:
    store = relabelled(tmp_path, "split == 'test'", "")
    result = quick_run(store, tmp_path / "run")
    assert result.metrics.empty
    assert np.isnan(result.auc)
    assert "no labels" in result.record["notices"][0]
    assert (result.path / "metrics.csv").read_text() == "machine,section,auc,pauc\n"
    assert len(score_bytes(result.path)) == 4
    again = quick_run(store, tmp_path / "run")
    assert again.cached
    assert again.metrics.empty


def test_some_clips_without_labels_are_told(tmp_path: Path) -> None:
    store = relabelled(tmp_path, "split == 'test' and machine == 'fan'", "")
    result = quick_run(store, tmp_path / "run")
    assert set(result.metrics["machine"]) == {"pump", "Average"}
    assert "16 of 32 test clips carry no label and are left out" in result.record["notices"]


def test_a_section_of_one_class_is_told_and_left_out_of_means(tmp_path: Path) -> None:
    store = relabelled(tmp_path, "machine == 'fan' and section == '00'", "normal")
    result = quick_run(store, tmp_path / "run")
    rows = result.metrics.set_index(["machine", "section"])
    assert np.isnan(rows.loc[("fan", "00"), "auc"])
    assert rows.loc[("fan", "Average"), "auc"] == rows.loc[("fan", "02"), "auc"]
    assert np.isfinite(result.auc)
    assert "auc of fan/00 is not defined: 8 normal and 0 anomalous clips" in str(
        result.record["notices"]
    )
    assert "fan,00,,\n" in (result.path / "metrics.csv").read_text()


def test_what_cannot_be_evaluated_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = system_class("statistics")
    monkeypatch.setattr(cls, "fit", lambda *_, **__: pytest.fail("trained in vain"))
    with pytest.raises(ScoreError, match="has label 'broken'"):
        quick_run(relabelled(tmp_path, "clip == 'anomaly_id_00_00000009.wav'", "broken"), tmp_path)


def test_a_section_without_training_clips_is_refused(tmp_path: Path) -> None:
    manifest = make_manifest()
    gone = (manifest["split"] == "train") & (manifest["section"] == "02")
    store = make_store(tmp_path / "store", manifest[~gone | (manifest["machine"] == "pump")])
    message = (
        r"^section '02' is not in the training rows of 'fan' \(known: 00\); train on it or leave "
        "it out of the test rows$"
    )
    with pytest.raises(RunError, match=message):
        quick_run(store, tmp_path / "runs" / "run")
    assert not (tmp_path / "runs").exists()


def test_stores_of_two_front_ends_are_refused(store: FeatureStore, tmp_path: Path) -> None:
    front_end = FRONT_END.model_copy(update={"hop_length": 128})
    other = make_store(tmp_path / "other", front_end=front_end)
    with pytest.raises(StoreError, match="different front ends: hop_length 256 and 128"):
        run_system("statistics", store.path, other.path, tmp_path / "run")


def test_no_second_process_on_the_same_folder(store: FeatureStore, tmp_path: Path) -> None:
    out = tmp_path / "run"
    hold = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(lock_file(out))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (tmp_path / "link").symlink_to(tmp_path)
        for name in (out, tmp_path / "store" / ".." / "run", tmp_path / "link" / "run"):
            with pytest.raises(RunError, match="another process is at work on"):
                quick_run(store, name)
        assert not out.exists()
        other.communicate()
    assert not quick_run(store, out).cached


def test_waiting_finds_what_the_other_process_made(store: FeatureStore, tmp_path: Path) -> None:
    planned = plan("statistics", store.path, store.path)
    assert not execute(planned, tmp_path / "run", wait=True).cached
    assert execute(planned, tmp_path / "run", wait=True).cached


def test_the_same_run_for_two_folders_shares_no_training(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = system_class("statistics")
    workdirs: list[Path] = []
    fit = cls.fit

    def remember(self: Any, rows: Any, *, workdir: Path, **told: Any) -> Any:
        workdirs.append(workdir)
        return fit(self, rows, workdir=workdir, **told)

    monkeypatch.setattr(cls, "fit", remember)
    for out in (tmp_path / "a", tmp_path / "b"):
        planned = plan("statistics", store.path, store.path)
        execute(planned, out)
    assert len(set(workdirs)) == 2
    assert all(path.is_relative_to(cache_folder() / "training") for path in workdirs)


def test_an_interrupted_training_goes_on(store: FeatureStore, tmp_path: Path, cache: Path) -> None:
    whole = quick_run(store, tmp_path / "whole", "autoencoder")
    told = QUICK["autoencoder"] | {"epochs": 3}

    def stop(what: str, done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    arguments = ("autoencoder", store.path, store.path)
    with pytest.raises(KeyboardInterrupt):
        run_system(*arguments, tmp_path / "run", params=told, progress=stop)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / ".run.partial").exists()
    assert len(list((cache / "training").glob("*"))) == 1
    went_on = run_system(*arguments, tmp_path / "run", params=told)
    assert list((cache / "training").glob("*")) == []
    straight = run_system(*arguments, tmp_path / "straight", params=told)
    assert score_bytes(went_on.path) == score_bytes(straight.path)
    assert score_bytes(went_on.path) != score_bytes(whole.path)


def test_seeds(store: FeatureStore, tmp_path: Path) -> None:
    one, same, other = (
        quick_run(store, tmp_path / name, "contrastive", seed=seed)
        for name, seed in (("one", 1), ("same", 1), ("other", 2))
    )
    assert score_bytes(one.path) == score_bytes(same.path)
    assert score_bytes(one.path) != score_bytes(other.path)
    assert one.record["key"] == same.record["key"] != other.record["key"]


def test_the_history_of_a_training(store: FeatureStore, tmp_path: Path) -> None:
    history = quick_run(store, tmp_path / "contrastive", "contrastive").history
    assert history["step"].tolist() == [1, 2, 3]
    assert np.isfinite(history["loss"]).all()
    assert quick_run(store, tmp_path / "statistics").history.empty


def test_a_result_cannot_be_changed(store: FeatureStore, tmp_path: Path) -> None:
    result = quick_run(store, tmp_path / "run")
    with pytest.raises(dataclasses.FrozenInstanceError):
        result.cached = True  # type: ignore[misc]


def test_there_is_no_run_to_load(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"holds no finished run \(it lacks run\.json\)"):
        load_run(tmp_path)
    with pytest.raises(RunError, match=r"\(no such folder\)"):
        load_run(tmp_path / "void")
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"\(it is a file\)"):
        load_run(tmp_path / "file")


@pytest.mark.parametrize("text", ["", '{"key": "a', "[1, 2]", "{}", '"run"', "\0"])
def test_a_damaged_record_is_told_in_one_line(
    store: FeatureStore, tmp_path: Path, text: str
) -> None:
    out = quick_run(store, tmp_path / "run").path
    (out / "run.json").write_text(text)
    with pytest.raises(RunError, match=r"it is damaged \(.*\); remove it and run it again$"):
        load_run(out)


def test_damaged_metrics_are_told_in_one_line(store: FeatureStore, tmp_path: Path) -> None:
    out = quick_run(store, tmp_path / "run").path
    (out / "metrics.csv").write_text("")
    with pytest.raises(RunError, match="it is damaged"):
        load_run(out)


def test_the_workspace_is_that_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert default_workspace() == tmp_path / "notebooks" / "build" / "study"
    (tmp_path / "_toc.yml").write_text("")
    assert default_workspace() == tmp_path / "build" / "study"


def test_the_cache_folder_is_the_users_or_the_told_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASDLIB_CACHE", "/somewhere")
    assert cache_folder() == Path("/somewhere")
    monkeypatch.delenv("ASDLIB_CACHE")
    assert cache_folder().name == "asdlib"
