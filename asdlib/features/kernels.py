"""Compiled inner loops of the log-mel transform of recordings.

Building a store of thousands of clips spends its time here, so these three loops are compiled by
numba, which keeps the machine code beside this file or in the user's cache folder. They leave
Python's lock and work in arrays of the caller.

Shapes: S samples, T frames, W samples of a window, K frequencies, F mel bins.
"""

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

SCRATCH_FRAMES = 4
"""Frames whose power is computed before it is turned; few stay in the innermost cache."""


def _compiled(function: Callable[..., None]) -> Callable[..., None]:
    """Compile on the first call, and keep the machine code where there is a place to write to."""
    exact_but_fused = {"contract"}
    compiled: Callable[..., None]
    try:
        compiled = njit(nogil=True, fastmath=exact_but_fused, cache=True)(function)
    except RuntimeError:
        compiled = njit(nogil=True, fastmath=exact_but_fused)(function)
    return compiled


@_compiled
def window_frames(
    samples: NDArray[np.int16] | NDArray[np.float32],
    window: NDArray[np.float32],
    hop: int,
    mirrored: bool,
    first: int,
    frames: NDArray[np.float32],
) -> None:
    """Fill `frames` (T, W) with the windowed frames `first`, `first` + 1 … of a clip.

    Frame t is centred on sample t · `hop`. Beyond both ends of `samples` (S,) stands the clip's
    mirror image, or silence.
    """
    n_frames, n_window = frames.shape
    n_samples = len(samples)
    for frame in range(n_frames):
        start = (first + frame) * hop - n_window // 2
        if 0 <= start <= n_samples - n_window:
            for i in range(n_window):
                frames[frame, i] = np.float32(samples[start + i]) * window[i]
            continue
        for i in range(n_window):
            at = start + i
            if mirrored:
                at = abs(at)
                at = at if at < n_samples else 2 * (n_samples - 1) - at
            inside = 0 <= at < n_samples
            frames[frame, i] = np.float32(samples[at]) * window[i] if inside else np.float32(0)


@_compiled
def turned_power(
    spectrum: NDArray[np.float32], scratch: NDArray[np.float32], power: NDArray[np.float32]
) -> None:
    """Fill `power` (K, T) with the squared magnitudes of `spectrum`.

    Parameters
    ----------
    spectrum
        Real and imaginary parts by turns, (T, 2K).
    scratch
        Room for `SCRATCH_FRAMES` frames, (`SCRATCH_FRAMES`, K).
    power
        The result.
    """
    n_frequencies, n_frames = power.shape
    for start in range(0, n_frames, SCRATCH_FRAMES):
        n_here = min(SCRATCH_FRAMES, n_frames - start)
        for j in range(n_here):
            parts = spectrum[start + j]
            for k in range(n_frequencies):
                scratch[j, k] = parts[2 * k] * parts[2 * k] + parts[2 * k + 1] * parts[2 * k + 1]
        if n_here == SCRATCH_FRAMES:
            # A fixed number of rounds, which the compiler unrolls.
            for k in range(n_frequencies):
                for j in range(SCRATCH_FRAMES):
                    power[k, start + j] = scratch[j, k]
        else:
            for k in range(n_frequencies):
                for j in range(n_here):
                    power[k, start + j] = scratch[j, k]


@_compiled
def filter_sums(
    power: NDArray[np.float32],
    edges: NDArray[np.int64],
    weights: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """Fill `sums` (F, T) with the power under each filter.

    Parameters
    ----------
    power
        Power of all frequencies, (K, T).
    edges
        First frequency of each filter and the one after its last, (F, 2).
    weights
        The filters' values between their edges, one filter after the other.
    sums
        The result.
    """
    n_frames = power.shape[1]
    read = 0
    for row in range(len(edges)):
        total = sums[row]
        total[:] = 0
        for k in range(edges[row, 0], edges[row, 1]):
            weight, here = weights[read], power[k]
            read += 1
            for frame in range(n_frames):
                total[frame] += weight * here[frame]
