"""Reference solution of exercise 5. Each part replaces the cell of the same name."""

import numpy as np


# %% positives
def positives(classes, domains, clips):
    """Return who is a positive of whom, Boolean (N, N); arguments have the shape (N,)."""
    same_class, same_domain, same_clip = (np.equal.outer(x, x) for x in (classes, domains, clips))
    return same_class & (~same_domain | same_clip) & ~np.eye(len(classes), dtype=bool)


# %% reach
def reach(kernels, strides):
    """Count the input frames that one cell of the last map depends on."""
    frames, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        frames += (kernel - 1) * step
        step *= stride
    return frames


# %% level_score
def level_score(normal, test):
    """Return scores (N,) from distances `normal` (L, M) and `test` (L, N)."""
    normal, test = np.log(normal), np.log(test)
    mean = normal.mean(axis=1, keepdims=True)
    return ((test - mean) / normal.std(axis=1, keepdims=True)).mean(axis=0)
