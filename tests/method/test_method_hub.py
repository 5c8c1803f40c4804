"""Checkpoints of a public hub: nothing is fetched unasked, licence and size come first."""

from pathlib import Path
from typing import Any

import pytest
from fake_hub import COMMIT, fake_hub

from asdlib.errors import ConfigError, DownloadError, RunError
from asdlib.method.weights import Offer, fetch, offer, weights_folder, weights_sha256

NAME = "lab/tiny-ast"
FILES = {
    "config.json": b'{"model_type": "audio-spectrogram-transformer"}',
    "model.safetensors": b"w" * 1000,
    "pytorch_model.bin": b"p" * 2000,
    "README.md": b"# A model",
}
LICENCE = {"cardData": {"license": "bsd-3-clause"}}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    # Read from the environment only once, when the library is imported.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def agree(offered: Offer) -> bool:
    return True


def test_licence_size_and_version_are_told_before_anything_is_fetched(cache: Path) -> None:
    shown: list[Offer] = []
    with fake_hub(NAME, FILES, **LICENCE) as (address, sent):
        with pytest.raises(DownloadError, match="nothing was fetched"):
            fetch(NAME, confirm=lambda o: bool(shown.append(o)), endpoint=address)
        assert sent == []
    size = len(FILES["config.json"]) + len(FILES["model.safetensors"])
    assert shown == [Offer(NAME, COMMIT, "bsd-3-clause", size)]


@pytest.mark.parametrize(
    ("told", "licence"),
    [({"tags": ["audio", "license:apache-2.0"]}, "apache-2.0"), ({}, "not stated")],
)
def test_the_licence_of_a_tag_or_none(told: dict[str, Any], licence: str) -> None:
    with fake_hub(NAME, FILES, **told) as (address, _):
        assert offer(NAME, endpoint=address).licence == licence


def test_only_what_is_needed_is_fetched_and_then_found_without_the_hub(cache: Path) -> None:
    with pytest.raises(RunError, match=f"fetch them with asd weights {NAME}"):
        weights_folder(NAME)
    with fake_hub(NAME, FILES, **LICENCE) as (address, sent):
        folder = fetch(NAME, confirm=agree, endpoint=address)
        assert sorted(sent) == ["config.json", "model.safetensors"], "no pickle"
        assert fetch(NAME, confirm=agree, endpoint=address) == folder
        assert len(sent) == 2, "nothing twice"
    assert weights_folder(NAME) == folder
    assert (folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert len(weights_sha256(folder)) == 64
    with pytest.raises(RunError, match=f"asd weights {NAME} --revision v2"):
        weights_folder(NAME, "v2")


def test_what_the_hub_does_not_have_is_told() -> None:
    with fake_hub(NAME, FILES, **LICENCE) as (address, _):
        with pytest.raises(DownloadError, match="'lab/none' is not on the hub; check the name"):
            fetch("lab/none", confirm=agree, endpoint=address)
        with pytest.raises(DownloadError, match="is not on the hub in revision 'v2'"):
            fetch(NAME, "v2", confirm=agree, endpoint=address)
    pickles = {name: FILES[name] for name in ("config.json", "pytorch_model.bin")}
    with (
        fake_hub(NAME, pickles, **LICENCE) as (address, _),
        pytest.raises(DownloadError, match="has no safetensors file"),
    ):
        fetch(NAME, confirm=agree, endpoint=address)
    with pytest.raises(ConfigError, match="expected owner/name"):
        offer("no-owner")


def test_without_a_connection_the_error_is_one_line() -> None:
    with fake_hub(NAME, FILES) as (address, _):
        pass
    with pytest.raises(DownloadError, match="cannot be fetched .*check the connection") as raised:
        offer(NAME, endpoint=address)
    assert "\n" not in str(raised.value)
