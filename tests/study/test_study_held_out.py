"""Held-out scores of normal clips, and the decisions and fusions that stand on them."""

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from study_stores import listing, make_manifest, make_store, score_bytes

from asdlib.baselines import TimeStatistics
from asdlib.errors import AsdError, ConfigError, RunError
from asdlib.evaluation import evaluate_folder, read_score_folder
from asdlib.features import FeatureStore
from asdlib.study import RunResult, load_run, run
from asdlib.study.comparison import label_of
from asdlib.study.held_out import COLUMNS, HELD_OUT, decide_run, fuse, fuse_scores, held_out
from asdlib.study.run import training_rows

SECTION = ["machine", "section"]


def store_of(runs: dict[str, RunResult]) -> Path:
    return runs["statistics"].path.parent / "store"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another store than that of the runs, with fewer test clips."""
    folder = tmp_path_factory.mktemp("other")
    return make_store(folder / "other", make_manifest(n_test=4), seed=5).path


@pytest.fixture
def copied(runs: dict[str, RunResult], tmp_path: Path) -> RunResult:
    """A copy of the statistical run without held-out scores, to damage."""
    path = tmp_path / "copied"
    shutil.copytree(runs["statistics"].path, path, ignore=shutil.ignore_patterns("held_out*"))
    return load_run(path)


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
        clip = rows.manifest.iloc[[i]][["machine", "section", "clip"]]
        assert clip.merge(table)["anomaly_score"].tolist() == pytest.approx(alone.tolist())
    pd.testing.assert_frame_equal(held_out(load_run(runs["statistics"].path)), table)


def test_another_number_of_folds_is_computed_again(
    copied: RunResult, runs: dict[str, RunResult]
) -> None:
    store = store_of(runs)
    six, three = (held_out(copied, store, folds=folds) for folds in (6, 3))
    assert not six["anomaly_score"].equals(three["anomaly_score"])
    for folds in (None, 3):
        pd.testing.assert_frame_equal(held_out(copied, folds=folds), three)
    with pytest.raises(RunError, match=r"holds no scores of held-out .*--train STORE"):
        held_out(copied, folds=6)
    with pytest.raises(ConfigError, match="folds is 1, expected at least 2"):
        held_out(copied, store, folds=1)
    # Nothing tells how scores of an earlier version were made.
    (copied.path / "held_out.json").unlink()
    with pytest.raises(RunError, match="holds no scores of held-out"):
        held_out(copied, folds=3)
    pd.testing.assert_frame_equal(held_out(copied, store, folds=6), six)


def test_the_contrastive_system_keeps_its_network(
    runs: dict[str, RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "asdlib.method.Contrastive.fit", lambda *_, **__: pytest.fail("trained again")
    )
    table = held_out(runs["c0"], store_of(runs), folds=3)
    assert np.isfinite(table["anomaly_score"]).all()
    assert table["anomaly_score"].nunique() > 20


def test_held_out_scores_need_the_store_of_the_training(
    copied: RunResult, runs: dict[str, RunResult], other: Path
) -> None:
    for use in (lambda: held_out(copied), lambda: decide_run(copied.path)):
        with pytest.raises(RunError, match=r"holds no scores of held-out .*--held-out"):
            use()
    with pytest.raises(RunError, match="was not trained on"):
        held_out(copied, other)
    held_out(copied, store_of(runs))
    # Also when the scores are there.
    with pytest.raises(RunError, match=r"was not trained on .*other.* name the store that"):
        decide_run(copied.path, train=other)


def test_thresholds_are_gamma_quantiles_of_held_out_clips(
    copied: RunResult, runs: dict[str, RunResult], tmp_path: Path
) -> None:
    done = decide_run(copied.path, quantile=0.8, train=store_of(runs))
    row = done.thresholds.query("machine == 'fan' and section == '02'").iloc[0]
    part = held_out(copied).query("machine == 'fan' and section == '02'")["anomaly_score"]
    assert row["threshold"] == stats.gamma.ppf(0.8, *stats.gamma.fit(part))
    assert row["clips"] == len(part) == 6
    decided, scores = (
        pd.read_csv(copied.path / f"{kind}_fan_id_02.csv", header=None)[1].to_numpy()
        for kind in ("decision_result", "anomaly_score")
    )
    np.testing.assert_array_equal(decided, scores > row["threshold"])
    evaluation = evaluate_folder(copied.path, 2020)
    assert evaluation.decisions is not None
    pd.testing.assert_frame_equal(evaluation.decisions, done.metrics)
    record = json.loads((copied.path / "decisions.json").read_text())
    assert (record["quantile"], record["run"]) == (0.8, copied.record.key)


def test_a_higher_quantile_raises_fewer_alarms(
    copied: RunResult, runs: dict[str, RunResult]
) -> None:
    low = decide_run(copied.path, quantile=0.5, train=store_of(runs))
    high = decide_run(copied.path, quantile=0.99)
    assert (low.thresholds["threshold"] < high.thresholds["threshold"]).all()
    assert (low.metrics["recall"] >= high.metrics["recall"]).all()


def without(file: Path, word: str) -> str:
    return "".join(line for line in file.read_text().splitlines(True) if word not in line)


def last(file: Path) -> str:
    return file.read_text().splitlines(True)[-1]


def cut(file: Path) -> None:
    text = file.read_text()
    file.write_text(text[: text.rindex(",") + 1])


def flatten(file: Path) -> None:
    pd.read_csv(file, dtype=str).assign(anomaly_score=1.0).to_csv(file, index=False)


DAMAGES: list[tuple[Callable[[Path], object], str]] = [
    (lambda f: f.write_text("machine,section"), r"held_out\.csv' cannot be read .*; delete it and"),
    (lambda f: f.write_text(""), r"held_out\.csv' cannot be read"),
    (lambda f: f.write_text("a,b\n1,2\n"), r"held_out\.csv' cannot be read"),
    (cut, r"held_out\.csv' cannot be read"),
    (flatten, "fan 00: 1 different scores are too few"),
    (lambda f: f.write_text(",".join(COLUMNS) + "\n"), "0 clips in 0 lines, expected 24"),
    (lambda f: f.write_text(without(f, "pump")), "12 clips in 12 lines, expected 24"),
    (lambda f: f.write_text(f.read_text() * 2), r"held_out\.csv' cannot be read"),
    (lambda f: f.write_text(f.read_text() + last(f)), "24 clips in 25 lines, expected 24"),
    (lambda f: f.write_text(f.read_text().replace("fan,", "fun,")), "has no clips of fan/00"),
    (lambda f: f.write_text(re.sub(r",[^,]+$", ",1_000\n", f.read_text())), "cannot be read"),
    (lambda f: f.write_text(re.sub(r",[^,]+$", ",١٢\n", f.read_text())), "cannot be read"),
    (lambda f: f.write_bytes(b"\xff" * 50), "cannot be read"),
    (lambda f: f.unlink() or f.mkdir(), "cannot be read|holds no scores"),
]


def test_damaged_runs_are_named(copied: RunResult, runs: dict[str, RunResult]) -> None:
    held_out(copied, store_of(runs))
    whole = (copied.path / HELD_OUT).read_bytes()
    for damage, message in DAMAGES:
        (copied.path / HELD_OUT).write_bytes(whole)
        damage(copied.path / HELD_OUT)
        with pytest.raises(RunError, match=message):
            decide_run(copied.path)


def test_without_permission_scores_are_not_called_damaged(
    copied: RunResult, runs: dict[str, RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out(copied, store_of(runs))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("asdlib.study.held_out.pd.read_csv", refuse)
    with pytest.raises(
        RunError, match=r"held_out\.csv' cannot be read .*check it and its permissions"
    ):
        held_out(copied)


@pytest.mark.slow
def test_fused_scores_are_means_on_the_scale_of_normal_clips(
    runs: dict[str, RunResult], tmp_path: Path
) -> None:
    members = [runs["statistics"], runs["c1"]]
    paths = [member.path for member in members]
    fused = fuse(paths, tmp_path / "fused", train=store_of(runs))
    expected = 0.0
    for member in members:
        test = read_score_folder(member.path, 2020)
        normal = held_out(member).groupby(SECTION)["anomaly_score"]
        scale = normal.agg(["mean", lambda v: v.std(ddof=0)]).set_axis(["mean", "std"], axis=1)
        test = test.merge(scale.reset_index(), on=SECTION)
        expected = expected + 0.5 * (test["anomaly_score"] - test["mean"]) / test["std"]
    scores = read_score_folder(fused.path, 2020)["anomaly_score"]
    np.testing.assert_allclose(scores, expected, rtol=1e-12)

    assert fused.record.config.seed == 1
    assert fused.record.config.system.startswith("fusion of statistics + contrastive (")
    assert [m.seed for m in fused.record.members or ()] == [0, 1]
    assert set(listing(fused.path)) >= {HELD_OUT, "metrics.csv", "run.json"}
    means = held_out(fused).groupby(SECTION)["anomaly_score"].mean()
    assert means.to_numpy() == pytest.approx(0, abs=1e-12)
    again = fuse(paths, tmp_path / "fused")
    assert again.cached
    pd.testing.assert_frame_equal(again.metrics, fused.metrics)
    with pytest.raises(RunError, match="holds another run"):
        fuse([*paths[:1], runs["c0"].path], tmp_path / "fused", train=store_of(runs))
    with pytest.raises(RunError, match="is fused from other runs"):
        held_out(fused, store_of(runs), folds=4)


def of_sections(sections: str, *scores: list[float]) -> list[pd.DataFrame]:
    """Tables of several systems, with a section's letter for each clip."""
    return [
        pd.DataFrame({"machine": "fan", "section": list(sections), "anomaly_score": values})
        for values in scores
    ]


