"""The base of all back-ends, and those that know no domains: distances to normal clips.

A back-end scores clips by how far their embeddings lie from those of normal training clips, in
float64. The paper does not say how it scores [O]: nearest neighbours and the Mahalanobis distance
are the field's usual choices, the others are there to be compared.

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
