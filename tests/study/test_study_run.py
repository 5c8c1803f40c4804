"""One run: what it writes, what it refuses, what it finds again, and whose network it takes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from study_stores import FRONT_END, QUICK, listing, make_manifest, make_store, score_bytes

from asdlib.errors import AsdError, RunError, ScoreError, StoreError
from asdlib.features import FeatureStore
from asdlib.files import lock_file
from asdlib.study import RunResult, load_run, read_scores, run as run_system
from asdlib.study.comparison import read_entry
from asdlib.study.config import system_class
from asdlib.study.held_out import decide_run, fuse
from asdlib.study.run import execute, plan


def quick_run(store: FeatureStore, out: Path, system: str = "statistics", **more: Any) -> RunResult:
    return run_system(system, store.path, store.path, out, params=QUICK[system], **more)


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in listing(folder) if "." in name}


def test_notices_of_the_training_are_kept(store: FeatureStore, tmp_path: Path) -> None:
    params = QUICK["contrastive"] | {"crop_frames": 1000}
    result = run_system("contrastive", store.path, store.path, tmp_path / "run", params=params)
    assert "crop_frames=1000 is longer than the shortest" in result.record.notices[0]


@pytest.mark.parametrize("system", sorted(QUICK))
def test_a_run_writes_all_that_is_promised(
    store: FeatureStore, tmp_path: Path, system: str, cache: Path
) -> None:
    seen: list[tuple[str, int, int]] = []
    result = quick_run(
        store, tmp_path / "run", system, seed=3, progress=lambda *args: seen.append(args)
    )
    files = listing(result.path)
    assert [name for name in files if name.startswith("anomaly_score")] == [
        f"anomaly_score_{machine}_id_{section}.csv"
        for machine in ("fan", "pump")
        for section in ("00", "02")
    ]
    assert {"metrics.csv", "run.json", "model/model.json", "model/model.safetensors"} <= set(files)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "run"]
    assert not list((cache / "training").glob("*")), "a finished training needs no checkpoint"
    if system != "statistics":
        assert seen
        assert all(0 <= done <= total for _, done, total in seen)
    assert result.history.empty == (system == "statistics")
    if system == "contrastive":
        assert result.history["step"].tolist() == [1, 2, 3]
        assert np.isfinite(result.history["loss"]).all()

    written = json.loads((result.path / "run.json").read_text())
    assert written == result.record.as_json()
    assert list(written) == [
        *("key", "config", "train", "test", "year", "scores", "notices", "seconds", "finished"),
        "environment",
    ]
    config = written["config"]
    assert (config["system"], config["seed"], config["machines"]) == (system, 3, None)
    assert config["train_fingerprint"] == config["test_fingerprint"] == store.fingerprint
    assert set(config["params"]) == set(system_class(system).Params.model_fields)
    assert written["key"] == result.record.config.key
    assert written["train"] == {"store": "store", "clips": 24}
    assert written["test"] == {"store": "store", "clips": 32}
    assert (written["year"], written["notices"]) == (2020, [])
    assert min(written["seconds"].values()) > 0
    assert written["environment"]["packages"]["torch"]

    model = system_class(system).load(result.path / "model")
    rows = store.rows(split="test")
    expected = rows.manifest.assign(anomaly_score=model.score(rows))
    expected = expected.sort_values(["machine", "section", "clip"], ignore_index=True)
    read = read_scores(result.path)
    for column in ("clip", "anomaly_score", "label"):
        assert read[column].tolist() == expected[column].tolist()


def test_metrics_are_those_of_the_scores(runs: dict[str, RunResult]) -> None:
    result = runs["statistics"]
    assert (result.path / "metrics.csv").read_text().startswith("machine,section,auc,pauc\n")
    scores = read_scores(result.path)
    assert len(scores) == 32
    expected, by_machine = [], []
    for machine, of_machine in scores.groupby("machine"):
        rows = []
        for section, group in of_machine.groupby("section"):
            y = group["clip"].str.startswith("anomaly")
            auc = roc_auc_score(y, group["anomaly_score"])
            pauc = roc_auc_score(y, group["anomaly_score"], max_fpr=0.1)
            rows.append((machine, section, auc, pauc))
        mean = tuple(np.mean([row[2:] for row in rows], axis=0))
        by_machine.append(mean)
        expected += [*rows, (machine, "Average", *mean)]
    expected.append(("Average", "Average", *np.mean(by_machine, axis=0)))
    table = pd.DataFrame(expected, columns=["machine", "section", "auc", "pauc"])
    for metrics in (result.metrics, load_run(result.path).metrics):
        pd.testing.assert_frame_equal(metrics, table, check_exact=False, rtol=1e-12)
    assert (result.auc, result.pauc) == pytest.approx(expected[-1][2:])
    assert 0.5 < result.auc < 1.0


def test_an_equal_call_computes_nothing_and_another_is_refused(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    out.mkdir()  # an empty folder does not count
    first = quick_run(store, out, machines=["pump", "fan"])
    before = {file: (file.stat().st_mtime_ns, file.is_file()) for file in out.rglob("*")}
    monkeypatch.setattr(
        system_class("statistics"), "fit", lambda *_, **__: pytest.fail("fitted again")
    )
    again = quick_run(store, out, machines=["fan", "pump"])
    assert (first.cached, again.cached) == (False, True)
    assert again.record == first.record
    pd.testing.assert_frame_equal(again.metrics, first.metrics)
    other = make_store(tmp_path / "other", seed=1)
    calls: list[dict[str, Any]] = [
        {"seed": 1},
        {"params": {"statistics": "mean+deviation"}},
        {"machines": ["fan"]},
        {"test": other.path},
        {"train": other.path},
    ]
    for call in calls:
        asked = {"train": store.path, "test": store.path, "machines": ["fan", "pump"]} | call
        with pytest.raises(RunError, match=r"holds another run .* choose another --out"):
            run_system("statistics", asked.pop("train"), asked.pop("test"), out, **asked)
    assert {f: (f.stat().st_mtime_ns, f.is_file()) for f in out.rglob("*")} == before
    # Whoever waits for another process finds what it made.
    planned = plan("statistics", store.path, store.path, machines=["fan", "pump"])
    assert execute(planned, out, wait=True).cached


def test_a_folder_of_something_else_is_not_touched(store: FeatureStore, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    for taken in (out, out / "thesis.txt"):
        with pytest.raises(RunError, match="holds no finished run .*; name another folder"):
            quick_run(store, taken)
    assert listing(out) == ["thesis.txt"]


def test_a_failing_system_leaves_nothing(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("no more")

    folder = tmp_path / "runs"
    for method in ("fit", "score", "save"):
        with monkeypatch.context() as patch:
            patch.setattr(system_class("statistics"), method, fail)
            with pytest.raises(RuntimeError, match="no more"):
                quick_run(store, folder / "run")
        assert listing(folder) == []
    # What a process that was killed has left there goes with the next run, and nothing else.
    (folder / ".run.123.partial" / "model").mkdir(parents=True)
    (folder / ".run.b.123.partial").mkdir()
    assert not quick_run(store, folder / "run").cached
    assert sorted(path.name for path in folder.iterdir()) == [".run.b.123.partial", "run"]


def change(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text())
    for place, value in changes.items():
        level = content
        *parents, leaf = place.split("__")
        for parent in parents:
            level = level[parent]
        level.pop(leaf) if value is None else level.update({leaf: value})
    path.write_text(json.dumps(content))


JSON_DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda at: at.write_text(""), "Invalid JSON"),
    (lambda at: at.write_text('{"key": "a'), "Invalid JSON"),
    (lambda at: at.write_bytes(b"\xff\xfe\x00"), "Invalid JSON"),
    (lambda at: at.write_text("[1, 2]"), "Input should be an object"),
    (lambda at: at.write_text("{}"), "key: Field required"),
    (lambda at: change(at, config__seed=None), "config.seed: Field required"),
    (lambda at: change(at, train__clips="many"), "train.clips: Input should be a valid integer"),
    (lambda at: change(at, config__colour=1), "config.colour: Extra inputs are not permitted"),
    (lambda at: at.with_name("metrics.csv").unlink(), "No such file"),
    (lambda at: at.with_name("metrics.csv").write_text("machine\na\n"), "metrics.csv is not as"),
]


def test_a_damaged_run_is_named_in_one_line(
    runs: dict[str, RunResult], store: FeatureStore, tmp_path: Path
) -> None:
    for number, (make, reason) in enumerate(JSON_DAMAGES):
        out = tmp_path / f"run{number}"
        shutil.copytree(runs["statistics"].path, out)
        make(out / "run.json")
        for read in (load_run, read_scores, lambda path: quick_run(store, path)):
            with pytest.raises(RunError) as caught:
                read(out)
            assert str(caught.value).startswith(f"'{out}")
            assert f"cannot be read ({reason}" in str(caught.value)
            assert "\n" not in str(caught.value)


def _pipe_beside(file: Path) -> None:
    pipe = file.with_name("held_out.json")
    pipe.unlink(missing_ok=True)  # another test may have scored held-out clips
    os.mkfifo(pipe)


SCORE_DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (Path.unlink, "is missing"),
    "not a number": (
        lambda file: file.write_text(file.read_text().replace(",", ",nan\n", 1)),
        "is not as the run wrote it",
    ),
    "one digit": (
        lambda file: file.write_text(file.read_text().rstrip()[:-1] + "7\n"),
        "is not as the run wrote it",
    ),
    "a line less": (
        lambda file: file.write_text(file.read_text().split("\n", 1)[1]),
        "is not as the run wrote it",
    ),
    "one more": (
        lambda file: shutil.copy(file, file.with_name("anomaly_score_fan_id_04.csv")),
        "anomaly_score_fan_id_04.csv is not as",
    ),
    "better figures": (
        lambda file: file.with_name("metrics.csv").write_text(
            "machine,section,auc,pauc\nAverage,Average,1.0,1.0\n"
        ),
        "metrics.csv is not as the run wrote it",
    ),
    "a pipe": (
        _pipe_beside,
        "held_out.json is no regular file",
    ),
}


def test_a_run_knows_its_score_files(
    runs: dict[str, RunResult], store: FeatureStore, tmp_path: Path
) -> None:
    """Whoever reads a run notices that scores were lost or changed."""
    readers: list[Callable[[Path], object]] = [
        lambda out: read_entry(str(out)),
        lambda out: quick_run(store, out),
        lambda out: fuse([out, runs["c0"].path], tmp_path / "fused", train=store.path),
        lambda out: decide_run(out, train=store.path),
    ]
    for number, (make, reason) in enumerate(SCORE_DAMAGES.values()):
        out = tmp_path / f"run{number}"
        shutil.copytree(runs["statistics"].path, out)
        make(out / "anomaly_score_fan_id_02.csv")
        for read in readers:
            with pytest.raises(
                RunError, match=rf"cannot be read \(.*{reason}.*Run it again with another"
            ):
                read(out)
    assert not (tmp_path / "fused").exists()


def test_a_run_of_an_earlier_version_does_not_say_its_scores(
    runs: dict[str, RunResult], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(runs["statistics"].path, out)
    change(out / "run.json", scores=None)
    assert load_run(out).record.scores is None


def test_there_is_no_run_to_load(tmp_path: Path, runs: dict[str, RunResult]) -> None:
    (tmp_path / "file").write_text("x")
    for path, reason in (
        (tmp_path, r"it lacks run\.json"),
        (tmp_path / "void", "no such folder"),
        (tmp_path / "file", "it is a file"),
    ):
        with pytest.raises(RunError, match=rf"holds no finished run \({reason}\)"):
            load_run(path)
    with pytest.MonkeyPatch.context() as patch:
        # The administrator may read everything, so the refusal is played.
        patch.setattr(
            Path,
            "read_bytes",
            lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied", str(path))),
        )
        with pytest.raises(RunError) as caught:
            load_run(runs["statistics"].path)
    file = runs["statistics"].path / "run.json"
    said = f"'{file}' cannot be read (Permission denied); check it and its permissions"
    assert str(caught.value) == said


def test_training_and_test_clips_are_those_of_the_stores(tmp_path: Path) -> None:
    manifest = make_manifest()
    odd = manifest.copy()
    odd.loc[2, ["label", "clip"]] = "anomaly", "press 2.wav"
    mixed = make_store(tmp_path / "mixed", odd)
    planned = plan("statistics", mixed.path, mixed.path)
    assert len(planned.train_rows) == 23
    assert set(planned.train_rows.manifest["label"]) == {"normal"}
    assert set(planned.test_rows.manifest["split"]) == {"test"}

    train = make_store(tmp_path / "train", manifest[manifest["split"] == "train"])
    test = make_store(tmp_path / "test", manifest[manifest["split"] == "test"], n_frames=40)
    result = run_system("statistics", train.path, test.path, tmp_path / "run", machines=["pump"])
    assert (result.record.train.clips, result.record.test.clips) == (12, 16)
    assert set(result.metrics["machine"]) == {"pump", "Average"}
    front_end = FRONT_END.model_copy(update={"hop_length": 128})
    other = make_store(tmp_path / "other front end", front_end=front_end)
    gone = (manifest["split"] == "train") & (manifest["section"] == "02")
    gap = make_store(tmp_path / "gap", manifest[~gone | (manifest["machine"] == "pump")])
    for stores, machines, error, message in (
        ((test, test), None, RunError, "has no train rows"),
        ((train, train), None, RunError, "has no test rows"),
        ((train, test), ["valve"], StoreError, "machine 'valve' is not in the store .*'fan', 'pum"),
        ((train, other), None, StoreError, "different front ends: hop_length 256 and 128"),
        (
            (gap, gap),
            None,
            RunError,
            r"^section 'fan/02' has no training rows \(known: fan/00, .*\); train on it, or",
        ),
    ):
        with pytest.raises(error, match=message):
            run_system(
                *("statistics", *(s.path for s in stores), tmp_path / "no" / "run"),
                machines=machines,
            )
    assert not (tmp_path / "no").exists()


def test_the_year_comes_from_the_manifest_or_the_names(tmp_path: Path) -> None:
    for year, header in ((2020, "auc,pauc"), (2022, "auc,pauc,auc_source,auc_target")):
        manifest = make_manifest(year)
        tables = {"with": manifest, "empty": manifest.assign(year="")}
        for name, table in (tables | {"without": manifest.drop(columns="year")}).items():
            made = make_store(tmp_path / f"{name} {year}", table)
            result = quick_run(made, tmp_path / f"run {name} {year}")
            assert result.record.year == year
            first = (result.path / "metrics.csv").read_text().splitlines()[0]
            assert first == f"machine,section,{header}"
    assert "anomaly_score_fan_section_00_test.csv" in listing(result.path)
    assert set(read_scores(result.path)["domain"]) == {"source", "target"}
    for years in (["2020", "2022"], ["MMXX", "MMXX"], ["2019", "2019"]):
        manifest = make_manifest()
        manifest["year"] = manifest["machine"].map(dict(zip(("fan", "pump"), years, strict=True)))
        made = make_store(tmp_path / "-".join(years), manifest)
        with pytest.raises(AsdError, match=f"year.*{years[0]}"):
            quick_run(made, tmp_path / "run")


def relabelled(tmp_path: Path, where: str, label: str) -> FeatureStore:
    manifest = make_manifest()
    rows = manifest.eval(where)
    manifest.loc[rows, "label"] = label
    if label:  # the names have to say the same
        names = manifest.loc[rows, "clip"].str.replace(r"^(normal|anomaly)", label, regex=True)
        manifest.loc[rows, "clip"] = names
    return make_store(tmp_path / f"{len(list(tmp_path.iterdir()))}", manifest)


def test_clips_without_labels_and_sections_of_one_class(tmp_path: Path) -> None:
    bare = relabelled(tmp_path, "split == 'test'", "")
    for cached in (False, True):
        result = quick_run(bare, tmp_path / "bare")
        assert result.cached == cached
        assert result.metrics.empty
        assert np.isnan(result.auc)
    assert "no labels" in result.record.notices[0]
    assert (result.path / "metrics.csv").read_text() == "machine,section,auc,pauc\n"
    assert len(score_bytes(result.path)) == 4

    some = relabelled(tmp_path, "split == 'test' and machine == 'fan'", "")
    result = quick_run(some, tmp_path / "some")
    assert set(result.metrics["machine"]) == {"pump", "Average"}
    assert "16 of 32 test clips carry no label and are left out" in result.record.notices

    one = relabelled(tmp_path, "machine == 'fan' and section == '00'", "normal")
    result = quick_run(one, tmp_path / "one")
    rows = result.metrics.set_index(["machine", "section"])
    assert np.isnan(rows.loc[("fan", "00"), "auc"])
    assert rows.loc[("fan", "Average"), "auc"] == rows.loc[("fan", "02"), "auc"]
    assert np.isfinite(result.auc)
    notice = "auc of fan/00 is not defined: 8 normal and 0 anomalous clips"
    assert notice in str(result.record.notices)
    assert "fan,00,,\n" in (result.path / "metrics.csv").read_text()

    with pytest.raises(StoreError, match="'broken'"):
        relabelled(tmp_path, "clip == 'anomaly_id_00_00000009.wav'", "broken")


def test_clips_that_no_score_file_can_name_are_found_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit(*_: object, **__: object) -> None:
        pytest.fail("trained in vain")

    monkeypatch.setattr(system_class("statistics"), "fit", fit)
    manifest = make_manifest()
    manifest["clip"] = manifest["clip"].replace("anomaly_id_00_00000009.wav", "a.wav")
    with pytest.raises(ScoreError, match=r"/test/a\.wav' has no test name of 2020"):
        quick_run(make_store(tmp_path / "store", manifest), tmp_path / "out")
    assert not (tmp_path / "out").exists()


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
        for name in (out, tmp_path / "cache" / ".." / "run", tmp_path / "link" / "run"):
            with pytest.raises(RunError, match="another process is at work on"):
                quick_run(store, name)
        assert not out.exists()
        other.communicate()
    assert not quick_run(store, out).cached


@pytest.mark.slow
def test_an_interrupted_training_goes_on(store: FeatureStore, tmp_path: Path, cache: Path) -> None:
    params = QUICK["autoencoder"] | {"epochs": 3}
    arguments = ("autoencoder", store.path, store.path)

    def stop(what: str, done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    # The same run for two folders has two trainings.
    for name in ("run", "other"):
        with pytest.raises(KeyboardInterrupt):
            run_system(*arguments, tmp_path / name, params=params, progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache"]
    assert len(list((cache / "training").glob("*"))) == 2
    went_on = run_system(*arguments, tmp_path / "run", params=params)
    (left,) = (cache / "training").glob("*")
    for path in (*left.glob("*"), left):
        os.utime(path, times=(0, 0))
    straight = run_system(*arguments, tmp_path / "straight", params=params)
    assert not left.exists()
    assert score_bytes(went_on.path) == score_bytes(straight.path)


def test_seeds(runs: dict[str, RunResult], store: FeatureStore, tmp_path: Path) -> None:
    same = quick_run(store, tmp_path / "same", "contrastive", seed=1)
    assert score_bytes(runs["c1"].path) == score_bytes(same.path) != score_bytes(runs["c2"].path)
    assert runs["c1"].record.key == same.record.key != runs["c2"].record.key


def test_a_taken_network_gives_what_a_complete_run_gives(
    runs: dict[str, RunResult], store: FeatureStore, tmp_path: Path
) -> None:
    other = {"backend": "knn", "embedding": "feature_map", "segment": "sliding"}
    params = QUICK["contrastive"] | other
    donor = runs["c0"]
    arguments: tuple[Any, ...] = ("contrastive", store.path, store.path)
    taken = run_system(*arguments, tmp_path / "taken", params=params, network_of=donor.path)
    complete = run_system(*arguments, tmp_path / "complete", params=params)
    assert score_bytes(taken.path) == score_bytes(complete.path) != score_bytes(donor.path)
    assert taken.record.key == complete.record.key != donor.record.key
    assert taken.record.network_of == donor.record.key
    assert taken.record.network_trained_by == donor.record.config.code_version
    assert taken.record.config.network_of is None
    pd.testing.assert_frame_equal(taken.history, complete.history)
    assert contents(taken.path / "model") == contents(complete.path / "model")

    # One that another version of the code trained is taken under a key of its own.
    shutil.copytree(donor.path, tmp_path / "donor")
    change(tmp_path / "donor" / "run.json", config__code_version="0.0.1+old")
    old = run_system(*arguments, tmp_path / "old", params=params, network_of=tmp_path / "donor")
    quick = QUICK["contrastive"]
    again = run_system(*arguments, tmp_path / "again", params=quick, network_of=old.path)
    assert score_bytes(old.path) == score_bytes(taken.path)
    assert score_bytes(again.path) == score_bytes(donor.path)
    assert old.record.key != taken.record.key
    for record in (old.record, again.record):
        assert record.config.network_of == record.network_of == donor.record.key
        assert record.network_trained_by == "0.0.1+old"
        assert record.config.code_version == taken.record.config.code_version


def test_a_network_that_was_trained_otherwise_is_refused(
    runs: dict[str, RunResult], store: FeatureStore, tmp_path: Path
) -> None:
    params = QUICK["contrastive"]
    for system, changes, what in (
        ("contrastive", {"params": params | {"epochs": 2}}, "another params"),
        ("contrastive", {"params": params, "seed": 1}, "another seed"),
        ("contrastive", {"params": params, "machines": ["fan"]}, "another machines"),
        ("statistics", {}, "another params, system"),
    ):
        with pytest.raises(RunError, match=f"cannot be taken: {what}"):
            run_system(
                *(system, store.path, store.path, tmp_path / "out" / "run"),
                **changes,
                network_of=runs["c0"].path,
            )
    assert listing(tmp_path / "out") == []