def test_scores_without_a_scale_are_refused() -> None:
    tables = of_sections("aa", [1.0, 2.0], [1.0, 2.0])
    for sections in ("aa", "bb"):
        with pytest.raises(RunError, match="of run 2 in section 'fan/a' give no scale; leave"):
            fuse_scores(tables, [tables[0], *of_sections(sections, [1.0, 1.0])])


@pytest.mark.slow
def test_seeds_of_one_system_make_an_ensemble_that_is_fused_again(
    runs: dict[str, RunResult], tmp_path: Path
) -> None:
    seeds = [runs[name].path for name in ("c0", "c1")]
    ensemble = fuse(seeds, tmp_path / "ensemble", train=store_of(runs))
    assert label_of(ensemble.record.config).startswith("fusion of 2 × contrastive (")
    turned = fuse(seeds[::-1], tmp_path / "turned")
    assert score_bytes(turned.path).keys() == score_bytes(ensemble.path).keys()
    both = fuse([ensemble.path, runs["statistics"].path], tmp_path / "both", train=store_of(runs))
    assert not both.metrics.empty


def test_what_cannot_be_fused_is_refused(
    runs: dict[str, RunResult], other: Path, tmp_path: Path
) -> None:
    one = runs["statistics"].path
    fewer = run("statistics", other, other, tmp_path / "fewer")
    for member, store in ((runs["statistics"], store_of(runs)), (fewer, other)):
        held_out(member, store)
    refused: list[tuple[list[Path], type[AsdError], str]] = [
        ([one], ConfigError, "1 run to fuse, expected at least two"),
        ([one, one], ConfigError, "is there twice"),
        ([one, fewer.path], RunError, "score other clips"),
    ]
    for paths, error, message in refused:
        with pytest.raises(error, match=message):
            fuse(paths, tmp_path / "out")
    with pytest.raises(RunError, match=r"quantile 1\.5 is not allowed"):
        decide_run(one, quantile=1.5)
    assert not (tmp_path / "out").exists()


def test_a_quantile_that_is_none_is_refused_before_any_fold(
    copied: RunResult, runs: dict[str, RunResult]
) -> None:
    for quantile in (2, 0, 1, -1, float("nan")):
        with pytest.raises(RunError, match="is not allowed, expected between 0 and 1"):
            decide_run(copied.path, quantile=quantile, train=store_of(runs))
    assert not (copied.path / HELD_OUT).exists()


def test_decisions_are_written_together_or_not_at_all(
    copied: RunResult, runs: dict[str, RunResult], monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out(copied, store_of(runs))
    before = listing(copied.path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("asdlib.study.held_out.write_text", full)
    with pytest.raises(RunError, match="is full"):
        decide_run(copied.path)
    assert listing(copied.path) == before
