"""Encoders that start from trained weights: of a public AudioSet model, or of our own pre-training.

The paper pre-trains on AudioSet [P]; with which network, on which task and for how long it does not
say [O]. A public checkpoint brings its architecture and its front end with it. A folder that
`asdlib.method.pretraining` has written holds the weights of one of our own encoders and the front
end that they were trained on. A training refuses stores of another front end.

A trained system carries all its weights, low-rank adapters beside the frozen ones, and what is
needed to build the network again: it is loaded without the source.

Shapes: B batch, F mel bins, T frames, D embedding size, H hidden size, F' and T' patches over
frequency and time, P = F'·T' patches.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from asdlib.errors import ConfigError, RunError, StoreError
from asdlib.features import PRESETS, FeatureStore, FrontEnd
from asdlib.method.encoders import Encoder, build_encoder
from asdlib.method.weights import CONFIG, check_extra, weight_files, weights_folder, weights_sha256

PRETRAINED_ONLY = ("ast",)
"""Encoders that exist only with weights of a public checkpoint."""

WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.json"
_MODEL_TYPE = "audio-spectrogram-transformer"
_LORA_TARGETS = ["q_proj", "v_proj", "query", "value"]


class PretrainedParams(BaseModel):
    """Where the weights of an encoder come from, and what the training may change of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str = Field(
        min_length=1,
        description="folder of a checkpoint, or owner/name of one that `asd weights` has fetched",
    )
    revision: str | None = Field(
        None, description="branch, tag or commit of a fetched checkpoint; by default its main one"
    )
    mode: Literal["frozen", "finetune", "lora"] = Field(
        "finetune",
        description="what is trained: the head alone, everything, or low-rank adapters [O]",
    )
    lora_rank: int = Field(8, ge=1, description="rank of the adapters, with mode=lora [O]")
    lora_alpha: float = Field(
        16.0, gt=0, description="the adapters' output is scaled by lora_alpha / lora_rank [O]"
    )
    pooling: Literal["patches", "tokens"] = Field(
        "patches",
        description="embedding of a transformer: mean over its patches, or over the class and "
        "distillation tokens that its own classifier reads [O]",
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the weights; computed where it is not given, so that it is part of "
        "what identifies a run",
    )

    @property
    def folder(self) -> Path:
        """Folder of the weights; raises ConfigError or RunError if they are not there."""
        return weights_folder(self.source, self.revision)


