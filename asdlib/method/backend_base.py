"""What all back-ends share: sections, checks, state, distances.

A back-end is fitted on the embeddings of normal training clips and says how far other
embeddings are from them, section by section. Most share nothing between sections. Everything is
float64 NumPy. Learned state is a dictionary of arrays, fit for safetensors.

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
        for section in sorted(set(names)):
            n_clips = int((names == section).sum())
            if n_clips < self._min_clips():
                raise RunError(
                    f"section '{section}' has {n_clips} training clips, back-end '{self.name}' "
                    f"needs at least {self._min_clips()}; add clips or lower its parameters"
                )
        self.models_ = self._fit_sections(x, names, of_clip)
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

    def params(self) -> dict[str, Any]:
        """Give the parameters of the constructor."""
        return dataclasses.asdict(self)

    def state(self) -> Model:
        """Give parameters and learned arrays, for safetensors."""
        config = {
            "name": self.name,
            "params": self.params(),
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
        config = read_config(state)
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

    def _fit_sections(self, x: Array, names: Array, domains: Array) -> dict[str, Model]:
        """Learn all sections; a subclass whose sections share something has its own."""
        return {
            section: self._fit_section(x[names == section], domains[names == section])
            for section in sorted(set(names))
        }

    def _fit_section(self, x: Array, domains: Array) -> Model:
        raise TypeError(f"back-end '{self.name}' does not learn one section alone")

    @abstractmethod
    def _score_section(self, model: Model, x: Array) -> Array: ...

    def _min_clips(self) -> int:
        return 1

    def _check(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type is int and not isinstance(value, int):
                raise ConfigError(
                    f"{field.name} of '{self.name}' is {value!r}, expected a whole number"
                )
            if isinstance(value, int | float) and not value > 0 and field.name != "seed":
                raise ConfigError(f"{field.name} of '{self.name}' is {value}, expected above 0")
        metric = getattr(self, "metric", "cosine")
        if metric not in ("cosine", "euclidean"):
            raise ConfigError(f"metric '{metric}' is not known (known: cosine, euclidean)")


def read_config(state: Mapping[str, Array]) -> dict[str, Any]:
    """Read name, parameters and sections from what `Backend.state` gave."""
    config: dict[str, Any] = json.loads(bytes(np.asarray(state[_CONFIG], np.uint8)))
    return config


def pairwise_distances(x: Array, y: Array, metric: Metric) -> Array:
    """Distances between rows of x (N, D) and of y (M, D), shape (N, M).

    The cosine distance 1 − cos lies between 0 and 2; it is 1 for an embedding of zeros.
    """
    distances: Array
    if metric == "euclidean":
        distances = cdist(x, y)
        return distances
    distances = np.clip(1 - _unit(x) @ _unit(y).T, 0, 2)
    return distances


def _unit(x: Array) -> Array:
    length = np.linalg.norm(x, axis=1, keepdims=True)
    unit: Array = x / np.where(length > 0, length, 1)
    return unit


def nearest(distances: Array, k: int) -> Array:
    """Pick the `k` smallest of each row, shape (N, k), in no order."""
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
