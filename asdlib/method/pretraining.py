"""Self-supervised pre-training of our own encoders, on any recordings.

The paper pre-trains on AudioSet [P]; how, it does not say [O]. Here the same augmentation makes two
views of each crop, and NT-Xent asks the encoder to find the other view among all crops of the
batch: no classes, no machines and no labels are needed. The encoder's weights are kept, the
projection head is not. A contrastive training then starts from them with ``pretrained=FOLDER``.

A folder holds ``encoder.safetensors``, ``encoder.json`` (architecture, front end, parameters, seed,
where the weights come from) and ``training.csv`` (loss of every step). It appears when the training
is done; an interrupted one goes on from its last finished epoch.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save

import asdlib
from asdlib.errors import ConfigError, RunError
from asdlib.features import FeatureStore, Rows
from asdlib.files import only_process
from asdlib.method.augment import SpectrumAugmentation
from asdlib.method.contrastive import mean_and_deviation
from asdlib.method.crops import CropBatches
from asdlib.method.network import Network
from asdlib.method.parameters import ContrastiveParams
from asdlib.method.pretrained import DESCRIPTION, PRETRAINED_ONLY, WEIGHTS, read_description
from asdlib.method.training import train_network
from asdlib.system import Progress

_REQUEST = "request.json"


@dataclass(frozen=True)
class Pretrained:
    """What a pre-training has made.

    Attributes
    ----------
    path
        Its folder.
    description
        The content of ``encoder.json``.
    cached
        Whether it was there already.
    """

    path: Path
    description: dict[str, Any]
    cached: bool


def pretrain(
    store: str | Path,
    out: str | Path,
    params: ContrastiveParams | None = None,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Pretrained:
    """Train an encoder on the training clips of a store, without looking at any label.

    Parameters
    ----------
    store
        Feature store. Clips that are marked as anomalies or as of a test split are left out, and
        those shorter than a crop.
    out
        Folder to make.
    params
        Parameters of the contrastive system with ``loss="nt_xent"``; what concerns scoring has no
        meaning here.
    seed
        Decides initial weights, batches, crops and augmentation.
    progress
        Told how far the training is.

    Raises
    ------
    ConfigError
        If the parameters name another loss, or an encoder that cannot be trained from scratch.
    StoreError
        If the store cannot be read.
    RunError
        If there are too few clips, `out` holds something else, or another process is at work on it.
    """
    params = params or ContrastiveParams(loss="nt_xent")
    _check(params)
    opened = FeatureStore.open(store)
    rows, left_out = _rows(opened, max(params.crop_lengths))
    out = Path(out)
    request = {
        "params": params.model_dump(mode="json"),
        "seed": seed,
        "store_fingerprint": opened.fingerprint,
        "asdlib": asdlib.__version__,
    }
    key = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
    with only_process(out, RunError):
        if out.exists():
            return _reuse(out, key)
        partial = out.with_name(f".{out.name}.partial")
        # What another request has left behind is of no use to this one.
        if not (partial / _REQUEST).is_file() or (partial / _REQUEST).read_text() != key:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            (partial / _REQUEST).write_text(key)
        mean, std = mean_and_deviation(rows)
        augmentation = SpectrumAugmentation(
            params.augmentation,
            mean=mean,
            std=std,
            mel_frequencies=opened.mel_frequencies(),
            crop_lengths=params.crop_lengths,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = Network(params, opened.n_mels)
        batches = CropBatches(rows, params, seed)
        losses = train_network(
            network, augmentation, batches, params, seed, partial / "training", progress
        )
        weights = {k: v.cpu().contiguous() for k, v in network.encoder.state_dict().items()}
        description = {
            "encoder": params.encoder,
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
        (partial / WEIGHTS).write_bytes(save(weights))
        (partial / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
        history = pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})
        history.to_csv(partial / "training.csv", index=False)
        shutil.rmtree(partial / "training", ignore_errors=True)
        (partial / _REQUEST).unlink()
        partial.replace(out)
    return Pretrained(out, description, cached=False)


def _check(params: ContrastiveParams) -> None:
    if params.loss != "nt_xent":
        raise ConfigError(
            f"loss '{params.loss}' needs classes; pre-training has none, expected loss=nt_xent"
        )
    if params.classifier != "none" or not params.contrast_weight:
        raise ConfigError(
            f"classifier '{params.classifier}' needs classes; pre-training has none, expected "
            "classifier=none and a contrast_weight above 0"
        )
    if params.encoder in PRETRAINED_ONLY or params.pretrained is not None:
        raise ConfigError(
            f"pre-training begins with random weights; encoder '{params.encoder}' with pretrained "
            "weights cannot be asked for, choose small_cnn or mobilefacenet without them"
        )
    if not params.epochs:
        raise ConfigError("epochs is 0, expected at least 1 for a pre-training")


def _rows(store: FeatureStore, crop_frames: int) -> tuple[Rows, int]:
    """Select what may be learnt from; and count what is too short."""
    manifest = store.manifest
    rows = store.rows(((manifest["split"] != "test") & (manifest["label"] != "anomaly")).to_numpy())
    long_enough = rows.select(rows.frames >= crop_frames)
    if len(long_enough) < 2:
        raise RunError(
            f"store '{store.path}' has {len(long_enough)} clips for pre-training: {len(rows)} of "
            f"{len(store)} are neither of the test split nor anomalies, of these "
            f"{len(long_enough)} have crop_frames={crop_frames} frames or more; at least 2 are "
            "needed"
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
