"""From anomaly scores to decisions: the gamma quantile of the DCASE baselines since 2021."""

import numpy as np
from scipy import stats

from asdlib.errors import RunError


def gamma_threshold(anomaly_score: np.ndarray, quantile: float = 0.9) -> float:
    """Quantile of a gamma distribution fitted to the scores of normal clips.

    A clip is called anomalous if its score lies above the threshold. The fit is the maximum
    likelihood fit of ``scipy.stats.gamma.fit`` with shape, location and scale free, as in the
    DCASE 2022 Task 2 baselines (Kota-Dohi/dcase2022_task2_baseline_ae, commit 8ab52e1). They fit
    it to the scores of the training clips; scores of held-out normal clips give a threshold that
    holds better on new clips.

    Parameters
    ----------
    anomaly_score
        Scores of normal clips (N,).
    quantile
        Share of normal clips to lie below the threshold, between 0 and 1.

    Returns
    -------
    float
        The threshold, in units of the score.

    Raises
    ------
    RunError
        If a score is not finite, there are fewer than three different ones, or `quantile` is not
        between 0 and 1.
    """
    if not 0.0 < quantile < 1.0:
        raise RunError(f"quantile {quantile} is not allowed, expected a number between 0 and 1")
    scores = np.asarray(anomaly_score, dtype=np.float64)
    if not np.isfinite(scores).all():
        raise RunError(
            f"{np.count_nonzero(~np.isfinite(scores))} of {scores.size} scores are NaN or "
            "infinite, expected finite scores of normal clips; leave those clips out"
        )
    if len(np.unique(scores)) < 3:
        raise RunError(
            f"{len(np.unique(scores))} different scores are too few for a gamma distribution, "
            "expected at least 3; give it the scores of more normal clips"
        )
    return float(stats.gamma.ppf(quantile, *stats.gamma.fit(scores)))
