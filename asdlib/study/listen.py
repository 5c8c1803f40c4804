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
from collections.abc import Callable, Iterator, Sequence
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


class Listener:
    """Sliding windows, k of n, hysteresis; see the head of this module.

    Parameters
    ----------
    model, section
        See `asdlib.study.score.load_model`; "machine/section".
    rate
        Sample rate of what comes in, in Hz.
    confirm
        k and n.
    window
        Seconds of a window, by default those of a training clip.
    """

    def __init__(
        self,
        model: Model,
        section: str,
        rate: int,
        *,
        confirm: tuple[int, int] = (3, 4),
        window: float | None = None,
    ) -> None:
        self.k, n = confirm
        if not 1 <= self.k <= n:
            raise ConfigError(f"{self.k} of {n} windows cannot be alarming; give e.g. 3 of 4")
        self.model, self.section, self.rate = model, section, rate
        self.size = max(2, round(model.window_samples(window) * rate / model.front_end.sample_rate))
        self.threshold = model.thresholds[section]
        lower = max(1 - 2 * (1 - model.quantile), 0.5 * model.quantile)
        self.release = model.levels(lower)[section]
        self.last: deque[float] = deque(maxlen=n)
        self.peak: float | None = None
        """Highest score of the event that has begun and not ended; None without one."""
        self._heard, self._buffer = 0, np.zeros(0, dtype=np.float32)

    @property
    def seconds(self) -> float:
        """How much was heard."""
        return self._heard / self.rate

    def push(self, samples: Waveform) -> Iterator[Event]:
        """Take the next samples (S,), and yield what they begin or end."""
        self._heard += len(samples)
        self._buffer = np.concatenate([self._buffer, samples])
        while len(self._buffer) >= self.size:
            end = (self._heard - len(self._buffer) + self.size) / self.rate
            yield from self._decide(self._buffer[: self.size], end)
            self._buffer = self._buffer[self.size // 2 :]

    def _decide(self, window: Waveform, end: float) -> Iterator[Event]:
        if not np.isfinite(window).all():
            raise DataError(f"NaN or infinite samples before {end:.1f} s; check the source")
        window = resampled(window, self.rate, self.model.front_end.sample_rate)
        score = float(self.model.score(window[None], self.section)[0])
        self.last.append(score)
        event = ""
        if self.peak is None and sum(s > self.threshold for s in self.last) >= self.k:
            event, self.peak = "begin", max(self.last)
        elif self.peak is not None:
            self.peak = max(self.peak, score)
            if max(self.last) <= self.release:
                event, score, self.peak = "end", self.peak, None
        if event:
            share = self.model.share_higher(self.section, score)
            yield Event(event, round(end, 3), self.section, score, self.threshold, share)


def false_alarms(
    make: Callable[[int], Listener], recordings: Sequence[Recording], channel: int = 0
) -> dict[str, float]:
    """Return the rate of events in recordings of the healthy machine, heard as one stream.

    The model must not have been trained on them, or the rate comes out too low. `make` makes a
    listener for a sample rate.
    """
    listener, events = make(recordings[0].rate), 0
    for recording in recordings:
        minute = 60 * recording.rate
        for start in range(0, recording.n_samples, minute):
            samples = recording.read(start, minute, channel, listener.rate)
            events += sum(event.event == "begin" for event in listener.push(samples))
    if not listener.last:
        heard = listener.seconds
        raise DataError(f"{heard:.1f} s of normal sound fill no window; give longer recordings")
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


@dataclass
class PcmStream:
    """Samples of a WAV stream, or raw ones: what comes over a pipe or grows on a disk."""

    stream: IO[bytes]
    rate: int
    channels: int
    dtype: str

    @classmethod
    def open(cls, stream: IO[bytes], rate: int | None, channels: int = 1) -> "PcmStream":
        """Read the header of a WAV stream; with `rate`, it is raw 16-bit samples without one.

        Lengths in the header do not count: a stream does not know them.

        Raises
        ------
        DataError
            If there is no header, or one of samples that are not 16 or 32 bits.
        """
        if rate is not None:
            return cls(stream, rate, channels, "<i2")
        head, chunks = stream.read(12), dict[bytes, bytes]()
        while head[:4] + head[8:] == b"RIFFWAVE" and not chunks.keys() & {b"data", bytes(4)}:
            name, size = struct.unpack("<4sI", stream.read(8).ljust(8, b"\0"))
            chunks[name] = b"" if name == b"data" else stream.read(size + size % 2)
        form = chunks.get(b"fmt ", b"")
        if b"data" not in chunks or len(form) < 16:
            raise DataError(
                "the stream begins with no WAV header; say the rate of raw samples (--rate)"
            )
        code, channels, rate, bits = struct.unpack("<HHI6xH", form[:16])
        if code == 0xFFFE:  # extensible
            code = int.from_bytes(form[24:26], "little")
        if (code, bits) not in _FORMATS or not channels or not rate:
            raise DataError(f"samples of {bits} bits cannot be streamed; send 16 or 32 bits")
        return cls(stream, rate, channels, _FORMATS[code, bits])

    def blocks(self, channel: int, wait: float) -> Iterator[Waveform]:
        """Yield the samples of a channel as they come, full scale 1.0.

        At the end more is waited for, up to `wait` seconds.
        """
        if channel >= self.channels:
            raise DataError(
                f"channel {channel} is not in the stream (known: 0 to {self.channels - 1})"
            )
        kind, rest, last = np.dtype(self.dtype), b"", time.monotonic()
        scale = 1.0 if kind.kind == "f" else 2.0 ** (1 - 8 * kind.itemsize)
        read: Callable[[int], bytes] = getattr(self.stream, "read1", self.stream.read)
        while True:
            if content := read(2**16):
                last, content = time.monotonic(), rest + content
                whole = len(content) - len(content) % (self.channels * kind.itemsize)
                rest = content[whole:]
                samples = np.frombuffer(content[:whole], kind)[channel :: self.channels]
                yield (samples * scale).astype(np.float32)
            elif time.monotonic() - last < wait:
                time.sleep(0.05)
            else:
                return


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
