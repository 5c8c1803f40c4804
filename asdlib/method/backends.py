"""Back-ends: from embeddings to anomaly scores, section by section; higher is more anomalous.

The paper does not say how it scores [O]. Distance to the k nearest neighbours and the Mahalanobis
distance are the field's usual choices; the others are here so that the study can compare.

Shapes: N clips, D embedding size, M training clips of one section, K mixture components.
"""

import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as SklearnMixture

from asdlib.errors import ConfigError
from asdlib.method.backend_base import Array, Backend, Metric, Model, nearest, pairwise_distances
from asdlib.method.level_sum import LevelSum
from asdlib.method.pooled import PooledMahalanobis, whitening


@dataclass
class Mahalanobis(Backend):
    """Distance from the mean in units of the shrunk covariance.

    Notes
    -----
    O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance
    matrices", J. Multivariate Analysis 88, 2004: shrinkage without a parameter to tune.
    """

    name = "mahalanobis"

    def _fit_section(self, x: Array, domains: Array) -> Model:
        mean = x.mean(axis=0)
        return {"mean": mean, "whitening": whitening(x - mean)}

    def _score_section(self, model: Model, x: Array) -> Array:
        scores: Array = np.linalg.norm((x - model["mean"]) @ model["whitening"], axis=1)
        return scores

    def _min_clips(self) -> int:
        return 2


@dataclass
class SelectiveMahalanobis(Backend):
    """The smaller of the Mahalanobis distances to the source and to the target clips.

    Each domain of a section has its own mean. A section whose training clips are all of one domain
    has one distance, that of `Mahalanobis`.

    Parameters
    ----------
    covariance
        "shared": one shrunk covariance around both means, which the few target clips cannot spoil
        [O]; "own": one for each domain.

    Notes
    -----
    Form of the official baseline since 2023: N. Harada et al., "First-shot anomaly sound detection
    for machine condition monitoring: A domain generalization baseline", EUSIPCO 2023, arXiv
    2303.00455, which has a covariance for each domain.
    """

    name = "selective_mahalanobis"
    covariance: Literal["shared", "own"] = "shared"

    def _check(self) -> None:
        if self.covariance not in ("shared", "own"):
            raise ConfigError(
                f"covariance '{self.covariance}' of '{self.name}' is not known (known: shared, own)"
            )

    def _fit_section(self, x: Array, domains: Array) -> Model:
        groups = [x[domains == domain] for domain in sorted(set(domains))]
        means = np.stack([group.mean(axis=0) for group in groups])
        centred = [group - mean for group, mean in zip(groups, means, strict=True)]
        if self.covariance == "shared":
            shared = whitening(np.concatenate(centred))
            return {"mean": means, "whitening": np.stack([shared] * len(groups))}
        return {"mean": means, "whitening": np.stack([whitening(group) for group in centred])}

    def _score_section(self, model: Model, x: Array) -> Array:
        centred = x[None] - model["mean"][:, None]
        scores: Array = np.linalg.norm(centred @ model["whitening"], axis=2).min(axis=0)
        return scores

    def _min_clips(self) -> int:
        return 2


@dataclass
class ClassMeanDistance(Backend):
    """Distance from the mean embedding of the section.

    Parameters
    ----------
    metric
        "cosine" (1 − cosine of the angle) or "euclidean".
    """

    name = "class_mean"
    metric: Metric = "cosine"

    def _fit_section(self, x: Array, domains: Array) -> Model:
        return {"mean": x.mean(axis=0)}

    def _score_section(self, model: Model, x: Array) -> Array:
        return pairwise_distances(x, model["mean"][None], self.metric)[:, 0]


@dataclass
class KNearestNeighbours(Backend):
    """Mean distance to the k nearest training embeddings.

    Parameters
    ----------
    k
        Number of neighbours.
    metric
        "cosine" (1 − cosine of the angle) or "euclidean".
    """

    name = "knn"
    k: int = 1
    metric: Metric = "cosine"

    def _fit_section(self, x: Array, domains: Array) -> Model:
        return {"embeddings": x}

    def _score_section(self, model: Model, x: Array) -> Array:
        distances = pairwise_distances(x, model["embeddings"], self.metric)
        scores: Array = nearest(distances, self.k).mean(axis=1)
        return scores

    def _min_clips(self) -> int:
        return self.k


