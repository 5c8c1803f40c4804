"""The base of all back-ends, and those that learn each section alone: distances to normal clips.

A back-end scores clips by how far their embeddings lie from those of normal training clips, in
float64. The paper does not say how it scores [O]: nearest neighbours and the Mahalanobis distance
are the field's usual choices, the others are there to be compared.

Some are for two domains of unequal size, as 990 source clips and 10 target clips. A few target
clips neither show how far normal ones lie apart nor fill their region, so that their distances are
longer than those of the source. Each of these back-ends meets that in another way.

Shapes: N clips, D embedding size, M training clips.
"""

import dataclasses
import json
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass
from scipy.spatial.distance import cdist

from asdlib.errors import RunError
from asdlib.system import by_section

Array = np.ndarray
Names = ArrayLike
Model = dict[str, Array]
Metric = Literal["cosine", "euclidean"]

_BLOCK = 2**23  # numbers that are held at a time
_SPARE = 8  # neighbours that are looked at beside those wanted

STRICT = ConfigDict(strict=True, allow_inf_nan=False)


class Backend(ABC):
    """Base of all back-ends: checks, sections, state.

    A subclass is a dataclass, whose fields are its parameters, with `_score_section` and
    `_fit_section`, or `_fit_sections` where sections share something.

    Attributes
    ----------
    models_
        Learned arrays of each section.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        self.models_: dict[str, Model] = {}

    def fit(self, embeddings: Array, sections: Names, domains: Names | None = None) -> Self:
        """Learn the normal embeddings of every section.

        Parameters
        ----------
        embeddings
            Of normal training clips, shape (N, D).
        sections, domains
            "machine/section" and domain of each clip, shape (N,); by default one domain.

        Raises
        ------
        RunError
            If shapes disagree, a value is not finite or a section has too few clips.
        """
        x, names, of_clip = checked(embeddings, sections, domains)
        for section, n_clips in zip(*np.unique(names, return_counts=True), strict=True):
            if n_clips < self._min_clips():
                raise RunError(
                    f"section '{section}' has too few training clips: {n_clips}; back-end "
                    f"'{self.name}' needs at least {self._min_clips()}; add clips or lower its "
                    "parameters"
                )
        self.models_ = self._fit_sections(x, names, of_clip)
        return self

    def score(self, embeddings: Array, sections: Names) -> Array:
        """Compute the anomaly scores of embeddings (N, D), shape (N,), float64.

        Raises
        ------
        RunError
            If a section was not in `fit`, shapes disagree or a value is not finite.
        """
        x, names, _ = checked(embeddings, sections)
        scores = np.empty(len(x))
        for section, rows in by_section(names).items():
            if section not in self.models_:
                raise RunError(
                    f"section '{section}' was not in training (known: "
                    f"{', '.join(self.models_) or 'none, fit first'}); train on it or leave it out"
                )
            scores[rows] = self._score_section(self.models_[section], x[rows])
        return scores

    def params(self) -> dict[str, Any]:
        """Return the parameters of the constructor."""
        return dataclasses.asdict(self)  # type: ignore[call-overload, no-any-return]

    def state(self) -> Model:
        """Return parameters and learned arrays as arrays, for safetensors."""
        config = {"name": self.name, "params": self.params(), "sections": list(self.models_)}
        state: Model = {"config": np.frombuffer(json.dumps(config).encode(), np.uint8)}
        for number, model in enumerate(self.models_.values()):
            state |= {f"{number}.{key}": np.ascontiguousarray(a) for key, a in model.items()}
        return state

    def _fit_sections(self, x: Array, names: Array, domains: Array) -> dict[str, Model]:
        return {
            section: self._fit_section(x[rows], domains[rows])
            for section, rows in by_section(names).items()
        }

    def _fit_section(self, x: Array, domains: Array) -> Model:
        raise TypeError(f"back-end '{self.name}' does not learn one section alone")

    @abstractmethod
    def _score_section(self, model: Model, x: Array) -> Array: ...

    def _min_clips(self) -> int:
        return 1


def checked(
    embeddings: ArrayLike, sections: Names, domains: Names | None = None
) -> tuple[Array, Array, Array]:
    """Return embeddings as float64, sections and domains as arrays of text."""
    x, names = np.asarray(embeddings, np.float64), np.asarray(sections, object)
    of_clip = np.full(len(x), "", object) if domains is None else np.asarray(domains, object)
    if x.ndim != 2 or names.shape != x.shape[:1] or of_clip.shape != x.shape[:1]:
        raise RunError(
            f"embeddings of shape {x.shape}, {len(names)} sections and {len(of_clip)} domains do "
            "not fit, expected (clips, size) and one section and domain for each clip"
        )
    if not np.isfinite(x).all():
        bad = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise RunError(
            f"the embedding of clip {bad} (section '{names[bad]}') is not finite; the encoder "
            "diverged: lower the learning rate"
        )
    return x, names, of_clip


def pairwise_distances(x: Array, y: Array, metric: Metric) -> Array:
    """Compute distances (N, M) between rows of x (N, D) and y (M, D); cosine is 1 for zeros."""
    if metric == "euclidean":
        return np.asarray(cdist(x, y))
    lengths = [np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y)]
    x, y = (a / np.where(length > 0, length, 1) for a, length in zip((x, y), lengths, strict=True))
    return np.asarray(np.clip(1 - x @ y.T, 0, 2))


def nearest(distances: Array, k: int) -> Array:
    """Return the mean of the `k` smallest values of each row, shape (N,)."""
    return np.asarray(np.partition(distances, k - 1, axis=1)[:, :k].mean(axis=1))


def nearest_of(
    x: Array, y: Array, k: int, metric: Metric, *, scale: ArrayLike = 1.0, itself: bool = False
) -> Array:
    """Average the `k` smallest distances of each row of x (N, D) to the rows of y (M, D): (N,).

    Memory is that of some `_BLOCK` numbers, whatever N and M. Products in single precision find
    more neighbours than needed; their distances are then computed in double precision.

    Parameters
    ----------
    metric
        "cosine", which is 1 for zeros, or "euclidean".
    scale
        What the distances to each row of y are divided by, (M,).
    itself
        x is y, and no row is its own neighbour.
    """
    of_row = np.broadcast_to(np.asarray(scale, np.float64), len(y))
    if metric == "cosine":
        lengths = [np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y)]
        x, y = (a / np.where(n > 0, n, 1) for a, n in zip((x, y), lengths, strict=True))
    centre = y.mean(axis=0) if metric == "euclidean" else 0.0  # around it, few digits are enough
    near_x, near_y = ((a - centre).astype(np.float32) for a in (x, y))
    square_y = np.square(near_y).sum(axis=1)
    n_picked = min(k + _SPARE, len(y) - itself)
    size = max(1, _BLOCK // max(len(y), n_picked * y.shape[1]))
    result = np.empty(len(x))
    for start in range(0, len(x), size):
        at = slice(start, start + size)
        rough = near_x[at] @ near_y.T
        if metric == "cosine":
            np.subtract(1, rough, out=rough)
        else:
            rough *= -2
            rough += square_y
            rough += np.square(near_x[at]).sum(axis=1)[:, None]
            np.sqrt(np.maximum(rough, 0, out=rough), out=rough)
        rough /= of_row.astype(np.float32)
        if itself:
            np.fill_diagonal(rough[:, start:], np.inf)
        picked = np.argpartition(rough, n_picked - 1, axis=1)[:, :n_picked]
        if metric == "cosine":
            exact = np.clip(1 - np.einsum("nd,nkd->nk", x[at], y[picked]), 0, 2)
        else:
            exact = np.linalg.norm(x[at, None] - y[picked], axis=2)
        exact /= of_row[picked]
        result[at] = np.partition(exact, k - 1, axis=1)[:, :k].mean(axis=1)
    return result


@dataclass(config=STRICT)
class ClassMeanDistance(Backend):
    """Distance from the mean embedding of the section, "cosine" or "euclidean"."""

    name = "class_mean"
    metric: Metric = "cosine"

    def _fit_section(self, x: Array, domains: Array) -> Model:
        return {"mean": x.mean(axis=0)}

    def _score_section(self, model: Model, x: Array) -> Array:
        return pairwise_distances(x, model["mean"][None], self.metric)[:, 0]


@dataclass(config=STRICT)
class KNearestNeighbours(Backend):
    """Mean distance, "cosine" or "euclidean", to the k nearest training embeddings."""

    name = "knn"
    k: int = Field(default=1, ge=1)
    metric: Metric = "cosine"

    def _fit_section(self, x: Array, domains: Array) -> Model:
        return {"embeddings": x}

    def _score_section(self, model: Model, x: Array) -> Array:
        return nearest_of(x, model["embeddings"], self.k, self.metric)

    def _min_clips(self) -> int:
        return self.k


def whitening(centred: Array) -> Array:
    """Compute W (D, D), with ‖x·W‖ = Mahalanobis distance by the covariance of Ledoit and Wolf.

    `centred` are clips (N, D) around their mean; without any spread all directions count the same.
    """
    from sklearn.covariance import LedoitWolf

    if not centred.any():
        return np.eye(centred.shape[1])
    fitted = LedoitWolf(assume_centered=True, store_precision=False).fit(centred)
    values, vectors = np.linalg.eigh(fitted.covariance_)
    return np.asarray(vectors / np.sqrt(np.maximum(values, np.finfo(np.float64).eps * values[-1])))


@dataclass(config=STRICT)
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
        # Of several means, (domains, D) instead of (D,), the nearest one counts.
        centred = x - model["mean"][..., None, :]
        distances = np.linalg.norm(centred @ model["whitening"], axis=-1)
        return np.asarray(distances.reshape(-1, len(x)).min(axis=0))

    def _min_clips(self) -> int:
        return 3  # the covariance of two clips is not shrunk at all


def within_domains(x: Array, domains: Array) -> Array:
    """Return clips (N, D) around the mean of their domain."""
    centred = np.empty_like(x)
    for domain in set(domains):
        centred[domains == domain] = x[domains == domain] - x[domains == domain].mean(axis=0)
    return centred


@dataclass(config=STRICT)
class LocalDensityKNN(KNearestNeighbours):
    """Distance to a training embedding over the mean distance from that to its own neighbours.

    The k smallest ratios are averaged; `density_k` is the number of neighbours. Where training
    clips lie sparsely, as those of the target domain do, distances count less. With `whiten`,
    distances are taken around the section's mean in units of the covariance within its domains.

    Notes
    -----
    K. Wilkinghoff et al., "Local Density-Based Anomaly Score Normalization for Domain
    Generalization", 2025, arXiv 2509.10951, the variant scaled by K nearest neighbours. The
    whitening is that of `SelectiveMahalanobis` [O].
    """

    name = "local_density_knn"
    density_k: int = Field(default=4, ge=1)
    whiten: bool = False

    def _fit_section(self, x: Array, domains: Array) -> Model:
        model: Model = {}
        if self.whiten:
            model = {"mean": x.mean(axis=0), "whitening": whitening(within_domains(x, domains))}
            x = (x - model["mean"]) @ model["whitening"]
        density = nearest_of(x, x, self.density_k, self.metric, itself=True)
        # Copies of one clip have no distance; they count like the densest other place.
        spread = density[density > 0]
        floor = spread.min() if len(spread) else 1.0
        return model | {"embeddings": x, "density": np.maximum(density, floor)}

    def _score_section(self, model: Model, x: Array) -> Array:
        if self.whiten:
            x = (x - model["mean"]) @ model["whitening"]
        return nearest_of(x, model["embeddings"], self.k, self.metric, scale=model["density"])

    def _min_clips(self) -> int:
        return max(self.k, self.density_k + 1)


@dataclass(config=STRICT)
class BalancedKNN(KNearestNeighbours):
    """Mean distance to the k nearest entries of a memory in which both domains weigh alike.

    The source, that is all but the target clips, is represented by k-means centres; target clips
    are kept.

    Parameters
    ----------
    centres
        Centres of the source; None keeps all of its clips.
    smote
        Neighbours of a target clip towards which new entries are made, until there are as many as
        training clips of the source: ``x + u (y - x)`` with a target clip x, one of its nearest
        target clips y, and u uniform in 0 to 1. 0 makes none.
    seed
        Decides the first centres, and the new entries.

    Notes
    -----
    Centres of the source with all target clips: K. Wilkinghoff, "Design Choices for Learning
    Embeddings from Auxiliary Tasks for Domain Generalization in Anomalous Sound Detection", ICASSP
    2023. SMOTE: N. V. Chawla et al., "SMOTE: Synthetic Minority Over-sampling
    Technique", J. Artificial Intelligence Research 16, 2002, Section 4.2.
    """

    name = "balanced_knn"
    centres: int | None = Field(default=16, ge=1)
    smote: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0, lt=2**32)

    def _fit_section(self, x: Array, domains: Array) -> Model:
        if self.metric == "cosine":
            lengths = np.linalg.norm(x, axis=1, keepdims=True)
            x = x / np.where(lengths > 0, lengths, 1)
        of_target = domains == "target"
        source, target = x[~of_target], x[of_target]
        memory = [source, target]
        if self.centres is not None and len(source):
            from sklearn.cluster import KMeans

            n_centres = min(self.centres, len(np.unique(source, axis=0)))
            means = KMeans(n_centres, n_init=10, random_state=self.seed).fit(source)
            memory[0] = means.cluster_centers_
        n_new = len(source) - len(target)
        if self.smote and len(target) > 1 and n_new > 0:
            rng = np.random.default_rng(self.seed)
            distances = pairwise_distances(target, target, self.metric)
            np.fill_diagonal(distances, np.inf)
            near = np.argsort(distances, axis=1)[:, : min(self.smote, len(target) - 1)]
            start = np.resize(rng.permutation(len(target)), n_new)
            end = near[start, rng.integers(near.shape[1], size=n_new)]
            part = rng.uniform(size=(n_new, 1))
            memory.append(target[start] + part * (target[end] - target[start]))
        entries = np.concatenate(memory)
        # Fewer entries than neighbours: the last one counts for the missing.
        short = np.repeat(entries[-1:], max(0, self.k - len(entries)), axis=0)
        return {"embeddings": np.concatenate([entries, short])}


@dataclass(config=STRICT)
class VarianceMinimised(KNearestNeighbours):
    """Weighted sum of the distances to the source and to the target clips.

    Each distance is the mean over the k nearest clips of the domain. The weight is that between 0
    and 1 under which normal training clips, each domain counting half and no clip its own
    neighbour, vary least: so neither domain stands out. Where a domain has no more than k clips,
    all clips count as one domain.

    Notes
    -----
    The weight of least variance, (v_t − c) / (v_s + v_t − 2 c) for variances v and covariance c,
    is that of J. M. Bates and C. W. J. Granger, "The Combination of Forecasts", Operational
    Research Quarterly 20, 1969. Scores of least variance are part of the winning system of DCASE
    2026 (T. Fujimura et al., technical report); how they are computed there is not known to us [O].
    """

    name = "variance_minimised"

    def _fit_section(self, x: Array, domains: Array) -> Model:
        of_target = domains == "target"
        if min(of_target.sum(), (~of_target).sum()) <= self.k:
            return {"source": x, "target": x, "weight": np.array([1.0])}
        distances = pairwise_distances(x, x, self.metric)
        np.fill_diagonal(distances, np.inf)
        both = np.stack([nearest(distances[:, of], self.k) for of in (~of_target, of_target)])
        share = np.where(of_target, 1 / of_target.sum(), 1 / (~of_target).sum())
        covariance = np.cov(both, aweights=share, bias=True)
        spread = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        weight = (covariance[1, 1] - covariance[0, 1]) / spread if spread > 0 else 0.5
        weights = np.array([np.clip(weight, 0, 1)])
        return {"source": x[~of_target], "target": x[of_target], "weight": weights}

    def _score_section(self, model: Model, x: Array) -> Array:
        source, target = (
            nearest_of(x, model[name], self.k, self.metric) for name in ("source", "target")
        )
        (weight,) = model["weight"]
        return np.asarray(weight * source + (1 - weight) * target)


@dataclass(config=STRICT)
class SelectiveMahalanobis(Mahalanobis):
    """The smaller of the Mahalanobis distances to the source and to the target clips.

    Each domain of a section has its own mean. The covariance is "shared": one around both means,
    which the few target clips cannot spoil [O]; or each domain of three clips or more has its
    "own".

    Notes
    -----
    Form of the official baseline since 2023: N. Harada et al., "First-shot anomaly sound detection
    for machine condition monitoring: A domain generalization baseline", EUSIPCO 2023, arXiv
    2303.00455, which has a covariance for each domain.
    """

    name = "selective_mahalanobis"
    covariance: Literal["shared", "own"] = "shared"

    def _fit_section(self, x: Array, domains: Array) -> Model:
        centred, names = within_domains(x, domains), sorted(set(domains))
        shared = whitening(centred)
        spread = []
        for group in (centred[domains == name] for name in names):
            # A covariance of one or two clips would have units of its own.
            alone = self.covariance == "own" and len(group) >= self._min_clips()
            spread.append(whitening(group) if alone else shared)
        means = np.stack([x[domains == name].mean(axis=0) for name in names])
        return {"mean": means, "whitening": np.stack(spread)}
