"""Models that are missing, damaged or another system's are told in one line, for every system."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from study_stores import QUICK

from asdlib.errors import RunError
from asdlib.features import FeatureStore
from asdlib.study.config import make_system, system_class


@pytest.fixture(scope="module", params=sorted(QUICK))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from study_stores import make_manifest, make_store

    name = str(request.param)
    folder = tmp_path_factory.mktemp(name)
    store: FeatureStore = make_store(folder / "store", make_manifest())
    make_system(name, QUICK[name]).fit(store.rows(split="train")).save(folder / name)
    return folder / name


def change(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    tensors.popitem()
    save_file(tensors, path)


def of_another_size(path: Path) -> None:
    save_file({k: torch.zeros((3, *v.shape)) for k, v in load_file(path).items()}, path)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "no folder": shutil.rmtree,
    "no model.json": lambda at: (at / "model.json").unlink(),
    "no numbers": lambda at: (at / "model.safetensors").unlink(),
    "cut description": lambda at: (at / "model.json").write_text('{"system": "con'),
    "no bytes of text": lambda at: (at / "model.json").write_bytes(b"\xff\xfe\x00"),
    "a list": lambda at: (at / "model.json").write_text("[1, 2]"),
    "an empty object": lambda at: (at / "model.json").write_text("{}"),
    "another system": lambda at: change(at / "model.json", system="diffusion"),
    "an unknown parameter": lambda at: change(at / "model.json", params={"foo": 1}),
    "no sections": lambda at: change(at / "model.json", sections=None),
    "empty numbers": lambda at: (at / "model.safetensors").write_bytes(b""),
    "cut numbers": lambda at: (at / "model.safetensors").write_bytes(
        (at / "model.safetensors").read_bytes()[:300]
    ),
    "a tensor less": lambda at: without_a_tensor(at / "model.safetensors"),
    "other sizes": lambda at: of_another_size(at / "model.safetensors"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_told_in_one_line(saved: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    DAMAGES[damage](folder)
    with pytest.raises(RunError) as told:
        system_class(saved.name).load(folder)
    message = str(told.value)
    assert f"'{folder}" in message
    assert "\n" not in message
    assert "train again" in message or "load it with its own class" in message
