"""Where each step helps: one training serves all bands, and effects are found where they are."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from asdlib.errors import DataError
from asdlib.features import FeatureStore
from asdlib.plots.conditions import plot_conditions
from asdlib.study import conditions, load_run
from asdlib.study.conditions import BASE, CONDITIONS, FULL, STEPS, ConditionsSpec, study_conditions
from asdlib.study.config import make_system
from asdlib.study.effects import (
    conditions_verdict,
    contrast_rows,
    effects_of,
    full_rows,
    levels_of,
    made_by_words,
    read_conditions,
)
from asdlib.study.profiles import merge

TINY = ConditionsSpec(
    machines={"dcase2020": ("fan", "pump"), "dcase2022": ("fan", "valve")},
    n_sections=2,
    n_train=8,
    n_test=2,
    target_share=0.25,
    seconds=1.5,
    seeds=1,
    epochs=1,
    params={"crop_frames": 16, "batch_size": 8},
)


def test_every_condition_is_trained_without_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conditions, "STEPS", {"mixup": {"mixup": False}})
    told: list[tuple[str, int, int]] = []
    table = study_conditions(
        TINY, tmp_path, processes=1, on_done=lambda job, _, i, n: told.append((job.variant, i, n))
    )
    # Four bands under the first condition, one under each of the three others.
    assert [place for _, *place in told] == [[i, 2 * 7] for i in range(1, 15)]
    assert "as it is, faults low, without mixup" in [name for name, *_ in told]
    runs = [load_run(path).record for path in sorted((tmp_path / "runs").glob("contrastive-*"))]
    trained = [run for run in runs if "network_of" not in run]
    assert (len(runs), len(trained)) == (14, 8)
    for run in runs:
        params = run["config"]["params"]
        assert (params["embedding"], params["backend"]) == ("encoder", "mahalanobis")
    epochs = sorted(run["config"]["params"]["epochs"] for run in trained)
    assert epochs == [1] * 6 + [4] * 2
    assert sum(run["config"]["params"]["classes"] == "machine" for run in trained) == 2

    assert set(table["condition"]) == set(CONDITIONS)
    assert set(table["without"]) == {FULL, "mixup"}
    assert len(table) == 14 * 3
    shifted = table["condition"] == "two domains"
    assert table.loc[shifted, "auc_target"].notna().all()
    assert table.loc[~shifted, "auc_target"].isna().all()
    assert sorted(table.loc[shifted, "machine"].unique()) == ["Average", "fan", "valve"]

    whole = FeatureStore.open(tmp_path / "stores" / "dcase2020-train").rows(split="train")
    share = next((tmp_path / "stores").glob("share-0.25-seed-0-*"))
    assert len(FeatureStore.open(share)) * 4 == len(whole)


def test_steps_are_those_of_the_augmentation() -> None:
    base = make_system("contrastive", {}).params
    for steps in STEPS.values():
        changed = make_system("contrastive", merge({}, {"augmentation": steps})).params
        assert changed != base
        assert all(value is False for value in steps.values())


def made_up(gains: dict[tuple[str, str, str], float], *, spread: float = 0.01) -> pd.DataFrame:
    """A table in which leaving out a step costs `gains[condition, band, step]` of AUC."""
    rng = np.random.default_rng(0)
    rows = []
    for condition, told in CONDITIONS.items():
        for band in told.bands:
            for seed in range(5):
                for machine in ("fan", "pump", "Average"):
                    for step in (FULL, *STEPS):
                        loss = gains.get((condition, band, step), 0.0)
                        auc = 0.8 - loss + spread * rng.normal()
                        rows.append((condition, band, step, seed, machine, auc, auc, auc, auc))
    columns = ["condition", "band", "without", "seed", "machine"]
    return pd.DataFrame(rows, columns=[*columns, "auc", "pauc", "auc_source", "auc_target"])


def test_effects_are_found_where_they_were_put() -> None:
    table = made_up(
        {
            (BASE, "natural", "mixup"): 0.05,
            (BASE, "low", "RRC"): 0.08,
            ("two domains", "natural", "post-norm"): -0.06,
        },
        spread=1e-3,
    )
    found = effects_of(table)
    assert len(found) == (len(levels_of(table)) + 4) * len(STEPS)
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
    told = conditions_verdict(found)
    rrc, post_norm = (
        next(line for line in told.splitlines() if line.startswith(f"- **{step}**"))
        for step in ("RRC", "post-norm")
    )
    assert re.search(r"shown to help: .*band of the fault \*low\* \(\+[78]\.\d \[", rrc)
    assert re.search(r"shown to hurt: .*domain \*source\* \(−[56]\.\d \[", post_norm)
    assert re.search(r"\*\*RRC\*\* does more for \*low\* than for \*high\*: \+[78]\.\d", told)
    assert re.search(r"Training clips: \*\*mixup\*\* does less for \*a quarter\* than", told)
    figure = plot_conditions(found)
    titles = [axes.get_title(loc="left").replace("\n", " ") for axes in figure.axes]
    assert titles == list(STEPS)
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {"fan", "low", "target", "machine:"} <= set(labels)
    rows = contrast_rows(found).set_index("step")
    assert rows.loc["RRC", "low − high"].endswith("✓")
    assert not rows.loc["mixup", "low − high"].endswith("✓")


@pytest.mark.parametrize(
    ("gain", "words"), [(0.05, "Here it is: +"), (-0.05, "the other way round**: −")]
)
def test_the_premise_is_answered(gain: float, words: str) -> None:
    table = made_up({(BASE, "low", "all but pre-norm"): gain}, spread=1e-4)
    assert words in conditions_verdict(effects_of(table))


def test_of_nothing_about_one_in_twenty_is_shown() -> None:
    found = pd.concat(
        effects_of(made_up({}).assign(auc=lambda t, s=seed: _noise(t, s))) for seed in range(20)
    )
    own = found[(found["against"] == "") & (found["question"] == "band of the fault")]
    assert 0.01 < own["shown"].mean() < 0.11


def _noise(table: pd.DataFrame, seed: int) -> np.ndarray:
    return 0.8 + 0.01 * np.random.default_rng(seed).normal(size=len(table))


def test_a_seed_that_is_missing_on_one_side_is_named() -> None:
    table = made_up({})
    lost = (table["without"] == "RRC") & (table["seed"] == 3)
    with pytest.raises(DataError, match=r"seeds \[0, 1, 2, 3, 4\] .* \[0, 1, 2, 4\] without RRC"):
        effects_of(table[~lost])


def test_one_seed_shows_nothing() -> None:
    table = made_up({(BASE, "natural", "mixup"): 0.3})
    found = effects_of(table[table["seed"] == 0])
    assert not found["shown"].any()
    assert "±" not in full_rows(table[table["seed"] == 0]).to_string()


def test_kept_results_are_read_back(tmp_path: Path) -> None:
    table = made_up({})
    with pytest.raises(DataError, match="asd conditions --out"):
        read_conditions(tmp_path)
    table.to_csv(tmp_path / "conditions.csv", index=False)
    made_by = {"spec": TINY.model_dump(mode="json"), "finished": "2026-01-02T03:04:05"}
    (tmp_path / "provenance.json").write_text(json.dumps(made_by))
    again, told = read_conditions(tmp_path)
    pd.testing.assert_frame_equal(effects_of(again), effects_of(table))
    assert "8 training clips of 1.5 s an ID" in made_by_words(told)
    assert "Made on 2026-01-02" in made_by_words(told)
    assert list(full_rows(again)["machine"]) == ["fan", "pump", "Average"]
    table.drop(columns="band").to_csv(tmp_path / "conditions.csv", index=False)
    with pytest.raises(DataError, match="lacks band"):
        read_conditions(tmp_path)
