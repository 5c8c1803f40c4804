"""Fusion of finished runs, and the held-out scores that it stands on."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_stores import QUICK, listing, make_manifest, make_store, score_bytes

from asdlib.baselines import TimeStatistics
from asdlib.errors import ConfigError, RunError
from asdlib.evaluation.scores import read_score_folder
from asdlib.features import FeatureStore
from asdlib.study import load_run, run
from asdlib.study.fuse import fuse
from asdlib.study.held_out import HELD_OUT, held_out
from asdlib.study.labels import label_of
from asdlib.study.result import RunResult
from asdlib.study.run import training_rows


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    """Give finished runs without held-out scores, and their store."""
    folder = tmp_path_factory.mktemp("runs")
    store = make_store(folder / "store").path
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDLIB_CACHE", str(folder / "cache"))
        made = {"statistics": run("statistics", store, store, folder / "statistics")}
        for seed in (0, 1):
            made[f"contrastive-{seed}"] = run(
                "contrastive",
                store,
                store,
                folder / f"contrastive-{seed}",
                params=QUICK["contrastive"],
                seed=seed,
            )
    return made


def store_of(runs: dict[str, RunResult]) -> Path:
    return runs["statistics"].path.parent / "store"


def test_held_out_scores_are_those_of_systems_that_did_not_see_the_clip(
    runs: dict[str, RunResult],
) -> None:
    store = FeatureStore.open(store_of(runs))
    rows = training_rows(store)
    table = held_out(runs["statistics"], store.path, folds=6)
    assert len(table) == len(rows)
    # Six folds of six clips are leave-one-out.
    for i in (0, 7):
        others = np.arange(len(rows)) != i
        alone = TimeStatistics().fit(rows.select(others)).score(rows.select(~others))
        clip = rows.manifest.iloc[i]
        same = (table[["machine", "section", "clip"]] == clip[["machine", "section", "clip"]]).all(
            axis=1
        )
        assert table.loc[same, "anomaly_score"].tolist() == pytest.approx(alone.tolist())
    again = held_out(load_run(runs["statistics"].path))
    pd.testing.assert_frame_equal(again, table)


def test_another_number_of_folds_is_computed_again(
    runs: dict[str, RunResult], tmp_path: Path
) -> None:
    run, store = runs["statistics"], store_of(runs)
    six, three = (held_out(run, store, folds=folds) for folds in (6, 3))
    assert not six["anomaly_score"].equals(three["anomaly_score"])
    for folds in (None, 3):
        pd.testing.assert_frame_equal(held_out(run, folds=folds), three)
    with pytest.raises(RunError, match=r"another number of folds than 6; name .*--train STORE"):
        held_out(run, folds=6)
    # Nothing tells how scores of an earlier version were made.
    (run.path / "held_out.json").unlink()
    with pytest.raises(RunError, match="another number of folds"):
        held_out(run, folds=3)
    pd.testing.assert_frame_equal(held_out(run, store, folds=6), six)
    members = [runs[name].path for name in ("statistics", "contrastive-0")]
    fused = fuse(members, tmp_path / "fused", train=store)
    assert len(held_out(fused)) == len(six)
    with pytest.raises(RunError, match="is fused from other runs"):
        held_out(fused, store, folds=4)


def test_the_contrastive_system_keeps_its_network(
    runs: dict[str, RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "asdlib.method.contrastive.Contrastive.fit", lambda *_, **__: pytest.fail("trained again")
    )
    table = held_out(runs["contrastive-0"], store_of(runs), folds=3)
    assert np.isfinite(table["anomaly_score"]).all()
    assert table["anomaly_score"].nunique() > 20


def test_held_out_scores_need_the_store_of_the_training(
    runs: dict[str, RunResult], tmp_path: Path
) -> None:
    run_without = RunResult(tmp_path, runs["statistics"].record, pd.DataFrame(), cached=True)
    with pytest.raises(RunError, match=r"holds no scores of held-out training clips .*--held-out"):
        held_out(run_without)
    other = make_store(tmp_path / "other", seed=5)
    with pytest.raises(RunError, match="was not trained on"):
        held_out(run_without, other.path)


def test_fused_scores_are_means_on_the_scale_of_normal_clips(
    runs: dict[str, RunResult], tmp_path: Path
) -> None:
    members = [runs["statistics"], runs["contrastive-1"]]
    paths = [member.path for member in members]
    fused = fuse(paths, tmp_path / "fused", weights=[3, 1], train=store_of(runs))
    expected = 0.0
    for member, share in zip(members, (0.75, 0.25), strict=True):
        test, train = read_score_folder(member.path, 2020), held_out(member)
        by = ["machine", "section"]
        scale = train.groupby(by)["anomaly_score"]
        mean = test.merge(scale.mean().rename("mean").reset_index(), on=by)["mean"]
        std = test.merge(scale.std(ddof=0).rename("std").reset_index(), on=by)["std"]
        expected = expected + share * (test["anomaly_score"] - mean) / std
    scores = read_score_folder(fused.path, 2020)["anomaly_score"]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)

    assert fused.record["config"]["seed"] == 1
    assert fused.record["config"]["system"].startswith("fusion of statistics + contrastive (")
    assert [m["seed"] for m in fused.record["members"]] == [0, 1]
    assert set(listing(fused.path)) >= {HELD_OUT, "metrics.csv", "run.json"}
    assert held_out(fused).groupby(["machine", "section"])["anomaly_score"].mean().to_numpy() == (
        pytest.approx(0, abs=1e-12)
    )
    again = fuse(paths, tmp_path / "fused", weights=[3, 1])
    assert again.cached
    pd.testing.assert_frame_equal(again.metrics, fused.metrics)
    with pytest.raises(RunError, match="holds another run"):
        fuse(paths, tmp_path / "fused")


def test_seeds_of_one_system_make_an_ensemble_that_is_fused_again(
    runs: dict[str, RunResult], tmp_path: Path
) -> None:
    seeds = [runs[f"contrastive-{seed}"].path for seed in (0, 1)]
    ensemble = fuse(seeds, tmp_path / "ensemble", name="ensemble of 2", train=store_of(runs))
    assert label_of(ensemble.record) == "ensemble of 2"
    turned = fuse(seeds[::-1], tmp_path / "turned", name="ensemble of 2")
    assert score_bytes(turned.path).keys() == score_bytes(ensemble.path).keys()
    both = fuse([ensemble.path, runs["statistics"].path], tmp_path / "both", train=store_of(runs))
    assert not both.metrics.empty


def test_what_cannot_be_fused_is_refused(runs: dict[str, RunResult], tmp_path: Path) -> None:
    one = runs["statistics"].path
    with pytest.raises(ConfigError, match="1 run to fuse, expected at least two"):
        fuse([one], tmp_path / "out")
    with pytest.raises(ConfigError, match="is there twice"):
        fuse([one, one], tmp_path / "out")
    with pytest.raises(ConfigError, match="1 weights for 2 runs"):
        fuse([one, runs["contrastive-0"].path], tmp_path / "out", weights=[1])
    held_out(runs["statistics"], store_of(runs))
    manifest = make_manifest(n_test=4)
    other = make_store(tmp_path / "other", manifest).path
    fewer = run("statistics", other, other, tmp_path / "fewer")
    held_out(fewer, other)
    with pytest.raises(RunError, match="score other clips"):
        fuse([one, fewer.path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_labels_say_what_differs_from_the_defaults() -> None:
    def label(system: str, **params: Any) -> str:
        return label_of({"config": {"system": system, "params": params}})

    assert label("statistics", statistics="mean") == "statistics"
    assert label("statistics", statistics="mean+deviation") == (
        "statistics (statistics=mean+deviation)"
    )
    assert label("contrastive", augmentation={"mixup": False}) == (
        "contrastive (augmentation.mixup=false)"
    )
