"""One table of runs, score files and published figures, every row saying what it is."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from study_stores import QUICK, make_store

from asdlib.errors import ConfigError, ScoreError
from asdlib.evaluation import delong_frame, paired_frame
from asdlib.evaluation.scores import read_score_folder, write_score_folder
from asdlib.study import run
from asdlib.study.compare import Entry, Story, compare, pairwise, read_run, read_score_files, tidy
from asdlib.study.text import to_markdown

STORY = Story("synthetic")


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> list[Entry]:
    folder = tmp_path_factory.mktemp("runs")
    store = make_store(folder / "store").path
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDLIB_CACHE", str(folder / "cache"))
        run("statistics", store, store, folder / "reference")
        for seed in (0, 1, 2):
            params = QUICK["contrastive"]
            run("contrastive", store, store, folder / f"c{seed}", params=params, seed=seed)
    names = [str(folder / "reference"), *(f"contrast={folder / f'c{seed}'}" for seed in (0, 1, 2))]
    return [read_run(name) for name in names]


def test_seeds_are_one_row_and_intervals_say_what_they_speak_about(entries: list[Entry]) -> None:
    table = compare(entries, STORY).set_index("system")
    assert table.index.tolist() == ["statistics", "contrast"]
    aucs = np.array([entry.evaluation.frame["auc"].iloc[-1] for entry in entries[1:]])
    row = table.loc["contrast"]
    assert row["auc"] == pytest.approx(aucs.mean())
    reach = 4.3026527 * aucs.std(ddof=1) / np.sqrt(3)
    assert [row["auc_low"], row["auc_high"]] == pytest.approx(
        [aucs.mean() - reach, aucs.mean() + reach]
    )
    assert (row["seeds"], row["interval"], row["source"]) == ("3", "seeds", "run c0, c1, c2")
    reference = table.loc["statistics"]
    assert (reference["seeds"], reference["interval"]) == ("1", "clips")
    assert reference["auc_low"] < reference["auc"] < reference["auc_high"]
    assert reference["training_data"] == "24 normal clips of 'store'"
    assert reference["data"] == "'store', 32 test clips"
    sections = entries[0].evaluation.sections
    assert reference["mauc"] == pytest.approx(sections.groupby("machine")["auc"].min().mean())
    pooled = entries[0].evaluation.pooled
    assert reference["pooled_pauc"] == pytest.approx(pooled["pauc"].mean())
    said = table.drop(columns=[name for name in table if table[name].dtype == float])
    assert (said != "").all().all()


def test_score_files_and_published_figures_are_rows(entries: list[Entry], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    write_score_folder(read_score_folder(entries[0].path, 2020), theirs, 2020)
    other = read_score_files(f"somebody's={theirs}", 2020)
    table = compare([entries[0], other], STORY, published=True).set_index("system")
    assert table.loc["somebody's", "auc"] == table.loc["statistics", "auc"]
    assert table.loc["somebody's", "training_data"] == "not stated"
    assert table.loc["somebody's", "source"] == "score files theirs"
    assert set(table.iloc[2:]["origin"]) == {"published"}
    assert set(table.iloc[:2]["data_kind"]) == {"synthetic"}
    text = to_markdown(table.reset_index())
    assert len(text.splitlines()) == 2 + len(table)
    assert {line.count(" | ") for line in text.splitlines()} == {text.splitlines()[0].count(" | ")}


def test_two_single_runs_are_tested_like_two_tables(entries: list[Entry]) -> None:
    tests = pairwise(entries[:2], rng=np.random.default_rng(3))
    a, b = entries[1].evaluation.scores, entries[0].evaluation.scores
    expected = paired_frame(a, b, 2020, rng=np.random.default_rng(3))
    pd.testing.assert_frame_equal(tests[list(expected)], expected)
    delong = delong_frame(a, b, 2020)["p_value"].tolist()
    told = tests.loc[tests["metric"] == "auc", "delong_p"].dropna()
    assert sorted(told) == pytest.approx(sorted(p for p in delong if not np.isnan(p)))
    assert tests.loc[tests["metric"] == "pauc", "delong_p"].isna().all()


def test_groups_of_seeds_are_tested_by_their_means(entries: list[Entry]) -> None:
    tests = pairwise(entries)
    overall = tests[tests["machine"] == "Average"].set_index("metric")
    means = compare(entries, STORY).set_index("system")["auc"]
    assert overall.loc["auc", "difference"] == pytest.approx(
        means["contrast"] - means["statistics"]
    )
    assert tests["delong_p"].isna().all()
    assert overall.loc["auc", "low"] < overall.loc["auc", "high"]
    # A system against itself differs by nothing, in every resample.
    renamed = [Entry("again", e.path, e.evaluation, e.record) for e in entries[1:]]
    same = pairwise([*entries[1:], *renamed])
    assert same[["difference", "low", "high"]].to_numpy() == pytest.approx(0, abs=1e-15)
    assert (same["p_value"] == 1).all()


def test_systems_are_tested_against_those_that_were_named(entries: list[Entry]) -> None:
    both = pairwise(entries, against=["contrast", "statistics"])
    pairs = both[["system", "reference"]].drop_duplicates().to_numpy().tolist()
    assert pairs == [["statistics", "contrast"], ["contrast", "statistics"]]
    means = both[both["machine"] == "Average"].set_index(["reference", "metric"])["difference"]
    assert means["contrast", "auc"] == pytest.approx(-means["statistics", "auc"])
    with pytest.raises(ConfigError, match="no system 'contrats' to test against"):
        pairwise(entries, against=["contrats"])


def test_the_tidy_table_has_a_row_for_every_section(entries: list[Entry]) -> None:
    table = tidy(entries)
    assert list(table) == [
        *("system", "seed", "machine", "section", "auc", "pauc", "fit_seconds", "run", "key")
    ]
    assert len(table) == 4 * 7
    assert table.groupby("run")["seed"].first().to_dict() == {
        "reference": 0,
        "c0": 0,
        "c1": 1,
        "c2": 2,
    }


def test_what_cannot_be_compared_is_refused(entries: list[Entry], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare([], STORY)
    with pytest.raises(ConfigError, match="'statistics' has two runs of seed 0"):
        compare([entries[0], entries[0]], STORY)
    with pytest.raises(ConfigError, match="1 system to test"):
        pairwise(entries[1:])
    with pytest.raises(ConfigError, match="not of the form NAME=FOLDER"):
        read_score_files("scores", 2020)
    scores = read_score_folder(entries[0].path, 2020)
    write_score_folder(scores[scores["machine"] == "fan"], tmp_path / "fan", 2020)
    with pytest.raises(ScoreError, match="compare on the same clips"):
        pairwise([entries[0], read_score_files(f"fan={tmp_path / 'fan'}", 2020)])
