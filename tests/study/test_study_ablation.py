"""The ablation: one declared table, networks taken instead of trained again, honest summaries."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from study_stores import QUICK, make_store

from asdlib.errors import ConfigError
from asdlib.study import ABLATION, ablation, experiment
from asdlib.study.config import make_system
from asdlib.study.experiment import FULL, GROUPS, share_of_training, summarise

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


def test_every_variant_is_valid_and_of_a_known_group() -> None:
    assert next(iter(ABLATION)) == FULL
    groups = dict.fromkeys(variant.columns["group"] for variant in ABLATION.values())
    assert set(groups) == {"reference", *GROUPS}
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
        params = CONTRAST | {"embedding": "encoder", "backend": "knn"}
        return experiment(
            ablation(["data", "back-ends"], params),
            tmp_path / "out",
            train=store,
            seeds=(3,),
            processes=1,
            failures=failures,
            on_done=lambda name, result, *_: told.append(f"{name}: {result}"),
            **more,
        )

    table = run()
    assert list(table)[:8] == [
        *("group", "changes", "variant", "system", "seed", "machine", "section", "auc")
    ]
    groups = list(dict.fromkeys(table["group"]))
    assert groups == ["reference", "back-ends", "data"]
    assert table["variant"].iloc[0] == FULL
    # What is ``full`` by another name is no variant of it.
    assert "encoder, knn" not in set(table["variant"])
    assert "encoder, class_mean" in set(table["variant"])
    assert len(failures) == sum("needs at least" in line for line in told) > 0
    few = ("local_density_knn", "'mahalanobis'", "selective_mahalanobis")
    assert all(any(name in line for name in few) for line in failures)
    shares = table[table["group"] == "data"]
    assert {json.loads(text)["training_share"] for text in shares["changes"]} == {0.5, 0.25}
    runs = {name: json.loads((Path(name) / "run.json").read_text()) for name in table["run"]}
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
            ablation(**bad)
