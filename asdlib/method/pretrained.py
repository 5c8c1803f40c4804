"""Encoders that start from weights trained before: of AudioSet models, or of our own.

Two kinds of sources have one form of parameters. A checkpoint of a public model (`KINDS`, such as
``ast``) brings its architecture and its front end with it. A folder that
`asdlib.method.pretraining` has written holds the weights of one of our own encoders, and the front
end that they were trained on. A training refuses stores of another front end.

A trained system carries all its weights, low-rank adapters beside the frozen ones, and what is
needed to build the network again: it is loaded without the source.

Shapes: B batch, F mel bins, T frames, D embedding size.
"""

import json
from pathlib import Path
from typing import Any, Self

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from asdlib.errors import ConfigError, RunError, StoreError
from asdlib.features import PRESETS, FeatureStore, FrontEnd
from asdlib.method.encoders import Encoder, build_encoder
from asdlib.method.pretrained_ast import AudioSpectrogramTransformer
from asdlib.method.pretrained_base import PublicEncoder
from asdlib.method.pretrained_parameters import PretrainedParams
from asdlib.method.pretrained_weights import weights_folder, weights_sha256

WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.json"


KINDS: dict[str, type[PublicEncoder]] = {"ast": AudioSpectrogramTransformer}
"""Public models by name of the encoder."""


class Frozen(Encoder):
    """An encoder that no step of a training changes: no gradients, no running statistics either.

    What is measured anew after a training (``batch_norm="clean"``) is not held back.

    Parameters
    ----------
    encoder
        The encoder.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False)
        self.n_mels = encoder.n_mels
        self.embedding_size = encoder.embedding_size
        self.time_mean_size = encoder.time_mean_size
        self.encoder.eval()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of this module alone; the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def feature_map(self, x: Tensor) -> Tensor:
        """Give the last feature map, shape (B, C', F', T'), of spectrograms (B, F, T)."""
        return self.encoder.feature_map(x)

    def time_mean(self, x: Tensor) -> Tensor:
        """Average the feature map over time only, shape (B, C'·F')."""
        return self.encoder.time_mean(x)

    def embed(self, time_mean: Tensor) -> Tensor:
        """Turn what `time_mean` gives into the embedding (B, D)."""
        return self.encoder.embed(time_mean)


def resolve(pretrained: PretrainedParams | None) -> PretrainedParams | None:
    """Add the SHA-256 of the weights, so that a run is known by them and not by a path.

    Raises
    ------
    ConfigError, RunError
        If the weights are not there, or are not those of a given SHA-256.
    """
    if pretrained is None:
        return None
    found = weights_sha256(weights_folder(pretrained.source, pretrained.revision))
    if pretrained.sha256 not in (None, found):
        raise RunError(
            f"the weights of '{pretrained.source}' have SHA-256 {found[:12]}…, expected "
            f"{str(pretrained.sha256)[:12]}…; give the weights that were used before, or leave out "
            "sha256"
        )
    return pretrained.model_copy(update={"sha256": found})


def make_encoder(
    name: str,
    n_mels: int,
    pretrained: PretrainedParams | None = None,
    description: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Encoder:
    """Build an encoder: with random weights, with those of a source, or to be loaded.

    Parameters
    ----------
    name
        Key of `asdlib.method.encoders.ENCODERS` or of `KINDS`.
    n_mels
        Mel bins of the input.
    pretrained
        Where weights come from; without it they are random, from torch's global generator.
    description
        What `describe_encoder` gave: the source is not looked at, the caller loads the weights.
    **kwargs
        Parameters of our own encoders.

    Raises
    ------
    ConfigError
        If name, parameters, mel bins and source do not fit together.
    RunError
        If the source is missing or damaged.
    """
    if pretrained is None:
        return build_encoder(name, n_mels, **kwargs)
    given = description is not None
    folder = None if given else weights_folder(pretrained.source, pretrained.revision)
    encoder: Encoder
    if name in KINDS:
        kind = KINDS[name]
        encoder = (
            kind.from_folder(folder, pretrained)
            if folder is not None
            else kind((description or {})["config"], pretrained)
        )
        if encoder.n_mels != n_mels:
            raise ConfigError(
                f"encoder '{name}' of '{pretrained.source}' takes {encoder.n_mels} mel bins, got "
                f"{n_mels}; build the store with the front end of the checkpoint"
            )
    else:
        encoder = build_encoder(name, n_mels, **kwargs)
        if folder is not None:
            load_weights(encoder, folder, name, kwargs)
    return Frozen(encoder) if pretrained.mode == "frozen" else encoder


def describe_encoder(encoder: Encoder) -> dict[str, Any]:
    """Give what `make_encoder` needs to build this encoder again without its source."""
    inner = encoder.encoder if isinstance(encoder, Frozen) else encoder
    return {"config": inner.config} if isinstance(inner, PublicEncoder) else {}


def load_weights(encoder: Encoder, folder: Path, name: str, kwargs: dict[str, Any]) -> None:
    """Load what `asdlib.method.pretraining.pretrain` has written into an encoder of the same kind.

    Raises
    ------
    ConfigError
        If the folder holds another encoder.
    RunError
        If the folder holds none, or it is damaged.
    """
    told = read_description(folder)
    there = f"{told['encoder']} {told['encoder_params'] or ''}".strip()
    asked = f"{name} {kwargs or ''}".strip()
    if there != asked:
        raise ConfigError(
            f"'{folder}' holds the encoder {there}, asked for is {asked}; set "
            f"encoder={told['encoder']} with the same parameters, or pre-train another"
        )
    try:
        encoder.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise RunError(
            f"weights '{folder / WEIGHTS}' are damaged or of another network; make them again with "
            "asd pretrain"
        ) from error


def read_description(folder: Path) -> dict[str, Any]:
    """Read ``encoder.json`` of a folder that `asdlib.method.pretraining.pretrain` has written.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    try:
        told = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        return dict(told) | {key: told[key] for key in ("encoder", "encoder_params", "front_end")}
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(
            f"'{folder}' has no readable {DESCRIPTION}; expected a folder that asd pretrain has "
            "written"
        ) from None


def check_front_end(name: str, pretrained: PretrainedParams | None, store: FeatureStore) -> None:
    """Refuse a store of another front end than the weights were trained on.

    Parameters that only one side states are not compared, as between stores.

    Raises
    ------
    StoreError
        Naming what differs, with both values, and how to build a store that fits.
    """
    if pretrained is None:
        return
    folder = weights_folder(pretrained.source, pretrained.revision)
    if name in KINDS:
        needed = KINDS[name].front_end(KINDS[name].read_config(folder)).describe()
    else:
        needed = read_description(folder)["front_end"]
    # Stores do not name the usual framing; other parts of the description follow from the rest.
    there = {"framing": "stft", "n_mels": store.n_mels} | store.front_end
    needed = {"framing": "stft"} | needed
    differ = [
        f"{key} {there[key]!r} instead of {needed[key]!r}"
        for key in FrontEnd.model_fields
        if key in there and key in needed and there[key] != needed[key]
    ]
    if differ:
        front_end = FrontEnd.from_description(
            {key: value for key, value in needed.items() if key in FrontEnd.model_fields}
        )
        fitting = next((n for n, preset in PRESETS.items() if preset == front_end), None)
        way = f"asd features … --preset {fitting}" if fitting else f"the front end of '{folder}'"
        raise StoreError(
            f"store '{store.path}' has another front end than the encoder {name} of "
            f"'{pretrained.source}': {'; '.join(differ)}; build a store with {way}"
        )
