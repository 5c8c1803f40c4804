"""Encoders that start from trained weights: of a public AudioSet model, or of our own pre-training.

The paper pre-trains on AudioSet [P]; with which network, on which task and for how long it does not
say [O]. A public checkpoint brings its architecture and its front end with it; a folder written by
`asdlib.method.pretraining` holds one of our own encoders and the front end it was trained on. A
trained system carries all its weights, and is loaded without the source.
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file

from asdlib.errors import ConfigError, RunError, StoreError
from asdlib.features import PRESETS, FeatureStore, FrontEnd
from asdlib.features.front_end import differences
from asdlib.method.efficientat import EfficientAT
from asdlib.method.encoders import Encoder, build_encoder
from asdlib.method.transformer import AudioSpectrogramTransformer
from asdlib.method.weights import PretrainedParams, read_facts

PUBLIC: dict[str, type[AudioSpectrogramTransformer] | type[EfficientAT]] = {
    "ast": AudioSpectrogramTransformer,
    "efficientat": EfficientAT,
}
"""Encoders that exist only with weights of a public checkpoint.

Each is made by ``from_folder(folder, params)``, or from its ``config`` and params alone, and has a
static method ``front_end(folder)`` that describes what it was trained on.
"""

WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.json"


class _Description(BaseModel, extra="allow"):
    """What has to be in ``encoder.json``."""

    encoder: str
    front_end: dict[str, Any]


def make_encoder(
    name: str,
    n_mels: int,
    pretrained: PretrainedParams | None = None,
    config: dict[str, Any] | None = None,
) -> Encoder:
    """Build an encoder: with random weights, with those of a source, or to be loaded.

    A frozen one has no parameters that are trained, and keeps its running statistics.

    Parameters
    ----------
    name
        Key of `asdlib.method.encoders.ENCODERS` or of `PUBLIC`.
    pretrained
        Where weights come from; without it they are random, from torch's global generator.
    config
        `Encoder.config` of a trained one: the source is not read, the caller loads the weights.

    Raises
    ------
    ConfigError, RunError
        If name, mel bins and source do not fit together, or the source is missing or damaged.
    """
    if pretrained is None:
        return build_encoder(name, n_mels)
    encoder: Encoder
    if name in PUBLIC:
        public = PUBLIC[name]
        if config is None:
            encoder = public.from_folder(pretrained.folder, pretrained)
        else:
            encoder = public(config, pretrained)
    else:
        encoder = build_encoder(name, n_mels)
        if config is None:
            _load_weights(encoder, name, pretrained.folder)
    if encoder.n_mels != n_mels:
        raise ConfigError(
            f"encoder '{name}' of '{pretrained.source}' takes {encoder.n_mels} mel bins, got "
            f"{n_mels}; build the store with the front end of the checkpoint"
        )
    return encoder.requires_grad_(False).eval() if pretrained.mode == "frozen" else encoder


def check_front_end(name: str, pretrained: PretrainedParams, store: FeatureStore) -> None:
    """Refuse a store of another front end than the weights were trained on.

    Parameters that only one side states are not compared, as between stores.

    Raises
    ------
    StoreError
        Naming what differs, with both values, and how to build a store that fits.
    """
    folder = pretrained.folder
    if name in PUBLIC:
        needed = PUBLIC[name].front_end(folder)
    else:
        needed = read_description(folder)["front_end"]
    differ = differences(store.described, needed)
    if differ:
        way = f"the front end of '{folder}'"
        for preset, front_end in PRESETS.items():
            if FrontEnd.from_description(needed) == front_end:
                way = f"asd features … --preset {preset}"
        raise StoreError(
            f"store '{store.path}' has another front end than the encoder {name} of "
            f"'{pretrained.source}': {differ}; build a store with {way}"
        )


def read_description(folder: Path) -> dict[str, Any]:
    """Read the ``encoder.json`` that `asdlib.method.pretraining.pretrain` has written.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    return read_facts(folder / DESCRIPTION, _Description, "asd pretrain")


def _load_weights(encoder: Encoder, name: str, folder: Path) -> None:
    """Load what `asdlib.method.pretraining.pretrain` has written into an encoder of this name."""
    there = read_description(folder)["encoder"]
    if there != name:
        raise ConfigError(
            f"'{folder}' holds the encoder {there}, asked for is {name}; set encoder={there}, or "
            "pre-train another"
        )
    try:
        encoder.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(
            f"weights '{folder / WEIGHTS}' are damaged or of another network; make them again with "
            "asd pretrain"
        ) from error
