"""What sounds wrong: the band and the time that make a recording anomalous.

For the statistical reference the score is divided among mel bins and frames, exactly
(`asdlib.baselines.TimeStatistics.contributions`). For networks a part of the recording is replaced
by the same part of the nearest normal clip, band by band and then, within the band that counts
most, stretch by stretch: what lowers the score is what sounds wrong.

Shapes: S samples, F mel bins, T frames, N clips.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asdlib.baselines import TimeStatistics
from asdlib.errors import ConfigError, RunError
from asdlib.features import FeatureStore, FrontEnd, Rows
from asdlib.method import Contrastive
from asdlib.study.run import training_rows
from asdlib.study.score import Model, Waveform, log_mels, rows_of
from asdlib.system import System, per_clip, section_keys

Floats = NDArray[np.float64]

PARTS = 16
"""Bands, and stretches of time, that are replaced one after the other."""

SMOOTH_BINS, SMOOTH_FRAMES = 5, 9
"""Neighbours that are averaged before the strongest band, and stretch of time, are found."""

_AS_MUCH_DB = 0.5


@dataclass(frozen=True)
class Reason:
    """Where a recording differs from normal ones; see `explain`."""

    log_mel: Floats
    """The recording (F, T), in the unit of the front end."""
    difference: Floats
    """The same less the mean spectrum of normal clips (F, T)."""
    by_bin: Floats
    """How much of the score each mel bin makes, (F,); the scale is the method's own."""
    by_frame: Floats
    """How much each frame makes within the band, (T,)."""
    bins: tuple[int, int]
    """First mel bin of the band that counts most, and the one after its last."""
    frames: tuple[int, int]
    """The same of the stretch of frames."""
    front_end: FrontEnd
    method: str
    """"exact" or "occlusion"."""
    nearest: str | None
    """Nearest normal clip; None without the training store."""
    offset: float
    """Where the window lies in the recording, in seconds."""

    @property
    def band_hz(self) -> tuple[float, float]:
        """Edges of the band in Hz: half-way between centres of mel filters."""
        centres = self.front_end.mel_frequencies()
        edges = np.concatenate([centres[:1], (centres[1:] + centres[:-1]) / 2, centres[-1:]])
        return float(edges[self.bins[0]]), float(edges[self.bins[1]])

    @property
    def seconds(self) -> tuple[float, float]:
        """Beginning and end of the stretch that counts most, in the recording (s)."""
        hop = self.front_end.hop_length / self.front_end.sample_rate
        return self.offset + self.frames[0] * hop, self.offset + self.frames[1] * hop

    @property
    def level_db(self) -> float:
        """How much louder than usual the band is beside the whole spectrum's median, in dB.

        A machine may run louder or more quietly as a whole; a fault is heard against that.
        """
        unit = 1.0 if self.front_end.unit == "dB" else 10 / np.log(10)
        of_bin = unit * self.difference.mean(axis=1)
        return float(of_bin[slice(*self.bins)].mean() - np.median(of_bin))

    @property
    def coverage(self) -> float:
        """Share of the frames that make more than half as much as those that make most."""
        return float(np.mean(self.by_frame > 0.5 * np.quantile(self.by_frame, 0.95)))

    @property
    def sentence(self) -> str:
        """The reason in words."""
        low, high = (f"{hz / 1000:.1f}" for hz in self.band_hz)
        start, end = self.seconds
        what = "more energy than usual" if self.level_db > 0 else "less energy than usual"
        if abs(self.level_db) < _AS_MUCH_DB:
            what = "another pattern than usual, with as much energy,"
        near = f"; the nearest normal clip is {self.nearest}" if self.nearest else ""
        return (
            f"{what} at {low}–{high} kHz, in {100 * self.coverage:.0f} % of the clip, most at "
            f"{start:.1f}–{end:.1f} s{near}"
        )

    def as_json(self) -> dict[str, Any]:
        """Return the reason for a file."""
        return {
            "sentence": self.sentence,
            "method": self.method,
            "band_hz": [round(hz, 1) for hz in self.band_hz],
            "seconds": [round(s, 3) for s in self.seconds],
            "level_db": round(self.level_db, 2),
            "coverage": round(self.coverage, 3),
            "nearest": self.nearest,
            "by_bin": self.by_bin.round(6).tolist(),
            "by_frame": self.by_frame.round(6).tolist(),
        }


