"""What sounds wrong: the band and the time that make a recording anomalous.

For the statistical reference the score is divided among mel bins and frames, exactly
(`asdlib.baselines.TimeStatistics.contributions`). For networks a part of the recording is replaced
by the same part of the nearest normal clip, band by band and then, within the band that counts
most, stretch by stretch: what lowers the score is what sounds wrong. Runs and exported files answer
alike: all that is asked of a `Model` is the score of a log-mel.

Shapes: S samples, F mel bins, T frames, N clips.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from asdlib.errors import ConfigError, RunError
from asdlib.features import FeatureStore, FrontEnd, Rows
from asdlib.study.run import training_rows
from asdlib.study.score import Floats, LogMels, Model, Waveform, log_mels
from asdlib.system import per_clip, section_keys

PARTS = 16
"""Bands, and stretches of time, that are replaced one after the other."""

SMOOTH_BINS, SMOOTH_FRAMES = 5, 9
"""Neighbours that are averaged before the strongest band, and stretch of time, are found."""

_AS_MUCH_DB = 0.5


@dataclass(frozen=True)
class Reason:
    """Where a recording differs from normal ones; see `explain`."""

    log_mel: Floats  # the recording (F, T), in the unit of the front end
    difference: Floats  # the same less the mean spectrum of normal clips (F, T)
    by_bin: Floats  # how much of the score each mel bin makes, (F,); the scale is the method's own
    by_frame: Floats  # how much each frame makes within the band, (T,)
    bins: tuple[int, int]  # first mel bin of the band that counts most, and the one after its last
    frames: tuple[int, int]  # the same of the stretch of frames
    front_end: FrontEnd
    method: str  # "exact" or "occlusion"
    nearest: str | None  # nearest normal clip; None without a store of them
    offset: float  # where the window lies in the recording, in seconds

    def as_json(self) -> dict[str, Any]:
        """Return the reason for a file, with a sentence that says it.

        ``level_db`` is how much louder than usual the band is beside the whole spectrum's median: a
        machine may run louder or more quietly as a whole, and a fault is heard against that.
        ``coverage`` is the share of frames that make more than half as much as the strongest do.
        Edges of the band are half-way between centres of mel filters.
        """
        centres, hop = self.front_end.mel_frequencies(), self.front_end.hop_length
        edges = np.concatenate([centres[:1], (centres[1:] + centres[:-1]) / 2, centres[-1:]])
        low, high = edges[list(self.bins)].round(1).tolist()
        start, end = (self.offset + hop * k / self.front_end.sample_rate for k in self.frames)
        unit = 1.0 if self.front_end.unit == "dB" else 10 / np.log(10)
        of_bin = unit * self.difference.mean(axis=1)
        level = float(of_bin[slice(*self.bins)].mean() - np.median(of_bin))
        coverage = float(np.mean(self.by_frame > 0.5 * np.quantile(self.by_frame, 0.95)))
        what = "more energy than usual" if level > 0 else "less energy than usual"
        if abs(level) < _AS_MUCH_DB:
            what = "another pattern than usual, with as much energy,"
        near = f"; the nearest normal clip is {self.nearest}" if self.nearest else ""
        return {
            "sentence": f"{what} at {low / 1000:.1f}–{high / 1000:.1f} kHz, in "
            f"{100 * coverage:.0f} % of the clip, most at {start:.1f}–{end:.1f} s{near}",
            "method": self.method,
            "band_hz": [low, high],
            "seconds": [round(start, 3), round(end, 3)],
            "level_db": round(level, 2),
            "coverage": round(coverage, 3),
            "nearest": self.nearest,
            "by_bin": self.by_bin.round(6).tolist(),
            "by_frame": self.by_frame.round(6).tolist(),
        }

    @property
    def sentence(self) -> str:
        """The reason in words."""
        return str(self.as_json()["sentence"])


def explain(model: Model, waveform: Waveform, section: str, *, offset: float = 0.0) -> Reason:
    """Find band and time of what makes a waveform (S,) anomalous.

    Parameters
    ----------
    model
        See `asdlib.study.score.load_model`. Networks need its store of normal clips, from which the
        nearest normal clip comes in any case.
    waveform, section
        A window at the rate of the model, and its section.
    offset
        Where the window begins in its recording, in seconds.

    Raises
    ------
    ConfigError
        If the model is a network without a store, or the store is of another front end.
    """
    half = log_mels(waveform[None], model.front_end)[0]
    log_mel, usual = half.astype(np.float64), model.spectra.get(section)
    nearest, name = None, None
    if model.train is not None:
        clips, spectra = _normal_clips(model.train, section, model.front_end)
        usual, scale = spectra.mean(axis=0), np.maximum(spectra.std(axis=0), 1e-9)
        apart = np.square((spectra - log_mel.mean(axis=1)) / scale).sum(axis=1)
        at = int(np.argmin(apart))
        clip = clips.store.features[clips.index[at], :, : clips.frames[at]]
        nearest = clip[:, np.resize(np.arange(clip.shape[1]), half.shape[1])]
        name = str(clips.manifest["clip"].iloc[at])
    if model.divide is not None:
        method, parts = "exact", model.divide(half, section)
        by_bin = parts.sum(axis=1)
        bins = strongest(by_bin, SMOOTH_BINS)
        by_frame = parts[slice(*bins)].sum(axis=0)
    elif nearest is not None:
        method = "occlusion"
        by_bin = _drops(model, half, nearest, section)
        bins = strongest(by_bin, SMOOTH_BINS)
        by_frame = _drops(model, half, nearest, section, slice(*bins))
    else:
        raise ConfigError(
            f"what '{model.path}' hears is found by comparison with normal clips; name the store "
            "that it was trained on, or a folder of normal recordings (--train)"
        )
    assert usual is not None
    frames = strongest(by_frame, SMOOTH_FRAMES)
    about = (bins, frames, model.front_end, method, name, offset)
    smooth = _smooth(by_frame, SMOOTH_FRAMES)
    return Reason(log_mel, log_mel - usual[:, None], by_bin, smooth, *about)


def strongest(values: Floats, width: int) -> tuple[int, int]:
    """Return the stretch around the highest peak of `values`, down to half of it: first, last + 1.

    The values are averaged over `width` neighbours first.
    """
    smooth = _smooth(values, width)
    peak = int(np.argmax(smooth))
    low = np.flatnonzero(smooth <= smooth[peak] / 2)
    first = int(np.max(low[low < peak], initial=-1)) + 1
    return first, int(np.min(low[low > peak], initial=len(values)))


def _smooth(values: Floats, width: int) -> Floats:
    return np.convolve(values, np.full(width, 1 / width), mode="same")[: len(values)]


def _drops(
    model: Model, log_mel: LogMels, nearest: LogMels, section: str, within: slice | None = None
) -> Floats:
    """Return how far the score falls when parts are those of a normal clip.

    Parts are bands, or, `within` a band, stretches of time; the drop of a part is divided evenly
    among its bins (F,), or frames (T,).
    """
    n_places = log_mel.shape[0 if within is None else 1]
    parts = np.array_split(np.arange(n_places), min(PARTS, n_places))
    patched = np.repeat(log_mel[None], len(parts) + 1, axis=0)
    for copy, part in zip(patched[1:], parts, strict=True):
        at = (part, slice(None)) if within is None else (within, part)
        copy[at] = nearest[at]
    whole, *scores = model.score_log_mels(patched, section)
    sizes = [len(part) for part in parts]
    return np.repeat((whole - np.array(scores)) / sizes, sizes)


@lru_cache(maxsize=64)
def _normal_clips(train: Path, section: str, front_end: FrontEnd) -> tuple[Rows, Floats]:
    """Return the normal clips of a section in a store, and their mean spectra (N, F)."""
    store = FeatureStore.open(train)
    store.check_front_end(front_end.describe(), "the model")
    rows = training_rows(store)
    rows = rows.select(section_keys(rows.manifest) == section)
    if not len(rows):
        raise RunError(f"'{train}' has no normal clips of {section}; name the training store")
    mean = per_clip(rows, 64, lambda log_mel, _: log_mel.mean(axis=2, dtype=np.float64))
    return rows, mean
