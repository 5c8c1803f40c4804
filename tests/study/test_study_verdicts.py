"""Sentences about results: computed numbers, and no claim without an interval."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from asdlib.study import verdicts
from asdlib.study.profiles import PROFILES


def tidy(values: dict[str, list[float]]) -> pd.DataFrame:
    rows = [
        (variant, seed, machine, "Average", auc if machine == "Average" else 0.0)
        for variant, aucs in values.items()
        for seed, auc in enumerate(aucs)
        for machine in ("fan", "Average")
    ]
    table = pd.DataFrame(rows, columns=["variant", "seed", "machine", "section", "auc"])
    return table.assign(
        pauc=table["auc"] - 0.1, auc_source=table["auc"] + 0.02, auc_target=table["auc"] - 0.03
    )


def test_differences_are_paired_over_seeds() -> None:
    a, b = np.array([0.80, 0.85, 0.90]), np.array([0.79, 0.83, 0.89])
    mean, low, high = verdicts.paired_difference(tidy({"a": [*a], "b": [*b]}), "a", "b")
    difference = 100 * (a - b)
    expected = stats.t.interval(0.95, 2, difference.mean(), stats.sem(difference))
    assert mean == pytest.approx(difference.mean())
    assert (low, high) == pytest.approx(expected)
    # Unpaired, the spread over seeds would hide it.
    assert low > -1 < difference.mean()


def test_seeds_are_matched_by_number_not_by_place() -> None:
    table = tidy({"a": [0.5, 0.6, 0.7], "b": [0.4, 0.5, 0.6]})
    turned = table.sample(frac=1, random_state=0)
    assert verdicts.paired_difference(turned, "a", "b") == pytest.approx(
        verdicts.paired_difference(table, "a", "b")
    )
    lacking = table[(table["variant"] == "a") | (table["seed"] != 1)]
    assert verdicts.paired_difference(lacking, "a", "b")[0] == pytest.approx(10.0)


def test_what_is_not_random_is_paired_with_every_seed() -> None:
    table = tidy({"random": [0.8, 0.9], "fixed": [0.7]})
    mean, low, high = verdicts.paired_difference(table, "random", "fixed")
    assert mean == pytest.approx(15.0)
    assert low < mean < high
    back = verdicts.paired_difference(table, "fixed", "random")
    assert back == pytest.approx((-mean, -high, -low))


@pytest.mark.parametrize(
    ("difference", "told"),
    [
        ((1.26, 0.2, 2.3), "+1.3 points [+0.2, +2.3], shown"),
        ((-1.0, -2.0, -0.1), "−1.0 points [−2.0, −0.1], shown"),
        ((1.0, -0.1, 2.1), "+1.0 points [−0.1, +2.1], not shown to differ"),
        ((-0.04, -0.3, 0.2), "+0.0 points [−0.3, +0.2], not shown to differ"),
        ((0.0, 0.0, 0.0), "+0.0 points [+0.0, +0.0], not shown to differ"),
        ((1.0, np.nan, np.nan), "+1.0 points (one seed: no interval)"),
    ],
)
def test_a_difference_is_told(difference: tuple[float, float, float], told: str) -> None:
    assert verdicts.describe_difference(difference) == told


def test_every_variant_of_an_ablation_is_told() -> None:
    table = tidy(
        {"no RRC": [0.7, 0.71, 0.72], "full": [0.8, 0.81, 0.82], "none": [0.81, 0.8, 0.82]}
    )
    text = verdicts.ablation_verdict(table, kind="synthetic")
    lines = text.splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("- **no RRC** against full: AUC −10.0 points [")
    assert lines[0].count("shown;") + lines[0].count("shown.") == 2
    assert lines[1].startswith("- **none** against full: AUC +0.0 points [")
    assert lines[1].count("not shown to differ") == 2
    assert lines[3] == verdicts.CAVEATS["synthetic"]


def test_a_comparison_says_when_the_reference_wins() -> None:
    table = tidy({"contrastive": [0.7, 0.71, 0.72], "statistics": [0.9], "autoencoder": [0.6]})
    text = verdicts.comparison_verdict(table, kind="real")
    assert text.startswith("Mean AUC of contrastive: **71.0 %**.")
    assert "Against statistics: AUC −19.0 points [" in text
    assert "Against autoencoder: AUC +11.0 points [" in text
    assert "**The statistics reference, which takes seconds, is better here.**" in text
    assert text.endswith(verdicts.CAVEATS["real"])


@pytest.mark.parametrize("reference", [[0.6], [0.715], [0.705]])
def test_a_comparison_claims_no_more_than_is_shown(reference: list[float]) -> None:
    table = tidy({"contrastive": [0.70, 0.71, 0.72], "statistics": reference})
    assert "is better here" not in verdicts.comparison_verdict(table, kind="real")
    single = tidy({"contrastive": [0.7], "statistics": [0.9]})
    assert "is better here" not in verdicts.comparison_verdict(single, kind="real")


def test_domains() -> None:
    text = verdicts.domain_verdict(tidy({"a": [0.7, 0.8]}), profile=PROFILES["classroom"])
    assert text.splitlines()[0] == "- **a**: AUC(source) − AUC(target) = +5.0 points."
    assert re.search("synthetic machines", text)
