"""Steps 1 and 4 of the augmentation: one mean and one deviation for all mel bins, before and after.

Shapes: V views, B batch, F mel bins, T frames.
"""

import math

import torch
from torch import Tensor, nn

from asdlib.errors import ConfigError

SMALLEST = float(torch.finfo(torch.float32).tiny)


class PreNorm(nn.Module):
    """Standardise by fixed statistics, or by those of all inputs seen so far.

    Parameters
    ----------
    mean, std
        In the unit of the input; running statistics replace them with the first batch.
    running
        Whether `update` follows the inputs.
    max_batches
        Batches after which running statistics freeze; by default never. BYOL-A 2021 (arXiv
        2103.06695): those of ten epochs.

    Raises
    ------
    ConfigError
        If `std` is not positive or a number is not finite.
    """

    mean: Tensor
    std: Tensor
    n_batches: Tensor
    n_inputs: Tensor

    def __init__(
        self, mean: float, std: float, *, running: bool = False, max_batches: int | None = None
    ) -> None:
        super().__init__()
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise ConfigError(
                f"pre-norm with mean {mean} and std {std} is not possible, expected finite numbers "
                "with std > 0; are all training clips silent?"
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.running = running
        self.max_batches = max_batches
        self.register_buffer("n_batches", torch.tensor(0))
        self.register_buffer("n_inputs", torch.tensor(0))

    def forward(self, x: Tensor) -> Tensor:
        """Standardise an input of any shape; float32 inside, the input's type outside."""
        return ((x.float() - self.mean) / self.std).to(x.dtype)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Take a batch (…, F, T) into the statistics, unless they are fixed or frozen.

        Mean and variance are those of all values seen so far (T. Chan et al., 1979).
        """
        if not self.running or int(self.n_batches) == self.max_batches:
            return
        n_new = x.shape[:-2].numel()
        self.n_inputs += n_new
        self.n_batches += 1
        share = n_new / int(self.n_inputs)
        variance, mean = torch.var_mean(x.float(), correction=0)
        shift = mean - self.mean
        between = share * (1 - share) * shift.square()
        self.std = ((1 - share) * self.std.square() + share * variance + between).sqrt()
        self.std = self.std.clamp(min=SMALLEST)
        self.mean = self.mean + share * shift


def post_normalise(views: Tensor) -> Tensor:
    """Bring all values of both views (V, B, F, T), or of any shape, to mean 0 and deviation 1."""
    x = views.float()
    mean = x.mean()
    x = x - mean
    # Row by row, then over the rows: as exact as torch.std and several times faster on CPUs.
    rows = torch.linalg.vector_norm(x, dim=-1)
    deviation = (rows.square().mean() / x.shape[-1]).sqrt()
    # What is left of equal values after rounding is no deviation: they become zero.
    equal = deviation <= 1e-5 * mean.abs() + SMALLEST
    return x.div_(deviation.masked_fill(equal, torch.inf)).to(views.dtype)
