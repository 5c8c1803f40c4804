"""One table of runs, score files and published figures, every row saying what it is."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from asdlib.errors import ConfigError, ScoreError
from asdlib.evaluation import (
    evaluate_folder,
    interval_frame,
    paired_frame,
    read_score_folder,
    write_score_folder,
)
from asdlib.study import RunResult, comparison, report
from asdlib.study.comparison import (
    Entry,
    compare,
    label_of,
    published_rows,
    read_entry,
    read_published,
    tidy,
    to_markdown,
)
from asdlib.study.config import RunConfig
from asdlib.study.result import Clips

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"


@pytest.fixture(scope="module")
def entries(runs: dict[str, RunResult]) -> list[Entry]:
    return [
        read_entry(str(runs["statistics"].path)),
        *(read_entry(f"contrast={runs[f'c{seed}'].path}") for seed in (0, 1, 2)),
    ]


def synthetic(entries: list[Entry], **options: Any) -> pd.DataFrame:
    return compare(entries, data_kind="synthetic", **options).set_index("system")


def pairwise(entries: list[Entry], against: list[str] | None = None) -> pd.DataFrame:
    named = comparison.by_name(entries)
    groups = {name: [one.evaluation.scores for one in own] for name, own in named.items()}
    year = entries[0].evaluation.year
    return report.pairwise(groups, against or list(groups)[:1], year)


def golden(year: int, name: str = "ours") -> Entry:
    folder = GOLDEN / f"dcase{year}"
    return Entry(name, folder, evaluate_folder(folder, year))


def test_seeds_are_one_row_and_intervals_say_what_they_speak_about(entries: list[Entry]) -> None:
    table = synthetic(entries)
    assert table.index.tolist() == ["statistics", "contrast"]
    aucs = np.array([entry.evaluation.frame["auc"].iloc[-1] for entry in entries[1:]])
    row = table.loc["contrast"]
    frame = interval_frame([entry.evaluation.scores for entry in entries[1:]], 2020)
    expected = frame[frame["machine"] == "Average"].set_index("metric").loc["auc", ["low", "high"]]
    assert row["auc"] == pytest.approx(aucs.mean())
    assert row[["auc_low", "auc_high"]].tolist() == expected.tolist()
    words = ("3", "clips and seeds", "run c0, c1, c2")
    assert (row["seeds"], row["interval"], row["source"]) == words
    reference = table.loc["statistics"]
    assert (reference["seeds"], reference["interval"]) == ("1", "clips")
    assert reference["auc_low"] < reference["auc"] < reference["auc_high"]
    assert reference["training_data"] == "24 normal clips of 'store'"
    told = synthetic(entries, selection=["on these labels", "statistics=none"])["selection"]
    assert told.to_dict() == {"statistics": "none", "contrast": "on these labels"}
    with pytest.raises(
        ConfigError, match="selection is 'a' and 'contrats=b'; give one, and others"
    ):
        synthetic(entries, selection=["a", "contrats=b"])
    assert reference["data"] == "'store', 32 test clips"
    assert reference["selection"] == "last epoch, parameters given in advance"
    sections = entries[0].evaluation.sections
    assert reference["mauc"] == pytest.approx(sections.groupby("machine")["auc"].min().mean())
    pooled = entries[0].evaluation.pooled
    assert reference["pooled_pauc"] == pytest.approx(pooled["pauc"].mean())
    assert "omega" not in table
    words = table.drop(columns=[name for name in table if table[name].dtype == float])
    assert (words != "").all().all()


def test_score_files_and_published_figures_are_rows(entries: list[Entry], tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    write_score_folder(read_score_folder(entries[0].path, 2020), theirs, 2020)
    other = read_entry(f"somebody's={theirs}", 2020, only_scores=True)
    table = synthetic([entries[0], other], published=True)
    assert table.loc["somebody's", "auc"] == table.loc["statistics", "auc"]
    assert table.loc["somebody's", "training_data"] == "not stated"
    assert table.loc["somebody's", "source"] == "score files theirs"
    assert set(table.iloc[:2]["data_kind"]) == {"synthetic"}
    assert set(table.iloc[2:]["data_kind"]) == {"real"}
    assert set(table.iloc[2:]["origin"]) == {"published"}
    text = to_markdown(table.reset_index()).splitlines()
    assert len(text) == 2 + len(table)
    assert {line.count(" | ") for line in text} == {text[0].count(" | ")}


def test_2022_rows_have_omega_and_its_source() -> None:
    ours = golden(2022)
    table = synthetic([ours], published=True)
    figures = ours.evaluation.to_json_dict()
    assert table.loc["ours", "omega"].tolist() == pytest.approx([figures["omega"]] * 2, abs=1e-12)
    own = table.loc["ours"].set_index("aggregate")
    for kind, key in (("arithmetic", "average"), ("harmonic", "harmonic_mean")):
        row = own.loc[f"{kind} mean over machine types and sections"]
        for name in ("auc", "pauc", "auc_source", "auc_target"):
            assert row[name] == pytest.approx(figures[key][name], abs=1e-12)
            assert row[f"{name}_low"] < row[name] < row[f"{name}_high"]
    assert own["mauc"].isna().tolist() == [False, True]
    assert "omega: AITHU" in table.loc["DCASE 2022 baseline AE", "source"].iloc[0]


def test_published_averages_are_printed_ones_or_marked_as_computed() -> None:
    table = published_rows(2020).set_index(["system", "split"])
    page = table.loc["DCASE 2020 baseline AE (task page)", "development"]
    assert page["auc"] == pytest.approx(0.7351, abs=1e-6)
    assert page["source"].endswith("(mean of its machine rows)")
    assert table.loc["IDNN", "development"]["auc"] == 0.7544
    assert table.loc["Meng et al. 2024 (claimed)", "uncertain"]["pauc"] == 0.876
    assert table.index.is_unique
    printed = read_published("dcase2020").groupby(["system", "split"])["auc"]
    assert set(printed.groups) == set(table.index)
    one = published_rows(2020, "ToyCar")
    assert set(one["data"]) == {"DCASE 2020 Task 2 ToyCar"}
    assert one["auc"].iloc[0] == 0.7877
    assert (one[list(comparison.WORDS)] != "").all().all()


def test_every_published_row_has_a_source_and_figures_are_fractions() -> None:
    for table in ("dcase2020", "dcase2020_per_id", "dcase2022", "official_score"):
        df = read_published(table)
        assert len(df) > 0
        assert (df["source"].str.strip() != "").all()
        assert (df["system"].str.strip() != "").all()
        figures = df.select_dtypes("float").to_numpy()
        assert ((figures > 0.4) & (figures < 1) | np.isnan(figures)).all()
        assert not np.isnan(figures).all(axis=1).any()


def test_published_tables_say_what_is_certain() -> None:
    claimed = read_published("dcase2020").set_index("system").loc["Meng et al. 2024 (claimed)"]
    assert tuple(claimed[["split", "auc", "pauc"]]) == ("uncertain", 0.9383, 0.876)
    ids = read_published("dcase2020_per_id")
    assert len(ids) == 46
    certain = {n: ids[f"{n}_status"].str.startswith(("read", "confirmed")) for n in ("auc", "pauc")}
    run = ids["system"].str.contains("repository run")
    assert (certain["auc"][run] & certain["pauc"][run]).sum() == run.sum() == 23
    assert set(ids["machine"][~run & certain["auc"]]) == {"fan", "pump"}
    assert not certain["pauc"][~run].any()


def test_published_averages_follow_from_their_rows() -> None:
    df = read_published("dcase2020")
    for (system, split), group in df.groupby(["system", "split"]):
        rows = group[group["machine"] != "average"]
        average = group[group["machine"] == "average"]
        if len(average) == 0 or len(rows) == 0:
            continue
        # The source of IDNN prints another average than its rows give; the docstring says so.
        near = 1e-3 if (system, split) == ("IDNN", "development") else 1e-4
        for name in ("auc", "pauc"):
            assert rows[name].mean() == pytest.approx(average[name].iloc[0], abs=near)
    means = read_published("dcase2020_per_id").groupby(["system", "machine"])[["auc", "pauc"]]
    machines = df.set_index(["system", "machine"]).sort_index()
    for key, row in means.mean().iterrows():
        assert row["auc"] == pytest.approx(machines.loc[key, "auc"], abs=6e-5)
        assert row["pauc"] == pytest.approx(machines.loc[key, "pauc"], abs=6e-5)


def test_two_single_runs_are_tested_like_two_tables(entries: list[Entry]) -> None:
    tests = pairwise(entries[:2])
    a, b = entries[1].evaluation.scores, entries[0].evaluation.scores
    expected = paired_frame([a], [b], 2020)
    pd.testing.assert_frame_equal(tests[list(expected)], expected)
    # The averages of all pairs are the family; sections are not counted.
    adjusted = tests.loc[tests["p_holm"].notna()]
    assert (adjusted["machine"] == "Average").all()
    least = adjusted.nsmallest(1, "p_value").iloc[0]
    assert least["p_holm"] == pytest.approx(min(1.0, len(adjusted) * least["p_value"]))


def test_groups_of_seeds_are_tested_by_their_means(entries: list[Entry]) -> None:
    tests = pairwise(entries)
    overall = tests[tests["machine"] == "Average"].set_index("metric")
    means = synthetic(entries)["auc"]
    difference = means["contrast"] - means["statistics"]
    assert overall.loc["auc", "difference"] == pytest.approx(difference)
    assert overall.loc["auc", "low"] < overall.loc["auc", "high"]
    # A system against itself differs by nothing.
    renamed = [Entry("again", e.path, e.evaluation, e.record) for e in entries[1:]]
    same = pairwise([*entries[1:], *renamed])
    assert same[["difference", "low", "high"]].to_numpy() == pytest.approx(0, abs=1e-15)
    assert (same["p_value"] == 1).all()


def test_systems_are_tested_against_those_that_were_named(entries: list[Entry]) -> None:
    both = pairwise(entries, against=["contrast", "statistics"])
    pairs = both[["system", "reference"]].drop_duplicates().to_numpy().tolist()
    # The other direction is the same test, and would count as one more.
    assert pairs == [["statistics", "contrast"]]
    turned = pairwise(entries, against=["statistics", "contrast"])
    means = [t.loc[t["machine"] == "Average", "difference"].to_numpy() for t in (both, turned)]
    np.testing.assert_allclose(means[0], -means[1])


def test_the_tidy_table_has_a_row_for_every_section(entries: list[Entry]) -> None:
    table = tidy(entries)
    assert list(table) == [
        *("system", "seed", "machine", "section", "auc", "pauc", "fit_seconds", "run", "key")
    ]
    assert len(table) == 4 * 7
    seeds = table.groupby("run")["seed"].first().to_dict()
    assert seeds == {"statistics": 0, "c0": 0, "c1": 1, "c2": 2}


def test_descriptions_that_do_not_say_enough_are_refused() -> None:
    for options, message in [
        ({"selection": [" "]}, r"selection is ' ' \(write 'not stated'\)"),
        ({"data": ""}, "data is ''"),
    ]:
        with pytest.raises(ScoreError, match=message):
            compare([golden(2022)], **{"data_kind": "real", **options})  # type: ignore[arg-type]


def test_what_cannot_be_compared_is_refused(entries: list[Entry], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to compare"):
        synthetic([])
    with pytest.raises(ConfigError, match="'statistics' has two runs of seed 0"):
        synthetic([entries[0], entries[0]])
    with pytest.raises(ScoreError, match=r"years \[2020, 2022\] have different metrics"):
        synthetic([golden(2020), golden(2022)])
    assert entries[1].record is not None
    other = entries[1].record.model_copy(update={"test": Clips(store="other", clips=1)})
    mixed = [entries[2], Entry("contrast", entries[1].path, entries[1].evaluation, other)]
    with pytest.raises(ScoreError, match="runs of 'contrast' differ in data; give them two names"):
        synthetic(mixed)
    with pytest.raises(ScoreError, match="no published rows of 2021"):
        published_rows(2021)
    with pytest.raises(ScoreError, match="no published rows of 2020 for machine 'press'"):
        published_rows(2020, "press")
    with pytest.raises(ConfigError, match="1 system to test"):
        pairwise(entries[1:])
    with pytest.raises(ConfigError, match="no system 'contrats' to test against"):
        pairwise(entries, against=["contrats"])
    with pytest.raises(ConfigError, match="not of the form NAME=FOLDER"):
        read_entry("scores", 2020, only_scores=True)
    scores = read_score_folder(entries[0].path, 2020)
    write_score_folder(scores[scores["machine"] == "fan"], tmp_path / "fan", 2020)
    with pytest.raises(ScoreError, match="compare on the same clips"):
        pairwise([entries[0], read_entry(f"fan={tmp_path / 'fan'}", 2020, only_scores=True)])


LABELS = [
    ("statistics", {"statistics": "mean"}, "statistics"),
    (
        "statistics",
        {"statistics": "mean+deviation"},
        "statistics (statistics=mean+deviation)",
    ),
    (
        "contrastive",
        {"augmentation": {"mixup": False}},
        "contrastive (augmentation.mixup=false)",
    ),
    ("ensemble of 2", {"members": []}, "ensemble of 2"),
]


def test_labels_say_what_differs_from_the_defaults() -> None:
    for system, params, label in LABELS:
        assert label_of(RunConfig.model_construct(system=system, params=params)) == label
