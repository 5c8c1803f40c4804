"""Step 2 of the augmentation: log-mixup-exp, a past input joins as background noise.

Shapes: B batch, F mel bins, T frames.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from asdlib.errors import ConfigError


def log_mixup_exp(x: Tensor, z: Tensor, ratio: Tensor) -> Tensor:
    """Mix two log spectrograms in the linear domain: ln((1 − λ)·eˣ + λ·eᶻ), (B, F, T).

    ``logaddexp`` takes the larger exponent out of the sum: inputs of any magnitude are safe.

    Parameters
    ----------
    x, z
        Inputs and their partners, shape (B, F, T), float32.
    ratio
        λ, the share of the partner, 0 to 1, shape (B,).

    Notes
    -----
    D. Niizumi et al., "BYOL for Audio", IJCNN 2021, arXiv 2103.06695, who add 1.2e-7 within the
    logarithm. After pre-norm that does not show; without it, it would cut inputs at −15.9 [O].
    """
    share = ratio[:, None, None]
    mixed = x + torch.log1p(-share)
    torch.logaddexp(mixed, z + torch.log(share), out=mixed)
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
    """First-in-first-out memory of the last `size` inputs, all of the shape (F, T) of the first.

    Entries are float32, so that a mixture is exact; 2048 crops of 128 × 64 take 64 MiB. They are
    part of ``state_dict``: a resumed training draws the same partners as one that never stopped.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.count = 0
        self.head = 0
        self.entries = torch.zeros(0, 0, 0)

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
            self.entries = x.new_zeros(self.size, *x.shape[1:], dtype=torch.float32)
        self._hold_on(x)
        x = x[-self.size :]
        first = min(len(x), self.size - self.head)
        self.entries[self.head : self.head + first] = x[:first]
        self.entries[: len(x) - first] = x[first:]
        self.head = (self.head + len(x)) % self.size
        self.count = min(self.count + len(x), self.size)

    def draw(self, uniform: Tensor, x: Tensor) -> Tensor:
        """Pick partners (B, F, T) for inputs `x` of this shape, uniformly among the inputs held.

        `uniform`, (B,) float64 in [0, 1) on their device, decides which.
        """
        self._hold_on(x)
        index = (uniform * self.count).to(torch.int64)
        return self.entries.index_select(0, index)

    def _hold_on(self, x: Tensor) -> None:
        """Hold the entries, which a checkpoint brings to the CPU, where the inputs are."""
        self.entries = self.entries.to(x.device)
        if x.shape[1:] != self.entries.shape[1:]:
            held, given = tuple(self.entries.shape[1:]), tuple(x.shape[1:])
            raise ConfigError(
                f"crops of {given} (mel bins, frames) do not fit the mixing bank of {held}; "
                "use one crop length"
            )

    def get_extra_state(self) -> dict[str, Any]:
        """Return all that is held, for ``state_dict``."""
        return {"entries": self.entries, "head": self.head, "count": self.count}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take back what `get_extra_state` returned."""
        self.entries = state["entries"].clone()
        self.head, self.count = state["head"], state["count"]
