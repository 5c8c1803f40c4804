"""Encoders that start from trained weights: of a public AudioSet model, or of our own pre-training.

The paper pre-trains on AudioSet [P]; with which network, on which task and for how long it does not
say [O]. A public checkpoint brings its architecture and its front end with it; a folder written by
`asdlib.method.pretraining` holds one of our own encoders and the front end it was trained on. A
trained system carries all its weights, and is loaded without the source.
"""

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from asdlib.errors import ConfigError, RunError, StoreError
from asdlib.features import PRESETS, FeatureStore, FrontEnd
from asdlib.features.front_end import differences
from asdlib.method.efficientat import EfficientAT
from asdlib.method.encoders import Encoder, build_encoder
from asdlib.method.transformer import AudioSpectrogramTransformer
from asdlib.method.weights import PretrainedParams

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


class Frozen(Encoder):
    """An encoder that training leaves as it is: no gradients, and no new running statistics."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.n_mels = encoder.n_mels
        self.embedding_size = encoder.embedding_size
        self.level_names = encoder.level_names

    def train(self, mode: bool = True) -> Self:
        """Set the mode of this module alone; the encoder stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        return self

    def feature_map(self, x: Tensor) -> Tensor:
        """See `Encoder.feature_map`."""
        return self.encoder.feature_map(x)

    def time_mean(self, x: Tensor) -> Tensor:
        """See `Encoder.time_mean`."""
        return self.encoder.time_mean(x)

    def embed(self, time_mean: Tensor) -> Tensor:
        """See `Encoder.embed`."""
        return self.encoder.embed(time_mean)

    def levels(self, x: Tensor) -> dict[str, Tensor]:
        """See `Encoder.levels`."""
        return self.encoder.levels(x)


def make_encoder(
    name: str,
    n_mels: int,
    pretrained: PretrainedParams | None = None,
    description: dict[str, Any] | None = None,
    statistics: tuple[float, float] = (0.0, 1.0),
) -> Encoder:
    """Build an encoder: with random weights, with those of a source, or to be loaded.

    Parameters
    ----------
    name
        Key of `asdlib.method.encoders.ENCODERS` or of `PUBLIC`.
    pretrained
        Where weights come from; without it they are random, from torch's global generator.
    description
        What `describe_encoder` returned: the source is not read, the caller loads the weights.
    statistics
        Mean and deviation by which the log-mels will be standardised.

    Raises
    ------
    ConfigError, RunError
        If name, mel bins and source do not fit together, or the source is missing or damaged.
    """
    if pretrained is None:
        return build_encoder(name, n_mels)
    encoder: Encoder
    if name not in PUBLIC:
        encoder = build_encoder(name, n_mels)
        if description is None:
            _load_weights(encoder, name, pretrained.folder)
    elif description is None:
        encoder = PUBLIC[name].from_folder(pretrained.folder, pretrained)
    else:
        encoder = PUBLIC[name](description["config"], pretrained)
    encoder.statistics = statistics
    if encoder.n_mels != n_mels:
        raise ConfigError(
            f"encoder '{name}' of '{pretrained.source}' takes {encoder.n_mels} mel bins, got "
            f"{n_mels}; build the store with the front end of the checkpoint"
        )
    return Frozen(encoder) if pretrained.mode == "frozen" else encoder


def describe_encoder(encoder: Encoder) -> dict[str, Any]:
    """Return what `make_encoder` needs to build this encoder again without its source."""
    inner = encoder.encoder if isinstance(encoder, Frozen) else encoder
    return {"config": inner.config} if isinstance(inner, tuple(PUBLIC.values())) else {}


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
    try:
        content = (folder / DESCRIPTION).read_bytes()
        return _Description.model_validate_json(content).model_dump()
    except (OSError, ValueError):
        raise RunError(
            f"'{folder}' has no readable {DESCRIPTION}; expected a folder that asd pretrain has "
            "written"
        ) from None


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
