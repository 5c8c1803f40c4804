"""Encoders that start from trained weights: of a public AudioSet model, or of our own pre-training.

The paper pre-trains on AudioSet [P]; with which network, on which task and for how long it does not
say [O]. A public checkpoint brings its architecture and its front end with it; a folder written by
`asdlib.method.pretraining` holds one of our own encoders and the front end it was trained on. A
trained system carries all its weights, and is loaded without the source.

Shapes: B batch, F mel bins, T frames, H hidden size, F' and T' patches over frequency and time.
"""

from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel, Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import interpolate

from asdlib.errors import ConfigError, RunError, StoreError, reason_of
from asdlib.features import PRESETS, FeatureStore, FrontEnd
from asdlib.features.front_end import differences
from asdlib.method.encoders import (
    Encoder,
    build_encoder,
    convolution,
    spectrum_levels,
    whole_width,
)
from asdlib.method.weights import (
    CONFIG,
    PretrainedParams,
    add_adapters,
    read_facts,
    weight_files,
)
from asdlib.system import with_prefix

_MODEL_TYPE = "audio-spectrogram-transformer"
_LORA_TARGETS = ["q_proj", "v_proj", "query", "value"]


class _Config(BaseModel, extra="allow", strict=True):
    """What has to be in ``config.json``."""

    model_type: str
    num_mel_bins: int = Field(128, gt=0, le=4096)


class PublicEncoder(Encoder):
    """An encoder that exists only with the weights of a public checkpoint.

    It is made by ``from_folder(folder, params)``, or from its ``config`` and params alone; the
    static method ``front_end(folder)`` describes what it was trained on.
    """

    def embed(self, time_mean: Tensor) -> Tensor:
        """Average over frequency too: the embedding (B, D)."""
        return torch.unflatten(time_mean, 1, (self.embedding_size, -1)).mean(dim=2)


class AudioSpectrogramTransformer(PublicEncoder):
    """The Audio Spectrogram Transformer of a public checkpoint; `body` is the model.

    A clip is cut into overlapping patches of 16 mel bins × 16 frames; each becomes a token, and two
    further tokens, for class and distillation, stand before them. Averaging the last layer's
    patches over time keeps the frequency axis. Checkpoints are trained on features of mean 0 and
    deviation 1/2, and step 1 of the augmentation leaves deviation 1: the encoder halves its input.

    Parameters
    ----------
    config
        Content of the checkpoint's ``config.json``.
    params
        What is trained.
    model
        ``transformers.ASTModel``; by default one with random weights, to be loaded afterwards.

    Notes
    -----
    Y. Gong et al., "AST: Audio Spectrogram Transformer", Interspeech 2021, arXiv 2104.01778.
    """

    body: Any

    def __init__(self, config: dict[str, Any], params: PretrainedParams, model: Any = None) -> None:
        super().__init__()
        from transformers import ASTConfig, ASTModel

        settings = ASTConfig.from_dict(config)
        model = ASTModel(settings) if model is None else model
        self.config = config
        self.patch_size = int(settings.patch_size)
        self.n_mels = int(settings.num_mel_bins)
        self.n_frequency = (self.n_mels - self.patch_size) // settings.frequency_stride + 1
        add_adapters(model, params, _LORA_TARGETS)
        self.body = model
        self.embedding_size = int(settings.hidden_size)

    @staticmethod
    def front_end(folder: Path) -> dict[str, Any]:
        """Return the front end that the checkpoint in `folder` was trained on, as in stores."""
        n_mels = _read_config(folder)["num_mel_bins"]
        return PRESETS["ast"].model_copy(update={"n_mels": n_mels}).describe()

    @classmethod
    def from_folder(cls, folder: Path, params: PretrainedParams) -> Self:
        """Read a checkpoint as ``save_pretrained`` of transformers writes it.

        A `RunError` or `ConfigError` if it is damaged, incomplete or of another kind of model.
        """
        from transformers import ASTModel
        from transformers.utils import logging

        config = _read_config(folder)
        weight_files(folder)
        # No loading bar, and no list of unused classifier weights.
        logging.disable_progress_bar()
        logging.set_verbosity_error()
        try:
            model, info = ASTModel.from_pretrained(
                folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
            )
            if info["missing_keys"]:  # they would stay random, and nobody would see it
                raise ValueError(f"it lacks weights such as {min(info['missing_keys'])}")
            return cls(config, params, model)
        except ImportError:  # of adapters: no fault of the checkpoint
            raise
        except Exception as error:
            raise RunError(
                f"checkpoint '{folder}' cannot be read ({reason_of(error).rstrip('.')}); fetch or "
                "copy it again"
            ) from error

    def feature_map(self, x: Tensor) -> Tensor:
        """Compute the last layer's patches, shape (B, H, F', T'), of spectrograms (B, F, T)."""
        if x.dim() != 3 or x.shape[1] != self.n_mels or x.shape[2] < self.patch_size:
            raise ConfigError(
                f"the encoder got input of shape {tuple(x.shape)}, expected (batch, {self.n_mels} "
                f"mel bins, frames) with at least {self.patch_size} frames"
            )
        n_time = (x.shape[2] - self.patch_size) // self.body.config.time_stride + 1
        output = functional_call(
            self.body,
            {"embeddings.position_embeddings": self.positions(n_time)},
            kwargs={"input_values": 0.5 * x.transpose(1, 2)},
        )
        patches = output.last_hidden_state[:, 2:].transpose(1, 2)
        feature_map: Tensor = patches.reshape(len(x), self.embedding_size, self.n_frequency, -1)
        return feature_map

    def positions(self, n_time: int) -> Tensor:
        """Return the position embeddings (1, 2 + F'·n_time, H) for `n_time` patches over time.

        For inputs shorter than the 10.24 s of the training the middle positions are taken, for
        longer ones they are interpolated over time, as the authors do (src/models/ast_models.py in
        github.com/YuanGongND/ast, 2e00ccb).
        """
        learned = self.body.embeddings.position_embeddings[0]
        grid = learned[2:].unflatten(0, (self.n_frequency, -1))
        start = (grid.shape[1] - n_time) // 2
        if start >= 0:
            grid = grid[:, start : start + n_time]
        else:
            over_time = grid.transpose(1, 2)
            grid = interpolate(over_time, n_time, mode="linear").transpose(1, 2)
        return torch.cat((learned[:2], grid.flatten(0, 1)))[None]


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_facts(folder / CONFIG, _Config, "save_pretrained of transformers")
    if config["model_type"] != _MODEL_TYPE:
        raise ConfigError(
            f"checkpoint '{folder}' is of type '{config['model_type']}', expected '{_MODEL_TYPE}'; "
            "choose another checkpoint or another encoder"
        )
    return config


