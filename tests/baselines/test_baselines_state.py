import json
from pathlib import Path

import pytest
import torch

from asdlib.baselines import Autoencoder, TimeStatistics
from asdlib.baselines.state import load_state, save_state, write_bytes
from asdlib.errors import RunError


def test_round_trip(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6).reshape(2, 3).T, "b": torch.tensor(1.5, dtype=torch.float64)}
    save_state(tmp_path / "new" / "model", "statistics", tensors, {"seed": 4})
    again, facts = load_state(tmp_path / "new" / "model", "statistics")
    assert all(torch.equal(again[name], tensors[name]) for name in tensors)
    assert facts["seed"] == 4


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_bytes(tmp_path / "file", b"content")
    assert not list(tmp_path.iterdir())


def test_another_system(tmp_path: Path) -> None:
    save_state(tmp_path, "statistics", {}, {})
    with pytest.raises(RunError, match="holds system 'statistics'.*expected 'autoencoder'"):
        Autoencoder.load(tmp_path)


def test_no_model(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no readable model"):
        TimeStatistics.load(tmp_path)


def test_numbers_of_another_model(tmp_path: Path) -> None:
    save_state(tmp_path / "a", "statistics", {"x": torch.zeros(2)}, {})
    save_state(tmp_path / "b", "statistics", {"x": torch.ones(2)}, {})
    (tmp_path / "b" / "model.safetensors").replace(tmp_path / "a" / "model.safetensors")
    with pytest.raises(RunError, match=r"does not belong to model.json"):
        load_state(tmp_path / "a", "statistics")


def test_model_json_is_readable(tmp_path: Path) -> None:
    save_state(tmp_path, "statistics", {}, {"params": {"statistics": "mean"}})
    about = json.loads((tmp_path / "model.json").read_text())
    assert (about["system"], about["params"]["statistics"]) == ("statistics", "mean")
