"""The log-mel transform of recordings, clip by clip on one thread.

It computes what `asdlib.features.logmel.LogMel` computes (a test holds both together, and both to
librosa), straight from 16-bit samples and in less time: no array is allocated anew, mel filters are
summed only where they are not zero, and the three inner loops are compiled by numba, which keeps
the machine code beside this file or in the user's cache folder. They release Python's lock.

Shapes: S samples, T frames, W samples of a window, K frequencies, F mel bins.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from asdlib.features.front_end import PREEMPHASIS, FrontEnd
from asdlib.features.logmel import hann_window, mel_filters

SCRATCH_FRAMES = 4
"""Frames whose power is computed before it is transposed; few stay in the innermost cache."""

Samples = NDArray[np.int16] | NDArray[np.float32]
"""16-bit integers, or single precision with full scale 1.0."""

_FRAMES_AT_ONCE = 320
"""Frames of a piece: a clip of ten seconds at once, an hour not."""


class ClipTransform:
    """Log-mel spectrograms of clips with centred frames, one after the other.

    Its buffers are used again, so that no two threads may share one object.
    """

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end = front_end
        n_frequencies = front_end.n_fft // 2 + 1
        window = hann_window(front_end).to(torch.float32).numpy()
        # A power of two scales exactly.
        self._windows: dict[Any, NDArray[np.float32]] = {
            np.dtype(np.float32): window,
            np.dtype(np.int16): window * np.float32(2.0**-15),
        }
        filters = mel_filters(front_end).numpy()
        reached = [np.flatnonzero(column) for column in filters.T]
        self._edges = np.array(
            [(bins[0], bins[-1] + 1) if len(bins) else (0, 0) for bins in reached], dtype=np.int64
        )
        self._weights = np.concatenate(
            [column[low:high] for column, (low, high) in zip(filters.T, self._edges, strict=True)]
        ).astype(np.float32)
        self._scratch = np.empty((SCRATCH_FRAMES, n_frequencies), dtype=np.float32)
        self._buffers = _Buffers(front_end, 1)

    def __call__(self, samples: Samples, out: Tensor) -> None:
        """Fill `out`, (F, T) of any floating type, with the log-mel spectrogram of a clip (S,)."""
        whole: Any = np.ascontiguousarray(samples)
        n_frames = self.front_end.n_frames(len(samples))
        if self.front_end.framing == "efficientat":
            unit = np.float32(1 if whole.dtype == np.float32 else 2.0**-15)
            whole = unit * whole[1:] - np.float32(PREEMPHASIS) * unit * whole[:-1]
        for start in range(0, n_frames, _FRAMES_AT_ONCE):
            piece = slice(start, min(start + _FRAMES_AT_ONCE, n_frames))
            out[:, piece] = self._piece(whole, piece)

    def _piece(self, samples: Samples, piece: slice) -> Tensor:
        """Log-mels of some frames; the next call overwrites them."""
        front_end, n_frames = self.front_end, piece.stop - piece.start
        if len(self._buffers.frames) != n_frames:
            self._buffers = _Buffers(front_end, n_frames)
        at = self._buffers
        window, mirrored = self._windows[samples.dtype], front_end.pad_mode == "reflect"
        window_frames(samples, window, front_end.hop_length, mirrored, piece.start, at.frames)
        torch.fft.rfft(at.framed, out=at.spectrum)
        transposed_power(at.parts, self._scratch, at.power)
        if front_end.power != 2.0:
            np.power(at.power, front_end.power / 2.0, out=at.power)
        filter_sums(at.power, self._edges, self._weights, at.sums)
        keep = np.maximum if "max" in front_end.scale else np.add
        keep(at.sums, np.float32(front_end.eps), out=at.sums)
        # The logarithm by numpy: on some processors four times as fast as torch's.
        if front_end.unit == "dB":
            np.log10(at.sums, out=at.sums)
            np.multiply(at.sums, np.float32(10.0), out=at.sums)
        else:
            np.log(at.sums, out=at.sums)
        return at.mel


class _Buffers:
    """Room for the steps of a piece of T frames; the arrays of numpy are views of the tensors.

    `frames` (T, W) are windowed, `parts` (T, 2K) hold their `spectrum` (T, K) as real numbers,
    `power` (K, T) is by frequency, and `sums` (F, T), the same as `mel`, by filter.
    """

    def __init__(self, front_end: FrontEnd, n_frames: int) -> None:
        n_frequencies = front_end.n_fft // 2 + 1
        self.framed = torch.empty(n_frames, front_end.n_fft)
        self.frames = self.framed.numpy()
        self.spectrum = torch.empty(n_frames, n_frequencies, dtype=torch.complex64)
        self.parts = torch.view_as_real(self.spectrum).flatten(1).numpy()
        self.power = np.empty((n_frequencies, n_frames), dtype=np.float32)
        self.mel = torch.empty(front_end.n_mels, n_frames)
        self.sums = self.mel.numpy()


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
def transposed_power(
    spectrum: NDArray[np.float32], scratch: NDArray[np.float32], power: NDArray[np.float32]
) -> None:
    """Fill `power` (K, T) with the squared magnitudes of `spectrum` (T, 2K), real and imaginary.

    `scratch` has room for `SCRATCH_FRAMES` frames of K frequencies.
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
    """Fill `sums` (F, T) with `power` (K, T) under each filter.

    `edges` (F, 2) are the first frequency of each filter and the one after its last, `weights` the
    filters' values between them, one filter after the other.
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
