"""Makes tried_scoring.csv anew.

Call:  python results/toycar/tried_scoring.py STORE RUN [RUN ...]

RUN are finished contrastive runs of several seeds on STORE. Nothing is trained: their networks'
levels are scored by several back-ends, alone and summed, and the seeds are fused. This comparison
used test labels; it is kept because a default was adopted after it.
"""

import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from asdlib.evaluation import auc, pauc
from asdlib.features import FeatureStore, Rows
from asdlib.method.backends import PooledMahalanobis, held_out_scores
from asdlib.method.contrastive import Contrastive
from asdlib.method.distances import (
    Array,
    Backend,
    KNearestNeighbours,
    Mahalanobis,
    Metric,
    Model,
    nearest,
    pairwise_distances,
    whitening,
)
from asdlib.system import section_keys


@dataclass
class WhitenedNeighbour(Backend):
    """Distance to the nearest training clip where the pooled covariance is the identity."""

    name = "whitened_knn"
    metric: Metric = "cosine"

    def _fit_sections(self, x: Array, names: Array, domains: Array) -> dict[str, Model]:
        sections = sorted(set(names))
        centred = [x[names == s] - x[names == s].mean(axis=0) for s in sections]
        white = whitening(np.concatenate(centred))
        return {
            s: {"centre": x.mean(axis=0), "white": white, "clips": x[names == s]} for s in sections
        }

    def _score_section(self, model: Model, x: Array) -> Array:
        turned, clips = ((part - model["centre"]) @ model["white"] for part in (x, model["clips"]))
        return nearest(pairwise_distances(turned, clips, self.metric), 1)


COVARIANCES: dict[str, Backend] = {
    "own covariance": Mahalanobis(),
    "pooled, share chosen": PooledMahalanobis(),
    "pooled, share 0.5": PooledMahalanobis(share=0.5),
    "pooled, share 1": PooledMahalanobis(share=1.0),
}
NEIGHBOURS: dict[str, Backend] = {
    "whitened, nearest by cosine": WhitenedNeighbour(metric="cosine"),
    "whitened, nearest by distance": WhitenedNeighbour(metric="euclidean"),
}
LEVELS: dict[str, dict[str, Backend]] = {
    "spectrum": COVARIANCES | NEIGHBOURS,
    "feature_map": {"nearest by cosine": KNearestNeighbours()} | NEIGHBOURS,
    "encoder": COVARIANCES | NEIGHBOURS,
}


def embed(system: Contrastive, rows: Rows) -> dict[str, Array]:
    """Give each level of the network, (N, D)."""
    system.params = system.params.model_copy(update={"embedding": "levels"})
    ends = np.cumsum(list(system.network_.level_sizes.values()))[:-1]
    return dict(zip(LEVELS, np.split(system.embed(rows), ends, axis=1), strict=True))


def standardised(backend: Backend, train: Array, test: Array, rows: Rows, tested: Rows) -> Array:
    """Logarithms of distances on the scale of held-out normal clips, (N,)."""
    keys, test_keys = section_keys(rows.manifest), section_keys(tested.manifest)
    domains = rows.manifest["domain"].to_numpy(dtype=object)
    held_out = np.log(held_out_scores(backend, train, keys, domains))
    scores: Array = np.log(backend.fit(train, keys, domains).score(test, test_keys))
    for key in set(test_keys):
        own = held_out[keys == key]
        scores[test_keys == key] -= own.mean()
        scores[test_keys == key] /= own.std()
    return scores


def main(store: str, *runs: str) -> None:
    """Score, and write the table."""
    opened = FeatureStore.open(store)
    rows, tested = opened.rows(split="train", label="normal"), opened.rows(split="test")
    keys = section_keys(tested.manifest)
    anomalous = (tested.manifest["label"] == "anomaly").to_numpy()
    scores: dict[tuple[str, str], list[Array]] = {}
    for run in runs:
        system = Contrastive.load(Path(run) / "model")
        train, test = embed(system, rows), embed(system, tested)
        for level, backends in LEVELS.items():
            for name, backend in backends.items():
                found = standardised(backend, train[level], test[level], rows, tested)
                scores.setdefault((level, name), []).append(found)

    def measure(values: Array) -> list[float]:
        parts = [keys == key for key in sorted(set(keys))]
        return [float(np.mean([m(anomalous[p], values[p]) for p in parts])) for m in (auc, pauc)]

    table = []
    alone = [{key[0]: key[1]} for key in scores]
    sums = [dict(zip(LEVELS, names, strict=True)) for names in itertools.product(*LEVELS.values())]
    for chosen in [*alone, *sums]:
        seeds = np.sum([scores[key] for key in chosen.items()], axis=0)  # (runs, N)
        mean = np.mean([measure(values) for values in seeds], axis=0)
        table.append([*(chosen.get(level, "") for level in LEVELS), *mean, *measure(seeds.mean(0))])
    columns = [*LEVELS, "auc", "pauc", "auc_fused", "pauc_fused"]
    written = pd.DataFrame(table, columns=columns).round(4)
    written.to_csv(Path(__file__).with_name("tried_scoring.csv"), index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
