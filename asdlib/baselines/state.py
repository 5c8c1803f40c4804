"""A fitted system as a folder: ``model.json`` (what it is) and ``model.safetensors`` (its numbers).

No pickles, so a model from elsewhere can be read without running its code. Every file gets its
final name only when it is complete; ``model.json`` comes last, and carries the digest of its
companion, so that a mixture of two models is noticed.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from asdlib.errors import RunError
from asdlib.features import Rows

_FORMAT = 1


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to a temporary name beside `path`, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save_state(
    folder: Path, system: str, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write a fitted system.

    Parameters
    ----------
    folder
        Made if it does not exist.
    system
        Name of the system, e.g. "autoencoder".
    tensors
        Its numbers.
    facts
        What else it needs, as JSON: parameters, seed, sections, front end.
    """
    content = save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()})
    about = {
        "format": _FORMAT,
        "system": system,
        **facts,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_bytes(folder / "model.safetensors", content)
    write_bytes(folder / "model.json", (json.dumps(about, indent=2) + "\n").encode())


def load_state(folder: Path, system: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_state` wrote: tensors and facts.

    Raises
    ------
    RunError
        If a file is missing or damaged, or the folder holds another system.
    """
    folder = Path(folder)
    way_out = "train again with a fresh output folder"
    try:
        facts: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        content = (folder / "model.safetensors").read_bytes()
    except (OSError, ValueError) as error:
        raise RunError(f"'{folder}' holds no readable model ({error}); {way_out}") from error
    if facts.get("system") != system or facts.get("format") != _FORMAT:
        raise RunError(
            f"'{folder}' holds system '{facts.get('system')}' (format {facts.get('format')}), "
            f"expected '{system}' (format {_FORMAT}); load it with its own class"
        )
    if hashlib.sha256(content).hexdigest() != facts.get("sha256"):
        raise RunError(f"'{folder}/model.safetensors' does not belong to model.json; {way_out}")
    try:
        return load(content), facts
    except SafetensorError as error:
        raise RunError(f"'{folder}/model.safetensors' is damaged ({error}); {way_out}") from error


def check_training_rows(rows: Rows) -> None:
    """Refuse training rows that no baseline can learn from.

    Raises
    ------
    RunError
        If there is no row, or one is labelled as anomalous.
    """
    if len(rows) == 0:
        raise RunError(
            f"no training clips selected from '{rows.store.path}'; "
            "expected normal clips of at least one section: check the selection"
        )
    manifest: pd.DataFrame = rows.manifest
    anomalous = (manifest["label"] == "anomaly").to_numpy()
    if anomalous.any():
        raise RunError(
            f"clip '{manifest['clip'].iloc[int(anomalous.argmax())]}' among the training rows is "
            "labelled 'anomaly', expected only normal clips; select rows with label 'normal'"
        )


def check_front_end(trained: Mapping[str, Any], rows: Rows) -> None:
    """Refuse clips whose features were computed otherwise than the training clips'.

    Keys that only one of both front ends knows are not compared, as in
    `asdlib.features.check_same_front_end`.

    Raises
    ------
    RunError
        Naming the differing keys with both values.
    """
    here = {**rows.store.front_end, "n_mels": rows.store.n_mels}
    differing = [
        f"{key} {trained[key]!r} in training and {here[key]!r} here"
        for key in trained
        if key in here and key != "dtype" and trained[key] != here[key]
    ]
    if differing:
        raise RunError(
            f"store '{rows.store.path}' has another front end than the training store: "
            f"{'; '.join(differing)}; build both with the same preset"
        )
