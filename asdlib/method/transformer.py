"""The Audio Spectrogram Transformer of a public checkpoint, as an encoder.

Y. Gong et al., "AST: Audio Spectrogram Transformer", Interspeech 2021, arXiv 2104.01778. A clip is
cut into overlapping patches of 16 mel bins × 16 frames; each becomes a token, and two further
tokens, for class and distillation, stand before them.

Shapes: B batch, F mel bins, T frames, H hidden size, F' and T' patches over frequency and time,
P = F'·T' patches.
"""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from asdlib.errors import ConfigError, RunError
from asdlib.features import PRESETS
from asdlib.method.encoders import Encoder
from asdlib.method.weights import CONFIG, PretrainedParams, add_adapters, check_extra, weight_files

_MODEL_TYPE = "audio-spectrogram-transformer"
_LORA_TARGETS = ["q_proj", "v_proj", "query", "value"]


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
        model.embeddings = _AnyLengthEmbeddings(model.embeddings, self.n_frequency)
        if params.mode == "lora":
            add_adapters(model, params, _LORA_TARGETS)
        self.body = model
        self.last = nn.Identity()
        self.embedding_size = int(settings.hidden_size)

    @staticmethod
    def front_end(folder: Path) -> dict[str, Any]:
        """Return the front end that the checkpoint in `folder` was trained on, as in stores."""
        n_mels = _read_config(folder).get("num_mel_bins", 128)
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

        config = _read_config(folder)
        weight_files(folder)
        try:
            with _quiet_transformers():
                model, info = ASTModel.from_pretrained(
                    folder, dtype=torch.float32, output_loading_info=True, local_files_only=True
                )
            encoder = cls(config, params, model)
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
        return encoder

    def feature_map(self, x: Tensor) -> Tensor:
        """Compute the last layer's patches, shape (B, H, F', T'), of spectrograms (B, F, T)."""
        if x.dim() != 3 or x.shape[1] != self.n_mels or x.shape[2] < self.patch_size:
            raise ConfigError(
                f"the encoder got input of shape {tuple(x.shape)}, expected (batch, {self.n_mels} "
                f"mel bins, frames) with at least {self.patch_size} frames"
            )
        hidden = self.body(input_values=0.5 * x.transpose(1, 2)).last_hidden_state
        patches = hidden[:, 2:].transpose(1, 2)
        feature_map: Tensor = patches.reshape(len(x), self.embedding_size, self.n_frequency, -1)
        return feature_map

    def embed(self, time_mean: Tensor) -> Tensor:
        """Turn the result of `time_mean` into the embedding (B, H)."""
        return time_mean.reshape(len(time_mean), self.embedding_size, -1).mean(dim=2)


class _AnyLengthEmbeddings(nn.Module):
    """Patch and position embeddings of a transformer, for inputs of any number of frames.

    For inputs shorter than the 10.24 s of the training the middle positions are taken, for longer
    ones they are interpolated over time, as the authors do (src/models/ast_models.py in
    github.com/YuanGongND/ast, 2e00ccb).
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


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        kind, n_mels = config.get("model_type"), config.get("num_mel_bins", 128)
        if type(n_mels) is not int or not 0 < n_mels <= 4096:
            raise ValueError
    except (OSError, ValueError, AttributeError):
        raise RunError(
            f"'{folder}' has no readable {CONFIG}; expected a checkpoint as save_pretrained of "
            "transformers writes"
        ) from None
    if kind != _MODEL_TYPE:
        raise ConfigError(
            f"checkpoint '{folder}' is of type '{kind}', expected '{_MODEL_TYPE}'; choose another "
            "checkpoint or another encoder"
        )
    return dict(config)


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
