"""From a recording to a score and a decision.

A `Model` is a finished run or a file that ``asd export`` has written; both score log-mels alike.
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
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
import torch
from numpy.typing import NDArray
from torchaudio.functional import resample

from asdlib.baselines import TimeStatistics, gamma_threshold
from asdlib.data.check import BadFile, read_header
from asdlib.data.clips import index_any_folder
from asdlib.errors import ConfigError, DataError, RunError, reason_of
from asdlib.features import FeatureStore, FrontEnd, Rows
from asdlib.features.build import transform_of
from asdlib.files import read_json
from asdlib.study.config import system_class
from asdlib.study.held_out import DECISIONS, held_out
from asdlib.study.result import load_run
from asdlib.system import System, by_section, section_keys

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
    normal: dict[str, Floats]
    """Held-out scores of normal clips of each section "machine/section", ascending."""
    quantile: float  # share of normal clips that lies below a threshold
    score_log_mels: Callable[[LogMels, str], Floats]
    """Scores (B,) of log-mels (B, F, T) of one section; higher is more anomalous."""
    divide: Callable[[LogMels, str], Floats] | None
    """Divides the square of a score among the log-mel (F, T), shape (F, T), where that can be."""
    spectra: dict[str, Floats]
    """Mean spectra (F,) of normal clips, of those sections where the model knows them."""
    train: Path | None  # store of normal clips to compare with, if given
    system: System[Any] | None = None  # the system of a run; None for an exported file

    def score(self, waveforms: Waveform, section: str) -> Floats:
        """Score waveforms (B, S) of one section, shape (B,)."""
        return self.score_log_mels(log_mels(waveforms, self.front_end), section)

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """Threshold of each section."""
        return self.levels(self.quantile)

    def levels(self, quantile: float) -> dict[str, float]:
        """Return the score of each section below which a share of normal clips is expected."""
        return {key: gamma_threshold(scores, quantile) for key, scores in self.normal.items()}

    @property
    def sections(self) -> list[str]:
        """Sections that the model knows, "machine/section"."""
        return list(self.normal)

    def share_higher(self, section: str, score: float) -> float:
        """Share of the held-out normal clips of a section that score at least `score`."""
        return float(np.mean(self.normal[section] >= score))

    def nearest(self, waveform: Waveform) -> str:
        """Return the section where a waveform (S,) scores lowest, in deviations of normal clips."""
        heights = [
            (self.score(waveform[None], key)[0] - scores.mean()) / max(scores.std(), 1e-12)
            for key, scores in self.normal.items()
        ]
        return self.sections[int(np.argmin(heights))]

    def window_samples(self, seconds: float | None = None) -> int:
        """Return the samples of a window, by default those of a training clip."""
        if seconds is not None:
            return max(round(seconds * self.front_end.sample_rate), 1)
        if self.n_frames is None:
            raise ConfigError(f"'{self.path}' does not know how long its clips were; set --window")
        return max((self.n_frames - 1) * self.front_end.hop_length, 1)

    def find_section(self, name: str) -> str:
        """Return the section "machine/section" that `name` means: itself, or its last part."""
        found = [key for key in self.sections if name in (key, key.split("/")[1])]
        if len(found) != 1:
            what = "belongs to several machines" if found else "is not known"
            known = ", ".join(self.sections)
            raise ConfigError(f"section '{name}' {what} in '{self.path}' (known: {known})")
        return found[0]


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
    RunError, ConfigError
        If there is no model, there are no held-out scores, the run has no system of its own, or its
        features cannot be computed from a recording.
    """
    load = _exported if Path(path).is_file() else _of_run
    return load(Path(path), None if train is None else Path(train), quantile)


def _of_run(path: Path, train: Path | None, quantile: float | None) -> Model:
    run = load_run(path)
    if run.record.members is not None:
        raise ConfigError(f"'{path}' is fused from other runs; take one of them")
    table = held_out(run, train)
    scores = table["anomaly_score"].to_numpy(np.float64)
    normal = {key: np.sort(scores[own]) for key, own in by_section(section_keys(table)).items()}
    if quantile is None:
        decided = path / DECISIONS
        known = decided.is_file() and read_json(decided, RunError, "give --quantile")
        quantile = float(known["quantile"]) if known else 0.9
    system: System[Any] = system_class(run.record.config.system).load(path / "model")
    described = system.front_end_
    if {"translated_from", "far"} & set(described) or "sample_rate" not in described:
        raise ConfigError(
            f"'{path}' was trained on features that one channel does not give (translated, or of "
            "two microphones); train on a store that asd features has built from one channel"
        )

    def score_log_mels(features: LogMels, section: str) -> Floats:
        machine, number = section.split("/")
        table = pd.DataFrame({"clip": [f"window {i}" for i in range(len(features))]})
        table = table.assign(machine=machine, section=number, split="test", label="", domain="")
        store = FeatureStore(Path("recording"), table, features, described)
        return system.score(Rows(store, np.arange(len(features))))

    front_end, divide, spectra = FrontEnd.from_description(described), None, {}
    if isinstance(system, TimeStatistics):
        spectra = dict(zip(system.sections_, system.mean_[:, : front_end.n_mels], strict=True))
        divide = None if "quantiles" in system.params.statistics else system.contributions
    scoring = score_log_mels, divide, spectra
    return Model(path, front_end, system.n_frames_, normal, quantile, *scoring, train, system)


