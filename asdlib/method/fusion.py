"""Score fusion: several systems or back-ends that see different things, added on one scale.

Scores of different kinds have different units. Each kind is brought to mean 0 and deviation 1 over
*normal training clips* of the section, never over test clips. Scores of clips that a back-end was
fitted on are too low (the nearest neighbour of a training clip is itself), therefore the scale
comes from held-out scores.

Shapes: N test clips, M training clips.
"""

import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from asdlib.errors import ConfigError, RunError
from asdlib.method.backend_base import Array, Backend


def divide(names: Array, domains: Array, *, folds: int, seed: int = 0) -> Array:
    """Divide clips into folds, each section and domain evenly, whatever others there are.

    Parameters
    ----------
    names, domains
        Name of each clip's section and domain, shape (M,).
    folds
        Number of folds.
    seed
        Seed of the division.

    Returns
    -------
    ndarray
        Number of each clip's fold, shape (M,).
    """
    fold = np.empty(len(names), int)
    for section in sorted(set(names)):
        for domain in sorted(set(domains[names == section])):
            rng = np.random.default_rng([seed, zlib.crc32(f"{section}|{domain}".encode())])
            rows = np.flatnonzero((names == section) & (domains == domain))
            fold[rng.permutation(rows)] = np.arange(len(rows)) % folds
    return fold


def held_out_scores(
    backend: Backend,
    embeddings: Array,
    sections: Sequence[str] | Array,
    domains: Sequence[str] | Array | None = None,
    *,
    folds: int = 5,
    seed: int = 0,
) -> Array:
    """Score each training clip with a back-end that was fitted on the other folds.

    Parameters
    ----------
    backend
        Any back-end; it is not changed, copies of it are fitted.
    embeddings
        Of normal training clips, shape (M, D).
    sections, domains
        Name of each clip's section and domain, shape (M,).
    folds
        Number of parts of each section and domain; a part sees the back-end fitted on the others.
        Leave-one-out if there are no more clips than folds.
    seed
        Seed of the division.

    Returns
    -------
    ndarray
        Shape (M,), float64.

    Raises
    ------
    ConfigError
        If there are fewer than two folds.
    RunError
        If a section has too few clips for its back-end without one fold.
    """
    if folds < 2:
        raise ConfigError(f"folds is {folds}, expected at least 2")
    x = np.asarray(embeddings, np.float64)
    names = np.asarray(sections, object)
    of_clip = np.full(len(names), "", object) if domains is None else np.asarray(domains, object)
    fold = divide(names, of_clip, folds=folds, seed=seed)
    scores = np.empty(len(names))
    for number in np.unique(fold):
        held = fold == number
        copy = type(backend)(**backend.params())
        copy.fit(x[~held], names[~held], of_clip[~held])
        scores[held] = copy.score(x[held], names[held])
    return scores


def fuse_scores(
    scores: Mapping[str, Array],
    sections: Sequence[str] | Array,
    training_scores: Mapping[str, Array],
    training_sections: Sequence[str] | Array,
    weights: Mapping[str, float] | None = None,
) -> Array:
    """Add scores of several kinds, each standardised by held-out training scores of the section.

    Parameters
    ----------
    scores
        Scores of the test clips by kind, each of shape (N,).
    sections
        Name of each test clip's section, shape (N,).
    training_scores
        Held-out scores of normal training clips by kind, each of shape (M,), as from
        `held_out_scores`.
    training_sections
        Name of each training clip's section, shape (M,).
    weights
        Weight of each kind; equal by default.

    Returns
    -------
    ndarray
        Weighted mean of the standardised scores, shape (N,), float64.

    Raises
    ------
    ConfigError
        If kinds of scores and weights differ, or no weight is positive.
    RunError
        If a section has fewer than two training scores, or they are all equal.
    """
    shares = dict.fromkeys(scores, 1.0) if weights is None else dict(weights)
    if not scores or set(scores) != set(training_scores) or set(scores) != set(shares):
        raise ConfigError(
            f"kinds of scores differ: {sorted(scores)} to fuse, {sorted(training_scores)} from "
            f"training, {sorted(shares)} weighted; give each kind all three"
        )
    total = sum(shares.values())
    if min(shares.values()) < 0 or total <= 0:
        raise ConfigError(f"weights are {shares}, expected none below and one above 0")
    names, of_training = np.asarray(sections, object), np.asarray(training_sections, object)
    fused = np.zeros(len(names))
    for kind, values in scores.items():
        for section in sorted(set(names)):
            normal = np.asarray(training_scores[kind], np.float64)[of_training == section]
            if len(normal) < 2 or not np.ptp(normal) > 0:
                raise RunError(
                    f"{len(normal)} training scores of '{kind}' in section '{section}' give no "
                    "scale, expected at least two different ones; leave this kind out"
                )
            rows = names == section
            standard = (np.asarray(values, np.float64)[rows] - normal.mean()) / normal.std()
            fused[rows] += shares[kind] / total * standard
    return fused
