"""From a recording to a score and a decision: a model, windows of a waveform, an answer.

A `Model` is a finished run or a file that ``asd export`` has written; both score waveforms alike.
A recording is cut into windows as long as the training clips, which thresholds are made for, half
of one apart; its score is that of its most anomalous window. One that is no longer than a training
clip and a hop is scored as a whole, and so gets the very score that it has in a feature store.

How unusual a score is can be read off the held-out scores of normal clips: `share_higher` is the
share of them that lie as high or higher. Of 50 clips it cannot tell more than one in 50.

Shapes: B batch, S samples, F mel bins, T frames, N clips.
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile
import torch
from numpy.typing import NDArray
from torchaudio.functional import resample

from asdlib.baselines import gamma_threshold
from asdlib.data.check import BadFile, read_header
from asdlib.data.clips import index_any_folder
from asdlib.errors import ConfigError, DataError, RunError
from asdlib.features import FeatureStore, FrontEnd, Rows
from asdlib.features.build import transform_of
from asdlib.files import read_json
from asdlib.study.config import system_class
from asdlib.study.held_out import DECISIONS, held_out
from asdlib.study.result import load_run
from asdlib.system import System, section_keys

Waveform = NDArray[np.float32]
NEAREST = "nearest"
"""In the place of a section: the one whose normal clips are most like the recording."""

_NUMBER = re.compile(r"(?:id|section)_([0-9]{2})(?![0-9])")


@dataclass(frozen=True)
class Model:
    """A fitted system with what its decisions need; see `load_model`."""

    path: Path
    front_end: FrontEnd
    n_frames: int | None
    """Frames of a training clip; None if the model does not know."""
    normal: dict[str, NDArray[np.float64]]
    """Held-out scores of normal clips of each section "machine/section", ascending."""
    quantile: float
    """Share of normal clips that lies below a threshold."""
    score: Callable[[Waveform, str], NDArray[np.float64]]
    """Scores (B,) of waveforms (B, S) of one section; higher is more anomalous."""
    system: System[Any] | None = None
    """The system of a run; None for an exported file."""
    limits: dict[str, float] | None = None
    """Thresholds that were settled when the file was exported."""

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """Threshold of each section: a quantile of a gamma distribution of its normal scores."""
        if self.limits is not None:
            return self.limits
        return {key: gamma_threshold(scores, self.quantile) for key, scores in self.normal.items()}

    @property
    def sections(self) -> list[str]:
        """Sections that the model knows, "machine/section"."""
        return list(self.normal)

    def share_higher(self, section: str, score: float) -> float:
        """Share of the held-out normal clips of a section that score at least `score`."""
        return float(np.mean(self.normal[section] >= score))

    def window_samples(self, seconds: float | None = None) -> int:
        """Return the samples of a window, by default those of a training clip."""
        if seconds is None and self.n_frames is None:
            raise ConfigError(
                f"'{self.path}' does not say how long its training clips were; give the length of "
                "a window in seconds (--window 10)"
            )
        if seconds is None:
            return max((int(self.n_frames or 0) - 1) * self.front_end.hop_length, 1)
        return max(round(seconds * self.front_end.sample_rate), 1)

    def find_section(self, name: str) -> str:
        """Return the section "machine/section" that `name` means: itself, or its last part."""
        found = [key for key in self.sections if name in (key, key.split("/")[1])]
        if len(found) == 1:
            return found[0]
        known = ", ".join(self.sections)
        what = "is not known" if not found else "is there for several machines"
        raise ConfigError(f"section '{name}' {what} to '{self.path}' (known: {known})")


def load_model(
    path: str | Path, *, train: str | Path | None = None, quantile: float | None = None
) -> Model:
    """Load a model from the folder of a finished run, or from a file of ``asd export``.

    Parameters
    ----------
    path
        Folder or file.
    train
        Store that the run was trained on, where its held-out scores are lacking.
    quantile
        Share of normal clips to lie below the threshold; by default what ``asd decide`` or
        ``asd export`` was asked for, else 0.9.

    Raises
    ------
    RunError
        If there is no model, or no held-out scores.
    ConfigError
        If onnxruntime is lacking, or the run has no system of its own.
    """
    path = Path(path)
    return _exported(path, quantile) if path.is_file() else _of_run(path, train, quantile)


def _of_run(path: Path, train: str | Path | None, quantile: float | None) -> Model:
    run = load_run(path)
    if run.record.members is not None:
        raise ConfigError(f"'{path}' is fused from other runs; score with one of them")
    normal = held_out(run, train)
    scores = normal.groupby(section_keys(normal))["anomaly_score"]
    decided = path / DECISIONS
    if quantile is None and decided.is_file():
        quantile = float(read_json(decided, RunError, "give --quantile")["quantile"])
    system: System[Any] = system_class(run.record.config.system).load(path / "model")
    described = system.front_end_
    if {"translated_from", "far"} & set(described) or "sample_rate" not in described:
        raise ConfigError(
            f"'{path}' was trained on features that one channel does not give (translated, of two "
            "microphones, or of a front end that is not known); train on a store that was built "
            "from one channel"
        )

    def score(waveforms: Waveform, section: str) -> NDArray[np.float64]:
        return system.score(rows_of(log_mels(waveforms, front_end), section, described))

    front_end = FrontEnd.from_description(described)
    ordered = {str(key): np.sort(part.to_numpy(np.float64)) for key, part in scores}
    share = 0.9 if quantile is None else quantile
    return Model(path, front_end, system.n_frames_, ordered, share, score, system)


def _exported(path: Path, quantile: float | None) -> Model:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigError(
            f"'{path}' needs onnxruntime, which is not installed; install asdlib with the extra "
            "'export', or name the folder of a run"
        ) from None
    try:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        written = session.get_modelmeta().custom_metadata_map
        metadata = {key: json.loads(value) for key, value in written.items()}
        sections, front_end = metadata["sections"], FrontEnd.from_description(metadata["front_end"])
        normal = {key: np.array(metadata["held_out"][key], np.float64) for key in sections}
        limits = dict(zip(sections, metadata["thresholds"], strict=True))
        settled = metadata["quantile"]
    except Exception as error:  # whatever is wrong with a file, it is one line
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(
            f"'{path}' is no file of asd export ({reason}); name one, or the folder of a run"
        ) from error

    def score(waveforms: Waveform, section: str) -> NDArray[np.float64]:
        found: Any = session.run(["score"], {"waveform": waveforms})[0]
        return np.asarray(found[:, sections.index(section)], dtype=np.float64)

    share = settled if quantile is None else quantile
    kept = limits if share == settled else None
    return Model(path, front_end, metadata.get("n_frames"), normal, share, score, limits=kept)


def log_mels(waveforms: Waveform, front_end: FrontEnd) -> NDArray[np.float16]:
    """Compute log-mels (B, F, T) of waveforms (B, S) as a store holds them."""
    n_frames = front_end.n_frames(waveforms.shape[1])
    out = torch.empty(len(waveforms), front_end.n_mels, n_frames, dtype=torch.float16)
    with torch.inference_mode():
        for samples, row in zip(waveforms, out, strict=True):
            transform_of(front_end)(samples, row)
    array: NDArray[np.float16] = out.numpy()
    return array


def rows_of(features: NDArray[np.float16], section: str, described: dict[str, Any]) -> Rows:
    """Make rows in memory, for a system, of log-mels (B, F, T) of one section."""
    machine, number = section.split("/")
    manifest = pd.DataFrame({"clip": [f"window {i}" for i in range(len(features))]})
    manifest = manifest.assign(machine=machine, section=number, split="test", label="", domain="")
    store = FeatureStore(Path("recording"), manifest, features, described)
    return Rows(store, np.arange(len(features)))


class Scored(NamedTuple):
    """What is said of one recording."""

    clip: str
    section: str
    score: float
    threshold: float
    decision: str
    """"anomaly" above the threshold, else "normal"."""
    share_higher: float
    """Share of the held-out normal clips of the section that score as high or higher."""
    normal_clips: int
    """Number of those clips."""
    window_start: float
    """Window of the highest score, from … to, in seconds."""
    window_end: float


@dataclass(frozen=True)
class Recording:
    """A sound file, or what came over standard input, whose windows are read one by one."""

    name: str
    source: Path | io.BytesIO
    rate: int
    channels: int
    n_samples: int

    def read(self, start: int, n_samples: int, channel: int, rate: int) -> Waveform:
        """Read `n_samples` samples of a channel from `start` on, resampled to `rate` (Hz)."""
        if isinstance(self.source, io.BytesIO):
            self.source.seek(0)
        try:
            with soundfile.SoundFile(self.source) as sound:
                sound.seek(start)
                block = sound.read(n_samples, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise DataError(f"'{self.name}' cannot be decoded ({error}); record it again") from None
        samples = np.ascontiguousarray(block[:, channel])
        if not np.isfinite(samples).all():
            raise DataError(f"'{self.name}' holds NaN or infinite samples; record it again")
        return samples if self.rate == rate else resampled(samples, self.rate, rate)


def resampled(samples: Waveform, rate: int, new_rate: int) -> Waveform:
    """Convert samples (S,) to another sample rate (Hz)."""
    waveform: Waveform = resample(torch.from_numpy(samples), rate, new_rate).numpy()
    return waveform


def open_recordings(inputs: Sequence[str | Path], stdin: Callable[[], bytes]) -> list[Recording]:
    """Look at files, all files below folders, and standard input (``-``), before any is scored.

    Raises
    ------
    DataError
        Naming what is not there, or no sound.
    """
    recordings = []
    for given in inputs:
        if str(given) == "-":
            recordings.append(_of_stream(stdin()))
            continue
        path = Path(given)
        below = index_any_folder(path)["path"] if path.is_dir() else [""]
        for file in (path / name for name in below):
            header = read_header(str(file))
            if isinstance(header, BadFile):
                raise DataError(f"file '{file}' {header.what}")
            facts = (header.rate, header.channels, header.frames)
            recordings.append(Recording(str(file), file, *facts))
    return recordings


def _of_stream(content: bytes) -> Recording:
    source = io.BytesIO(content)
    try:
        with soundfile.SoundFile(source) as sound:
            return Recording("-", source, sound.samplerate, sound.channels, sound.frames)
    except (soundfile.SoundFileError, TypeError) as error:
        reason = str(error).split(": ")[-1]
        raise DataError(
            f"standard input is no sound file ({reason}); send a whole WAV or FLAC file; for raw "
            "samples see asd listen"
        ) from None


def score_recordings(
    model: Model,
    recordings: Sequence[Recording],
    *,
    section: str | None = None,
    channel: int | None = None,
    window: float | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[Scored, Waveform]]:
    """Score recordings one after the other, with little memory however long they are.

    Parameters
    ----------
    model, recordings
        See `load_model` and `open_recordings`.
    section
        Section of all of them, or `NEAREST`. By default what file names and folders say, or the
        only one.
    channel
        Which to take of several, from 0; by default the first, with a note.
    window
        Length of a window in seconds, by default that of a training clip.
    note
        Called with what was done otherwise than a careful listener might expect.

    Yields
    ------
    scored, waveform
        What is said of a recording, and its window of the highest score, (S,), at the model's rate.

    Raises
    ------
    DataError
        If a recording is too short or lacks the channel.
    ConfigError
        If the section is not known.
    """
    size, rate = model.window_samples(window), model.front_end.sample_rate
    given = None if section in (None, NEAREST) else model.find_section(str(section))
    sections = [given or _named(model, recording, section) for recording in recordings]
    for recording in recordings:
        _check(recording, model, size, channel)
    _describe(recordings, size, rate, channel, note)
    for recording, known in zip(recordings, sections, strict=True):
        starts, length = _windows(recording, size, rate, model.front_end.hop_length)
        best: tuple[float, int, str, Waveform] | None = None
        for start in starts:
            samples = recording.read(start, length, channel or 0, rate)
            if known is None:
                known = _nearest(model, samples)
                note(f"'{recording.name}' names no section; the nearest is {known}")
            score = float(model.score(samples[None], known)[0])
            if best is None or score > best[0]:
                best = score, start, known, samples
        assert best is not None
        score, start, of, samples = best
        limit, normal = model.thresholds[of], model.normal[of]
        seconds = (start / recording.rate, (start + length) / recording.rate)
        share = model.share_higher(of, score)
        decision = "anomaly" if score > limit else "normal"
        said = (recording.name, of, score, limit, decision, share, len(normal))
        yield Scored(*said, *(round(s, 3) for s in seconds)), samples


def _windows(recording: Recording, size: int, rate: int, hop: int) -> tuple[list[int], int]:
    """First samples of the windows of a recording and their length, at its own rate."""
    length = round(size * recording.rate / rate)
    longest = length + round(hop * recording.rate / rate)
    if recording.n_samples <= longest:
        return [0], recording.n_samples
    last = recording.n_samples - length
    return sorted({*range(0, last, max(length // 2, 1)), last}), length


def _check(recording: Recording, model: Model, size: int, channel: int | None) -> None:
    front_end = model.front_end
    seconds, wanted = recording.n_samples / recording.rate, size / front_end.sample_rate
    if 2 * seconds < wanted or seconds * front_end.sample_rate < front_end.shortest:
        raise DataError(
            f"'{recording.name}' holds {seconds:.2f} s, too short beside training clips of "
            f"{wanted:.2f} s; record at least half of that, or give a shorter --window"
        )
    if channel is not None and channel >= recording.channels:
        raise DataError(
            f"channel {channel} is not in '{recording.name}' (known: 0 to {recording.channels - 1})"
        )


def _describe(
    recordings: Sequence[Recording],
    size: int,
    rate: int,
    channel: int | None,
    note: Callable[[str], None],
) -> None:
    """Say once, for all recordings, what is done with them."""

    def say(found: list[Recording], text: str) -> None:
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            note(f"'{found[0].name}'{more}: {text}")

    for own in sorted({recording.rate for recording in recordings} - {rate}):
        text = f"resampled from {own} to {rate} Hz"
        if own < rate:
            text += (
                f"; nothing was recorded above {own / 2000:g} kHz, where the model expects sound"
            )
        say([r for r in recordings if r.rate == own], text)
    if channel is None:
        several = [r for r in recordings if r.channels > 1]
        say(several, "the first channel is taken (--channel takes another)")
    short = [r for r in recordings if r.n_samples / r.rate < (size - 1) / rate]
    text = f"shorter than the training clips ({size / rate:.2f} s), so the score scatters more"
    say(short, text)


def _named(model: Model, recording: Recording, section: str | None) -> str | None:
    """Return the section that the name of a recording tells; None for the nearest one."""
    parts = Path(recording.name).parts
    machines = {key.split("/")[0] for key in model.sections}
    of_machine = [m for m in machines if m in parts] or list(machines)
    said = _NUMBER.search(parts[-1]) if parts else None
    found = [
        key
        for key in model.sections
        if key.split("/")[0] in of_machine and (said is None or key.split("/")[1] == said[1])
    ]
    if len(found) == 1:
        return found[0]
    if section == NEAREST:
        return None
    what = (
        f"names section '{said[1]}', which is not known"
        if said and not found
        else ("does not tell its section")
    )
    raise ConfigError(
        f"'{recording.name}' {what} (known: {', '.join(model.sections)}); give --section NAME, or "
        f"--section {NEAREST} for the one that fits best"
    )


def _nearest(model: Model, samples: Waveform) -> str:
    """Return the section in which the score lies lowest, in deviations of its normal clips."""

    def height(section: str) -> float:
        normal = model.normal[section]
        score = float(model.score(samples[None], section)[0])
        return (score - float(normal.mean())) / max(float(normal.std()), 1e-12)

    return min(model.sections, key=height)
