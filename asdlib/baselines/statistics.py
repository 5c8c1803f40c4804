"""The statistical reference: how far a clip's mean spectrum is from its section's usual one.

A clip becomes one vector of statistics over time; its score is the Mahalanobis distance from the
normal clips of its section. No training loop, and strong: a method has to beat it to matter.

Shapes: B batch, F mel bins, T frames, D statistics of a clip.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field

from asdlib.errors import ConfigError, RunError
from asdlib.features import Rows
from asdlib.system import Count, Parameters, Progress, System, by_section, per_clip, section_keys

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Level = Annotated[float, Field(ge=0.0, le=1.0)]


class TimeStatisticsParams(Parameters):
    """Parameters of `TimeStatistics`."""

    statistics: Literal["mean", "mean+deviation", "mean+deviation+quantiles"] = Field(
        default="mean", description="statistics over time of each mel bin"
    )
    quantiles: tuple[Level, ...] = Field(
        default=(0.1, 0.5, 0.9),
        min_length=1,
        max_length=100,
        description="levels of the quantiles over time, used with 'mean+deviation+quantiles'",
    )
    covariance: Literal["own", "pooled"] = Field(
        default="own",
        description="of each section alone, or shrunk towards that of its machine type",
    )
    batch_size: Count = Field(default=64, description="clips read at once")


def time_statistics(log_mel: np.ndarray, params: TimeStatisticsParams) -> np.ndarray:
    """Describe log-mels (B, F, T) by statistics over their frames, (B, D), float64, in their unit.

    The mean of all mel bins, then their population standard deviation, then their quantiles (linear
    interpolation), as far as `params` ask for them.
    """
    parts = [log_mel.mean(axis=2, dtype=np.float64)]
    if params.statistics != "mean":
        parts.append(log_mel.std(axis=2, dtype=np.float64))
    if params.statistics == "mean+deviation+quantiles":
        parts.extend(np.quantile(log_mel, params.quantiles, axis=2))
    return np.concatenate(parts, axis=1)


class TimeStatistics(System[TimeStatisticsParams]):
    """Mahalanobis distance of time statistics, one Gaussian per section.

    The covariance is shrunk (Ledoit and Wolf, "A well-conditioned estimator for large-dimensional
    covariance matrices", J. Multivariate Analysis 88, 2004), which keeps it invertible with fewer
    clips than statistics. With ``covariance="pooled"`` it leans on the other sections of the
    machine type (`asdlib.method.PooledMahalanobis`).

    Parameters
    ----------
    seed
        Without effect; nothing here is random.
    **params
        See `TimeStatisticsParams`.

    Attributes
    ----------
    mean_, precision_ : np.ndarray
        Mean (sections, D) and inverse covariance (sections, D, D) of the statistics.
    """

    name = "statistics"
    Params = TimeStatisticsParams
    on_gpu = False

    mean_: np.ndarray
    precision_: np.ndarray

    def _fit(self, rows: Rows, workdir: Path | None, progress: Progress) -> None:
        from asdlib.method.backends import Mahalanobis, PooledMahalanobis

        keys, vectors = section_keys(rows.manifest), self._vectors(rows, progress)
        backend = PooledMahalanobis() if self.params.covariance == "pooled" else Mahalanobis()
        models = backend.fit(vectors, keys, rows.manifest["domain"]).models_.values()
        for section, clips in by_section(keys).items():
            if not np.ptp(vectors[clips], axis=0).any():
                raise RunError(
                    f"the training clips of section '{section}' are all alike, expected clips that "
                    "differ; check the recordings, or leave the section out"
                )
        self.mean_ = np.stack([model["mean"] for model in models])
        self.precision_ = np.stack([model["whitening"] @ model["whitening"].T for model in models])

    def _score(self, rows: Rows) -> np.ndarray:
        vectors = self._vectors(rows)
        scores = np.empty(len(rows))
        for section, chosen in by_section(section_keys(rows.manifest)).items():
            i = self.sections_.index(section)
            apart = vectors[chosen] - self.mean_[i]
            squared = np.einsum("nd,de,ne->n", apart, self.precision_[i], apart, optimize=True)
            scores[chosen] = np.sqrt(np.maximum(squared, 0.0))
        return scores

    def contributions(self, log_mel: np.ndarray, section: str) -> np.ndarray:
        """Divide the square of a clip's score among its mel bins and frames, exactly.

        With z the clip's distance from the mean of the section and P the inverse covariance, the
        square of the score is the sum over bins of (P^½ z)²: no bin takes part by less than zero.
        P^½ is linear, and z a mean over frames, so each bin's part is divided among frames, too,
        where it may be negative. A bin's deviation over time is divided as the variance is.

        Parameters
        ----------
        log_mel
            Log-mel spectrogram (F, T).
        section
            "machine/section".

        Returns
        -------
        np.ndarray
            Shape (F, T), float64; its sum is the square of the score.

        Raises
        ------
        ConfigError
            If the statistics are quantiles, which are no means over frames.

        References
        ----------
        P. H. Garthwaite, I. Koch, "Evaluating the contributions of individual variables to a
        quadratic form", Australian & New Zealand J. Statistics 58(1), 2016.
        """
        import torch

        x = torch.from_numpy(np.asarray(log_mel, dtype=np.float64))
        _, parts = self.divider([section], torch.float64)(x[None])
        return np.asarray(parts[0, 0])

    def divider(
        self, sections: Sequence[str], dtype: "torch.dtype"
    ) -> "Callable[[Tensor], tuple[Tensor, Tensor]]":
        """Return what makes scores (B, C) and `contributions` (B, C, F, T) of log-mels (B, F, T).

        C are the sections, and `dtype` is that of the log-mels.
        """
        import torch

        if "quantiles" in self.params.statistics:
            raise ConfigError(
                "a score by quantiles cannot be divided among frames; set statistics to mean or "
                "mean+deviation"
            )
        at = [self.sections_.index(section) for section in sections]
        mean = torch.from_numpy(self.mean_[at, :, None]).to(dtype)
        values, axes = torch.linalg.eigh(torch.from_numpy(self.precision_[at]))
        root = ((axes * values.clamp(min=0).sqrt()[:, None]) @ axes.mT).to(dtype)  # P^½

        def divide(log_mel: "Tensor") -> "tuple[Tensor, Tensor]":
            frames = log_mel
            if self.params.statistics != "mean":
                spread = log_mel.std(dim=2, correction=0, keepdim=True).clamp(min=1e-30)
                from_mean = log_mel - log_mel.mean(dim=2, keepdim=True)
                frames = torch.cat([log_mel, from_mean.square() / spread], dim=1)
            white = root @ (frames[:, None] - mean)  # (B, C, D, T)
            total = white.mean(dim=3, keepdim=True)
            parts = torch.unflatten(total * white / log_mel.shape[2], 2, (-1, log_mel.shape[1]))
            return total.square().sum(dim=(2, 3)).sqrt(), parts.sum(dim=2)

        return divide

    def _state(self) -> "tuple[dict[str, Tensor], dict[str, Any]]":
        import torch

        tensors = {"mean": self.mean_, "precision": self.precision_}
        return {name: torch.from_numpy(array) for name, array in tensors.items()}, {}

    def _restore(self, tensors: "dict[str, Tensor]", facts: dict[str, Any]) -> None:
        self.mean_, self.precision_ = tensors["mean"].numpy(), tensors["precision"].numpy()
        size = time_statistics(np.zeros((1, self.front_end_["n_mels"], 1)), self.params).shape[1]
        expected = (len(self.sections_), size)
        if (self.mean_.shape, self.precision_.shape) != (expected, (*expected, size)):
            raise ValueError(f"its tensors do not hold {expected[0]} sections of {size} statistics")

    def _vectors(self, rows: Rows, progress: Progress | None = None) -> np.ndarray:
        return per_clip(
            rows,
            self.params.batch_size,
            lambda log_mel, _: time_statistics(log_mel, self.params),
            self.name,
            progress,
        )