_BLOCKS = (  # kernel, expanded channels, channels, squeeze and excitation, activation, stride
    (3, 16, 16, False, nn.ReLU, 1),
    (3, 64, 24, False, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 1),
    (5, 72, 40, True, nn.ReLU, 2),
    (5, 120, 40, True, nn.ReLU, 1),
    (5, 120, 40, True, nn.ReLU, 1),
    (3, 240, 80, False, nn.Hardswish, 2),
    (3, 200, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 184, 80, False, nn.Hardswish, 1),
    (3, 480, 112, True, nn.Hardswish, 1),
    (3, 672, 112, True, nn.Hardswish, 1),
    (5, 672, 160, True, nn.Hardswish, 2),
    (5, 960, 160, True, nn.Hardswish, 1),
    (5, 960, 160, True, nn.Hardswish, 1),
)
_LAST = "features.16.0.weight"  # of shape (960 · width, C, 1, 1)
_DEPTHS = (3, 6, 12, 15)  # the last block of each resolution, of at most 512 numbers for mn04


class EfficientAT(PublicEncoder):
    """The MobileNetV3 of AudioSet that EfficientAT publishes, mn01 to mn40.

    The embedding is what the published classifier reads: the mean of the last feature map over time
    and frequency, 960 · width numbers. The encoder undoes the standardisation by `statistics`, and
    does what the network was trained with: (log-mel + 4.5) / 5.

    Parameters
    ----------
    config
        ``width`` of the network: 0.4 for mn04, 1.0 for mn10.
    params
        What is trained.
    published
        Published weights by name; without them, random ones, to be loaded afterwards.

    Notes
    -----
    F. Schmid, K. Koutini and G. Widmer, "Efficient Large-Scale Audio Tagging via Transformer-to-CNN
    Knowledge Distillation", ICASSP 2023, arXiv 2211.04772. The layers are those of the large
    network of A. Howard et al., "Searching for MobileNetV3", ICCV 2019, arXiv 1905.02244, Table 1,
    with one input channel and all channels times a width.
    """

    level_names = (
        "spectrum",
        "deviation",
        *(f"map_{depth}{statistic}" for depth in _DEPTHS for statistic in ("", "_deviation")),
    )

    def __init__(
        self,
        config: dict[str, Any],
        params: PretrainedParams,
        published: dict[str, Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.n_mels = PRESETS["efficientat"].n_mels
        width = config["width"]
        previous = whole_width(16 * width)
        layers: list[nn.Module] = [convolution(1, previous, 3, stride=2).append(nn.Hardswish())]
        for kernel, expanded, size, excited, activation, stride in _BLOCKS:
            inner, size = whole_width(expanded * width), whole_width(size * width)
            block = nn.Sequential()
            if inner != previous:
                block.append(convolution(previous, inner, 1).append(activation()))
            depthwise = convolution(inner, inner, kernel, stride=stride, groups=inner)
            block.append(depthwise.append(activation()))
            if excited:
                block.append(_Excitation(inner))
            block.append(convolution(inner, size, 1))
            layers.append(_Block(block, shortcut=stride == 1 and previous == size))
            previous = size
        self.embedding_size = 6 * previous
        layers.append(convolution(previous, self.embedding_size, 1).append(nn.Hardswish()))
        self.body = nn.Sequential(*layers)
        for module in self.body.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = 1e-3, 0.01
        if published:
            renamed = {k.replace("conc_se_layers.0.", ""): v for k, v in published.items()}
            self.body.load_state_dict(with_prefix(renamed, "features."))
        pointwise = [
            name
            for name, module in self.body.named_modules()
            if isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)
        ]
        add_adapters(self.body, params, pointwise)
        self.body.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def _image(self, x: Tensor) -> Tensor:
        mean, deviation = self.statistics
        return super()._image((x * deviation + mean + 4.5) / 5.0)

    def levels(self, x: Tensor) -> dict[str, Tensor]:
        """See `Encoder.levels`; also mean and deviation over time of maps at four depths."""
        found = spectrum_levels(x)
        image = self._image(x)
        for depth, block in enumerate(self.body.children()):
            image = block(image)
            if depth in _DEPTHS:
                found[f"map_{depth}"] = image.mean(dim=3).flatten(1)
                found[f"map_{depth}_deviation"] = image.std(dim=3, correction=0).flatten(1)
        found["feature_map"] = image.mean(dim=3).flatten(1)
        return found | {"encoder": self.embed(found["feature_map"])}

    @staticmethod
    def front_end(folder: Path) -> dict[str, Any]:
        """Return the front end of all networks of the main line, as in stores."""
        return PRESETS["efficientat"].describe()

    @classmethod
    def from_folder(cls, folder: Path, params: PretrainedParams) -> Self:
        """Read the published weights in `folder`; a `RunError` if they are damaged or missing."""
        files = weight_files(folder)
        try:
            published = load_file(files[0])
            return cls({"width": len(published[_LAST]) / 960}, params, published)
        except (OSError, SafetensorError, RuntimeError, KeyError) as error:
            raise RunError(
                f"weights '{files[0]}' are damaged or not those of a MobileNetV3 of EfficientAT; "
                "fetch or copy them again"
            ) from error


class _Block(nn.Module):
    """Layers, around which the input may pass; `Shortcut`, by the names of published weights."""

    def __init__(self, block: nn.Sequential, *, shortcut: bool) -> None:
        super().__init__()
        self.block = block
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.block(x)
        return x + output if self.shortcut else output


class _Excitation(nn.Module):
    """Weigh each channel of (B, C, F, T) by what all channels hold on average.

    J. Hu et al., "Squeeze-and-Excitation Networks", CVPR 2018, arXiv 1709.01507.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(n_channels, whole_width(n_channels // 4))
        self.fc2 = nn.Linear(whole_width(n_channels // 4), n_channels)

    def forward(self, x: Tensor) -> Tensor:
        weights: Tensor = self.fc2(self.fc1(x.mean(dim=(2, 3))).relu()).sigmoid()
        return x * weights[:, :, None, None]


PUBLIC: dict[str, type[AudioSpectrogramTransformer] | type[EfficientAT]] = {
    "ast": AudioSpectrogramTransformer,
    "efficientat": EfficientAT,
}
"""Public encoders by name, for configurations."""

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

    Parameters that only one side states are not compared, as between stores. The `StoreError` says
    what differs, and how to build a store that fits.
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
    """Read the ``encoder.json`` of `asdlib.method.pretraining.pretrain`; see `read_facts`."""
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
