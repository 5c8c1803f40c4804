"""Back-ends: from embeddings to anomaly scores, section by section; higher is more anomalous.

A back-end scores clips by how far their embeddings lie from those of normal training clips, in
float64. The paper does not say how it scores [O]: nearest neighbours and the Mahalanobis distance
are the field's usual choices, the others are there to be compared.

Some are for two domains of unequal size, as 990 source clips and 10 target clips. A few target
clips neither show how far normal ones lie apart nor fill their region, so that their distances are
longer than those of the source. Each of these back-ends meets that in another way. Others learn
from all sections of a machine type, or from held-out clips.

Shapes: N clips, D embedding size, M training clips.
"""

import dataclasses
import json
import zlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike
from pydantic import ConfigDict, Field, ValidationError
from pydantic.dataclasses import dataclass

from asdlib.errors import ConfigError, RunError
from asdlib.system import by_section, with_prefix

FOLDS = 5
Array = np.ndarray
Names = ArrayLike
Model = dict[str, Array]
Metric = Literal["cosine", "euclidean"]

STRICT = ConfigDict(strict=True, allow_inf_nan=False, extra="forbid")


class Backend(ABC):
    """Base of all back-ends: checks, sections, state.

    A subclass is a dataclass, whose fields are its parameters, with `_score_section` and
    `_fit_section`, or `_fit_machine` where the sections of a machine type share something.

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
        x, names, of_clip = _checked(embeddings, sections, domains)
        for section, n_clips in zip(*np.unique(names, return_counts=True), strict=True):
            if n_clips < self._min_clips():
                raise RunError(
                    f"section '{section}' has too few training clips: {n_clips}; back-end "
                    f"'{self.name}' needs at least {self._min_clips()}; add clips or lower its "
                    "parameters"
                )
        self.models_ = {}
        for rows in by_section(_machines(names)).values():
            self.models_ |= self._fit_machine(x[rows], names[rows], of_clip[rows])
        self.models_ = dict(sorted(self.models_.items()))
        return self

    def score(self, embeddings: Array, sections: Names) -> Array:
        """Compute the anomaly scores of embeddings (N, D), shape (N,), float64.

        Raises
        ------
        RunError
            If a section was not in `fit`, shapes disagree or a value is not finite.
        """
        x, names, _ = _checked(embeddings, sections)
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

    def _fit_machine(self, x: Array, names: Array, domains: Array) -> dict[str, Model]:
        """Learn the sections `names` (N,) of one machine type."""
        return {
            section: self._fit_section(x[rows], domains[rows])
            for section, rows in by_section(names).items()
        }

    def _fit_section(self, x: Array, domains: Array) -> Model:
        raise NotImplementedError

    @abstractmethod
    def _score_section(self, model: Model, x: Array) -> Array: ...

    def _min_clips(self) -> int:
        return 1


def _machines(names: Array) -> Array:
    """Return the part before "/" of each name, (N,)."""
    return np.array([name.rpartition("/")[0] for name in names], object)


def _checked(
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


def nearest_of(
    x: Array, y: Array, k: int, metric: Metric, *, scale: ArrayLike = 1.0, itself: bool = False
) -> Array:
    """Average the `k` smallest distances of each row of x (N, D) to the rows of y (M, D): (N,).

    The table of distances is made in blocks of 64 MiB, whatever N and M.

    Parameters
    ----------
    metric
        "cosine", which is 1 for zeros, or "euclidean".
    scale
        What the distances to each row of y are divided by, (M,).
    itself
        x is y, and no row is its own neighbour.
    """
    from sklearn.metrics import pairwise_distances_chunked

    def average(distances: Array, start: int) -> Array:
        if metric == "euclidean":
            np.sqrt(distances, out=distances)
        distances /= scale
        if itself:
            np.fill_diagonal(distances[:, start:], np.inf)
        return np.asarray(np.partition(distances, k - 1, axis=1)[:, :k].mean(axis=1))

    # Of copies, this one is exactly 0.
    name = "sqeuclidean" if metric == "euclidean" else metric
    blocks = pairwise_distances_chunked(x, y, reduce_func=average, metric=name, working_memory=64)
    return np.concatenate(list(blocks))


@dataclass(config=STRICT)
class ClassMeanDistance(Backend):
    """Distance from the mean embedding of the section, "cosine" or "euclidean"."""

    name = "class_mean"
    metric: Metric = "cosine"

    def _fit_section(self, x: Array, domains: Array) -> Model:
        return {"mean": x.mean(axis=0)}

    def _score_section(self, model: Model, x: Array) -> Array:
        return nearest_of(x, model["mean"][None], 1, self.metric)


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
            means = KMeans(n_centres, n_init=10, random_state=0).fit(source)
            memory[0] = means.cluster_centers_
        n_new = len(source) - len(target)
        if self.smote and len(target) > 1 and n_new > 0:
            from sklearn.neighbors import NearestNeighbors

            rng = np.random.default_rng(0)
            n_near = min(self.smote, len(target) - 1)
            search = NearestNeighbors(n_neighbors=n_near, metric=self.metric).fit(target)
            near = search.kneighbors(return_distance=False)
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
        both = np.empty((2, len(x)))
        for distances, of in zip(both, (~of_target, of_target), strict=True):
            distances[of] = nearest_of(x[of], x[of], self.k, self.metric, itself=True)
            distances[~of] = nearest_of(x[~of], x[of], self.k, self.metric)
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

    Each domain of a section has its own mean. They share one covariance, around both means, which
    the few target clips cannot spoil [O].

    Notes
    -----
    Form of the official baseline since 2023: N. Harada et al., "First-shot anomaly sound detection
    for machine condition monitoring: A domain generalization baseline", EUSIPCO 2023, arXiv
    2303.00455, which has a covariance for each domain.
    """

    name = "selective_mahalanobis"

    def _fit_section(self, x: Array, domains: Array) -> Model:
        means = [x[domains == name].mean(axis=0) for name in sorted(set(domains))]
        return {"mean": np.stack(means), "whitening": whitening(within_domains(x, domains))}


