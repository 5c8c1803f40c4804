"""Two microphones: what a far one hears of the noise is taken away from the recording near by.

The noise reaches both along different paths. If a path is short against a window, it is one complex
factor w(f) at each frequency f, and ``near - w far`` is left of the noise. Of the spectra N(t, f)
and F(t, f) of normal clips, frame t, least squares find ::

    w(f) = sum_t N(t, f) F*(t, f) / sum_t |F(t, f)|^2

What the far microphone hears of the machine itself, its leakage, makes w too small for the noise
where the machine is loud, and takes a part of the machine away.

Shapes: S samples, K frequencies, T frames.
"""

from collections.abc import Iterable
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

WINDOW, HOP = 1024, 256
Pair = tuple[NDArray[np.float32], NDArray[np.float32]]
"""The near and the far channel, (S,) each."""


@cache
def _transform() -> ShortTimeFFT:
    return ShortTimeFFT(hann(WINDOW, sym=False), HOP, fs=1.0)


def fit_far(clips: Iterable[Pair]) -> NDArray[np.complex128]:
    """Find the factor of each frequency, (K,), from normal clips; 0 where the far one is silent.

    Notes
    -----
    A cheap rival of networks that listen to both microphones: kasahart/asd-experiments report 62.8
    without and 66.8 with it for a frozen network on the evaluation set of 2026.
    """
    n_frequencies = WINDOW // 2 + 1
    cross = np.zeros(n_frequencies, dtype=np.complex128)
    power = np.zeros(n_frequencies)
    for clip in clips:
        near, far = (_transform().stft(channel) for channel in clip)
        cross += (near * far.conj()).sum(axis=1)
        power += np.square(np.abs(far)).sum(axis=1)
    return np.divide(cross, power, out=np.zeros_like(cross), where=power > 0)


def subtract_far(clip: Pair, factors: NDArray[np.complex128]) -> NDArray[np.float32]:
    """Return the near channel without what the far one tells about it, (S,)."""
    near, far = (_transform().stft(channel) for channel in clip)
    left = _transform().istft(near - factors[:, None] * far, k1=len(clip[0]))
    return np.asarray(left, dtype=np.float32)
