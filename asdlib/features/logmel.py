"""From waveforms to log-mel spectrograms, and approximately from one front end to another.

The values agree with librosa for the same parameters (a test holds both to 1e-3 dB), the preset
``ast`` with the feature extractor of the transformers library (1e-5), and ``efficientat`` with its
formulas (1e-4).

Public feature sets come without recordings, and a pre-trained encoder needs its own front end. A
log-mel value gives the power density near one frequency and time. A `Translation` interpolates its
logarithm over both, and adds up the power under the filters of the other front end. Frequencies
above the source's band stay empty, and no detail is gained.

Shapes: B batch, S samples, K frequencies, F mel bins, T frames; a prime stands for the target.
"""

import math
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor, nn
from torch.nn.functional import pad
from torchaudio.compliance.kaldi import get_mel_banks
from torchaudio.functional import melscale_fbanks

from asdlib.errors import ConfigError, DataError
from asdlib.features.front_end import PREEMPHASIS, FrontEnd, preset
from asdlib.features.store import FeatureStore, write_blocks

_FRAMES_AT_ONCE = 320
"""Frames computed at once: all of ten seconds, an hour piece by piece."""


class LogMel(nn.Module):
    """Log-mel spectrogram of a batch of waveforms, by a `FrontEnd` or the name of a preset.

    Single precision is what the DCASE baselines use; its rounding shows only in bins some 120 dB
    below the loudest one of a frame.
    """

    window: Tensor
    filters: Tensor

    def __init__(
        self, front_end: FrontEnd | str = "dcase2020", *, dtype: torch.dtype = torch.float32
    ) -> None:
        super().__init__()
        self.front_end = preset(front_end)
        self.dtype = dtype
        self.register_buffer("window", hann_window(self.front_end).to(dtype))
        self.register_buffer("filters", mel_filters(self.front_end).T.to(dtype))

    def forward(self, waveform: Tensor) -> Tensor:
        """Transform waveforms (B, S), full scale 1.0, to log-mels (B, F, T), float32.

        Clips that are shorter than the mirror padding, or one frame, needs raise a `DataError`.
        """
        magnitude = torch.fft.rfft(self._windowed(self._frames(waveform))).abs()
        return self._logarithm(self.filters @ magnitude.pow(self.front_end.power).mT)

    def of_clip(self, waveform: NDArray[np.float32]) -> Tensor:
        """Transform one waveform (S,) to its log-mel (F, T), on one processor.

        It takes less than half the time of `forward`, as filters are summed only where they are not
        zero, and little memory however long the clip is.
        """
        frames = self._frames(torch.from_numpy(waveform)[None])[0]
        mel = np.empty((self.front_end.n_mels, len(frames)), dtype=np.float32)
        for start in range(0, len(frames), _FRAMES_AT_ONCE):
            piece = frames[start : start + _FRAMES_AT_ONCE]
            spectrum = torch.fft.rfft(self._windowed(piece)).numpy()
            power = spectrum.real**2 + spectrum.imag**2
            if self.front_end.power != 2:
                power **= self.front_end.power / 2
            mel[:, start : start + len(piece)] = self._sparse_filters @ power.T
        return self._logarithm(torch.from_numpy(mel))

    @cached_property
    def _sparse_filters(self) -> Any:
        return csr_array(self.filters.numpy())

    def _frames(self, waveform: Tensor) -> Tensor:
        """Cut waveforms (B, S) into frames (B, T, W), a view."""
        front_end, waveform = self.front_end, waveform.to(self.dtype)
        if waveform.ndim != 2 or waveform.shape[1] < front_end.shortest:
            raise DataError(
                f"waveforms of shape {tuple(waveform.shape)} cannot be transformed; expected "
                f"(clips, samples) with at least {front_end.shortest} samples"
            )
        if front_end.framing == "kaldi":
            return waveform.unfold(-1, front_end.win_length, front_end.hop_length)
        if front_end.framing == "efficientat":
            waveform = waveform[:, 1:] - PREEMPHASIS * waveform[:, :-1]
        half = front_end.n_fft // 2
        if front_end.pad_mode == "reflect":  # several times as fast as by torch's pad
            ends = waveform[:, 1 : half + 1].flip(1), waveform[:, -half - 1 : -1].flip(1)
            padded = torch.cat([ends[0], waveform, ends[1]], dim=1)
        else:
            padded = pad(waveform, (half, half))
        return padded.unfold(-1, front_end.n_fft, front_end.hop_length)

    def _windowed(self, frames: Tensor) -> Tensor:
        front_end = self.front_end
        if front_end.framing == "kaldi":
            frames = frames - frames.mean(dim=-1, keepdim=True)
            frames = frames - PREEMPHASIS * torch.cat([frames[..., :1], frames[..., :-1]], dim=-1)
            frames = pad(frames, (0, front_end.n_fft - front_end.win_length))
        return frames * self.window

    def _logarithm(self, mel: Tensor) -> Tensor:
        eps = self.front_end.eps
        log_mel: Tensor = (mel.clamp(min=eps) if "max" in self.front_end.scale else mel + eps).log()
        if self.front_end.unit == "dB":
            log_mel = log_mel * (10.0 / math.log(10.0))
        return log_mel.to(torch.float32)


def hann_window(front_end: FrontEnd) -> Tensor:
    """Make the window, shape (n_fft,), in double precision: a rounded one leaks into empty bins.

    That of Kaldi is rounded, and zeros stand after it and not on both sides.
    """
    n_fft, n_window, kaldi = front_end.n_fft, front_end.win_length, front_end.framing == "kaldi"
    dtype = torch.float32 if kaldi else torch.float64
    hann = torch.hann_window(n_window, front_end.framing == "stft", dtype=dtype)
    left = 0 if kaldi else (n_fft - n_window) // 2
    return pad(hann, (left, n_fft - n_window - left))


def mel_filters(front_end: FrontEnd) -> Tensor:
    """Make the mel filters of a front end, shape (K, F), single precision."""
    filters: Tensor
    if front_end.framing != "stft":
        rate, band = front_end.sample_rate, (front_end.f_min, front_end.f_max)
        filters, _ = get_mel_banks(front_end.n_mels, front_end.n_fft, rate, *band, 0.0, 0.0, 1.0)
        return pad(filters, (0, 1)).T
    filters = melscale_fbanks(
        n_freqs=front_end.n_fft // 2 + 1,
        f_min=front_end.f_min,
        f_max=front_end.f_max,
        n_mels=front_end.n_mels,
        sample_rate=front_end.sample_rate,
        norm=front_end.norm,
        mel_scale=front_end.mel_scale,
    )
    return filters


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
        for log_mel, before, after in zip(store.features, store.frames, frames, strict=True):
            block = np.zeros((1, *shape[1:]), np.float16)
            block[0, :, :after] = translation(log_mel[:, :before])
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
