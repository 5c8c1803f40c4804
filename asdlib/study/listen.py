"""Listening to a machine that runs: a stream of samples in, events out.

Windows as long as a training clip follow one another, half of one apart. A window is alarming if
its score is above the threshold of the section. An event begins once k of the last n windows are
alarming, and ends once none of the last n lies above a lower level, which twice as many normal
clips exceed: a score that wanders about the threshold makes one event and not many. Memory does not
grow: kept are the samples of one window and the last n scores.

Shapes: S samples.
"""

import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, NamedTuple

import numpy as np

from asdlib.errors import ConfigError, DataError
from asdlib.study.score import Model, Recording, Waveform, resampled

_FORMATS = {(1, 16): "<i2", (1, 32): "<i4", (3, 32): "<f4"}


class Event(NamedTuple):
    """Begin or end of a stretch that sounds wrong."""

    event: str  # "begin" or "end"
    time: float  # since the first sample, in seconds; the end of the window that decided
    section: str
    score: float
    """At the begin that of the window that decided, at the end the highest of the event."""
    threshold: float
    share_higher: float  # share of the held-out normal clips that score as high or higher


@dataclass
class Listener:
    """Sliding windows, k of n, hysteresis; see the head of this module."""

    model: Model
    section: str  # "machine/section"
    rate: int  # sample rate of what comes in, in Hz
    confirm: tuple[int, int] = (3, 4)  # k and n
    window: float | None = None  # seconds, by default those of a training clip
    seconds: float = 0.0  # how much was heard
    n_windows: int = 0  # how many were scored

    def hear(self, blocks: Iterable[Waveform]) -> Iterator[Event]:
        """Take samples (S,) as they come, and yield the begin or end of events."""
        (k, n), model, section = self.confirm, self.model, self.section
        if not 1 <= k <= n:
            raise ConfigError(f"{k} of {n} windows cannot be alarming; give e.g. 3 of 4")
        threshold = model.thresholds[section]
        lower = model.levels(max(1 - 2 * (1 - model.quantile), 0.5 * model.quantile))[section]
        last: deque[float] = deque(maxlen=n)
        peak: float | None = None  # highest score of an event that has begun
        for end, samples in self._windows(blocks):
            (score,) = map(float, model.score(samples[None], section))
            last.append(score)
            event = ""
            if peak is None and sum(s > threshold for s in last) >= k:
                event, peak = "begin", max(last)
            elif peak is not None:
                peak = max(peak, score)
                if max(last) <= lower:
                    event, score, peak = "end", peak, None
            if event:
                share = model.share_higher(section, score)
                yield Event(event, round(end, 3), section, score, threshold, share)

    def _windows(self, blocks: Iterable[Waveform]) -> Iterator[tuple[float, Waveform]]:
        """Yield the end (s) of each window, and its samples at the rate of the model."""
        own = self.model.front_end.sample_rate
        size = max(2, round(self.model.window_samples(self.window) * self.rate / own))
        heard, buffer = 0, np.zeros(0, np.float32)
        for block in blocks:
            heard, buffer = heard + len(block), np.concatenate([buffer, block])
            self.seconds = heard / self.rate
            while len(buffer) >= size:
                end = (heard - len(buffer) + size) / self.rate
                if not np.isfinite(buffer[:size]).all():
                    raise DataError(f"NaN or infinite samples before {end:.1f} s; check the source")
                self.n_windows += 1
                yield end, resampled(buffer[:size], self.rate, own)
                buffer = buffer[size // 2 :]


def false_alarms(
    listener: Listener, recordings: Iterable[Recording], channel: int = 0
) -> dict[str, float]:
    """Return the rate of events in recordings of the healthy machine, heard as one stream.

    The model must not have been trained on them, or the rate comes out too low.
    """
    minutes = (
        each.read(start, 60 * each.rate, channel, listener.rate)
        for each in recordings
        for start in range(0, each.n_samples, 60 * each.rate)
    )
    events = sum(event.event == "begin" for event in listener.hear(minutes))
    if not listener.n_windows:
        raise DataError(f"{listener.seconds:.1f} s of normal sound fill no window; give more")
    return rate_per_day(events, listener.seconds)


def rate_per_day(events: int, seconds: float) -> dict[str, float]:
    """Return ``events, hours, per_day`` and its exact 95 % interval ``low, high``.

    Notes
    -----
    F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28, 1936.
    """
    from scipy.stats import gamma

    days = seconds / 86400
    low, high = np.nan_to_num(gamma.ppf((0.025, 0.975), (events, events + 1)) / days).tolist()
    rates = {"per_day": events / days, "low": low, "high": high}
    return {"events": events, "hours": seconds / 3600} | rates


def pcm_stream(
    stream: IO[bytes], rate: int | None, channels: int, channel: int, wait: float
) -> tuple[int, Iterator[Waveform]]:
    """Return the sample rate of a stream, and its samples (S,) as they come, full scale 1.0.

    It begins like a WAV file; the lengths in that header do not count, a stream does not know them.
    With a `rate` (Hz) it is raw 16-bit samples of so many `channels`. At the end of a growing file
    more is waited for, up to `wait` seconds.

    Raises
    ------
    DataError
        If there is no header, or one of samples that are not 16 or 32 bits, or no such `channel`.
    """
    dtype = "<i2"
    if rate is None:
        rate, channels, dtype = _read_header(stream)
    if channel >= channels:
        raise DataError(f"channel {channel} is not in the stream (known: 0 to {channels - 1})")
    kind = np.dtype(dtype)
    scale = 1.0 if kind.kind == "f" else 2.0 ** (1 - 8 * kind.itemsize)
    read: Callable[[int], bytes] = getattr(stream, "read1", stream.read)

    def blocks() -> Iterator[Waveform]:
        rest, last = b"", time.monotonic()
        while True:
            if content := read(2**16):
                last, content = time.monotonic(), rest + content
                whole = len(content) - len(content) % (channels * kind.itemsize)
                rest = content[whole:]
                samples = np.frombuffer(content[:whole], kind)[channel::channels]
                yield (samples * scale).astype(np.float32)
            elif time.monotonic() - last < wait:
                time.sleep(0.05)
            else:
                return

    return rate, blocks()


def _read_header(stream: IO[bytes]) -> tuple[int, int, str]:
    """Return rate, channels and kind of the samples that follow."""
    head, chunks = stream.read(12), dict[bytes, bytes]()
    while head[:4] + head[8:] == b"RIFFWAVE" and not chunks.keys() & {b"data", bytes(4)}:
        name, size = struct.unpack("<4sI", stream.read(8).ljust(8, b"\0"))
        chunks[name] = b"" if name == b"data" else stream.read(size + size % 2)
    form = chunks.get(b"fmt ", b"")
    if b"data" not in chunks or len(form) < 16:
        raise DataError("the stream has no WAV header; give the rate of raw samples (--rate)")
    code, channels, rate, bits = struct.unpack("<HHI6xH", form[:16])
    if code == 0xFFFE:  # extensible
        code = int.from_bytes(form[24:26], "little")
    if (code, bits) not in _FORMATS or not channels or not rate:
        raise DataError(f"samples of {bits} bits cannot be streamed; send 16 or 32 bits")
    return rate, channels, _FORMATS[code, bits]


def microphone(rate: int, device: str | None, note: Callable[[str], None]) -> Iterator[Waveform]:
    """Yield what a microphone hears; `note` is called where samples were lost (extra: live)."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise ConfigError(
            f"no microphone without sounddevice and PortAudio ({error}); install asdlib with the "
            "extra 'live', or send samples over standard input"
        ) from None
    size = rate // 10
    try:
        with sounddevice.InputStream(rate, size, device, 1, "float32") as stream:
            while True:
                block, overflowed = stream.read(size)
                if overflowed:
                    note("samples were lost: this computer does not keep up with the microphone")
                yield block[:, 0]
    except (sounddevice.PortAudioError, ValueError) as error:
        raise ConfigError(f"the microphone cannot be opened ({error}); name another one") from None
