"""The augmentation block: two different views of every log-mel crop, in four steps.

Pre-normalisation → log-mixup-exp → random resize crop → post-normalisation. That there are these
four steps in this order is stated by the paper [P]: Meng et al., "Contrastive Learning with
Spectrum Information Augmentation in Abnormal Sound Detection", CVIPPR 2024, arXiv 2509.15570. How
each step works is inferred [I] from BYOL-A, whose names and wording the paper follows: Niizumi et
al., "BYOL for Audio", IJCNN 2021, arXiv 2103.06695. What both leave open [O] is a parameter.

Every sample draws its own numbers, on the generator's device: a CPU generator gives the same views
on every accelerator. Arithmetic is float32 whatever the input's type.

Shapes: V views (2), B batch, F mel bins, T frames.
"""

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from asdlib.errors import ConfigError
from asdlib.method.crop import draw_crops, resize_crop
from asdlib.method.mixing import InputBank, first_bin_above, log_mixup_exp
from asdlib.method.normalise import PreNorm, post_normalise
from asdlib.system import Parameters

N_VIEWS = 2


class AugmentationParams(Parameters):
    """Parameters of the augmentation block; the defaults are the faithful reading."""

    retired = (("pre_norm_statistics", "fixed"), ("running_batches", None), ("mix_eps", 0.0))

    pre_norm: bool = Field(True, description="[P] standardise the input, x ← (x − mean)/std")
    mixup: bool = Field(True, description="[P] mix past inputs in as background (log-mixup-exp)")
    rrc: bool = Field(True, description="[P] random resize crop")
    post_norm: bool = Field(True, description="[P] standardise both views of the batch together")
    mix_alpha: float = Field(
        0.4, ge=0, le=1, description="[I] largest share of the partner; λ = alpha·u, u ~ U(0, 1)"
    )
    bank_size: int = Field(
        2048, ge=1, le=100_000, description="[I] number of past inputs to mix from"
    )
    mixing: Literal["full", "high"] = Field(
        "full", description="[O] 'full': mix all mel bins; 'high': only those above cutoff_hz"
    )
    cutoff_hz: float = Field(
        2000.0,
        ge=0,
        description="[O] with mixing 'high', lowest centre frequency in Hz of the mixed mel bins",
    )
    frequency_canvas: float = Field(
        1.0,
        ge=1,
        le=100,
        description="[I] height of the zero canvas, as a multiple of the mel bins",
    )
    time_canvas: float = Field(
        1.5, ge=1, le=100, description="[I] width of the zero canvas, as a multiple of the frames"
    )
    frequency_scale: tuple[float, float] = Field(
        (0.6, 1.5), description="[I] range of the crop's height, as a multiple of the mel bins"
    )
    time_scale: tuple[float, float] = Field(
        (0.6, 1.5), description="[I] range of the crop's width, as a multiple of the frames"
    )

    @model_validator(mode="after")
    def _check_ranges(self) -> Self:
        for name in ("frequency_scale", "time_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high <= 100:
                raise ValueError(f"{name} is ({low}, {high}), expected 0 < low <= high <= 100")
        return self


class SpectrumAugmentation(nn.Module):
    """Make two augmented views of a batch of log-mel crops.

    In training mode a forward pass also feeds the bank of past inputs, which is part of
    ``state_dict``; in evaluation mode it leaves it alone.

    Without pre-norm the input is mixed as it stands, although eˣ of a decibel value is no power:
    converting it would be the very step that is switched off.

    Parameters
    ----------
    params
        What to do; by default the faithful reading.
    mean, std
        Statistics of the training set, in the unit of the input.
    mel_frequencies
        Centre frequency of each mel bin in Hz, ascending, shape (F,); needed by mixing "high".

    Raises
    ------
    ConfigError
        If `std` is not positive, or mixing "high" lacks mel frequencies or has none above the
        cut-off.
    """

    def __init__(
        self,
        params: AugmentationParams | None = None,
        *,
        mean: float,
        std: float,
        mel_frequencies: Sequence[float] | np.ndarray | None = None,
    ) -> None:
        super().__init__()
        self.params = params or AugmentationParams()
        self.pre_norm = PreNorm(mean, std)
        self.n_mels = None if mel_frequencies is None else len(mel_frequencies)
        self.first_bin = 0
        if self.params.mixing == "high":
            self.first_bin = first_bin_above(mel_frequencies, self.params.cutoff_hz)
        self.bank = InputBank(self.params.bank_size)

    @torch.no_grad()
    def forward(self, log_mel: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Make two views (V, B, F, T), of the input's type.

        Parameters
        ----------
        log_mel
            One crop per clip, of which both views are made, shape (B, F, T); or one crop for each
            view, shape (V, B, F, T).
        generator
            Source of the random numbers, on any device; by default torch's own.

        Raises
        ------
        ConfigError
            If the input has another shape, or another size than earlier inputs.
        """
        views = log_mel.dim() == 4 and len(log_mel) == N_VIEWS
        if not (log_mel.dim() == 3 or views) or log_mel.numel() == 0:
            raise ConfigError(
                f"log_mel of shape {tuple(log_mel.shape)} cannot be augmented, expected "
                f"(batch, mel bins, frames) or ({N_VIEWS}, batch, mel bins, frames)"
            )
        if self.n_mels not in (None, log_mel.shape[-2]):
            raise ConfigError(
                f"log_mel has {log_mel.shape[-2]} mel bins, expected {self.n_mels} as in "
                "mel_frequencies"
            )
        x = self.pre_normalise(log_mel.float())
        both = x if views else x.expand(N_VIEWS, *x.shape)
        shape = both.shape
        both = both.reshape(-1, *shape[2:])
        if self.params.mixup:
            both = self.log_mixup_exp(both, generator)
            if self.training:
                self.bank.push(x.reshape(-1, *shape[2:]))
        if self.params.rrc:
            both = self.random_resize_crop(both, generator)
        if self.params.post_norm:
            both = post_normalise(both)
        return both.reshape(shape).to(log_mel.dtype)

    @torch.no_grad()
    def remember(self, log_mel: Tensor) -> None:
        """Take crops (B, F, T) as partners of later mixing, as if they were past inputs."""
        if self.params.mixup:
            x = self.pre_normalise(log_mel.float())
            self.bank.push(x)

    def pre_normalise(self, log_mel: Tensor) -> Tensor:
        """Step 1, [P], and the only one at test: standardise any shape; the identity if off."""
        if not self.params.pre_norm:
            return log_mel
        normalised: Tensor = self.pre_norm(log_mel)
        return normalised

    def log_mixup_exp(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Step 2, [I]: mix a past input, if there is one, into every input (B, F, T)."""
        if len(self.bank) == 0:
            return x
        uniform = _draw_uniform(x, 2, generator)
        ratio = (self.params.mix_alpha * uniform[:, 0]).float()
        partner = self.bank.draw(uniform[:, 1], x)
        low, high = x[:, : self.first_bin], x[:, self.first_bin :]
        mixed = log_mixup_exp(high.float(), partner[:, self.first_bin :], ratio).to(x.dtype)
        return torch.cat((low, mixed), dim=1) if self.first_bin else mixed

    def random_resize_crop(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Step 3, [I]: zoom into a random part of every input (B, F, T)."""
        n_mels, n_frames = x.shape[1:]
        canvas = int(self.params.frequency_canvas * n_mels), int(self.params.time_canvas * n_frames)
        crops = draw_crops(
            _draw_uniform(x, 4, generator),
            (n_mels, n_frames),
            canvas,
            self.params.frequency_scale,
            self.params.time_scale,
        )
        with torch.autocast(x.device.type, enabled=False):
            return resize_crop(x.float(), *crops).to(x.dtype)


def _draw_uniform(x: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """Draw `n` numbers for each input on the generator's device, and bring them to that of `x`."""
    device = "cpu" if generator is None else generator.device
    drawn = torch.rand(len(x), n, generator=generator, device=device, dtype=torch.float64)
    return drawn.to(x.device, non_blocking=True)
