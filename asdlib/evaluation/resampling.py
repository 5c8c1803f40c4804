"""AUC and pAUC of many weighted versions of one set of clips at once, for the bootstrap.

Shape legend: N clips, K distinct scores, R resamples.

A bootstrap resample is a vector of counts, how often each clip was drawn, so the scores are sorted
once and not once a resample. Equal to scikit-learn on the resampled clips (tests: 1e-12).
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asdlib.evaluation.metrics import MAX_FPR, validate

Floats = NDArray[np.float64]

_BLOCK = 4_000_000
"""Largest number of counts held at once (32 MB as float64)."""


class RankedScores:
    """Scores of one set of clips, sorted once.

    Parameters
    ----------
    y_true : (N,) 0 = normal, 1 = anomaly
    score : (N,) anomaly scores

    Raises
    ------
    ScoreError
        See :func:`asdlib.evaluation.metrics.validate`.
    """

    def __init__(self, y_true: ArrayLike, score: ArrayLike) -> None:
        y, s = validate(y_true, score)
        self._order = np.argsort(-s, kind="stable")
        ranked = s[self._order]
        # Clips of equal score enter the ROC curve as one step.
        self._first = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
        self._anomalous = (y[self._order] == 1).astype(np.float64)

    def _curve(self, weights: ArrayLike) -> tuple[Floats, Floats]:
        """Return false- and true-positive rates (R, K), from the highest score down."""
        w = np.atleast_2d(np.asarray(weights, dtype=np.float64))[:, self._order]
        positive = np.add.reduceat(w * self._anomalous, self._first, axis=1)
        negative = np.add.reduceat(w * (1.0 - self._anomalous), self._first, axis=1)
        fpr, tpr = np.cumsum(negative, axis=1), np.cumsum(positive, axis=1)
        return fpr / fpr[:, -1:], tpr / tpr[:, -1:]

    def auc(self, weights: ArrayLike) -> Floats:
        """AUC (R,) under ``weights`` (R, N), counts of each clip; each class needs some weight."""
        return self._partial_area(weights, 1.0)

    def pauc(self, weights: ArrayLike, max_fpr: float = MAX_FPR) -> Floats:
        """McClish-standardised pAUC (R,) under ``weights`` (R, N)."""
        area = self._partial_area(weights, max_fpr)
        least = 0.5 * max_fpr**2
        return 0.5 * (1.0 + (area - least) / (max_fpr - least))

    def _partial_area(self, weights: ArrayLike, max_fpr: float) -> Floats:
        fpr, tpr = self._curve(weights)
        left = np.concatenate([np.zeros_like(fpr[:, :1]), fpr[:, :-1]], axis=1)
        below = np.concatenate([np.zeros_like(tpr[:, :1]), tpr[:, :-1]], axis=1)
        width = fpr - left
        # The step that crosses max_fpr counts up to there, its height interpolated.
        used = np.clip(max_fpr - left, 0.0, width)
        share = np.divide(used, width, out=np.zeros_like(width), where=width > 0)
        area: Floats = np.sum(used * (below + 0.5 * share * (tpr - below)), axis=1)
        return area


def bootstrap_counts(
    strata: ArrayLike, n_resamples: int, rng: np.random.Generator
) -> Iterator[Floats]:
    """Draw stratified bootstrap resamples as counts.

    Each stratum (for example: the normal target clips) keeps its size, as in the test set.

    Parameters
    ----------
    strata : (N,) stratum of each clip
    n_resamples : number of resamples R
    rng : source of randomness

    Yields
    ------
    (block, N) float64
        Blocks of counts, R rows together.
    """
    _, group = np.unique(np.asarray(strata), return_inverse=True)
    members = [np.flatnonzero(group == g) for g in range(int(group.max()) + 1)]
    block = max(1, _BLOCK // group.size)
    for start in range(0, n_resamples, block):
        size = min(block, n_resamples - start)
        counts = np.zeros((size, group.size))
        for rows in members:
            drawn = rng.integers(rows.size, size=(size, rows.size))
            flat = drawn + rows.size * np.arange(size)[:, None]
            tally = np.bincount(flat.ravel(), minlength=size * rows.size)
            counts[:, rows] = tally.reshape(size, rows.size)
        yield counts