def explain(
    model: Model,
    waveform: Waveform,
    section: str,
    *,
    train: str | Path | None = None,
    offset: float = 0.0,
) -> Reason:
    """Find band and time of what makes a waveform (S,) anomalous.

    Parameters
    ----------
    model
        A run, see `asdlib.study.score.load_model`.
    waveform, section
        A window at the rate of the model, and its section.
    train
        Store that the run was trained on: networks need it, and the nearest normal clip comes from
        it.
    offset
        Where the window begins in its recording, in seconds.

    Raises
    ------
    ConfigError
        If the model is an exported file, or a network and no store is given.
    """
    system = model.system
    if system is None:
        raise ConfigError(f"'{model.path}' is an exported file; name its run for the reason")
    half = log_mels(waveform[None], model.front_end)
    log_mel = half[0].astype(np.float64)
    normal = _NormalClips(system, train, section) if train is not None else None
    nearest, name = normal.nearest(half) if normal else (None, None)
    if isinstance(system, TimeStatistics) and "quantiles" not in system.params.statistics:
        parts = system.contributions(log_mel, section)
        mean = system.mean_[system.sections_.index(section)][: len(log_mel)]
        by_bin = parts.sum(axis=1)
        bins = strongest(by_bin, SMOOTH_BINS)
        by_frame = parts[slice(*bins)].sum(axis=0)
        method = "exact"
    elif nearest is not None and normal is not None:
        mean, method = normal.spectrum, "occlusion"
        by_bin = _drops(system, half, nearest, section, axis=0, within=(0, len(log_mel)))
        bins = strongest(by_bin, SMOOTH_BINS)
        by_frame = _drops(system, half, nearest, section, axis=1, within=bins)
    else:
        raise ConfigError(
            f"what '{system.name}' hears is found by comparison with normal clips; name the store "
            "that it was trained on (--train STORE)"
        )
    difference, frames = log_mel - mean[:, None], strongest(by_frame, SMOOTH_FRAMES)
    average = np.full(SMOOTH_FRAMES, 1 / SMOOTH_FRAMES)
    by_frame = np.convolve(by_frame, average, mode="same")[: len(by_frame)]
    about = (model.front_end, method, name, offset)
    return Reason(log_mel, difference, by_bin, by_frame, bins, frames, *about)


def strongest(values: Floats, width: int) -> tuple[int, int]:
    """Return the stretch around the highest peak of `values`, down to half of it: first, last + 1.

    The values are averaged over `width` neighbours first.
    """
    smooth = np.convolve(values, np.full(width, 1 / width), mode="same")[: len(values)]
    peak = int(np.argmax(smooth))
    low = np.flatnonzero(smooth <= smooth[peak] / 2)
    return int(np.max(low[low < peak], initial=-1)) + 1, int(
        np.min(low[low > peak], initial=len(values))
    )


def _drops(
    system: System[Any],
    half: NDArray[np.float16],
    nearest: NDArray[np.float16],
    section: str,
    *,
    axis: int,
    within: tuple[int, int],
) -> Floats:
    """Return how far the score falls when parts along an axis are those of a normal clip.

    The drop of a part is divided evenly among its bins or frames: (F,) for axis 0, else (T,).
    """
    size = half.shape[1 + axis]
    parts = np.array_split(np.arange(size), min(PARTS, size))
    patched = np.repeat(half, len(parts) + 1, axis=0)
    for copy, part in zip(patched[1:], parts, strict=True):
        at = (part, slice(None)) if axis == 0 else (slice(*within), part)
        copy[at] = nearest[at]
    scores = system.score(rows_of(patched, section, system.front_end_))
    drops = np.zeros(size)
    for part, score in zip(parts, scores[1:], strict=True):
        drops[part] = (scores[0] - score) / len(part)
    return drops


class _NormalClips:
    """The normal training clips of a section, and how a system describes them."""

    def __init__(self, system: System[Any], train: str | Path, section: str) -> None:
        rows = training_rows(FeatureStore.open(train))
        self.rows = rows.select(section_keys(rows.manifest) == section)
        if not len(self.rows):
            raise RunError(f"'{train}' has no normal clips of {section}; name the training store")
        self.section, self.system = section, system
        self.spectra = self._mean(self.rows)
        self.spectrum: Floats = self.spectra.mean(axis=0)

    @staticmethod
    def _mean(rows: Rows) -> Floats:
        return per_clip(rows, 64, lambda log_mel, _: log_mel.mean(axis=2, dtype=np.float64))

    def nearest(self, half: NDArray[np.float16]) -> tuple[NDArray[np.float16], str]:
        """Return the nearest clip, repeated or cut to the length of `half` (1, F, T); its name.

        By embedding where there is one, else by mean spectrum, each number in deviations.
        """
        own = rows_of(half, self.section, self.system.front_end_)
        if isinstance(self.system, Contrastive):
            one, all_clips = self.system.embed(own), self.system.embed(self.rows)
        else:
            one, all_clips = self._mean(own), self.spectra
        scale = np.maximum(all_clips.std(axis=0), 1e-9)
        at = int(np.argmin(np.square((all_clips - one) / scale).sum(axis=1)))
        clip = self.rows.store.features[self.rows.index[at], :, : self.rows.frames[at]]
        repeated = np.resize(np.arange(clip.shape[1]), half.shape[2])
        return clip[:, repeated], str(self.rows.manifest["clip"].iloc[at])
