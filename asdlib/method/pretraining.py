"""Self-supervised pre-training of our own encoders, on any recordings.

The paper pre-trains on AudioSet [P]; how, it does not say [O]. Here the same augmentation makes two
views of each crop, and NT-Xent asks the encoder to find the other view among all crops of the
batch, without labels. A contrastive training then starts from its weights, ``pretrained=FOLDER``.

A folder holds ``encoder.safetensors``, ``encoder.json`` (architecture, front end, parameters, seed,
origin) and ``training.csv`` (loss of every step).
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import Field
from safetensors.torch import save

import asdlib
from asdlib.errors import RunError
from asdlib.features import FeatureStore, Rows
from asdlib.files import only_process, whole_folder
from asdlib.method.contrastive import Contrastive, ContrastiveParams
from asdlib.method.pretrained import DESCRIPTION, WEIGHTS, read_description
from asdlib.system import Count, Progress, validate_params


class PretrainingParams(ContrastiveParams):
    """Parameters of a pre-training: no classes, and random weights to begin with."""

    loss: Literal["nt_xent"] = "nt_xent"
    classifier: Literal["none"] = "none"
    pretrained: None = None
    epochs: Count = Field(48, description="passes over the clips, fixed [O]")


@dataclass(frozen=True)
class Pretrained:
    """Folder of a pre-training, its ``encoder.json``, and whether it was there already."""

    path: Path
    description: dict[str, Any]
    cached: bool


def pretrain(
    store: str | Path,
    out: str | Path,
    *,
    seed: int = 0,
    progress: Progress | None = None,
    **params: Any,
) -> Pretrained:
    """Train an encoder on the training clips of a store, without looking at any label.

    An interrupted training goes on from its last finished epoch.

    Parameters
    ----------
    store
        Feature store; anomalies, test clips and clips shorter than a crop are left out.
    out
        Folder of the encoder, made by it; one that holds the same encoder already is reused.
    seed
        Seed of everything random.
    progress
        Called after every step.
    **params
        See `PretrainingParams`.

    Raises
    ------
    ConfigError
        If a parameter is unknown or its value not allowed.
    RunError
        If there are too few clips, `out` holds something else, or another process is at work on it.
    """
    checked = validate_params(PretrainingParams, params, "pretrain")
    system = Contrastive(seed=seed, **checked.model_dump())
    opened, out = FeatureStore.open(store), Path(out)
    rows, left_out = _rows(opened, checked.crop_frames)
    request = {
        "params": checked.model_dump(mode="json"),
        "seed": seed,
        "store_fingerprint": opened.fingerprint,
        "asdlib": asdlib.__version__,
    }
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    with only_process(out):
        if out.exists():
            return _reuse(out, key)
        with whole_folder(out, resume=True) as folder:
            begun = folder / key
            if not begun.is_dir():  # what another request has left behind is of no use
                shutil.rmtree(folder)
                begun.mkdir(parents=True)
            system.fit_network(rows, begun, progress)
            assert system.history_ is not None  # there is an epoch at least
            losses = system.history_["loss"].tolist()
            weights = system.network_.encoder.state_dict()
            description = {
                "encoder": checked.encoder,
                "n_mels": opened.n_mels,
                "front_end": opened.front_end,
                "key": key,
                "request": request,
                "store": opened.path.absolute().name,
                "clips": len(rows),
                "clips_left_out": left_out,
                "loss": {"first": losses[0], "last": losses[-1], "steps": len(losses)},
                "torch": torch.__version__,
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            content = save({k: v.cpu().contiguous() for k, v in weights.items()})
            (folder / WEIGHTS).write_bytes(content)
            (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
            system.history_.to_csv(folder / "training.csv", index=False)
            shutil.rmtree(begun)
    return Pretrained(out, description, cached=False)


def _rows(store: FeatureStore, crop_frames: int) -> tuple[Rows, int]:
    """Select the clips to learn from, and count those that are too short."""
    manifest = store.manifest
    rows = store.rows(((manifest["split"] != "test") & (manifest["label"] != "anomaly")).to_numpy())
    long_enough = rows.select(rows.frames >= crop_frames)
    if len(long_enough) < 2:
        raise RunError(
            f"store '{store.path}' has {len(long_enough)} clips to pre-train on, at least 2 are "
            f"needed: {len(rows)} of {len(store)} are normal and no test clips; they need "
            f"crop_frames={crop_frames} frames or more"
        )
    return long_enough, len(rows) - len(long_enough)


def _reuse(out: Path, key: str) -> Pretrained:
    way_out = "choose another --out or remove it"
    if not (out / DESCRIPTION).is_file():
        raise RunError(f"'{out}' exists and holds no pre-trained encoder; {way_out}")
    description = read_description(out)
    if description.get("key") != key:
        raise RunError(
            f"'{out}' holds an encoder of another store, other parameters or another seed; "
            f"{way_out}"
        )
    return Pretrained(out, description, cached=True)