def divide(sections: Names, domains: Names, *, folds: int = FOLDS, seed: int = 0) -> Array:
    """Return the fold of each clip, shape (N,): each section and domain is divided evenly.

    Raises
    ------
    ConfigError
        If there are fewer than two folds.
    """
    if folds < 2:
        raise ConfigError(f"folds is {folds}, expected at least 2")
    names, of_clip = np.asarray(sections, object), np.asarray(domains, object)
    fold = np.empty(len(names), int)
    for section in sorted(set(names)):
        for domain in sorted(set(of_clip[names == section])):
            rng = np.random.default_rng([seed, zlib.crc32(f"{section}|{domain}".encode())])
            rows = np.flatnonzero((names == section) & (of_clip == domain))
            fold[rng.permutation(rows)] = np.arange(len(rows)) % folds
    return fold


def held_out_scores(
    backend: Backend,
    embeddings: Array,
    sections: Names,
    domains: Names | None = None,
    *,
    folds: int = FOLDS,
) -> Array:
    """Score each training clip, (N,), by a copy of `backend` that is fitted on the other folds.

    Its own back-end would score a clip too low: its nearest neighbour is itself. See `Backend.fit`
    for the clips and `divide` for the folds.

    Raises
    ------
    ConfigError, RunError
        If there are fewer than two folds, or a section has too few clips without one fold.
    """
    x, names, of_clip = _checked(embeddings, sections, domains)
    own = names[:, None] == sorted(set(names))
    scores: Array = _cross_scores(backend, x, names, of_clip, own, folds)[own]
    return scores


def _cross_scores(
    backend: Backend, x: Array, names: Array, domains: Array, wanted: Array, folds: int
) -> Array:
    """Score held-out clips, (N, sections in order of name), by the sections that are `wanted`."""
    fold = divide(names, domains, folds=folds)
    scores = np.full(wanted.shape, np.nan)
    for number in np.unique(fold):
        held = fold == number
        copy = type(backend)(**backend.params())
        copy.fit(x[~held], names[~held], domains[~held])
        for column, section in enumerate(sorted(set(names))):
            rows = held & wanted[:, column]
            if rows.any():
                scores[rows, column] = copy.score(x[rows], np.full(rows.sum(), section, object))
    return scores


SHARES = tuple(round(0.1 * k, 1) for k in range(1, 11))
"""Candidates for the share of the pooled covariance."""


@dataclass(config=STRICT)
class PooledMahalanobis(Mahalanobis):
    """Distance from the section's mean in units of a covariance that leans on the machine type.

    That of section s is (1 − a) Σ_s + a Σ: Σ_s from its own clips, which rarely are enough, Σ,
    shrunk, from those of all sections of the machine type, each around its own mean.

    Parameters
    ----------
    share
        a, above 0 and at most 1. By default the one of `SHARES` under which held-out normal clips
        (five folds) are most likely, for each machine type; of equally likely ones the largest.

    Notes
    -----
    J. H. Friedman, "Regularized discriminant analysis", J. American Statistical Association 84,
    1989, with likelihood instead of classification errors. One covariance for all classes
    of a network is used by K. Lee et al., NeurIPS 2018, arXiv 1807.03888.
    """

    name = "pooled_mahalanobis"
    share: Annotated[float, Field(gt=0, le=1)] | None = None

    def _min_clips(self) -> int:
        return 2  # those of a machine type are counted together

    def _fit_machine(self, x: Array, names: Array, domains: Array) -> dict[str, Model]:
        if len(x) < 3:
            raise RunError(
                f"machine '{_machines(names)[0]}' has too few training clips: {len(x)}; back-end "
                f"'{self.name}' needs at least 3; add clips"
            )
        share = self.share or _likeliest_share(x, names, domains)
        pooled, sections = _decompose(x, names)
        models: dict[str, Model] = {}
        for section, (mean, variances, axes) in sections.items():
            white = pooled @ axes / np.sqrt((1 - share) * variances + share)
            models[section] = {"mean": mean, "whitening": white, "share": np.array([share])}
        return models


