"""A back-end that looks at several levels of a network and adds what each of them says.

Shapes: N clips, D embedding size, M training clips of one section.
"""

from dataclasses import dataclass

import numpy as np

from asdlib.errors import ConfigError, RunError
from asdlib.method.backend_base import Array, Backend, Model
from asdlib.method.fusion import held_out_scores

LEVEL_BACKENDS = {
    "spectrum": "pooled_mahalanobis",
    "feature_map": "knn",
    "encoder": "pooled_mahalanobis",
    "projection": "knn",
}
"""Back-end of each level [O]: the Mahalanobis distance needs about as many clips as the level has
numbers; the feature map has several times more, and is left to the nearest neighbour."""

FOLDS = 5


@dataclass
class LevelSum(Backend):
    """Mean over levels of the logarithm of a distance, each on the scale of normal clips.

    Each level has the back-end of `LEVEL_BACKENDS`. The logarithms of its distances are brought to
    mean 0 and deviation 1 over normal training clips, each scored by a back-end that was fitted
    without it (five folds). Test clips have no part in the scale.

    Parameters
    ----------
    levels
        Names of the levels that stand side by side in an embedding, keys of `LEVEL_BACKENDS`.
    sizes
        Size of each.

    Notes
    -----
    The sum over the levels of a network follows K. Lee et al., "A Simple Unified Framework for
    Detecting Out-of-Distribution Samples and Adversarial Attacks", NeurIPS 2018, arXiv 1807.03888,
    who learn the weights from anomalies; here all weights are equal, as there are none.
    """

    name = "level_sum"
    levels: tuple[str, ...] = ("encoder",)
    sizes: tuple[int, ...] = ()

    def _check(self) -> None:
        self.levels, self.sizes = tuple(self.levels), tuple(self.sizes)
        for level in self.levels:
            if level not in LEVEL_BACKENDS:
                raise ConfigError(
                    f"level '{level}' is not known (known: {', '.join(LEVEL_BACKENDS)})"
                )
        if not self.levels or (self.sizes and len(self.sizes) != len(self.levels)):
            raise ConfigError(
                f"levels {self.levels} and sizes {self.sizes} do not fit, expected one size for "
                "each level and at least one level"
            )

    def _fit_sections(self, x: Array, names: Array, domains: Array) -> dict[str, Model]:
        models: dict[str, Model] = {section: {} for section in sorted(set(names))}
        for level, part in self._parts(x).items():
            backend = self._backend(level)
            held_out = held_out_scores(backend, part, names, domains, folds=FOLDS)
            learned = backend.fit(part, names, domains).models_
            for section, model in models.items():
                model[f"{level}.scale"] = _scale(held_out[names == section])
                model |= {f"{level}.{key}": array for key, array in learned[section].items()}
        return models

    def _score_section(self, model: Model, x: Array) -> Array:
        total = np.zeros(len(x))
        for level, part in self._parts(x).items():
            prefix = f"{level}."
            own = {k.removeprefix(prefix): v for k, v in model.items() if k.startswith(prefix)}
            floor, mean, deviation = own.pop("scale")
            distance = self._backend(level)._score_section(own, part)
            total += (np.log(np.maximum(distance, floor)) - mean) / deviation
        return total / len(self.levels)

    def _min_clips(self) -> int:
        return 4

    def _backend(self, level: str) -> Backend:
        from asdlib.method.backends import build_backend

        return build_backend(LEVEL_BACKENDS[level])

    def _parts(self, x: Array) -> dict[str, Array]:
        sizes = self.sizes or (x.shape[1],)
        if sum(sizes) != x.shape[1]:
            raise RunError(
                f"embeddings of size {x.shape[1]} do not hold levels of the sizes "
                f"{', '.join(map(str, sizes))}; fit and score with the same embedding"
            )
        ends = np.cumsum(sizes)[:-1]
        return dict(zip(self.levels, np.split(x, ends, axis=1), strict=True))


def _scale(distances: Array) -> Array:
    """Give floor of the distances, mean and deviation of their logarithms, shape (3,)."""
    # Distance 0, from a copy of a training clip, has no logarithm.
    floor = max(1e-3 * float(np.median(distances)), np.finfo(np.float64).tiny)
    logarithm = np.log(np.maximum(distances, floor))
    deviation = float(logarithm.std())
    return np.array([floor, float(logarithm.mean()), deviation if deviation > 0 else 1.0])
