"""Folders of audio that follow no official layout."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdlib.data import COLUMNS, index_any_folder
from asdlib.errors import DataError
from asdlib.features.build import build_store


def write(path: Path, seconds: float = 0.5) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(len(path.name))
    soundfile.write(path, rng.normal(scale=0.1, size=int(16000 * seconds)), 16000)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("b/--5xOcMJpTUk.wav", "a.flac", "b/a.flac", "c/d/Noise 3.WAV", ".hidden/x.wav"):
        write(tmp_path / "audio" / name)
    (tmp_path / "audio" / "list.csv").write_text("a,b\n")
    return tmp_path / "audio"


def test_every_recording_is_a_training_clip_of_one_machine(root: Path) -> None:
    table = index_any_folder(root)
    assert tuple(table) == COLUMNS
    assert table["path"].tolist() == ["a.flac", "b/--5xOcMJpTUk.wav", "b/a.flac", "c/d/Noise 3.WAV"]
    assert table["clip"].tolist() == table["path"].tolist()
    assert set(table["machine"] + table["section"] + table["split"]) == {"audio00train"}
    assert set(table["label"] + table["domain"]) == {""}
    assert table["index"].tolist() == [0, 1, 2, 3]


def test_it_becomes_a_store(root: Path, tmp_path: Path) -> None:
    store = build_store(root, tmp_path / "store", table=index_any_folder(root), jobs=1)
    assert len(store.rows(split="train", machine="audio")) == 4
    assert store.frames.tolist() == [16] * 4


def test_a_folder_without_audio_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no \.wav or \.flac file"):
        index_any_folder(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        index_any_folder(tmp_path / "nothing")