def _likeliest_share(x: Array, names: Array, domains: Array) -> float:
    """Choose from `SHARES` by the likelihood of held-out clips of one machine type."""
    shares = np.array(SHARES)[:, None]
    fold = divide(names, domains)
    surprise = np.zeros(len(SHARES))  # −log p, up to a constant
    for number in np.unique(fold):
        held = fold == number
        if set(names[held]) - set(names[~held]):
            continue  # a section without any other clip
        pooled, sections = _decompose(x[~held], names[~held])
        for section, (mean, variances, axes) in sections.items():
            clips = (x[held & (names == section)] - mean) @ pooled @ axes
            spread = (1 - shares) * variances + shares  # (shares, D)
            # The volume of the pooled covariance is the same for all candidates.
            surprise += 0.5 * (np.square(clips) @ (1 / spread).T).sum(axis=0)
            surprise += 0.5 * len(clips) * np.log(spread).sum(axis=1)
    return SHARES[len(SHARES) - 1 - int(np.argmin(surprise[::-1]))]


def _decompose(x: Array, names: Array) -> tuple[Array, dict[str, tuple[Array, Array, Array]]]:
    """Describe each section in axes where the pooled covariance is the identity.

    Returns W (D, D), and for each section its mean (D,), its variances v (D,) along the columns of
    A (D, D): for a centred clip z, z·W·A has the covariance diag(v) in the section.
    """
    means = {section: x[names == section].mean(axis=0) for section in sorted(set(names))}
    centred = {section: x[names == section] - mean for section, mean in means.items()}
    pooled = whitening(np.concatenate(list(centred.values())))
    sections = {}
    for section, own in centred.items():
        white = own @ pooled
        values, axes = np.linalg.eigh(white.T @ white / len(white))
        sections[section] = (means[section], np.maximum(values, 0.0), axes)
    return pooled, sections


