"""The Audio Spectrogram Transformer of a public checkpoint, as an encoder.

Y. Gong et al., "AST: Audio Spectrogram Transformer", Interspeech 2021, arXiv 2104.01778. A clip is
cut into overlapping patches of 16 mel bins × 16 frames; each becomes a token, and two further
tokens, for class and distillation, stand before them.

Shapes: B batch, F mel bins, T frames, H hidden size, F' and T' patches over frequency and time,
P = F'·T' patches.
"""

from pathlib import Path
from typing import Any, Self

import torch
from pydantic import BaseModel, Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import interpolate

from asdlib.errors import ConfigError, RunError
from asdlib.features import PRESETS
from asdlib.method.encoders import Encoder
from asdlib.method.weights import (
    CONFIG,
    PretrainedParams,
    add_adapters,
    check_extra,
    read_facts,
    weight_files,
)

_MODEL_TYPE = "audio-spectrogram-transformer"
_LORA_TARGETS = ["q_proj", "v_proj", "query", "value"]


class _Config(BaseModel, extra="allow", strict=True):
    """What has to be in ``config.json``."""

    model_type: str
    num_mel_bins: int = Field(128, gt=0, le=4096)


class AudioSpectrogramTransformer(Encoder):
    """Encoder around ``transformers.ASTModel``; `body` is the model.

    Averaging the last layer's patch tokens over time keeps the frequency axis, as in all encoders
    here. Checkpoints are trained on features of mean 0 and deviation 1/2, and step 1 of the
    augmentation leaves deviation 1: the encoder halves its input.

    Parameters
    ----------
    config
        Content of the checkpoint's ``config.json``.
    params
        What is trained.
    model
        The model; without it, one with random weights, to be loaded afterwards.
    """

    body: Any

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
        if params.mode == "lora":
            add_adapters(model, params, _LORA_TARGETS)
        self.body = model
        self.last = nn.Identity()
        self.embedding_size = int(settings.hidden_size)

    @staticmethod
    def front_end(folder: Path) -> dict[str, Any]:
        """Return the front end that the checkpoint in `folder` was trained on, as in stores."""
        n_mels = _read_config(folder)["num_mel_bins"]
        return PRESETS["ast"].model_copy(update={"n_mels": n_mels}).describe()

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
                raise KeyError(f"it lacks weights such as {min(info['missing_keys'])}")
            return cls(config, params, model)
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise RunError(
                f"checkpoint '{folder}' cannot be read ({reason.rstrip('.')}); fetch or copy it "
                "again"
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

    def embed(self, time_mean: Tensor) -> Tensor:
        """Turn the result of `time_mean` into the embedding (B, H)."""
        return time_mean.reshape(len(time_mean), self.embedding_size, -1).mean(dim=2)


def _read_config(folder: Path) -> dict[str, Any]:
    config = read_facts(folder / CONFIG, _Config, "save_pretrained of transformers")
    if config["model_type"] != _MODEL_TYPE:
        raise ConfigError(
            f"checkpoint '{folder}' is of type '{config['model_type']}', expected '{_MODEL_TYPE}'; "
            "choose another checkpoint or another encoder"
        )
    return config
