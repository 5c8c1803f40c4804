"""Step 2 of the augmentation: log-mixup-exp, a past input joins as background noise.

Spectrograms are logarithms (of power, up to an affine map), so that a mixture is made of their
exponentials: ln((1 − λ)·eˣ + λ·eᶻ + eps). The partner z comes from a bank of past inputs.

Shapes: B batch, F mel bins, T frames.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asdlib.errors import ConfigError


def log_mixup_exp(x: Tensor, z: Tensor, ratio: Tensor, *, eps: float = 0.0) -> Tensor:
    """Mix two log spectrograms in the linear domain: ln((1 − λ)·eˣ + λ·eᶻ + eps).

    Formed by ``logaddexp``, which takes the larger exponent out of the sum, so that inputs of any
    magnitude are safe: nothing overflows, and nothing is lost below the smallest float.

    Parameters
    ----------
    x, z
        Inputs and their partners, shape (B, F, T), float32.
    ratio
        λ, the share of the partner, 0 to 1, shape (B,).
    eps
        Constant inside the logarithm, ≥ 0.

    Returns
    -------
    Tensor
        Shape (B, F, T), float32.

    Notes
    -----
    D. Niizumi et al., "BYOL for Audio", IJCNN 2021, arXiv 2103.06695.
    """
    share = ratio[:, None, None]
    mixed = x + torch.log1p(-share)
    torch.logaddexp(mixed, z + torch.log(share), out=mixed)
    if eps > 0:
        torch.logaddexp(mixed, mixed.new_tensor(math.log(eps)), out=mixed)
    return mixed


def first_bin_above(mel_frequencies: Sequence[float] | np.ndarray | None, cutoff_hz: float) -> int:
    """Find the lowest mel bin that mixing "high" acts on, given all centre frequencies in Hz (F,).

    Raises
    ------
    ConfigError
        If there are no frequencies, they are not ascending, or none reaches the cut-off.
    """
    if mel_frequencies is None:
        raise ConfigError(
            "mixing 'high' needs the mel frequencies of the front end; give mel_frequencies, "
            "or use mixing 'full'"
        )
    frequencies = np.asarray(mel_frequencies, dtype=float)
    if np.any(np.diff(frequencies) < 0):
        raise ConfigError("mel_frequencies are not ascending, as mixing 'high' expects")
    first = int(np.searchsorted(frequencies, cutoff_hz, side="left"))
    if first == len(frequencies):
        raise ConfigError(
            f"cutoff_hz {cutoff_hz:g} is above the highest mel bin ({frequencies[-1]:g} Hz), "
            "nothing would be mixed; lower it or set mixup to false"
        )
    return first


class InputBank(nn.Module):
    """First-in-first-out memory of the last inputs, as a ring buffer.

    All entries have one shape (F, T), that of the first batch. Entries are float32, so that a
    mixture is exact; 2048 crops of 128 × 64 take 64 MiB. The memory is part of ``state_dict``: a
    training that resumes from a checkpoint draws the same partners as one that never stopped.

    Parameters
    ----------
    size
        Number of inputs to keep, ≥ 1.
    """

    entries: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.count = 0
        self.head = 0
        self.register_buffer("entries", torch.zeros(0, 0, 0))

    def __len__(self) -> int:
        """Return the number of inputs held now."""
        return self.count

    def push(self, x: Tensor) -> None:
        """Append inputs (B, F, T), oldest first; the oldest entries make room.

        Raises
        ------
        ConfigError
            If the inputs have another shape than those held.
        """
        if self.entries.numel() == 0:
            self.entries = torch.zeros(
                self.size, *x.shape[1:], device=x.device, dtype=torch.float32
            )
        self._check(x)
        x = x[-self.size :]
        first = min(len(x), self.size - self.head)
        self.entries[self.head : self.head + first] = x[:first]
        self.entries[: len(x) - first] = x[first:]
        self.head = (self.head + len(x)) % self.size
        self.count = min(self.count + len(x), self.size)

    def draw(self, uniform: Tensor, x: Tensor) -> Tensor:
        """Pick partners (B, F, T) for inputs `x` of this shape, uniformly among the inputs held.

        Which, say the numbers `uniform` in [0, 1), shape (B,), float64.
        """
        self._check(x)
        index = (uniform * self.count).to(torch.int64)
        return self.entries.index_select(0, index.to(self.entries.device)).to(x.device)

    def _check(self, x: Tensor) -> None:
        if x.shape[1:] != self.entries.shape[1:]:
            held, given = tuple(self.entries.shape[1:]), tuple(x.shape[1:])
            raise ConfigError(
                f"crops of {given} (mel bins, frames) do not fit the mixing bank of {held}; "
                "use one crop length, or name all of them as crop_lengths"
            )

    def get_extra_state(self) -> Tensor:
        """Return head and count, shape (2,), for ``state_dict``."""
        return torch.tensor([self.head, self.count])

    def set_extra_state(self, state: Any) -> None:
        """Set head and count from ``state_dict``."""
        self.head, self.count = (int(value) for value in state)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        # The shape of the entries is known only from the first batch, or from here.
        saved = state_dict.get(f"{prefix}entries")
        if saved is not None:
            self.entries = torch.zeros_like(saved, device=self.entries.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)
