"""From a recording to a score and a decision: a model, windows of a waveform, an answer.

A `Model` is a finished run or a file that ``asd export`` has written; both score waveforms alike.
A recording is cut into windows as long as the training clips, which thresholds are made for, half
of one apart; its score is that of its most anomalous window. One that is no longer than a training
clip and a hop is scored as a whole, and so gets the very score that it has in a feature store.

How unusual a score is can be read off the held-out scores of normal clips: `Model.share_higher` is
the share of them that lie as high or higher. Of 50 clips it cannot tell more than one in 50.

Shapes: B batch, S samples, F mel bins, T frames, N clips.
"""

import io
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import soundfile
import torch
from numpy.typing import NDArray
from torchaudio.functional import resample

from asdlib.baselines import TimeStatistics
from asdlib.data.check import BadFile, read_header
from asdlib.data.clips import index_any_folder
from asdlib.errors import ConfigError, DataError, RunError
from asdlib.features import FeatureStore, FrontEnd, Rows
from asdlib.features.build import transform_of
from asdlib.files import read_json
from asdlib.study.config import system_class
from asdlib.study.held_out import DECISIONS, held_out, thresholds
from asdlib.study.result import load_run
from asdlib.system import System, section_keys

Waveform = NDArray[np.float32]
LogMels = NDArray[np.float16]
Floats = NDArray[np.float64]
NEAREST = "nearest"
"""In the place of a section: the one whose normal clips are most like the recording."""

_NUMBER = re.compile(r"(?:id|section)_([0-9]{2})(?![0-9])")


