"""Reference solution of exercise 2. Each part replaces the cell of the same name."""

import numpy as np

from asdlib import auc


# %% frame_count
def frame_count(n_samples, hop_length):
    """Count the frames of a recording."""
    return 1 + n_samples // hop_length


# %% band_level
def band_level(log_mel, mel_frequencies, low, high):
    """Return the mean power of a band of one clip (F, T), in dB."""
    inside = (mel_frequencies >= low) & (mel_frequencies < high)
    return 10 * np.log10(np.mean(10 ** (log_mel[inside] / 10)))


# %% distance
def distance(train, test):
    """Return distances (N,) of the rows of `test` (N, D) from those of `train`."""
    away = test - train.mean(axis=0)
    return np.sum(away @ np.linalg.inv(np.cov(train, rowvar=False)) * away, axis=1)


# %% own_auc
def own_auc(train, test, y_true):
    """AUC of the distance, between 0 and 1."""
    return auc(y_true, distance(train, test))