class AnyLengthEmbeddings(nn.Module):
    """Patch and position embeddings of a transformer, for inputs of any number of frames.

    A position embedding belongs to every patch of the pre-training's 10.24 s. For shorter inputs
    the middle part is taken, which keeps the time scale; for longer ones it is interpolated
    linearly over time, as the authors do (src/models/ast_models.py in
    github.com/YuanGongND/ast, 2e00ccb).

    The parts of `embeddings`, those of a transformers model, are taken over.
    """

    def __init__(self, embeddings: Any, n_frequency: int) -> None:
        super().__init__()
        self.cls_token = embeddings.cls_token
        self.distillation_token = embeddings.distillation_token
        self.patch_embeddings = embeddings.patch_embeddings
        self.position_embeddings = embeddings.position_embeddings
        self.dropout = embeddings.dropout
        self.n_frequency = n_frequency

    def forward(self, input_values: Tensor) -> Tensor:
        """Turn spectrograms (B, T, F) into tokens (B, 2 + P, H)."""
        patches = self.patch_embeddings(input_values)
        first = (t.expand(len(patches), -1, -1) for t in (self.cls_token, self.distillation_token))
        tokens = torch.cat((*first, patches), dim=1)
        output: Tensor = self.dropout(tokens + self.positions(patches.shape[1] // self.n_frequency))
        return output

    def positions(self, n_time: int) -> Tensor:
        """Return the position embeddings (1, 2 + F'·n_time, H) for `n_time` patches over time."""
        first, patches = self.position_embeddings[:, :2], self.position_embeddings[:, 2:]
        size = patches.shape[-1]
        trained = patches.shape[1] // self.n_frequency
        grid = patches.reshape(self.n_frequency, trained, size)
        if n_time <= trained:
            start = (trained - n_time) // 2
            grid = grid[:, start : start + n_time]
        else:
            over_time = grid.transpose(1, 2)
            grid = functional.interpolate(over_time, n_time, mode="linear").transpose(1, 2)
        return torch.cat((first, grid.reshape(1, -1, size)), dim=1)


class AudioSpectrogramTransformer(Encoder):
    """Encoder around ``transformers.ASTModel``; `body` is the model.

    A clip is cut into overlapping patches of 16 mel bins × 16 frames; each becomes a token, and two
    further tokens, for class and distillation, stand before them. Averaging the last layer's patch
    tokens over time keeps the frequency axis, as in all encoders here; with ``pooling="tokens"``
    the mean of the two first tokens stands as one more row beside the F' rows.

    Checkpoints are trained on Kaldi's filter bank (preset ``ast``), standardised with the mean and
    twice the standard deviation of AudioSet. For other data the authors take the statistics of
    that data (src/get_norm_stats.py in github.com/YuanGongND/ast). So does the system: step 1 of
    the augmentation gives mean 0 and deviation 1, and the encoder halves it.

    Parameters
    ----------
    config
        Content of the checkpoint's ``config.json``.
    params
        How the embedding is formed, and what is trained.
    model
        The model; without it, one with random weights, to be loaded afterwards.

    Notes
    -----
    Y. Gong et al., "AST: Audio Spectrogram Transformer", Interspeech 2021, arXiv 2104.01778.
    """

    def __init__(self, config: dict[str, Any], params: PretrainedParams, model: Any = None) -> None:
        super().__init__()
        check_extra()
        from transformers import ASTConfig, ASTModel

        settings = ASTConfig.from_dict(config)
        model = ASTModel(settings) if model is None else model
        self.config = config
        self.patch_size = int(settings.patch_size)
        self.n_mels = int(settings.num_mel_bins)
        self.n_frequency = (self.n_mels - self.patch_size) // settings.frequency_stride + 1
        model.embeddings = AnyLengthEmbeddings(model.embeddings, self.n_frequency)
        if params.mode == "lora":
            _add_adapters(model, params)
        self.pooling = params.pooling
        self.body = model
        self.last = nn.Identity()
        self.embedding_size = int(settings.hidden_size)
        self.time_mean_size = self.embedding_size * (self.n_frequency + (self.pooling == "tokens"))

    @classmethod
    def from_folder(cls, folder: Path, params: PretrainedParams) -> Self:
        """Read a checkpoint as ``save_pretrained`` of transformers writes it.

        Raises
        ------
        RunError, ConfigError
            If files or weights are missing or damaged, or it is of another kind of model.
        """
        check_extra()
        from transformers import ASTModel

        config = _read_config(folder)
        weight_files(folder)
        try:
            with _quiet_transformers():
                model, info = ASTModel.from_pretrained(
                    folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
                )
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RunError(
                f"checkpoint '{folder}' cannot be read ({reason.rstrip('.')}); fetch or copy it "
                "again"
            ) from error
        missing = sorted(info["missing_keys"])
        if missing:
            # They would stay random, and nobody would see it.
            raise RunError(
                f"checkpoint '{folder}' lacks {len(missing)} weights, the first is '{missing[0]}'; "
                "fetch or copy it again"
            )
        return cls(config, params, model)

    def feature_map(self, x: Tensor) -> Tensor:
        """Compute the last layer's patches, shape (B, H, F', T'), of spectrograms (B, F, T)."""
        return self._layers(x)[0]

    def time_mean(self, x: Tensor) -> Tensor:
        """Average over time only, shape (B, H·F') or (B, H·(F' + 1)) with the tokens' row."""
        patches, tokens = self._layers(x)
        rows = patches.mean(dim=3)
        if self.pooling == "tokens":
            rows = torch.cat((rows, tokens.unsqueeze(2)), dim=2)
        return rows.flatten(1)

    def embed(self, time_mean: Tensor) -> Tensor:
        """Turn the result of `time_mean` into the embedding (B, H)."""
        rows = time_mean.reshape(len(time_mean), self.embedding_size, -1)
        return rows[:, :, -1] if self.pooling == "tokens" else rows.mean(dim=2)

    def _layers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        if x.dim() != 3 or x.shape[1] != self.n_mels or x.shape[2] < self.patch_size:
            raise ConfigError(
                f"the encoder got input of shape {tuple(x.shape)}, expected (batch, {self.n_mels} "
                f"mel bins, frames) with at least {self.patch_size} frames"
            )
        hidden = self.body(input_values=0.5 * x.transpose(1, 2)).last_hidden_state
        patches = hidden[:, 2:].transpose(1, 2)
        patches = patches.reshape(len(x), self.embedding_size, self.n_frequency, -1)
        return patches, hidden[:, :2].mean(dim=1)


def _add_adapters(model: nn.Module, params: PretrainedParams) -> None:
    """Put low-rank adapters beside the query and value layers; nothing else is trained then.

    Notes
    -----
    E. Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, arXiv 2106.09685;
    query and value layers as in its Section 4.2.
    """
    from peft import LoraConfig, inject_adapter_in_model

    adapters = LoraConfig(
        r=params.lora_rank, lora_alpha=params.lora_alpha, target_modules=_LORA_TARGETS
    )
    inject_adapter_in_model(adapters, model)


class Frozen(Encoder):
    """An encoder that training leaves as it is: no gradients, and no new running statistics.

    The statistics that are measured anew after a training (``batch_norm="clean"``) do change.
    """

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder.requires_grad_(False).eval()
        self.n_mels = encoder.n_mels
        self.embedding_size = encoder.embedding_size
        self.time_mean_size = encoder.time_mean_size

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


def resolve(pretrained: PretrainedParams | None) -> PretrainedParams | None:
    """Add the SHA-256 of the weights, so that it identifies a run instead of a path.

    Raises
    ------
    ConfigError, RunError
        If the weights are not there, or are not those of a given SHA-256.
    """
    if pretrained is None:
        return None
    found = weights_sha256(pretrained.folder)
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
) -> Encoder:
    """Build an encoder: with random weights, with those of a source, or to be loaded.

    Parameters
    ----------
    name
        Key of `asdlib.method.encoders.ENCODERS` or one of `PRETRAINED_ONLY`.
    pretrained
        Where weights come from; without it they are random, from torch's global generator.
    description
        What `describe_encoder` returned: the source is not read, the caller loads the weights.

    Raises
    ------
    ConfigError, RunError
        If name, mel bins and source do not fit together, or the source is missing or damaged.
    """
    if pretrained is None:
        return build_encoder(name, n_mels)
    encoder: Encoder
    if name not in PRETRAINED_ONLY:
        encoder = build_encoder(name, n_mels)
        if description is None:
            _load_weights(encoder, name, pretrained.folder)
    elif description is None:
        encoder = AudioSpectrogramTransformer.from_folder(pretrained.folder, pretrained)
    else:
        encoder = AudioSpectrogramTransformer(description["config"], pretrained)
    if encoder.n_mels != n_mels:
        raise ConfigError(
            f"encoder '{name}' of '{pretrained.source}' takes {encoder.n_mels} mel bins, got "
            f"{n_mels}; build the store with the front end of the checkpoint"
        )
    return Frozen(encoder) if pretrained.mode == "frozen" else encoder


def describe_encoder(encoder: Encoder) -> dict[str, Any]:
    """Return what `make_encoder` needs to build this encoder again without its source."""
    inner = encoder.encoder if isinstance(encoder, Frozen) else encoder
    return {"config": inner.config} if isinstance(inner, AudioSpectrogramTransformer) else {}


def _read_config(folder: Path) -> dict[str, Any]:
    config = _read_json(folder / CONFIG, "a checkpoint as save_pretrained of transformers writes")
    if config.get("model_type") != _MODEL_TYPE:
        raise ConfigError(
            f"checkpoint '{folder}' is of type '{config.get('model_type')}', expected "
            f"'{_MODEL_TYPE}'; choose another checkpoint or another encoder"
        )
    return config


def read_description(folder: Path) -> dict[str, Any]:
    """Read the ``encoder.json`` that `asdlib.method.pretraining.pretrain` has written.

    Raises
    ------
    RunError
        If it is missing or damaged.
    """
    keys = ("encoder", "front_end")
    return _read_json(folder / DESCRIPTION, "a folder that asd pretrain has written", keys)


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
    folder = pretrained.folder
    if name in PRETRAINED_ONLY:
        n_mels = int(_read_config(folder).get("num_mel_bins", 128))
        needed = PRESETS["ast"].model_copy(update={"n_mels": n_mels}).describe()
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
        way = f"the front end of '{folder}'"
        for preset, front_end in PRESETS.items():
            if {"framing": "stft"} | front_end.describe() == needed:
                way = f"asd features … --preset {preset}"
        raise StoreError(
            f"store '{store.path}' has another front end than the encoder {name} of "
            f"'{pretrained.source}': {'; '.join(differ)}; build a store with {way}"
        )


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


def _read_json(path: Path, expected: str, keys: tuple[str, ...] = ()) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict) or not content.keys() >= set(keys):
        raise RunError(f"'{path.parent}' has no readable {path.name}; expected {expected}")
    return content


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keep loading bars and the list of unused classifier weights from the output."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
