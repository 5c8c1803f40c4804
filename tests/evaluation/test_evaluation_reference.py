"""Figures that the official code printed for public score files, recomputed.

The files are not part of this repository; ASDLIB_REFERENCE names the folder that holds them.
"""

import csv
import os
from pathlib import Path

import numpy as np
import pytest

from asdlib.data import read_ground_truth
from asdlib.evaluation import (
    evaluate,
    evaluate_folder,
    label_scores,
    write_score_folder,
)
from asdlib.evaluation.metrics import decision_metrics, mean, omega_columns
from asdlib.study.comparison import read_published

REFERENCE = os.environ.get("ASDLIB_REFERENCE", "")
pytestmark = pytest.mark.skipif(
    not REFERENCE, reason="ASDLIB_REFERENCE names no folder of reference files"
)
SCORES = Path(REFERENCE) / "scores"
TRUTH = {2020: "ground_truth_2020.csv", 2022: "ground_truth_2022"}
LAST = 5e-16
"""Half a unit of the fifteenth decimal; the sixteenth depends on the order of a sum."""
MEANS = {"arithmetic": "average", "Average": "average", "harmonic": "harmonic_mean"}


def official(run):
    """Read ``result.csv``: (machine or "", row name) → figures; machine lines have one field."""
    with (SCORES / run / "result.csv").open(newline="") as file:
        machine, rows = "", {}
        for row in csv.reader(file):
            if len(row) == 1:
                machine = row[0]
            elif not row:
                machine = ""
            elif row[0] not in ("id", "section", ""):
                rows[machine, row[0]] = [float(value) for value in row[1:]]
    return rows


@pytest.mark.parametrize(
    ("run", "year", "columns", "n_figures"),
    [
        ("mlperf_tiny_toycar", 2020, ("auc", "pauc"), 10),
        ("dcase2022_baseline_ae_rerun", 2022, ("auc_source", "auc_target", "pauc"), 111),
    ],
)
def test_every_auc_pauc_mean_and_omega_equals_the_official_result(run, year, columns, n_figures):
    result = evaluate_folder(SCORES / run, year)
    assert result.notices == ()
    figures = result.to_json_dict()
    compared, terms = 0, []
    for (machine, name), want in official(run).items():
        entry = figures["machines"][machine] if machine else figures
        row = entry["sections"][name] if name.isdecimal() else entry[MEANS[name.split()[0]]]
        want = want[: len(columns)]
        assert [row[column] for column in columns] == pytest.approx(want, abs=LAST, rel=0)
        compared += len(want)
        terms += want if name.isdecimal() else []
    assert compared == n_figures
    if year == 2020:
        assert figures["average"]["auc"] == pytest.approx(0.864397431185167, abs=LAST)
    else:
        floored = np.maximum(terms, np.finfo(float).eps)
        assert figures["omega"] == pytest.approx(63 / (1 / floored).sum(), abs=LAST)
        assert figures["omega_terms"] == floored.size == 63


def test_threshold_metrics_equal_the_official_result():
    """The decisions are not given, so find a threshold for each machine that explains its rows."""
    run = "dcase2022_baseline_ae_rerun"
    columns = [f"{n}_{d}" for n in ("precision", "recall", "f1") for d in ("source", "target")]
    labelled = evaluate_folder(SCORES / run, 2022).scores
    rows = {key: figures[3:] for key, figures in official(run).items()}
    decided = labelled.assign(decision=0)
    for machine, part in labelled.groupby("machine"):
        wanted = {s: row for (m, s), row in rows.items() if m == machine and s.isdecimal()}
        steps = np.concatenate([[-np.inf], np.unique(part["anomaly_score"])])
        hit = np.ones(steps.size, dtype=bool)
        for section, figures in wanted.items():
            for domain, recall in zip(("source", "target"), figures[2:4], strict=True):
                group = part[(part["section"] == section) & (part["domain"] == domain)]
                anomalous = group.loc[group["label"] == "anomaly", "anomaly_score"].to_numpy()
                found = (anomalous[:, None] > steps).mean(axis=0)
                hit &= np.abs(found - recall) < 1e-9
        for step in steps[hit]:
            one = part.assign(decision=(part["anomaly_score"] > step).astype(int))
            values = decision_metrics(one, 2022)[columns].to_numpy()
            if np.allclose(values, list(wanted.values()), rtol=0, atol=1e-9):
                decided.loc[part.index, "decision"] = one["decision"]
                break
    table = evaluate(decided, 2022).decisions
    compared = 0
    for (machine, name), want in rows.items():
        own = table[table["machine"] == machine] if machine else table
        if name.isdecimal():
            found = own.loc[own["section"] == name, columns].iloc[0].tolist()
        else:
            kind = "arithmetic" if name.startswith("arithmetic") else "harmonic"
            found = [mean(own[column], kind) for column in columns]
        assert found == pytest.approx(want, abs=1e-9, rel=0)
        compared += len(want)
    assert compared == 222


@pytest.mark.parametrize(("year", "n"), [(2020, 7103), (2022, 4200)])
def test_ground_truth_covers_a_whole_blind_folder(tmp_path, year, n):
    truth = read_ground_truth(Path(REFERENCE) / TRUTH[year])
    assert len(truth) == n
    if year == 2020:
        truth["section"] = truth["clip"].str[3:5]
    rng = np.random.default_rng(0)
    blind = truth[["machine", "section", "clip"]].assign(anomaly_score=rng.normal(size=n))
    write_score_folder(blind, tmp_path, year)
    result = evaluate_folder(tmp_path, year, Path(REFERENCE) / TRUTH[year])
    assert result.notices == ()
    assert result.frame["auc"].between(0.3, 0.7).all()
    labelled = label_scores(blind, year, truth)
    assert labelled["label"].tolist() == truth["label"].tolist()
    if year == 2022:
        assert result.sections[omega_columns(2022)].size == 63
        assert labelled["domain"].tolist() == truth["domain"].tolist()


@pytest.mark.parametrize(
    ("table", "files", "columns"),
    [
        ("dcase2020", ("dcase2020_development", "dcase2020_evaluation"), ("auc", "pauc")),
        ("dcase2020_per_id", ("dcase2020_baseline_per_id",), ("auc", "pauc")),
        ("dcase2022", ("dcase2022",), ("auc_source", "auc_target", "pauc", "omega")),
        ("official_score", ("dcase2020_mean_of_auc_and_pauc",), ("development", "evaluation")),
    ],
)
def test_published_tables_hold_the_figures_of_their_sources(table, files, columns):
    ours, theirs = read_published(table), []
    if table == "official_score":  # the file has those of 2020 that were read at the source
        ours = ours[(ours["year"] == "2020") & (ours["status"] == "read")]
    for name in files:
        with (Path(REFERENCE) / "published" / f"{name}.csv").open(newline="") as file:
            theirs += csv.DictReader(file)
    for column in columns:
        want = [round(float(row[column]) / 100, 8) for row in theirs if row[column]]
        found = ours[column].dropna().tolist()
        if table == "dcase2020_per_id":
            assert found == want
        assert sorted(found) == sorted(want)
