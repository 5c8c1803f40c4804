"""The ablation: one declared table, networks taken instead of trained again, honest summaries."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_stores import QUICK, make_manifest, make_store, write_recordings

from asdlib.errors import ConfigError, StoreError
from asdlib.features import build_store
from asdlib.study import ABLATION, ablate, load_run
from asdlib.study.ablation import (
    CONDITIONS,
    FRONT_ENDS,
    FULL,
    GROUPS,
    STEPS,
    summarise,
    summarise_conditions,
)
from asdlib.study.config import make_system
from asdlib.study.stores import half_bins, pair_means, share_of_training

CONTRAST = QUICK["contrastive"]


def test_a_share_of_the_clips_is_nested_and_the_same_again(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", n_train=8)
    half, quarter = (share_of_training(store, s, 3, tmp_path / "made") for s in (0.5, 0.25))
    for made, n in ((half, 4), (quarter, 2)):
        assert set(made.manifest["split"]) == {"train"}
        assert made.manifest.groupby(["machine", "section"]).size().tolist() == [n] * 4
    assert set(quarter.manifest["clip"]) <= set(half.manifest["clip"])
    again = share_of_training(store, 0.5, 3, tmp_path / "again")
    assert again.fingerprint == half.fingerprint
    assert share_of_training(store, 0.5, 4, tmp_path / "made").fingerprint != half.fingerprint
    with pytest.raises(ConfigError, match="share of training clips is 0"):
        share_of_training(store, 0, 3, tmp_path / "made")


def test_halved_bins_are_mean_powers(tmp_path: Path) -> None:
    manifest = make_manifest(n_train=2, n_test=2)
    store = make_store(tmp_path / "store", manifest)
    made = half_bins(store, tmp_path)
    assert made.n_mels == store.n_mels // 2 == made.front_end["n_mels"]
    assert "mean power" in made.front_end["derived"]
    power = 10 ** (store.features.astype(float) / 10)
    expected = 10 * np.log10((power[:, ::2] + power[:, 1::2]) / 2)
    np.testing.assert_allclose(made.features.astype(float), expected, atol=0.02)
    pd.testing.assert_frame_equal(made.manifest, store.manifest)
    assert half_bins(store, tmp_path).path == made.path
    same = np.full((1, 4, 3), -37.5, np.float16)
    np.testing.assert_array_equal(pair_means(same, np.log(10) / 10), same[:, ::2])
    with pytest.raises(StoreError, match="cannot be halved"):
        half_bins(half_bins(half_bins(half_bins(made, tmp_path), tmp_path), tmp_path), tmp_path)


def test_every_variant_is_valid_and_of_a_known_group() -> None:
    assert next(iter(ABLATION)) == FULL
    assert not set(ABLATION) & set(FRONT_ENDS)
    groups = dict.fromkeys(variant.columns["group"] for variant in ABLATION.values())
    assert set(groups) == {"reference", *GROUPS} - {"front-ends"}
    described = {
        (make_system("contrastive", variant.params).params.model_dump_json(), variant.share)
        for variant in ABLATION.values()
    }
    same = make_system("contrastive").params
    by_another_name = [
        name
        for name, variant in ABLATION.items()
        if make_system("contrastive", variant.params).params == same and variant.share == 1
    ]
    assert by_another_name == [FULL, "contrast alone", "all levels"]
    assert len(described) == len(ABLATION) - 2


@pytest.mark.slow
def test_an_ablation_is_tidy_resumed_and_names_what_failed(tmp_path: Path) -> None:
    # Two clips a section are too few for three of the back-ends.
    store = make_store(tmp_path / "store", n_train=2, n_test=6)
    told: list[str] = []
    failures: list[str] = []

    def run(**more: Any) -> pd.DataFrame:
        return ablate(
            store.path,
            store.path,
            tmp_path / "out",
            seeds=(3,),
            groups=["data", "back-ends", "front-ends"],
            params=CONTRAST | {"embedding": "encoder", "backend": "knn"},
            processes=1,
            failures=failures,
            on_done=lambda job, result, *_: told.append(f"{job.name}: {result}"),
            **more,
        )

    table = run()
    assert list(table)[:8] == [
        *("group", "variant", "changes", "system", "seed", "machine", "section", "auc")
    ]
    groups = list(dict.fromkeys(table["group"]))
    assert groups == ["reference", "front-ends", "back-ends", "data"]
    assert table["variant"].iloc[0] == FULL
    # What is ``full`` by another name is no variant of it.
    assert "encoder, knn" not in set(table["variant"])
    assert "encoder, class_mean" in set(table["variant"])
    # Presets need the recordings.
    assert set(table[table["group"] == "front-ends"]["changes"]) == {'{"front_end": "half-bins"}'}
    assert len(failures) == sum("needs at least" in line for line in told) > 0
    few = ("local_density_knn", "'mahalanobis'", "selective_mahalanobis")
    assert all(any(name in line for name in few) for line in failures)
    shares = table[table["group"] == "data"]
    assert {json.loads(text)["training_share"] for text in shares["changes"]} == {0.5, 0.25}
    runs = {
        name: json.loads((tmp_path / "out" / "runs" / name / "run.json").read_text())
        for name in table["run"]
    }
    assert {runs[run]["config"]["params"]["epochs"] for run in shares["run"]} == {2, 4}
    assert {runs[run]["network_of"] for run in table[table["group"] == "back-ends"]["run"]} == {
        runs[run]["key"] for run in table[table["variant"] == FULL]["run"]
    }
    pd.testing.assert_frame_equal(run(), table)
    assert set(summarise(table)["machine"]) == {"fan", "pump", "Average"}
    for bad, message in (
        ({"params": {"colour": 1}}, "unknown parameter 'colour'"),
        ({"groups": ["loss"]}, f"unknown group 'loss' .known: {', '.join(GROUPS)}"),
    ):
        with pytest.raises(ConfigError, match=message):
            ablate(store.path, store.path, tmp_path / "bad", processes=1, **bad)
    assert not (tmp_path / "bad").exists()


@pytest.mark.slow
def test_a_crop_is_as_long_in_seconds_with_another_front_end(tmp_path: Path) -> None:
    wav = write_recordings(tmp_path / "wav", n_train=4, n_test=2)
    store = build_store(wav, tmp_path / "store", jobs=1).path
    table = ablate(
        *(store, store, tmp_path / "out"),
        seeds=(0,),
        groups=["front-ends"],
        params=CONTRAST | {"crop_frames": 16},
        wav=wav,
        processes=1,
    )
    runs = table.drop_duplicates("run").set_index("variant")["run"]
    frames = {
        name: load_run(tmp_path / "out" / "runs" / run).record.config.params["crop_frames"]
        for name, run in runs.items()
    }
    # 16 frames of 512 samples, or 51 of 160.
    assert frames == {FULL: 16, "half as many mel bins": 16, "byola front end": 51}


def test_a_summary_pairs_seeds_and_says_what_is_shown() -> None:
    rows = [
        (group, variant, "{}", seed, machine, "Average", auc + shift, auc + shift)
        for group, variant, shift in (("reference", "full", 0.0), ("steps", "less", -0.1))
        for machine in ("fan", "Average")
        for seed, auc in enumerate((0.8, 0.85, 0.9))
    ]
    columns = ["group", "variant", "changes", "seed", "machine", "section", "auc", "pauc"]
    summary = summarise(pd.DataFrame(rows, columns=columns)).set_index(
        ["variant", "machine", "metric"]
    )
    less = summary.loc["less", "fan", "auc"]
    assert less["mean"] == pytest.approx(75.0)
    assert less["difference"] == pytest.approx(-10.0)
    assert less["difference_low"] == pytest.approx(-10.0)
    assert "shown" in less["verdict"]
    assert "not shown" not in less["verdict"]
    assert less["seeds"] == 3
    full = summary.loc["full", "Average", "pauc"]
    assert np.isnan(full["difference"])
    assert full["verdict"] == ""


def test_steps_are_those_of_the_augmentation() -> None:
    described = {make_system("contrastive").params.model_dump_json()}
    for steps in STEPS.values():
        described.add(make_system("contrastive", {"augmentation": steps}).params.model_dump_json())
        assert all(value is False for value in steps.values())
    assert len(described) == len(STEPS) + 1


def test_steps_are_compared_under_each_condition_and_band() -> None:
    rng = np.random.default_rng(0)
    losses = {("as it is", "low", "RRC"): 0.08, ("two domains", "natural", "post-norm"): -0.06}
    rows = [
        (condition, band, step, seed, machine, 0.8 - losses.get((condition, band, step), 0.0) + x)
        for condition, facts in CONDITIONS.items()
        for band in facts.bands
        for seed in range(5)
        for machine in ("fan", "Average")
        for step, x in zip((FULL, *STEPS), 1e-3 * rng.normal(size=6), strict=True)
    ]
    columns = ["condition", "band", "without", "seed", "machine", "auc"]
    table = pd.DataFrame(rows, columns=columns)
    found = summarise_conditions(table)
    assert len(found) == 7 * 2 * (1 + len(STEPS))
    large = found[found["difference"].abs() > 2].set_index(["group", "variant", "machine"])
    assert large["difference"].round().to_dict() == {
        ("as it is, faults low", "without RRC", "fan"): -8,
        ("as it is, faults low", "without RRC", "Average"): -8,
        ("two domains, faults natural", "without post-norm", "fan"): 6,
        ("two domains, faults natural", "without post-norm", "Average"): 6,
    }
    assert large["verdict"].str.endswith(", shown").all()
