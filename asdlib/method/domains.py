"""Back-ends for two domains of unequal size, as 990 source clips and 10 target clips.

A few target clips neither show how far normal ones lie apart nor fill their region, so that their
distances are longer than those of the source. Each back-end here meets that in another way.

Shapes: N clips, D embedding size, M training clips.
"""

from typing import Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from asdlib.method.distances import (
    STRICT,
    Array,
    KNearestNeighbours,
    Mahalanobis,
    Model,
    nearest,
    nearest_of,
    pairwise_distances,
    whitening,
)


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