@dataclass
class LocalDensityKNN(Backend):
    """Distance to a training embedding, divided by how far that one is from its own neighbours.

    The k smallest of these ratios are averaged. Where training clips lie sparsely, as those of
    the target domain do, distances are long anyway and count less.

    Parameters
    ----------
    k
        Number of ratios averaged.
    density_k
        Number of neighbours that define the density around a training embedding.
    metric
        "cosine" (1 − cosine of the angle) or "euclidean".

    Notes
    -----
    K. Wilkinghoff et al., "Local Density-Based Anomaly Score Normalization for Domain
    Generalization", 2025, arXiv 2509.10951, the variant scaled by K nearest neighbours.
    """

    name = "local_density_knn"
    k: int = 1
    density_k: int = 4
    metric: Metric = "cosine"

    def _fit_section(self, x: Array, domains: Array) -> Model:
        distances = pairwise_distances(x, x, self.metric)
        np.fill_diagonal(distances, np.inf)
        density = nearest(distances, self.density_k).mean(axis=1)
        # Copies of one clip have no distance; they count like the densest other place.
        spread = density[density > 0]
        floor = spread.min() if len(spread) else 1.0
        return {"embeddings": x, "density": np.maximum(density, floor)}

    def _score_section(self, model: Model, x: Array) -> Array:
        distances = pairwise_distances(x, model["embeddings"], self.metric)
        scores: Array = nearest(distances / model["density"], self.k).mean(axis=1)
        return scores

    def _min_clips(self) -> int:
        return max(self.k, self.density_k + 1)


@dataclass
class GaussianMixture(Backend):
    """Negative log-likelihood per clip under a mixture of Gaussians with full covariances.

    Parameters
    ----------
    n_components
        K.
    regularisation
        Added to the variances, as a share of the section's mean variance.
    seed
        Seed of the initial assignment.
    """

    name = "gaussian_mixture"
    n_components: int = 2
    regularisation: float = 0.01
    seed: int = 0

    def _fit_section(self, x: Array, domains: Array) -> Model:
        variance = float(x.var(axis=0).mean())
        mixture = SklearnMixture(
            self.n_components,
            reg_covar=self.regularisation * (variance if variance > 0 else 1.0),
            random_state=self.seed,
        )
        with warnings.catch_warnings():
            # A mixture that still moves after 100 rounds is used as it is.
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture.fit(x)
        return {
            "log_weights": np.log(mixture.weights_),
            "means": mixture.means_,
            "precisions": mixture.precisions_cholesky_,
        }

    def _score_section(self, model: Model, x: Array) -> Array:
        factors = model["precisions"]
        scaled = (x[None] - model["means"][:, None]) @ factors
        log_volume = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(axis=1)
        log_density = log_volume[:, None] - 0.5 * (
            np.square(scaled).sum(axis=2) + x.shape[1] * np.log(2 * np.pi)
        )
        scores: Array = -logsumexp(log_density + model["log_weights"][:, None], axis=0)
        return scores

    def _min_clips(self) -> int:
        return max(2, self.n_components)


BACKENDS: dict[str, type[Backend]] = {
    backend.name: backend
    for backend in (
        Mahalanobis,
        PooledMahalanobis,
        KNearestNeighbours,
        ClassMeanDistance,
        GaussianMixture,
        LocalDensityKNN,
        SelectiveMahalanobis,
        LevelSum,
    )
}
"""Back-ends by name, for configurations."""


def build_backend(name: str, **params: Any) -> Backend:
    """Build a back-end by name.

    Raises
    ------
    ConfigError
        If the name or a parameter is not known, or a value is not allowed.
    """
    if name not in BACKENDS:
        raise ConfigError(f"back-end '{name}' is not known (known: {', '.join(sorted(BACKENDS))})")
    known = [field.name for field in dataclasses.fields(BACKENDS[name])]
    for key in params:
        if key not in known:
            raise ConfigError(
                f"parameter '{key}' is not known to back-end '{name}' "
                f"(known: {', '.join(known) or 'none'})"
            )
    return BACKENDS[name](**params)


def backend_from_state(name: str, state: Mapping[str, Array]) -> Backend:
    """Build a fitted back-end by name from what its `state` gave.

    Raises
    ------
    ConfigError
        If the name is not known.
    RunError
        If the state belongs to another back-end.
    """
    return build_backend(name).from_state(state)
