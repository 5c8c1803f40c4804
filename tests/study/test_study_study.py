"""Profiles and the study that notebooks talk to, on a store."""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from study_stores import QUICK, make_store, write_recordings

from asdlib.errors import ConfigError
from asdlib.features import FeatureStore, build
from asdlib.study import ABLATION, Study, Variant, load_run, project_folder
from asdlib.study.config import make_system, merge
from asdlib.study.study import PROFILES, get_profile


def test_a_profile_has_several_seeds_and_valid_parameters() -> None:
    for name in sorted(PROFILES):
        profile = PROFILES[name]
        assert get_profile(name) is profile
        assert profile.kind == ("synthetic" if name in ("smoke", "classroom") else "real")
        assert len(set(profile.seeds)) == len(profile.seeds) >= 2
        for system, params in profile.params.items():
            make_system(system, params)
        base = profile.params.get("contrastive", {})
        steps = ("reference", "steps", "mixing")
        for variant in (v for v in ABLATION.values() if v.columns["group"] in steps):
            make_system("contrastive", merge(base, variant.params))


def test_a_study_names_what_it_lacks(tmp_path: Path) -> None:
    official = {f"dcase{year}" for year in range(2020, 2027)}
    assert set(PROFILES) == {"smoke", "classroom", "toycar"} | official
    for name, message in (
        ("huge", r"unknown profile 'huge' \(known: smoke, classroom"),
        ("toycar", "store=PATH"),
        ("dcase2020", "data_root=PATH"),
    ):
        with pytest.raises(ConfigError, match=message):
            Study(name, tmp_path)
    # Before the first of two dozen notebooks runs into it.
    gone = tmp_path / "gone"
    for name, given in (("toycar", {"store": gone}), ("dcase2020", {"data_root": gone})):
        with pytest.raises(ConfigError, match=r"'.*gone' is no folder; give one that exists"):
            Study(name, tmp_path, **given)  # type: ignore[arg-type]