@dataclass(config=STRICT)
class LevelSum(Backend):
    """Weighted sum over levels of the logarithm of a distance, each on the scale of normal clips.

    Each level has a back-end of its own (`level_backend`). The logarithms of its distances are
    brought to mean 0 and deviation 1 over held-out training clips (five folds).

    The weight of a level is d′²: d′ is how many deviations the held-out clips of a section lie
    below those of the other sections of its machine type. A level that tells the machine's own IDs
    apart is expected to notice what else is different. Where there is no other section all weights
    are equal. The weighted sum is brought to mean 0 and deviation 1 as well. Training to tell
    sections apart makes d′ useless for what it has changed: each of the `trained` levels counts as
    much as all others together.

    Parameters
    ----------
    levels
        Levels that stand side by side in an embedding.
    sizes
        Size of each; not needed for one level.
    trained
        Those of them that a training with the sections as classes has changed.

    Attributes
    ----------
    models_
        Of each section among others "separation", d′ of each level (0 for trained ones), and
        "weights", the factor of each level and a constant.

    Notes
    -----
    The sum over the levels of a network follows K. Lee et al., "A Simple Unified Framework for
    Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018, arXiv 1807.03888,
    who learn the weights from anomalies. Other sections have stood in for anomalies in the training
    of the field's classifiers since 2020; here they choose the weights [O].
    """

    name = "level_sum"
    # Not strict: state in JSON has lists.
    levels: tuple[str, ...] = Field(default=("encoder",), min_length=1, strict=False)
    sizes: tuple[int, ...] = Field(default=(), strict=False)
    trained: tuple[str, ...] = Field(default=(), strict=False)

    def _fit_machine(self, x: Array, names: Array, domains: Array) -> dict[str, Model]:
        sections = sorted(set(names))
        models: dict[str, Model] = {section: {} for section in sections}
        own = names[:, None] == sections
        held_out = np.empty((len(self.levels), len(x)))
        separation = np.zeros((len(self.levels), len(sections)))
        for i, (level, part) in enumerate(self._parts(x).items()):
            backend = level_backend(level)
            across = own if level in self.trained else np.ones_like(own)
            distances = _cross_scores(backend, part, names, domains, across, FOLDS)
            learned = backend.fit(part, names, domains).models_
            for column, (section, model) in enumerate(models.items()):
                scale = _scale(distances[own[:, column], column])
                model[f"{level}.scale"] = scale
                model |= {f"{level}.{key}": array for key, array in learned[section].items()}
                standard = _standardised(distances[:, column], scale)
                held_out[i, own[:, column]] = standard[own[:, column]]
                others = standard[across[:, column] & ~own[:, column]]
                separation[i, column] = others.mean() if len(others) else 0.0
        d = separation.mean(axis=1)
        for column, section in enumerate(sections):
            models[section]["separation"] = d
            models[section]["weights"] = self._weights(d, held_out[:, own[:, column]])
        return models

    def _weights(self, separation: Array, held_out: Array) -> Array:
        """Compute the weight of each level, and a constant, shape (levels + 1,), of a section."""
        trained = np.isin(self.levels, self.trained)
        weights = np.where(trained, 0.0, np.maximum(separation, 0.0) ** 2)
        if not weights.any():
            weights = np.where(trained, 0.0, 1.0)
        constant = 0.0
        if not trained.all():
            total = weights @ held_out
            deviation = float(total.std())
            weights /= deviation if deviation > 1e-6 else weights.sum()
            constant = -float((weights @ held_out).mean())
        groups = trained.sum() + (not trained.all())
        return np.asarray(np.append(np.where(trained, 1.0, weights), constant) / groups)

    def _score_section(self, model: Model, x: Array) -> Array:
        *weights, constant = self.weights_of(model)
        total = np.full(len(x), constant)
        for weight, (level, part) in zip(weights, self._parts(x).items(), strict=True):
            own = with_prefix(model, f"{level}.")
            scale = own.pop("scale")
            total += weight * _standardised(level_backend(level)._score_section(own, part), scale)
        return total

    def weights_of(self, model: Model) -> Array:
        """Return the weight of each level, and a constant, shape (levels + 1,), of a section."""
        # Before version 0.2 all weights were equal.
        equal = np.append(np.full(len(self.levels), 1 / len(self.levels)), 0.0)
        return model.get("weights", equal)

    def _min_clips(self) -> int:
        return 4

    def _parts(self, x: Array) -> dict[str, Array]:
        sizes = self.sizes or (x.shape[1],)
        if len(sizes) != len(self.levels) or sum(sizes) != x.shape[1]:
            raise RunError(
                f"embeddings of size {x.shape[1]} do not hold the levels {', '.join(self.levels)} "
                f"of sizes {', '.join(map(str, sizes))}; fit and score with the same embedding"
            )
        parts = np.split(x, np.cumsum(sizes)[:-1], axis=1)
        return dict(zip(self.levels, parts, strict=True))


def level_backend(level: str) -> Backend:
    """Return the back-end, not fitted, that a sum over levels scores a level with [O].

    A pooled covariance needs about as many clips as the level has numbers; the feature map has
    several times more.
    """
    nearest = level in ("feature_map", "projection")
    return KNearestNeighbours() if nearest else PooledMahalanobis()


def _standardised(distances: Array, scale: Array) -> Array:
    """Bring the logarithms of distances to the scale of a section's held-out clips."""
    floor, mean, deviation = scale
    return np.asarray((np.log(np.maximum(distances, floor)) - mean) / deviation)


def _scale(distances: Array) -> Array:
    """Compute floor of the distances, mean and deviation of their logarithms, shape (3,)."""
    # Distance 0, from a copy of a training clip, has no logarithm.
    floor = max(1e-3 * float(np.median(distances)), np.finfo(np.float64).tiny)
    logarithm = np.log(np.maximum(distances, floor))
    deviation = float(logarithm.std())
    # Distances between copies of one clip differ by rounding alone, which is no scale.
    return np.array([floor, float(logarithm.mean()), deviation if deviation > 1e-6 else 1.0])


BACKENDS: dict[str, type[Backend]] = {
    backend.name: backend
    for backend in (
        Mahalanobis,
        PooledMahalanobis,
        KNearestNeighbours,
        ClassMeanDistance,
        LocalDensityKNN,
        BalancedKNN,
        VarianceMinimised,
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
    try:
        return BACKENDS[name](**params)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{first['loc'][0]} of back-end '{name}' is {first['input']!r}: {first['msg']}"
        ) from None
    except TypeError as error:  # of a plain dataclass
        raise ConfigError(f"back-end '{name}': {error}") from None


def backend_from_state(state: Mapping[str, Array]) -> Backend:
    """Build the fitted back-end whose `Backend.state` this is."""
    config = json.loads(bytes(np.asarray(state["config"], np.uint8)))
    params = config["params"]
    for retired in ("covariance", "seed"):  # what was learned holds them already
        params.pop(retired, None)
    backend = build_backend(config["name"], **params)
    for number, section in enumerate(config["sections"]):
        backend.models_[section] = with_prefix(state, f"{number}.")
    return backend
