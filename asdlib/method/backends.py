"""Back-ends: from embeddings to anomaly scores, section by section.

A back-end is fitted on the embeddings of the normal training clips and then says how far other
embeddings are from them: higher is more anomalous. Nothing is shared between sections. The paper
does not say how it scores [O]; k-nearest neighbours and the Mahalanobis distance are the
field's usual choices.

Everything is float64 NumPy. Learned state is a dictionary of arrays, fit for safetensors.

Shapes: N clips, D embedding size, M training clips of one section.
"""

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import numpy as np
from scipy.spatial.distance import cdist
from sklearn.covariance import LedoitWolf

from asdlib.errors import ConfigError, RunError

Array = np.ndarray
Model = dict[str, Array]
Metric = Literal["cosine", "euclidean"]

_CONFIG = "config"


@dataclass
class Backend(ABC):
    """What all back-ends share; a subclass says what one section learns and how it scores.

    Attributes
    ----------
    models_
        Learned arrays of each section.
    """

    name: ClassVar[str]

    def __post_init__(self) -> None:
        self.models_: dict[str, Model] = {}
        self._check()

    def fit(
        self,
        embeddings: Array,
        sections: Sequence[str] | Array,
        domains: Sequence[str] | Array | None = None,
    ) -> Self:
        """Learn the normal embeddings of every section.

        Parameters
        ----------
        embeddings
            Of normal training clips, shape (N, D).
        sections
            Name of each clip's section, shape (N,).
        domains
            Name of each clip's domain, shape (N,); used by `SelectiveMahalanobis` only.

        Returns
        -------
        Self
            The fitted back-end.

        Raises
        ------
        RunError
            If shapes disagree, a value is not finite or a section has too few clips.
        """
        x, names = _checked(embeddings, sections)
        of_clip = np.full(len(x), "", object) if domains is None else np.asarray(domains, object)
        if of_clip.shape != names.shape:
            raise RunError(f"{len(of_clip)} domains do not fit {len(names)} embeddings")
        self.models_ = {}
        for section in sorted(set(names)):
            rows = names == section
            if rows.sum() < self._min_clips():
                raise RunError(
                    f"section '{section}' has {rows.sum()} training clips, back-end '{self.name}' "
                    f"needs at least {self._min_clips()}; add clips or lower its parameters"
                )
            self.models_[section] = self._fit_section(x[rows], of_clip[rows])
        return self

    def score(self, embeddings: Array, sections: Sequence[str] | Array) -> Array:
        """Give anomaly scores; higher is more anomalous.

        Parameters
        ----------
        embeddings
            Shape (N, D).
        sections
            Name of each clip's section, shape (N,).

        Returns
        -------
        ndarray
            Shape (N,), float64.

        Raises
        ------
        RunError
            If a section was not in `fit`, shapes disagree or a value is not finite.
        """
        x, names = _checked(embeddings, sections)
        unknown = sorted(set(names) - set(self.models_))
        if unknown:
            raise RunError(
                f"section '{unknown[0]}' was not in training (known: "
                f"{', '.join(self.models_) or 'none, fit first'}); train on it or leave it out"
            )
        scores = np.empty(len(x))
        for section in sorted(set(names)):
            rows = names == section
            scores[rows] = self._score_section(self.models_[section], x[rows])
        return scores

    def state(self) -> Model:
        """Give parameters and learned arrays, for safetensors."""
        config = {
            "name": self.name,
            "params": dataclasses.asdict(self),
            "sections": list(self.models_),
        }
        state: Model = {_CONFIG: np.frombuffer(json.dumps(config).encode(), np.uint8)}
        for number, model in enumerate(self.models_.values()):
            state |= {f"{number}.{key}": np.ascontiguousarray(a) for key, a in model.items()}
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Array]) -> Self:
        """Build a fitted back-end from what `state` gave.

        Raises
        ------
        RunError
            If the state belongs to another back-end.
        """
        config = _config(state)
        if config["name"] != cls.name:
            raise RunError(f"this is the state of back-end '{config['name']}', not of '{cls.name}'")
        backend = cls(**config["params"])
        for number, section in enumerate(config["sections"]):
            prefix = f"{number}."
            backend.models_[section] = {
                key.removeprefix(prefix): np.asarray(value)
                for key, value in state.items()
                if key.startswith(prefix)
            }
        return backend

    @abstractmethod
    def _fit_section(self, x: Array, domains: Array) -> Model: ...

    @abstractmethod
    def _score_section(self, model: Model, x: Array) -> Array: ...

    def _min_clips(self) -> int:
        return 1

    def _check(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int | float) and not value > 0 and field.name != "seed":
                raise ConfigError(f"{field.name} of '{self.name}' is {value}, expected above 0")
        metric = getattr(self, "metric", "cosine")
        if metric not in ("cosine", "euclidean"):
            raise ConfigError(f"metric '{metric}' is not known (known: cosine, euclidean)")


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
        return {"mean": x.mean(axis=0), "whitening": _whitening(x - x.mean(axis=0))}

    def _score_section(self, model: Model, x: Array) -> Array:
        scores: Array = np.linalg.norm((x - model["mean"]) @ model["whitening"], axis=1)
        return scores

    def _min_clips(self) -> int:
        return 2


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
        scores: Array = _nearest(distances, self.k).mean(axis=1)
        return scores

    def _min_clips(self) -> int:
        return self.k


BACKENDS: dict[str, type[Backend]] = {
    backend.name: backend for backend in (Mahalanobis, KNearestNeighbours)
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


def _config(state: Mapping[str, Array]) -> dict[str, Any]:
    config: dict[str, Any] = json.loads(bytes(np.asarray(state[_CONFIG], np.uint8)))
    return config


def _whitening(centred: Array) -> Array:
    """Give W with |x·W| = Mahalanobis distance of a centred x, shape (D, D)."""
    fitted = LedoitWolf(assume_centered=True).fit(centred)
    values, vectors = np.linalg.eigh(fitted.covariance_)
    # Without any spread every direction counts the same, instead of infinitely.
    floor = np.finfo(np.float64).eps * max(values[-1], np.finfo(np.float64).tiny)
    whitening: Array = vectors / np.sqrt(np.maximum(values, floor))
    return whitening


def pairwise_distances(x: Array, y: Array, metric: Metric) -> Array:
    """Distances between rows of x (N, D) and of y (M, D), shape (N, M).

    The cosine distance 1 − cos lies between 0 and 2; it is 1 for an embedding of zeros.
    """
    if metric == "euclidean":
        distances: Array = cdist(x, y)
        return distances
    return np.clip(1 - _unit(x) @ _unit(y).T, 0, 2)


def _unit(x: Array) -> Array:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit: Array = x / np.where(length > 0, length, 1)
    return unit


def _nearest(distances: Array, k: int) -> Array:
    """Pick the k smallest of each row, shape (N, k), in no order."""
    return np.partition(distances, k - 1, axis=1)[:, :k]


def _checked(embeddings: Array, sections: Sequence[str] | Array) -> tuple[Array, Array]:
    x = np.asarray(embeddings, np.float64)
    names = np.asarray(sections, object)
    if x.ndim != 2 or names.shape != x.shape[:1]:
        raise RunError(
            f"embeddings of shape {x.shape} and sections of shape {names.shape} do not fit, "
            "expected (clips, size) and (clips,)"
        )
    if not np.isfinite(x).all():
        bad = int(np.flatnonzero(~np.isfinite(x).all(axis=1))[0])
        raise RunError(
            f"the embedding of clip {bad} (section '{names[bad]}') is not finite; the encoder "
            "diverged: lower the learning rate"
        )
    return x, names
