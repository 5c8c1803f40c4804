"""Binder and Colab: what they install is what the project declares."""

import os
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_binder_installs_the_locked_library_with_the_extra_of_the_book() -> None:
    conda = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text(encoding="utf-8"))
    root = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    own = [d for d in root["dependencies"] if isinstance(d, str)]
    assert conda["dependencies"] == own
    assert conda["channels"] == root["channels"]
    script = ROOT / "binder" / "postBuild"
    assert os.access(script, os.X_OK)
    text = script.read_text(encoding="utf-8")
    assert '--constraint requirements.lock --editable ".[book]"' in text
    assert "asd study --profile smoke --only 11" in text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "book" in project["optional-dependencies"]


def test_buttons_are_switched_on_for_the_repository_of_the_settings() -> None:
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    assert config["repository"]["url"].startswith("https://github.com/")
    assert config["repository"]["branch"]
    assert {"colab_url", "binderhub_url"} <= set(config["launch_buttons"])
