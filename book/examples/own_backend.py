"""A back-end of one's own: the distance to the median embedding, robust to odd training clips."""

from dataclasses import dataclass

import numpy as np

from asdlib.method.backends import BACKENDS, Array, Backend, Model


@dataclass
class MedianDistance(Backend):
    """Distance from the median, each direction in units of its median deviation."""

    name = "median"

    def _fit_section(self, x: Array, domains: Array) -> Model:
        median = np.median(x, axis=0)
        spread = np.median(np.abs(x - median), axis=0)
        return {"median": median, "spread": spread + spread.mean() / 10}

    def _score_section(self, model: Model, x: Array) -> Array:
        distance: Array = np.linalg.norm((x - model["median"]) / model["spread"], axis=1)
        return distance


BACKENDS["median"] = MedianDistance
