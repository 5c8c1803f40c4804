"""Translate log-mels from one front end to another, approximately, without the recordings.

Public feature sets come without recordings, and a pre-trained encoder needs its own front end. A
log-mel value gives the power density near one frequency and time. The translation interpolates its
logarithm over both, and adds up the power under the filters of the other front end. Frequencies
above the source's band stay empty, and no detail is gained.

Shapes: F mel bins, T frames, K frequencies; a prime stands for the target.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asdlib.errors import ConfigError
from asdlib.features.front_end import PREEMPHASIS, FrontEnd, preset
from asdlib.features.logmel import hann_window, mel_filters
from asdlib.features.store import FeatureStore, write_blocks

Array = NDArray[np.float64]


def translate_store(store: FeatureStore, out: str | Path, target: FrontEnd | str) -> FeatureStore:
    """Write the clips of a store as the new store `out` of another front end, approximately.

    The description of `out` has the key ``translated_from`` with that of `store`.

    Raises
    ------
    ConfigError, StoreError
        If a front end does not have centred frames and power 2, or `out` exists.
    """
    target = preset(target)
    translation = Translation(FrontEnd.from_description(store.front_end), target)
    frames = np.array([translation.n_frames(n) for n in store.frames])
    described = target.describe() | {"translated_from": store.front_end}
    shape = (len(store), target.n_mels, int(frames.max()))

    def blocks() -> Iterator[NDArray[np.float16]]:
        for _, log_mel in store.rows().batches(1):
            block = np.zeros((1, *shape[1:]), np.float16)
            translated = translation(log_mel[0])
            block[0, :, : translated.shape[1]] = translated
            yield block

    manifest = store.manifest.assign(frames=frames.astype(str))
    return write_blocks(Path(out), manifest, described, shape, blocks())


class Translation:
    """Translation of log-mel spectrograms (F, T) of `source` to those (F', T') of `target`.

    Raises
    ------
    ConfigError
        If one of them has Kaldi's framing or another power than 2.
    """

    def __init__(self, source: FrontEnd, target: FrontEnd) -> None:
        for front_end in (source, target):
            if front_end.framing == "kaldi" or front_end.power != 2:
                raise ConfigError(
                    f"log-mels of framing '{front_end.framing}' and power {front_end.power:g} "
                    "cannot be translated, expected centred frames and power 2; build the store "
                    "from the recordings"
                )
        self.source, self.target = source, target
        # White noise of density 1 per Hz gives each bin the sum of its filter times this power.
        self._bins = np.log(_filters(source).sum(axis=0) * _noise_power(source))
        frequencies = np.arange(target.n_fft // 2 + 1) * target.sample_rate / target.n_fft
        inside = frequencies <= source.f_max
        self._at = np.interp(
            frequencies[inside], source.mel_frequencies(), np.arange(source.n_mels)
        )
        gain = np.full(len(frequencies), _noise_power(target))
        if target.framing == "efficientat":
            angle = 2 * np.pi * frequencies / target.sample_rate
            gain *= np.abs(1 - PREEMPHASIS * np.exp(-1j * angle)) ** 2
        self._to_mel = (_filters(target) * gain[:, None])[inside].T

    def n_frames(self, n_frames: int) -> int:
        """Count the frames T' that lie within T = `n_frames` frames of the source."""
        return int((n_frames - 1) / self._ratio) + 1

    @property
    def _ratio(self) -> float:
        """Frames of the source from one frame of the target to the next."""
        source, target = self.source, self.target
        return target.hop_length / target.sample_rate * source.sample_rate / source.hop_length

    def __call__(self, log_mel: NDArray[Any]) -> Array:
        """Translate one spectrogram, shape (F, T)."""
        neper = np.log(10) / 10 if self.source.unit == "dB" else 1.0
        density: Array = np.asarray(log_mel, np.float64) * neper - self._bins[:, None]
        density = _between(density, self._at)
        steps = self._ratio * np.arange(self.n_frames(log_mel.shape[1]), dtype=np.float64)
        density = _between(density.T, steps).T
        mel = self._to_mel @ np.exp(density)
        eps = self.target.eps
        values = np.log(np.maximum(mel, eps) if "max" in self.target.scale else mel + eps)
        return np.asarray(values / (np.log(10) / 10) if self.target.unit == "dB" else values)


def _filters(front_end: FrontEnd) -> Array:
    """Mel filters, shape (K, F)."""
    return np.asarray(mel_filters(front_end).numpy(), np.float64)


def _noise_power(front_end: FrontEnd) -> float:
    """Power in a frequency of the spectrum of white noise of density 1 per Hz."""
    return float(front_end.sample_rate * hann_window(front_end).square().sum())


def _between(values: Array, positions: Array) -> Array:
    """Interpolate rows of values (N, M) at fractional row numbers (P,), shape (P, M)."""
    below = np.clip(positions.astype(int), 0, max(len(values) - 2, 0))
    share = (positions - below)[:, None]
    return np.asarray(
        (1 - share) * values[below] + share * values[np.minimum(below + 1, len(values) - 1)]
    )