def _exported(path: Path, train: Path | None, quantile: float | None) -> Model:
    import onnx.utils
    import onnxruntime

    try:
        whole = onnx.load(path)
        outputs = {each.name for each in whole.graph.output} & {"score", "parts"}
        graph = onnx.utils.Extractor(whole).extract_model(["waveform", "log_mel"], list(outputs))
        session: Any = onnxruntime.InferenceSession(
            graph.SerializeToString(), providers=["CPUExecutionProvider"]
        )
        about = {each.key: json.loads(each.value) for each in whole.metadata_props}
        sections, front_end = about["sections"], FrontEnd.from_description(about["front_end"])
        normal = {key: np.sort(about["held_out"][key]) for key in sections}
        spectra = {key: np.array(spectrum) for key, spectrum in about.get("spectra", {}).items()}
        share = about["quantile"] if quantile is None else quantile
    except Exception as error:  # whatever is wrong with a file, it is one line
        raise RunError(
            f"'{path}' is not a file of asd export ({reason_of(error)}); name one, or the folder "
            "of a run"
        ) from error

    def output(name: str, features: LogMels, section: str) -> Floats:
        # Of the waveform what follows the front end asks for nothing but the shape.
        last = front_end.win_length if front_end.framing == "kaldi" else 1
        n_samples = (features.shape[2] - 1) * front_end.hop_length + last
        silence = np.zeros((len(features), n_samples), np.float32)
        given = {"waveform": silence, "log_mel": features.astype(np.float32)}
        (found,) = session.run([name], given)
        return np.asarray(found[:, sections.index(section)], np.float64)

    def divide(log_mel: LogMels, section: str) -> Floats:
        (parts,) = output("parts", log_mel[None], section)
        return np.asarray(parts)

    scoring = partial(output, "score"), divide if "parts" in outputs else None, spectra
    return Model(path, front_end, about.get("n_frames"), normal, share, *scoring, train)


def log_mels(waveforms: Waveform, front_end: FrontEnd) -> LogMels:
    """Compute log-mels (B, F, T) of waveforms (B, S) as a store holds them."""
    n_frames = front_end.n_frames(waveforms.shape[1])
    out = torch.empty(len(waveforms), front_end.n_mels, n_frames, dtype=torch.float16)
    with torch.inference_mode():
        for samples, row in zip(waveforms, out, strict=True):
            row[:] = transform_of(front_end).of_clip(samples)
    return out.numpy()


def resampled(samples: Waveform, rate: int, new_rate: int) -> Waveform:
    """Convert samples (S,) to another sample rate (Hz)."""
    return np.asarray(resample(torch.from_numpy(samples), rate, new_rate))


