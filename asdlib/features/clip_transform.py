"""The log-mel transform of recordings, clip by clip on one thread.

It computes what `asdlib.features.logmel.LogMel` computes (a test holds both together, and both to
librosa), straight from 16-bit samples and in less time: mel filters are summed only where they are
not zero, and the inner loops are compiled by numba, which keeps the machine code beside this file
or in the user's cache folder. They release Python's lock.

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

_LANES = 8
"""Frames whose power is summed side by side: few stay in the innermost cache."""

Samples = NDArray[np.int16] | NDArray[np.float32]
"""16-bit integers, or single precision with full scale 1.0."""

_FRAMES_AT_ONCE = 320
"""Frames of a piece: a clip of ten seconds at once, an hour not."""


class ClipTransform:
    """Log-mel spectrograms of clips with centred frames, one after the other."""

    def __init__(self, front_end: FrontEnd) -> None:
        self.front_end = front_end
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

    def __call__(self, samples: Samples, out: Tensor) -> None:
        """Fill `out`, (F, T) of any floating type, with the log-mel spectrogram of a clip (S,)."""
        whole: Any = np.ascontiguousarray(samples)
        if self.front_end.framing == "efficientat":
            unit = np.float32(1 if whole.dtype == np.float32 else 2.0**-15)
            whole = unit * whole[1:] - np.float32(PREEMPHASIS) * unit * whole[:-1]
        for start in range(0, out.shape[1], _FRAMES_AT_ONCE):
            piece = out[:, start : start + _FRAMES_AT_ONCE]
            piece[:] = self._piece(whole, start, piece.shape[1])

    def _piece(self, samples: Samples, first: int, n_frames: int) -> Tensor:
        """Compute log-mels (F, `n_frames`) from frame `first` on."""
        front_end, mirrored = self.front_end, self.front_end.pad_mode == "reflect"
        frames, window = torch.empty(n_frames, front_end.n_fft), self._windows[samples.dtype]
        window_frames(samples, window, front_end.hop_length, mirrored, first, frames.numpy())
        parts = torch.view_as_real(torch.fft.rfft(frames)).flatten(1).numpy()
        mel = np.empty((front_end.n_mels, n_frames), dtype=np.float32)
        exponent = np.float32(front_end.power / 2.0)
        mel_sums(parts, exponent, self._edges, self._weights, mel)
        keep = np.maximum if "max" in front_end.scale else np.add
        keep(mel, np.float32(front_end.eps), out=mel)
        # The logarithm by numpy: on some processors four times as fast as torch's.
        if front_end.unit == "dB":
            np.log10(mel, out=mel)
            mel *= np.float32(10.0)
        else:
            np.log(mel, out=mel)
        return torch.from_numpy(mel)


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
def mel_sums(
    spectrum: NDArray[np.float32],
    exponent: np.float32,
    edges: NDArray[np.int64],
    weights: NDArray[np.float32],
    sums: NDArray[np.float32],
) -> None:
    """Fill `sums` (F, T) with the power of `spectrum` (T, 2K), to an exponent, under each filter.

    Real and imaginary parts take turns in `spectrum`. `edges` (F, 2) are the first frequency of
    each filter and the one after its last, `weights` the filters' values between them, one filter
    after the other.
    """
    n_frames, n_frequencies = len(spectrum), spectrum.shape[1] // 2
    power = np.zeros((n_frequencies, _LANES), dtype=np.float32)
    total = np.empty(_LANES, dtype=np.float32)
    for start in range(0, n_frames, _LANES):
        n_here = min(_LANES, n_frames - start)
        for lane in range(n_here):
            parts = spectrum[start + lane]
            for k in range(n_frequencies):
                power[k, lane] = parts[2 * k] * parts[2 * k] + parts[2 * k + 1] * parts[2 * k + 1]
        if exponent != 1:
            power[:] = power**exponent
        read = 0
        for row in range(len(edges)):
            total[:] = 0
            for k in range(edges[row, 0], edges[row, 1]):
                for lane in range(_LANES):
                    total[lane] += weights[read] * power[k, lane]
                read += 1
            sums[row, start : start + n_here] = total[:n_here]
