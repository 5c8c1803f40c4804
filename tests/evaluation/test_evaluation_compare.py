import dataclasses
from pathlib import Path

import pytest

from asdlib.errors import ScoreError
from asdlib.evaluation import compare, tables

GOLDEN = Path(__file__).parents[1] / "golden" / "evaluation"


def measured(year=2022, **change):
    result = tables.evaluate_folder(GOLDEN / f"dcase{year}", year)
    says = {
        "system": "ours",
        "data": "drawn scores",
        "data_kind": "synthetic",
        "split": "development",
        "training_data": "none",
        "selection": "none",
        "source": "tests/golden",
    }
    return result, compare.measured_row(result, **{**says, **change})


def test_measured_and_published_rows_stand_in_one_table_and_say_what_they_are():
    result, own = measured(2020)
    table = compare.comparison_table([own, *compare.published_rows(2020, split="development")])
    assert table["data_kind"].tolist()[0] == "synthetic"
    assert set(table["data_kind"][1:]) == {"real"}
    assert set(table["origin"][1:]) == {"published"}
    assert table["auc"][0] == result.frame["auc"].iloc[-1]
    assert "omega" not in table.columns
    said = table.drop(columns=["auc", "pauc"])
    assert (said != "").all().all()
    assert table["system"].is_unique


def test_2022_rows_have_omega_and_their_kind_of_mean():
    result, own = measured(2022, kind="harmonic")
    table = compare.comparison_table([own, *compare.published_rows(2022)])
    assert table["omega"][0] == result.to_json_dict()["omega"]
    assert table["auc_source"][0] == result.to_json_dict()["harmonic_mean"]["auc_source"]
    assert table["aggregate"][0] == "harmonic mean over machine types and sections"
    baseline = table[table["system"] == "DCASE 2022 baseline AE"].iloc[0]
    assert "omega: AITHU" in baseline["source"]


def test_published_averages_are_printed_ones_or_said_to_be_computed():
    table = compare.comparison_table(compare.published_rows(2020)).set_index(["system", "split"])
    page = table.loc["DCASE 2020 baseline AE (task page)", "development"]
    assert page["auc"] == pytest.approx(0.7351, abs=1e-6)
    assert page["source"].endswith("(mean of its machine rows)")
    assert table.loc["IDNN", "development"]["auc"] == 0.7544
    assert table.loc["Meng et al. 2024 (claimed)", "uncertain"]["pauc"] == 0.876


def test_published_rows_of_one_machine():
    rows = compare.published_rows(2020, machine="ToyCar", split="development")
    assert {row.data for row in rows} == {"DCASE 2020 Task 2 ToyCar"}
    assert rows[0].auc == 0.7877


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_kind": "mixed"}, r"data_kind 'mixed' \(known: real, synthetic\)"),
        ({"origin": "guessed"}, "origin 'guessed'"),
        ({"source": " "}, r"source ' ' \(write 'not stated'\)"),
        ({"auc": 93.8}, "auc 93.8; expected a fraction"),
    ],
)
def test_rows_that_do_not_say_enough_are_refused(change, message):
    row = dataclasses.replace(measured()[1], **change)
    with pytest.raises(ScoreError, match=message):
        compare.comparison_table([row])


def test_empty_choices_are_refused():
    with pytest.raises(ScoreError, match="no rows"):
        compare.comparison_table([])
    for arguments in ({"year": 2021}, {"year": 2022, "machine": "fan"}):
        with pytest.raises(ScoreError, match="no published rows for year"):
            compare.published_rows(**arguments)
    with pytest.raises(ScoreError, match="split 'test'"):
        compare.published_rows(2020, split="test")


def test_rows_of_several_seeds_become_their_mean_with_an_interval():
    _, own = measured(2020)
    better = dataclasses.replace(own, auc=own.auc + 0.02)
    row = compare.mean_row([own, better], source="two runs")
    assert row.auc == pytest.approx(own.auc + 0.01)
    assert (row.seeds, row.interval, row.source) == ("2", "seeds", "two runs")
    assert row.auc_high - row.auc == pytest.approx(12.7062047 * 0.01, rel=1e-6)
    assert row.pauc_low == row.pauc_high == own.pauc
    assert compare.mean_row([own], source="one") == dataclasses.replace(own, source="one")
    with pytest.raises(ScoreError, match=r"runs of 'ours' differ in data; give them two names"):
        compare.mean_row([own, dataclasses.replace(own, data="other")], source="two")
    with pytest.raises(ScoreError, match="no rows to join"):
        compare.mean_row([], source="none")
