"""Reference solution of exercise 4. Each part replaces the cell of the same name."""

import numpy as np


# %% resize
def resize(row, start, width, size):
    """Return `size` values of the crop of `row`, by linear interpolation."""
    places = start + np.arange(size) * (width - 1) / (size - 1)
    return np.interp(places, np.arange(len(row)), row)


# %% post_normalise
def post_normalise(views):
    """Zero mean, unit deviation over the whole batch; same shape."""
    return (views - views.mean()) / views.std()


# %% high_share
def high_share(first, second, mel_frequencies, cutoff):
    """Share of the difference at or above the cut-off, from 0 to 1."""
    difference = np.abs(first - second)
    return difference[mel_frequencies >= cutoff].sum() / difference.sum()
