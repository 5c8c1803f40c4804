"""Configuration: overrides from the command line, validation, and the key of a run."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

import asdlib
from asdlib.errors import ConfigError
from asdlib.study import config
from asdlib.study.config import (
    SYSTEMS,
    RunConfig,
    code_version,
    make_system,
    parse_overrides,
    system_class,
)

VALUES: dict[str, Any] = {
    "system": "contrastive",
    "params": {"epochs": 3, "augmentation": {"mixup": True, "mix_alpha": 0.4}},
    "seed": 0,
    "train_fingerprint": "a" * 64,
    "test_fingerprint": "b" * 64,
    "machines": ("fan", "pump"),
    "code_version": "0.1.0+123456789abc",
    "device": "cpu",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def test_values_are_json_where_they_are_json_and_text_otherwise() -> None:
    pairs = ["a=3", "b=0.1", "c=true", "d=null", "e=[1, 2]", "f=text", "g=a=b", "h=", "i=1e-3"]
    assert parse_overrides(pairs) == {
        "a": 3,
        "b": 0.1,
        "c": True,
        "d": None,
        "e": [1, 2],
        "f": "text",
        "g": "a=b",
        "h": "",
        "i": 1e-3,
    }
    assert parse_overrides([]) == {}


def test_dots_go_down() -> None:
    pairs = ["augmentation.mixup=false", " augmentation.rrc =true", "x.y.z=1"]
    assert parse_overrides(pairs) == {
        "augmentation": {"mixup": False, "rrc": True},
        "x": {"y": {"z": 1}},
    }


def test_a_pair_without_key_or_equals_sign_is_refused() -> None:
    for pair in ["epochs", "=3", " =3", ""]:
        with pytest.raises(ConfigError, match="is not of the form key=value"):
            parse_overrides([pair])


TWICE = [
    ["a=1", "a=2"],
    ["a.b=1", "a.b=1"],
    ["a.b=1", "a=2"],
    ["a=1", "a.b=2"],
    ['a={"b":1}', "a.b=2"],
]


def test_a_key_that_is_set_twice_is_refused() -> None:
    for pairs in TWICE:
        with pytest.raises(ConfigError, match=r"set twice|both set"):
            parse_overrides(pairs)


@given(st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), JSON, max_size=4))
def test_what_json_says_comes_back(values: dict[str, Any]) -> None:
    assert parse_overrides(f"{k}={json.dumps(v)}" for k, v in values.items()) == values


@given(st.lists(st.text(max_size=12), max_size=4))
def test_any_text_is_parsed_or_refused(pairs: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        assert bool(parse_overrides(pairs)) == bool(pairs)


def test_an_unknown_parameter_lists_the_known_ones() -> None:
    params = system_class("statistics").Params
    with pytest.raises(ConfigError) as caught:
        make_system("statistics", {"epoch": 3})
    known = ", ".join(sorted(params.model_fields))
    assert str(caught.value) == f"unknown parameter 'epoch' of statistics (known: {known})"


def test_an_unknown_parameter_with_a_near_name_is_asked_about() -> None:
    for params, message in (
        ({"epoch": 3}, "unknown parameter 'epoch' of contrastive (did you mean 'epochs'?)"),
        (
            {"augmentation": {"mixing_up": 1}},
            "unknown parameter 'augmentation.mixing_up' of contrastive (did you mean 'mixing'?)",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            make_system("contrastive", params)
        assert str(caught.value) == message
    with pytest.raises(ConfigError, match=r"'augmentation.colour' of contrastive \(known: .*mixup"):
        make_system("contrastive", {"augmentation": {"colour": 1}})


def test_values_and_names_that_are_nested_without_end_are_refused() -> None:
    deep = "[" * 100_000 + "]" * 100_000
    with pytest.raises(ConfigError, match="epochs=.* is refused") as caught:
        make_system("contrastive", parse_overrides([f"epochs={deep}"]))
    assert len(str(caught.value)) < 400
    with pytest.raises(ConfigError, match="has more than 8 dots; name a parameter"):
        parse_overrides([".".join("a" * 5000) + "=1"])
    assert parse_overrides(["a=" + "9" * 5000]) == {"a": "9" * 5000}


BAD = [
    ({"epochs": "many"}, "epochs='many'"),
    ({"epochs": -1}, "epochs=-1"),
    ({"epochs": 1.5}, "epochs=1.5"),
    ({"temperature": 0}, "temperature=0"),
    ({"temperature": float("nan")}, "temperature=nan"),
    ({"temperature": float("inf")}, "temperature=inf"),
    ({"learning_rate": float("inf")}, "learning_rate=inf"),
    ({"loss": "triplet"}, "loss='triplet'"),
    ({"augmentation": {"mix_alpha": 2}}, "augmentation.mix_alpha=2"),
    ({"augmentation": 3}, "augmentation=3"),
    ({"encoder": "resnet"}, "encoder='resnet'"),
    ({"backend": "forest"}, "backend='forest'"),
    ({"backend": "knn", "backend_params": {"k": 0}}, "backend_params={'k': 0}"),
    ({"backend": "knn", "backend_params": {"n": 3}}, "backend_params={'n': 3}"),
    ({"backend_params": {"levels": ["encoder"]}}, "backend_params={'levels': ['encoder']}"),
    (
        {"loss": "nt_xent", "cross_domain": True},
        "value={'loss': 'nt_xent', 'cross_domain': True}",
    ),
]


def test_a_bad_value_is_named_with_what_is_expected() -> None:
    for values, named in BAD:
        with pytest.raises(ConfigError) as caught:
            make_system("contrastive", values)
        assert str(caught.value).startswith(f"contrastive: {named} is refused: ")
        assert "\n" not in str(caught.value)


def test_an_unknown_part_lists_the_known_ones() -> None:
    for key, known in [("encoder", "small_cnn"), ("backend", "mahalanobis")]:
        with pytest.raises(ConfigError, match=rf"known: .*{known}"):
            make_system("contrastive", {key: "none such"})


def test_an_unknown_system_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown system 'svm' \(known: autoencoder"):
        system_class("svm")


def test_every_system_is_built_with_its_defaults() -> None:
    for name in sorted(SYSTEMS):
        system = make_system(name, seed=7)
        assert system.name == name
        assert system.seed == 7
        described = system.params.model_dump(mode="json")
        again = make_system(name, json.loads(json.dumps(described)))
        assert again.params == system.params


def test_every_parameter_is_described() -> None:
    for name in sorted(SYSTEMS):
        for field, info in system_class(name).Params.model_fields.items():
            assert info.description, field


def test_the_key_is_a_sha256_and_does_not_depend_on_order() -> None:
    key = RunConfig(**VALUES).key
    assert len(key) == 64
    assert int(key, 16) >= 0
    turned = {
        k: dict(reversed(v.items())) if isinstance(v, dict) else v
        for k, v in reversed(VALUES.items())
    }
    assert RunConfig(**turned).key == key


def test_the_key_is_the_same_in_every_process_and_version() -> None:
    golden = "e63ba4f6bc0bbc6d311359ff3d8425b000f9eb87a37975ff6257cd99517b1f01"
    assert RunConfig(**VALUES).key == golden


CHANGES = [
    {"system": "autoencoder"},
    {"params": {"epochs": 4, "augmentation": {"mixup": True, "mix_alpha": 0.4}}},
    {"params": {"epochs": 3, "augmentation": {"mixup": False, "mix_alpha": 0.4}}},
    {"params": {}},
    {"seed": 1},
    {"train_fingerprint": "b" * 64},
    {"test_fingerprint": "a" * 64},
    {"machines": ("fan",)},
    {"machines": None},
    {"code_version": "0.1.0+123456789abd"},
    {"device": "cuda"},
    {"network_of": "c" * 64},
]


def test_the_key_changes_with_everything_that_decides_scores() -> None:
    for change in CHANGES:
        assert RunConfig(**(VALUES | change)).key != RunConfig(**VALUES).key


@given(JSON, JSON)
def test_keys_are_equal_only_for_equal_values(a: Any, b: Any) -> None:
    keys = [RunConfig(**(VALUES | {"params": {"value": v}})).key for v in (a, b)]
    # 1, 1.0 and true are equal in Python and not in JSON.
    assert (keys[0] == keys[1]) == (json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True))


def test_a_configuration_refuses_unknown_fields() -> None:
    with pytest.raises(ValueError, match="extra"):
        RunConfig(**VALUES, colour="red")


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a copy of the library that stands in for it."""
    copy = tmp_path / "asdlib"
    shutil.copytree(Path(asdlib.__file__).parent, copy, ignore=shutil.ignore_patterns("*.pyc"))
    monkeypatch.setattr(config.asdlib, "__file__", str(copy / "__init__.py"))
    return copy


def version_now() -> str:
    return code_version.__wrapped__()


def test_the_code_version_names_the_package_version(sources: Path) -> None:
    number, plus, digest = version_now().partition("+")
    assert number == asdlib.__version__.partition("+")[0]
    assert plus
    assert digest
    assert version_now() == version_now()


def test_the_code_version_follows_the_sources_that_decide_scores(sources: Path) -> None:
    for file in ["system.py", "features/logmel.py", "method/losses.py", "baselines/windows.py"]:
        before = version_now()
        with (sources / file).open("a") as stream:
            stream.write("\n")
        assert version_now() != before


def test_the_code_version_leaves_out_what_does_not(sources: Path) -> None:
    for file in ["cli.py", "plots/figures.py", "study/report.py"]:
        before = version_now()
        with (sources / file).open("a") as stream:
            stream.write("\n")
        assert version_now() == before


def test_a_renamed_module_is_another_version(sources: Path) -> None:
    before = version_now()
    (sources / "method" / "losses.py").rename(sources / "method" / "lozzes.py")
    assert version_now() != before