def test_merge_goes_down_and_changes_nothing() -> None:
    base = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": {"g": 4}}
    changes = {"b": {"c": 5, "d": {"h": 6}}, "f": 7, "i": {"j": 8}}
    merged = merge(base, changes)
    assert merged == {"a": 1, "b": {"c": 5, "d": {"e": 3, "h": 6}}, "f": 7, "i": {"j": 8}}
    assert base == {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": {"g": 4}}


@pytest.fixture
def study(store: FeatureStore, tmp_path: Path) -> Study:
    return Study("toycar", tmp_path / "workspace", store=store.path, processes=1)


def test_a_study_of_a_store(study: Study, store: FeatureStore, tmp_path: Path) -> None:
    assert study.root == tmp_path / "workspace" / "toycar"
    assert study.year == 2020
    assert study.has(2020)
    assert not study.has(2022)
    assert study.store().fingerprint == store.fingerprint
    with pytest.raises(ConfigError, match="no recordings of 2022"):
        study.store(2022)
    with pytest.raises(ConfigError, match="has no recordings"):
        study.recordings()
    assert study.crop_frames == make_system("contrastive").params.crop_frames  # type: ignore[attr-defined]


def test_a_study_runs_once(study: Study) -> None:
    result = study.run("statistics")
    assert not result.cached
    assert study.run("statistics").cached
    assert result.path.parent == study.root / "runs"
    assert study.run("statistics", params={"statistics": "mean+deviation"}).path != result.path


@pytest.mark.slow
def test_an_experiment_lies_over_the_profile(
    study: Study, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = replace(study.profile, params=QUICK, seeds=(0, 1))
    monkeypatch.setattr(study, "profile", profile)
    no_mixup = Variant(params={"augmentation": {"mixup": False}})
    variants = {
        "contrastive": no_mixup,
        "one seed": Variant(params={"temperature": 0.2}, seeds=(5,), columns={"why": "hot"}),
    }
    table = study.experiment(variants, machines=("fan",), params={"epochs": 2})
    runs = table.drop_duplicates("run").set_index(["variant", "seed"])["run"]
    assert list(runs.index) == [*(("contrastive", 0), ("contrastive", 1), ("one seed", 5))]
    records = {key: load_run(run).record.config for key, run in runs.items()}
    for key, config in records.items():
        assert config.machines == ("fan",)
        assert config.train_fingerprint == store.fingerprint
        params = config.params
        assert (params["epochs"], params["crop_frames"]) == (2, 8)
        assert params["augmentation"]["mixup"] == (key[0] == "one seed")
    assert set(table["why"].dropna()) == {"hot"}
    # Changes of all variants are those of the contrastive ones.
    other = study.experiment({"statistics": Variant("statistics")}, params={"epochs": 2})
    found = other["run"].unique()
    assert [study.run("statistics").path.as_posix()] == list(found)


def test_a_table_is_kept(study: Study) -> None:
    table = pd.DataFrame({"a": [1.5], "b": ["x"]})
    path = study.save_table(table, "numbers")
    assert path == study.root / "results" / "numbers.csv"
    pd.testing.assert_frame_equal(pd.read_csv(path), table)
    assert [file.name for file in path.parent.iterdir()] == ["numbers.csv"]


@pytest.mark.slow
def test_a_variant_may_have_the_layout_of_2022(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = make_store(tmp_path / "store", year=2022)
    profile = replace(PROFILES["toycar"], years=(2022,), params=QUICK)
    monkeypatch.setitem(PROFILES, "toycar", profile)
    study = Study("toycar", tmp_path, store=store.path, processes=1)
    variants = {
        "statistics": Variant("statistics"),
        "cross-domain": Variant(params={"cross_domain": True}),
    }
    table = study.experiment(variants, year=2022, seeds=(0,))
    assert {"auc_source", "auc_target"} <= set(table)
    assert list(dict.fromkeys(table["variant"])) == list(variants)


def test_two_notebooks_build_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_recordings(tmp_path / "wav")
    monkeypatch.setattr(Study, "recordings", lambda self, year=None: root)
    slowly = build._fill

    def build_slowly(*args: Any) -> None:
        time.sleep(0.5)
        slowly(*args)

    monkeypatch.setattr(build, "_fill", build_slowly)
    studies = [Study("smoke", tmp_path / "workspace", processes=1) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(lambda study: study.store(2020), studies))
    assert stores[0].fingerprint == stores[1].fingerprint


def test_stores_of_synthetic_machines_go_by_name_and_keywords(tmp_path: Path) -> None:
    study = Study("smoke", tmp_path, processes=1)
    spec = {"machines": ("fan",), "n_sections": 1, "n_train": 2, "seconds": 1.0}
    spec |= {"n_test_normal": 1, "n_test_anomaly": 2}
    low, again, high = (
        study.synthetic_store("faults", band=band, **spec) for band in ("low", "low", "high")
    )
    assert low.path == again.path != high.path
    assert low.path.parent == study.root / "stores"
    assert low.path.name.startswith("faults-")
    counts = low.manifest.groupby(["split", "label"]).size().to_dict()
    assert counts == {("test", "anomaly"): 2, ("test", "normal"): 1, ("train", "normal"): 2}
    # The clips are the same but for the band of the faults.
    for label, same in (("normal", True), ("anomaly", False)):
        a, b = (next(s.rows(split="test", label=label).batches(9))[1] for s in (low, high))
        assert np.array_equal(a, b) == same
    with pytest.raises(ConfigError, match="unknown parameter 'bands' of a synthetic store"):
        study.synthetic_store("faults", bands="low")


def test_the_workspace_is_that_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert project_folder() == tmp_path / "notebooks"
    (tmp_path / "_toc.yml").write_text("")
    assert project_folder() == tmp_path
    assert Study("smoke").root == tmp_path / "build" / "study" / "smoke"
