"""The Mahalanobis distance where the sections of a machine type help each other.

A section rarely has enough clips for a covariance of its own. The sections of a machine type are
machines of one make: their means differ, their variation perhaps less. How much of it they share
is read off held-out normal clips.

Shapes: N clips, D embedding size, S sections of a machine type, G candidates.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.covariance import LedoitWolf

from asdlib.errors import ConfigError
from asdlib.method.backend_base import Array, Backend, Model
from asdlib.method.fusion import divide

SHARES = tuple(round(0.1 * k, 1) for k in range(1, 11))
"""Candidates for the share of the pooled covariance."""

FOLDS = 5


@dataclass
class PooledMahalanobis(Backend):
    """Distance from the section's mean in units of a covariance that leans on the machine type.

    The covariance of section s is (1 − a) Σ_s + a Σ: Σ_s from its own clips, Σ from those of all
    sections of the machine type (the part of a section's name before "/"), each around its own
    mean, shrunk as in `Mahalanobis`. With a = 1 all sections of a type have the same covariance;
    a type of one section with a = 1 is `Mahalanobis`.

    Parameters
    ----------
    share
        a, above 0 and at most 1. By default the one of `SHARES` under which normal clips that were
        held out (five folds) are most likely, one for each machine type. Neither test clips nor
        anomalies have a part in it.

    Notes
    -----
    J. H. Friedman, "Regularized discriminant analysis", J. American Statistical Association 84,
    1989, with likelihood in the place of errors of classification. One covariance for all classes
    of a network is used by K. Lee et al., NeurIPS 2018, arXiv 1807.03888.
    """

    name = "pooled_mahalanobis"
    share: float | None = None

    def _check(self) -> None:
        if self.share is None:
            return
        if isinstance(self.share, bool) or not isinstance(self.share, int | float):
            raise ConfigError(f"share of '{self.name}' is {self.share!r}, expected a number")
        if not 0 < self.share <= 1:
            raise ConfigError(
                f"share of '{self.name}' is {self.share}, expected above 0 and at most 1"
            )

    def _fit_sections(self, x: Array, names: Array, domains: Array) -> dict[str, Model]:
        machine = np.array([name.rpartition("/")[0] for name in names], object)
        models: dict[str, Model] = {}
        for each in sorted(set(machine)):
            rows = machine == each
            share = self.share
            if share is None:
                share = most_likely_share(x[rows], names[rows], domains[rows])
            pooled, sections = _decompose(x[rows], names[rows])
            for section, (mean, variances, axes) in sections.items():
                spread = np.sqrt((1 - share) * variances + share)
                models[section] = {
                    "mean": mean,
                    "whitening": pooled @ axes / spread,
                    "share": np.array([share]),
                }
        return dict(sorted(models.items()))

    def _score_section(self, model: Model, x: Array) -> Array:
        scores: Array = np.linalg.norm((x - model["mean"]) @ model["whitening"], axis=1)
        return scores

    def _min_clips(self) -> int:
        return 2


def most_likely_share(x: Array, names: Array, domains: Array) -> float:
    """Choose the share of the pooled covariance by the likelihood of held-out normal clips.

    Parameters
    ----------
    x
        Embeddings of the normal training clips of one machine type, shape (N, D).
    names, domains
        Name of each clip's section and domain, shape (N,).

    Returns
    -------
    float
        One of `SHARES`; of equally likely ones the largest.
    """
    surprise = surprise_of_shares(x, names, domains)
    return SHARES[len(SHARES) - 1 - int(np.argmin(surprise[::-1]))]


def surprise_of_shares(x: Array, names: Array, domains: Array) -> Array:
    """Tell how unlikely held-out normal clips are under each of `SHARES`.

    Parameters
    ----------
    x, names, domains
        As for `most_likely_share`.

    Returns
    -------
    ndarray
        Mean of −log p, in nats a clip, up to a constant; shape (G,). Zeros if no clip can be held
        out.
    """
    shares = np.array(SHARES)[:, None]
    fold = divide(names, domains, folds=FOLDS)
    surprise = np.zeros(len(SHARES))
    n_clips = 0
    for number in np.unique(fold):
        held = fold == number
        if set(names[held]) - set(names[~held]):
            continue  # a section without any other clip
        pooled, sections = _decompose(x[~held], names[~held])
        for section, (mean, variances, axes) in sections.items():
            clips = (x[held & (names == section)] - mean) @ pooled @ axes
            spread = (1 - shares) * variances + shares  # (G, D)
            # The volume of the pooled covariance is the same for all candidates.
            surprise += 0.5 * (np.square(clips) @ (1 / spread).T).sum(axis=0)
            surprise += 0.5 * len(clips) * np.log(spread).sum(axis=1)
        n_clips += int(held.sum())
    return surprise / max(1, n_clips)


def _decompose(x: Array, names: Array) -> tuple[Array, dict[str, tuple[Array, Array, Array]]]:
    """Describe each section in axes where the pooled covariance is the identity.

    Gives W (D, D), and for each section its mean (D,), its variances v (D,) along the columns of
    A (D, D). With a centred clip z: z·W·A has the covariance diag(v) in the section, and the
    identity in all of them together.
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


def whitening(centred: Array) -> Array:
    """Give W with ‖x·W‖ = Mahalanobis distance of a centred x.

    Parameters
    ----------
    centred
        Clips around their mean, shape (N, D).

    Returns
    -------
    ndarray
        Shape (D, D). The covariance is shrunk (Ledoit and Wolf). Without any spread every
        direction counts the same, instead of infinitely.
    """
    if not centred.any():
        return np.eye(centred.shape[1])
    fitted = LedoitWolf(assume_centered=True).fit(centred)
    values, vectors = np.linalg.eigh(fitted.covariance_)
    scaled: Array = vectors / np.sqrt(np.maximum(values, np.finfo(np.float64).eps * values[-1]))
    return scaled