@dataclass(frozen=True)
class Model:
    """A fitted system with what its decisions and their reasons need; see `load_model`."""

    path: Path
    front_end: FrontEnd
    n_frames: int | None  # frames of a training clip; None if the model does not know
    held_out: pd.DataFrame  # held-out scores of normal clips, see `asdlib.study.held_out.held_out`
    quantile: float  # share of normal clips that lies below a threshold
    score: Callable[[Waveform, str], Floats]
    """Scores (B,) of waveforms (B, S) of one section; higher is more anomalous."""
    score_log_mels: Callable[[LogMels, str], Floats]  # the same of log-mels (B, F, T)
    divide: Callable[[LogMels, str], Floats] | None
    """Divides the square of a score among the log-mel (F, T), shape (F, T), where that can be."""
    spectra: dict[str, Floats]
    """Mean spectra (F,) of normal clips, of those sections where the model knows them."""
    train: Path | None  # store of normal clips to compare with, if given
    system: System[Any] | None = None  # the system of a run; None for an exported file

    @cached_property
    def normal(self) -> dict[str, Floats]:
        """Held-out scores of normal clips of each section "machine/section", ascending."""
        scores = self.held_out.groupby(section_keys(self.held_out))["anomaly_score"]
        return {str(key): np.sort(part.to_numpy(np.float64)) for key, part in scores}

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """Threshold of each section."""
        return self.levels(self.quantile)

    def levels(self, quantile: float) -> dict[str, float]:
        """Return the score of each section below which a share of normal clips is expected."""
        limits = thresholds(self.held_out, quantile)
        return dict(zip(section_keys(limits), limits["threshold"], strict=True))

    @property
    def sections(self) -> list[str]:
        """Sections that the model knows, "machine/section"."""
        return list(self.normal)

    def share_higher(self, section: str, score: float) -> float:
        """Share of the held-out normal clips of a section that score at least `score`."""
        return float(np.mean(self.normal[section] >= score))

    def window_samples(self, seconds: float | None = None) -> int:
        """Return the samples of a window, by default those of a training clip."""
        if seconds is not None:
            return max(round(seconds * self.front_end.sample_rate), 1)
        if self.n_frames is None:
            raise ConfigError(
                f"'{self.path}' does not say how long its training clips were; give the length of "
                "a window in seconds (--window 10)"
            )
        return max((self.n_frames - 1) * self.front_end.hop_length, 1)

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
        Store that it was trained on, where held-out scores are lacking; its normal clips are what
        a recording is compared with to find out what sounds wrong.
    quantile
        Share of normal clips to lie below the threshold; by default what ``asd decide`` or
        ``asd export`` was asked for, else 0.9.

    Raises
    ------
    RunError
        If there is no model, or no held-out scores.
    ConfigError
        If onnxruntime is lacking, the run has no system of its own, or its features cannot be
        computed from a recording.
    """
    load = _exported if Path(path).is_file() else _of_run
    return load(Path(path), None if train is None else Path(train), quantile)


def _of_run(path: Path, train: Path | None, quantile: float | None) -> Model:
    run = load_run(path)
    if run.record.members is not None:
        raise ConfigError(f"'{path}' is fused from other runs; take one of them")
    normal = held_out(run, train)
    decided = path / DECISIONS
    if quantile is None and decided.is_file():
        quantile = float(read_json(decided, RunError, "give --quantile")["quantile"])
    system: System[Any] = system_class(run.record.config.system).load(path / "model")
    described = system.front_end_
    if {"translated_from", "far"} & set(described) or "sample_rate" not in described:
        raise ConfigError(
            f"'{path}' was trained on features that one channel does not give (translated, of two "
            "microphones, or of a front end that is not known); train on a store that asd features "
            "has built from one channel of the recordings"
        )
    front_end = FrontEnd.from_description(described)

    def of_log_mels(features: LogMels, section: str) -> Floats:
        return system.score(rows_of(features, section, described))

    def of_waveforms(waveforms: Waveform, section: str) -> Floats:
        return of_log_mels(log_mels(waveforms, front_end), section)

    divide, spectra = None, {}
    if isinstance(system, TimeStatistics):
        means = (mean[: front_end.n_mels] for mean in system.mean_)
        spectra = dict(zip(system.sections_, means, strict=True))
        divide = None if "quantiles" in system.params.statistics else system.contributions
    share = 0.9 if quantile is None else quantile
    scoring = (of_waveforms, of_log_mels, divide)
    return Model(path, front_end, system.n_frames_, normal, share, *scoring, spectra, train, system)


def _exported(path: Path, train: Path | None, quantile: float | None) -> Model:
    try:
        import onnx.utils
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"'{path}' needs {error.name}, which is not installed; install asdlib with the extra "
            "'export', or name the folder of a run"
        ) from None
    content, processor = path.read_bytes(), ["CPUExecutionProvider"]
    try:
        session: Any = onnxruntime.InferenceSession(content, providers=processor)
        written = session.get_modelmeta().custom_metadata_map
        told = {key: json.loads(value) for key, value in written.items()}
        sections, front_end = told["sections"], FrontEnd.from_description(told["front_end"])
        normal = pd.DataFrame(
            [(*key.split("/"), score) for key in sections for score in told["held_out"][key]],
            columns=["machine", "section", "anomaly_score"],
        )
        spectra = {key: np.array(spectrum) for key, spectrum in told.get("spectra", {}).items()}
        share = told["quantile"] if quantile is None else quantile
    except Exception as error:  # whatever is wrong with a file, it is one line
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise RunError(
            f"'{path}' is no file of asd export ({reason}); name one, or the folder of a run"
        ) from error

    @cache
    def behind_front_end() -> Any:
        graph = onnx.utils.Extractor(onnx.load_from_string(content)).extract_model(
            ["waveform", "log_mel"], [o.name for o in session.get_outputs() if o.name in wanted]
        )
        return onnxruntime.InferenceSession(graph.SerializeToString(), providers=processor)

    def of_waveforms(waveforms: Waveform, section: str) -> Floats:
        found = session.run(["score"], {"waveform": waveforms})[0]
        return np.asarray(found[:, sections.index(section)], np.float64)

    def output(name: str, features: LogMels, section: str) -> Floats:
        # Of the waveform the rest of the graph asks for nothing but the shape.
        extra = front_end.win_length if front_end.framing == "kaldi" else 1
        silence = np.zeros(
            (len(features), (features.shape[2] - 1) * front_end.hop_length + extra), np.float32
        )
        given = {"waveform": silence, "log_mel": features.astype(np.float32)}
        found = behind_front_end().run([name], given)[0]
        return np.asarray(found[:, sections.index(section)], np.float64)

    wanted = {"score", "parts"}
    divides = any(each.name == "parts" for each in session.get_outputs())
    return Model(
        path,
        front_end,
        told.get("n_frames"),
        normal,
        share,
        of_waveforms,
        lambda features, section: output("score", features, section),
        (lambda log_mel, section: output("parts", log_mel[None], section)[0]) if divides else None,
        spectra,
        train,
    )


def log_mels(waveforms: Waveform, front_end: FrontEnd) -> LogMels:
    """Compute log-mels (B, F, T) of waveforms (B, S) as a store holds them."""
    n_frames = front_end.n_frames(waveforms.shape[1])
    out = torch.empty(len(waveforms), front_end.n_mels, n_frames, dtype=torch.float16)
    with torch.inference_mode():
        for samples, row in zip(waveforms, out, strict=True):
            transform_of(front_end)(samples, row)
    array: LogMels = out.numpy()
    return array


def rows_of(features: LogMels, section: str, described: dict[str, Any]) -> Rows:
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
    decision: str  # "anomaly" above the threshold, else "normal"
    share_higher: float
    """Share of the held-out normal clips of the section that score as high or higher."""
    normal_clips: int  # number of those clips
    window_start: float  # window of the highest score, from … to, in seconds
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
        if not np.isfinite(block[:, channel]).all():
            raise DataError(f"'{self.name}' holds NaN or infinite samples; record it again")
        return resampled(np.ascontiguousarray(block[:, channel]), self.rate, rate)


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
    given = None if section in (None, NEAREST) else [model.find_section(str(section))]
    possible = [given or _named(model, recording, section) for recording in recordings]
    remarks: dict[str, list[str]] = {}
    for recording in recordings:
        for remark in _remarks(model, recording, size, channel):
            remarks.setdefault(remark, []).append(recording.name)
    for remark, names in remarks.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        note(f"'{names[0]}'{more}: {remark}")
    for recording, sections in zip(recordings, possible, strict=True):
        starts, length = _windows(recording, size, rate, model.front_end.hop_length)
        of, best = sections[0], (-np.inf, 0, np.zeros(0, np.float32))
        for start in starts:
            samples = recording.read(start, length, channel or 0, rate)
            if start == starts[0] and len(sections) > 1:
                of = min(sections, key=lambda each: _height(model, samples, each))
                note(f"'{recording.name}' names no section; the nearest is {of}")
            score = float(model.score(samples[None], of)[0])
            if score > best[0]:
                best = score, start, samples
        score, start, samples = best
        limit, share = model.thresholds[of], model.share_higher(of, score)
        said = (score, limit, "anomaly" if score > limit else "normal", share)
        seconds = (round(s / recording.rate, 3) for s in (start, start + length))
        yield Scored(recording.name, of, *said, len(model.normal[of]), *seconds), samples


def _windows(recording: Recording, size: int, rate: int, hop: int) -> tuple[list[int], int]:
    """First samples of the windows of a recording and their length, at its own rate."""
    length = round(size * recording.rate / rate)
    if recording.n_samples <= length + round(hop * recording.rate / rate):
        return [0], recording.n_samples
    last = recording.n_samples - length
    return sorted({*range(0, last, max(length // 2, 1)), last}), length


def _remarks(model: Model, recording: Recording, size: int, channel: int | None) -> Iterator[str]:
    """Say what has to be done with a recording; refuse one that cannot be scored."""
    rate, own = model.front_end.sample_rate, recording.rate
    seconds, wanted = recording.n_samples / own, size / rate
    if 2 * seconds < wanted or seconds * rate < model.front_end.shortest:
        raise DataError(
            f"'{recording.name}' holds {seconds:.2f} s, too short beside training clips of "
            f"{wanted:.2f} s; record at least half of that, or give a shorter --window"
        )
    if channel is not None and channel >= recording.channels:
        raise DataError(
            f"channel {channel} is not in '{recording.name}' (known: 0 to {recording.channels - 1})"
        )
    if own != rate:
        above = f"; nothing was recorded above {own / 2000:g} kHz, where the model expects sound"
        yield f"resampled from {own} to {rate} Hz" + (above if own < rate else "")
    if channel is None and recording.channels > 1:
        yield "the first channel is taken (--channel takes another)"
    if seconds < (size - 1) / rate:
        yield f"shorter than the training clips ({wanted:.2f} s), so the score scatters more"


def _named(model: Model, recording: Recording, section: str | None) -> list[str]:
    """Return the section that the name of a recording tells; all of them for the nearest one."""
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
        return found
    if section == NEAREST:
        return model.sections
    what = "does not tell its section"
    if said and not found:
        what = f"names section '{said[1]}', which is not known"
    raise ConfigError(
        f"'{recording.name}' {what} (known: {', '.join(model.sections)}); give --section NAME, or "
        f"--section {NEAREST} for the one that fits best"
    )


def _height(model: Model, samples: Waveform, section: str) -> float:
    """How high a score lies, in deviations of the section's normal clips."""
    normal = model.normal[section]
    score = float(model.score(samples[None], section)[0])
    return (score - float(normal.mean())) / max(float(normal.std()), 1e-12)