@dataclass(frozen=True)
class Recording:
    """A sound file, or what came over standard input, whose windows are read one by one."""

    name: str
    content: bytes | None  # None if `name` is that of a file
    rate: int
    channels: int
    n_samples: int

    def read(self, start: int, n_samples: int, channel: int, rate: int) -> Waveform:
        """Read `n_samples` samples of a channel from `start` on, resampled to `rate` (Hz)."""
        try:
            source = self.name if self.content is None else io.BytesIO(self.content)
            with soundfile.SoundFile(source) as sound:
                sound.seek(start)
                block = sound.read(n_samples, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as error:
            raise DataError(f"'{self.name}' cannot be decoded ({error}); record it again") from None
        samples = np.ascontiguousarray(block[:, channel])
        if not np.isfinite(samples).all():
            raise DataError(f"'{self.name}' holds NaN or infinite samples; record it again")
        return resampled(samples, self.rate, rate)

    def windows(self, seconds: float, hop: float) -> tuple[list[int], int]:
        """Return first samples of windows, half of one apart, and their length.

        A recording that is longer than one by no more than `hop` seconds is a window itself.
        """
        length = round(seconds * self.rate)
        if self.n_samples <= length + round(hop * self.rate):
            return [0], self.n_samples
        last = self.n_samples - length
        return sorted({*range(0, last, max(length // 2, 1)), last}), length


def open_recordings(inputs: Sequence[str | Path]) -> list[Recording]:
    """Look at files, all files below folders, and standard input (``-``), before any is scored.

    What is not there, or no sound, is a `DataError`.
    """
    recordings = []
    for path in map(Path, inputs):
        if str(path) == "-":
            content = sys.stdin.buffer.read()
            try:
                about = soundfile.info(io.BytesIO(content))
            except soundfile.SoundFileError:
                why = "no sound file on standard input; send a whole one (asd listen hears streams)"
                raise DataError(why) from None
            facts = about.samplerate, about.channels, about.frames
            recordings.append(Recording("-", content, *facts))
            continue
        below = index_any_folder(path)["path"] if path.is_dir() else [""]
        for file in (path / name for name in below):
            header = read_header(str(file))
            if isinstance(header, BadFile):
                raise DataError(f"file '{file}' {header.what}")
            facts = header.rate, header.channels, header.frames
            recordings.append(Recording(str(file), None, *facts))
    return recordings


def score_recordings(
    model: Model,
    recordings: Sequence[Recording],
    *,
    section: str | None = None,
    channel: int | None = None,
    window: float | None = None,
    note: Callable[[str], None] = lambda text: None,
) -> Iterator[tuple[dict[str, Any], Waveform]]:
    """Score recordings one after the other, with little memory however long they are.

    Parameters
    ----------
    section
        Of all of them, or `NEAREST`; by default what file names and folders say, or the only one.
    channel
        From 0; by default the first, with a note where there are several.
    window
        Seconds, by default those of a training clip.
    note
        Called with what was done otherwise than a careful listener might expect.

    Yields
    ------
    row, waveform
        ``clip, section, score, threshold, decision`` ("anomaly" above the threshold, else
        "normal"), ``share_higher`` (see `Model.share_higher`), ``normal_clips`` (the number of
        those), ``window_start, window_end`` (in seconds), and the samples (S,) of that window,
        which has the highest score, at the model's rate.

    Raises
    ------
    DataError, ConfigError
        If a recording is too short or lacks the channel, or the section is not known.
    """
    size, rate = model.window_samples(window), model.front_end.sample_rate
    given = None if section in (None, NEAREST) else model.find_section(str(section))
    sections = [given or _named(model, each.name, section) for each in recordings]
    remarks: dict[str, list[str]] = {}
    for recording in recordings:
        for remark in _remarks(model, recording, size, channel):
            remarks.setdefault(remark, []).append(recording.name)
    for remark, names in remarks.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        note(f"'{names[0]}'{more}: {remark}")
    for recording, of in zip(recordings, sections, strict=True):
        starts, length = recording.windows(size / rate, model.front_end.hop_length / rate)
        if of is None:
            of = model.nearest(recording.read(0, length, channel or 0, rate))
            note(f"'{recording.name}' names no section; the nearest is {of}")
        best = -np.inf, 0, np.zeros(0, np.float32)
        for start in starts:
            samples = recording.read(start, length, channel or 0, rate)
            score = float(model.score(samples[None], of)[0])
            best = max(best, (score, start, samples), key=itemgetter(0))
        score, start, samples = best
        row = {
            "clip": recording.name,
            "section": of,
            "score": score,
            "threshold": model.thresholds[of],
            "decision": "anomaly" if score > model.thresholds[of] else "normal",
            "share_higher": model.share_higher(of, score),
            "normal_clips": len(model.normal[of]),
            "window_start": round(start / recording.rate, 3),
            "window_end": round((start + length) / recording.rate, 3),
        }
        yield row, samples


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


def _named(model: Model, name: str, section: str | None) -> str | None:
    """Return the section that folders and file name tell, or the only one; None: the nearest."""
    *folders, file = Path(name).parts
    found = [key for key in model.sections if key.split("/")[0] in folders] or model.sections
    if number := _NUMBER.search(file):
        found = [key for key in found if key.endswith(f"/{number[1]}")]
    if len(found) != 1 and section != NEAREST:
        raise ConfigError(
            f"'{name}' does not tell its section (known: {', '.join(model.sections)}); give "
            f"--section NAME, or --section {NEAREST} for the one that fits best"
        )
    return found[0] if len(found) == 1 else None
