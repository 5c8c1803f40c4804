"""Pre-training and public checkpoints as a user types them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from asd_process import Outcome
from study_stores import QUICK, set_arguments, write_recordings

from asdlib.study import load_run

Asd = Callable[..., Outcome]
CROPS = ["--set", "crop_frames=8", "--set", "batch_size=8"]


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """Recordings in no official layout; one is too short to cut a crop from."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "audio" / "nested"
    folder.mkdir(parents=True)
    for i in range(6):
        samples = rng.normal(scale=0.1, size=3000 if i == 0 else 16000)
        soundfile.write(folder / f"clip {i}.flac", samples, 16000)
    return folder.parent


def test_from_any_audio_to_a_run_that_starts_from_it(asd: Asd, audio: Path, tmp_path: Path) -> None:
    general, encoder = tmp_path / "general", tmp_path / "encoder"
    assert "official layout" not in asd("features", audio, general, "--any-layout").success.err
    command = ["pretrain", general, "--out", encoder, "--epochs", 1, "--seed", 3, *CROPS]
    told = asd(*command).success
    assert "trained on 5 clips" in told.out
    assert "1 clips are shorter than crop_frames=8" in told.err
    assert "found, not computed again" in asd(*command).success.out
    assert "another seed" in asd(*command, "--set", "temperature=0.5").error

    store = tmp_path / "store"
    asd("features", write_recordings(tmp_path / "wav"), store).success  # noqa: B018
    run = ["run", "contrastive", "--train", store, "--test", store, "--out", tmp_path / "run"]
    run += set_arguments(QUICK["contrastive"] | {"pretrained": str(encoder)})
    asd(*run).success  # noqa: B018
    params = load_run(tmp_path / "run").record.config.params
    assert params["pretrained"]["source"] == str(encoder)
    assert len(params["pretrained"]["sha256"]) == 64
    assert "found, not computed again" in asd(*run).success.out

    # Other weights under the same name are another run.
    shutil.rmtree(encoder)
    asd(*command[:-4], *CROPS, "--seed", 4).success  # noqa: B018
    assert "holds another run" in asd(*run).error


def test_errors_of_pre_training(asd: Asd, store: Path, tmp_path: Path) -> None:
    command = ["pretrain", store, "--out", tmp_path / "encoder", *CROPS]
    assert (
        "input should be 'nt_xent'" in asd(*command, "--set", "loss=supervised_contrastive").error
    )
    assert "not known" in asd(*command, "--encoder", "wavenet").error
    assert "needs weights" in asd(*command, "--encoder", "ast").error
    assert not (tmp_path / "encoder").exists()
    run = ["run", "contrastive", "--train", store, "--test", store, "--out", tmp_path / "run"]
    told = asd(*run, "--set", "pretrained=nowhere").error
    assert "weights 'nowhere' are not there" in told


def test_weights_shows_licence_and_size_and_asks(
    asd: Asd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asdlib.method import weights

    folder = tmp_path / "fetched"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({}))
    (folder / "model.safetensors").write_bytes(b"w")
    asked: list[Any] = []

    def offer(name: str, revision: str | None, *, endpoint: str | None = None) -> Any:
        asked.append((name, revision))
        return weights.Offer(name, folder.name, "bsd-3-clause", 22_400_000)

    monkeypatch.setattr(weights, "offer", offer)
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    told = asd("weights", "lab/ast", "--revision", "v1", "--yes").success
    assert asked == [("lab/ast", "v1")]
    assert "lab/ast, version fetched: 22.4 MB, licence bsd-3-clause" in told.out
    assert str(folder) in told.out
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    refused = asd("weights", "lab/ast")
    assert refused.code == 1
    assert "nothing was fetched" in refused.err
