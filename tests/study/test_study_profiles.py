"""Profiles and the study that notebooks talk to, on a store."""

from pathlib import Path

import pandas as pd
import pytest
from study_stores import QUICK, make_store

from asdlib.errors import ConfigError
from asdlib.features import FeatureStore
from asdlib.study import ABLATION, Study, Variant, load_run
from asdlib.study.config import make_system
from asdlib.study.profiles import PROFILES, Profile, get_profile, merge


def test_the_profiles_of_the_contract() -> None:
    assert set(PROFILES) == {"smoke", "classroom", "toycar", "dcase2020", "dcase2022"}
    for name, profile in PROFILES.items():
        assert profile.name == name
        assert get_profile(name) is profile
        assert profile.kind == ("synthetic" if name in ("smoke", "classroom") else "real")


def test_an_unknown_profile_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown profile 'huge' \(known: smoke, classroom"):
        get_profile("huge")


@pytest.mark.parametrize("name", sorted(PROFILES))
def test_every_parameter_of_a_profile_is_valid(name: str) -> None:
    profile = PROFILES[name]
    for system in profile.params:
        make_system(system, profile.params_of(system))
    base = profile.params_of("contrastive", profile.ablation_params)
    steps = ("reference", "steps", "mixing")
    for variant in (v for v in ABLATION.values() if v.columns["group"] in steps):
        make_system("contrastive", merge(base, variant.params))


def test_claims_have_several_seeds() -> None:
    for profile in PROFILES.values():
        for seeds in (profile.seeds, profile.domain_seeds, profile.ablation_seeds):
            assert len(set(seeds)) == len(seeds) >= 2


def test_a_profile_refuses_unknown_fields() -> None:
    with pytest.raises(ValueError, match="extra"):
        Profile.model_validate(PROFILES["smoke"].model_dump() | {"colour": "red"})


def test_merge_goes_down_and_changes_nothing() -> None:
    base = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": {"g": 4}}
    changes = {"b": {"c": 5, "d": {"h": 6}}, "f": 7, "i": {"j": 8}}
    merged = merge(base, changes)
    assert merged == {"a": 1, "b": {"c": 5, "d": {"e": 3, "h": 6}}, "f": 7, "i": {"j": 8}}
    assert base == {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": {"g": 4}}
    assert merge(base, {}) == base


@pytest.mark.parametrize(
    ("name", "needs"), [("toycar", "store=PATH"), ("dcase2020", "data_root=PATH")]
)
def test_a_profile_says_what_it_needs(name: str, needs: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=needs):
        Study(name, tmp_path)


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
    with pytest.raises(ConfigError, match="no recordings of 2022"):
        study.compare_domains()
    assert study.listening_examples("fan") == {}
    (name, (log_mel, front_end)) = next(iter(study.front_end_examples().items()))
    assert name == "the store's own"
    assert log_mel.shape == (16, 24)
    assert front_end.hop_length == 256
    assert study.crop_frames == make_system("contrastive").params.crop_frames  # type: ignore[attr-defined]


def test_a_study_runs_once(study: Study) -> None:
    result = study.run("statistics")
    assert not result.cached
    assert study.run("statistics").cached
    assert result.path.parent == study.root / "runs"
    assert study.run("statistics", params={"statistics": "mean+deviation"}).path != result.path


def test_an_experiment_lies_over_the_profile(
    study: Study, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = study.profile.model_copy(update={"params": QUICK, "seeds": (0, 1)})
    monkeypatch.setattr(study, "profile", profile)
    no_mixup = {"augmentation": {"mixup": False}}
    variants = {
        "contrastive": no_mixup,
        "one seed": Variant(params={"temperature": 0.2}, seeds=(5,), columns={"why": "hot"}),
    }
    table = study.experiment(variants, machines=("fan",), params={"epochs": 2})
    runs = table.drop_duplicates("run").set_index(["variant", "seed"])["run"]
    assert list(runs.index) == [*(("contrastive", 0), ("contrastive", 1), ("one seed", 5))]
    records = {key: load_run(run).record["config"] for key, run in runs.items()}
    for key, config in records.items():
        assert config["machines"] == ["fan"]
        assert config["train_fingerprint"] == store.fingerprint
        params = config["params"]
        assert (params["epochs"], params["crop_frames"]) == (2, 8)
        assert params["augmentation"]["mixup"] == (key[0] == "one seed")
    assert set(table["why"].dropna()) == {"hot"}
    found = study.experiment({"statistics": Variant("statistics")})["run"].unique()
    assert [study.run("statistics").path.as_posix()] == list(found)


def test_a_table_is_kept(study: Study) -> None:
    table = pd.DataFrame({"a": [1.5], "b": ["x"]})
    path = study.save_table(table, "numbers")
    assert path == study.root / "results" / "numbers.csv"
    pd.testing.assert_frame_equal(pd.read_csv(path), table)
    assert [file.name for file in path.parent.iterdir()] == ["numbers.csv"]


def test_two_domains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = make_store(tmp_path / "store", year=2022)
    profile = PROFILES["toycar"].model_copy(
        update={"years": (2022,), "domain_seeds": (0,), "params": QUICK}
    )
    monkeypatch.setitem(PROFILES, "toycar", profile)
    study = Study("toycar", tmp_path, store=store.path, processes=1)
    table = study.compare_domains()
    assert {"auc_source", "auc_target"} <= set(table)
    assert table["variant"].unique().tolist() == [
        "statistics",
        "autoencoder",
        "contrastive",
        "cross-domain",
    ]
