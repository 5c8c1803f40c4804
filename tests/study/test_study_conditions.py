"""Effects of steps are found where they are, and named in words. A run: tests/cli."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from asdlib.errors import DataError
from asdlib.study.conditions import (
    BASE,
    CONDITIONS,
    FULL,
    STEPS,
    conditions_verdict,
    effects_of,
)
from asdlib.study.config import make_system

COLUMNS = ["condition", "band", "without", "seed", "machine", "auc", "auc_source", "auc_target"]


def test_steps_are_those_of_the_augmentation() -> None:
    base = make_system("contrastive").params
    described = {base.model_dump_json()}
    for steps in STEPS.values():
        described.add(make_system("contrastive", {"augmentation": steps}).params.model_dump_json())
        assert all(value is False for value in steps.values())
    assert len(described) == len(STEPS) + 1


def made_up(gains: dict[tuple[str, str, str], float], *, spread: float = 1e-3) -> pd.DataFrame:
    """A table in which leaving out a step costs `gains[condition, band, step]` of AUC."""
    rng = np.random.default_rng(0)
    rows = []
    for condition, facts in CONDITIONS.items():
        for band in facts.bands:
            for seed in range(5):
                for machine in ("fan", "pump", "Average"):
                    for step in (FULL, *STEPS):
                        loss = gains.get((condition, band, step), 0.0)
                        auc = 0.8 - loss + spread * rng.normal()
                        rows.append((condition, band, step, seed, machine, auc, auc, auc))
    return pd.DataFrame(rows, columns=COLUMNS)


def test_effects_are_found_where_they_were_put() -> None:
    table = made_up(
        {
            (BASE, "natural", "mixup"): 0.05,
            (BASE, "low", "RRC"): 0.08,
            ("two domains", "natural", "post-norm"): -0.06,
        }
    )
    found = effects_of(table)
    # One place for all machines, one for each of two, nine others, and four contrasts.
    assert len(found) == (1 + 2 + 9 + 4) * len(STEPS)
    large = found[found["effect"].abs() > 2].set_index(["question", "level", "against", "step"])
    expected = {
        ("all machines", BASE, "", "mixup"): 5,
        ("machine", "fan", "", "mixup"): 5,
        ("machine", "pump", "", "mixup"): 5,
        ("band of the fault", "low", "", "RRC"): 8,
        ("domain", "source", "", "post-norm"): -6,
        ("domain", "target", "", "post-norm"): -6,
        ("training clips", "all", "", "mixup"): 5,
        ("classes", "an ID each", "", "mixup"): 5,
        ("band of the fault", "low", "high", "RRC"): 8,
        ("training clips", "a quarter", "all", "mixup"): -5,
        ("classes", "a type each", "an ID each", "mixup"): -5,
    }
    assert large["shown"].all()
    assert large["effect"].round().to_dict() == expected

    # Paired over seeds, whatever the order of the rows.
    base = table[(table["condition"] == BASE) & (table["band"] == "natural")]
    auc = base[base["machine"] == "fan"].pivot_table(index="seed", columns="without", values="auc")
    gain = 100 * (auc[FULL] - auc["mixup"]).to_numpy()
    row = large.loc[("machine", "fan", "", "mixup")]
    interval = stats.t.interval(0.95, 4, gain.mean(), stats.sem(gain))
    assert (row["effect"], row["low"], row["high"]) == pytest.approx((gain.mean(), *interval))
    assert row["seeds"] == 5
    pd.testing.assert_frame_equal(effects_of(table.iloc[::-1].sort_values("machine")), found)

    verdict = conditions_verdict(found)
    rrc, post_norm = (
        next(line for line in verdict.splitlines() if line.startswith(f"- **{step}**"))
        for step in ("RRC", "post-norm")
    )
    assert re.search(r"shown to help: .*band of the fault \*low\* \(\+[78]\.\d \[", rrc)
    assert re.search(r"shown to hurt: .*domain \*source\* \(−[56]\.\d \[", post_norm)
    assert re.search(r"\*\*RRC\*\* does more for \*low\* than for \*high\*: \+[78]\.\d", verdict)
    assert re.search(r"Training clips: \*\*mixup\*\* does less for \*a quarter\* than", verdict)


@pytest.mark.parametrize(
    ("gain", "words"), [(0.05, "Here it is: +"), (-0.05, "the other way round**: −")]
)
def test_the_premise_is_answered(gain: float, words: str) -> None:
    table = made_up({(BASE, "low", "all but pre-norm"): gain})
    assert words in conditions_verdict(effects_of(table))


def test_seeds_that_are_missing_are_named_and_one_shows_nothing() -> None:
    table = made_up({(BASE, "natural", "mixup"): 0.3})
    lost = (table["without"] == "RRC") & (table["seed"] == 3)
    with pytest.raises(DataError, match=r"seeds \[0, 1, 2, 3, 4\] .* \[0, 1, 2, 4\] without RRC"):
        effects_of(table[~lost])
    assert not effects_of(table[table["seed"] == 0])["shown"].any()
