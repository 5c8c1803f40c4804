"""Back-ends: from embeddings to anomaly scores, section by section; higher is more anomalous.

All of them by name, those that learn from several sections or from held-out clips, and the scores
of held-out clips.

Shapes: N clips, D embedding size, M training clips.
"""

import dataclasses
import json
import zlib
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from asdlib.errors import ConfigError, RunError
from asdlib.method.distances import (
    STRICT,
    Array,
    Backend,
    BalancedKNN,
    ClassMeanDistance,
    KNearestNeighbours,
    LocalDensityKNN,
    Mahalanobis,
    Model,
    Names,
    SelectiveMahalanobis,
    VarianceMinimised,
    checked,
    whitening,
)
from asdlib.system import by_section, with_prefix

FOLDS = 5


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
    seed: int = 0,
) -> Array:
    """Score each training clip, (N,), by a copy of `backend` that is fitted on the other folds.

    Its own back-end would score a clip too low: its nearest neighbour is itself. See `Backend.fit`
    for the clips and `divide` for the folds.

    Raises
    ------
    ConfigError, RunError
        If there are fewer than two folds, or a section has too few clips without one fold.
    """
    x, names, of_clip = checked(embeddings, sections, domains)
    own = names[:, None] == sorted(set(names))
    scores: Array = _cross_scores(backend, x, names, of_clip, own, folds, seed)[own]
    return scores


def _cross_scores(
    backend: Backend, x: Array, names: Array, domains: Array, wanted: Array, folds: int, seed: int
) -> Array:
    """Score held-out clips, (N, sections in order of name), by the sections that are `wanted`."""
    fold = divide(names, domains, folds=folds, seed=seed)
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

    A section rarely has enough clips for a covariance of its own. That of section s is
    (1 − a) Σ_s + a Σ: Σ_s from its own clips, Σ, shrunk, from those of all sections of the machine
    type (the part of a section's name before "/"), each around its own mean.

    Parameters
    ----------
    share
        a, above 0 and at most 1. By default the one of `SHARES` under which held-out normal clips
        (five folds) are most likely, for each machine type; of equally likely ones the largest.

    Notes
    -----
    J. H. Friedman, "Regularized discriminant analysis", J. American Statistical Association 84,
    1989, with likelihood in the place of errors of classification. One covariance for all classes
    of a network is used by K. Lee et al., NeurIPS 2018, arXiv 1807.03888.
    """

    name = "pooled_mahalanobis"
    share: Annotated[float, Field(gt=0, le=1)] | None = None

    def _min_clips(self) -> int:
        return 2  # those of a machine type are counted together

    def _fit_sections(self, x: Array, names: Array, domains: Array) -> dict[str, Model]:
        machine = np.array([name.rpartition("/")[0] for name in names], object)
        models: dict[str, Model] = {}
        for each in sorted(set(machine)):
            rows = machine == each
            if rows.sum() < 3:
                raise RunError(
                    f"machine '{each}' has too few training clips: {rows.sum()}; back-end "
                    f"'{self.name}' needs at least 3; add clips"
                )
            share = self.share or _likeliest_share(x[rows], names[rows], domains[rows])
            pooled, sections = _decompose(x[rows], names[rows])
            for section, (mean, variances, axes) in sections.items():
                spread = np.sqrt((1 - share) * variances + share)
                white = pooled @ axes / spread
                models[section] = {"mean": mean, "whitening": white, "share": np.array([share])}
        return dict(sorted(models.items()))


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


LEVEL_BACKENDS: dict[str, type[Backend]] = {
    "feature_map": KNearestNeighbours,
    "projection": KNearestNeighbours,
}
"""Back-end of a level where it is not the pooled Mahalanobis distance [O]: that needs about as many
clips as the level has numbers; the feature map has several times more."""


@dataclass(config=STRICT)
class LevelSum(Backend):
    """Weighted sum over levels of the logarithm of a distance, each on the scale of normal clips.

    Each level has a back-end of its own. The logarithms of its distances are brought to mean 0 and
    deviation 1 over held-out training clips (five folds).

    The weight of a level is d′², computed from normal clips alone: d′ is how many deviations the
    held-out clips of a section lie below those of the other sections of its machine type. A level
    that tells the machine's own IDs apart is expected to notice what else is different. Where there
    is no other section all weights are equal. The weighted sum is brought to mean 0 and deviation 1
    as well. Training to tell sections apart makes d′ useless for what it has changed: each of the
    `trained` levels counts as much as all others together.

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

    def _fit_sections(self, x: Array, names: Array, domains: Array) -> dict[str, Model]:
        machine = np.array([name.rpartition("/")[0] for name in names], object)
        models: dict[str, Model] = {}
        for rows in by_section(machine).values():
            models |= self._fit_machine(x[rows], names[rows], domains[rows])
        return dict(sorted(models.items()))

    def _fit_machine(self, x: Array, names: Array, domains: Array) -> dict[str, Model]:
        """Fit the sections of one machine type, which are compared with each other."""
        sections = sorted(set(names))
        models: dict[str, Model] = {section: {} for section in sections}
        own = names[:, None] == sections
        held_out = np.empty((len(self.levels), len(x)))
        separation = np.zeros((len(self.levels), len(sections)))
        for i, (level, part) in enumerate(self._parts(x).items()):
            backend = level_backend(level)
            across = own if level in self.trained else np.ones_like(own)
            distances = _cross_scores(backend, part, names, domains, across, FOLDS, 0)
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
    """Return the back-end, not fitted, that a sum over levels scores a level with."""
    return LEVEL_BACKENDS.get(level, PooledMahalanobis)()


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
    known = [field.name for field in dataclasses.fields(BACKENDS[name])]  # type: ignore[arg-type]
    for key in params:
        if key not in known:
            raise ConfigError(
                f"parameter '{key}' is not known to back-end '{name}' "
                f"(known: {', '.join(known) or 'none'})"
            )
    try:
        return BACKENDS[name](**params)
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(
            f"{first['loc'][0]} of back-end '{name}' is {first['input']!r}: {first['msg']}"
        ) from None


def backend_from_state(state: Mapping[str, Array]) -> Backend:
    """Build the fitted back-end whose `Backend.state` this is."""
    config = json.loads(bytes(np.asarray(state["config"], np.uint8)))
    backend = build_backend(config["name"], **config["params"])
    for number, section in enumerate(config["sections"]):
        backend.models_[section] = with_prefix(state, f"{number}.")
    return backend
