"""Listening to a machine that runs: a stream of samples in, events out.

Windows as long as a training clip follow one another by a hop. A window is alarming if its score is
above the threshold of the section. An event begins once k of the last n windows are alarming, and
ends once none of the last n lies above a lower level, which twice as many normal clips exceed: a
score that wanders about the threshold makes one event and not many. Memory does not grow: kept are
the samples of one window and the last n scores.

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

_READ = 2**16  # bytes
_LONGEST_CHUNK = 2**20  # of what stands in a header before the samples
_FORMATS = {(1, 16): "<i2", (1, 32): "<i4", (3, 32): "<f4"}
_DAY = 24 * 3600.0


class Event(NamedTuple):
    """Begin or end of a stretch that sounds wrong."""

    event: str  # "begin" or "end"
    time: float  # since the first sample, in seconds; the end of the window that decided
    section: str
    score: float
    """At the begin that of the window that decided, at the end the highest of the event."""
    threshold: float
    share_higher: float  # share of the held-out normal clips that score as high or higher


class Rate(NamedTuple):
    """How often an event begins though the machine is healthy."""

    events: int
    hours: float
    per_day: float
    low: float
    high: float  # exact 95 % interval of a Poisson rate

    @classmethod
    def counted(cls, events: int, seconds: float) -> "Rate":
        """Return the rate of so many events in so many seconds.

        Notes
        -----
        F. Garwood, "Fiducial limits for the Poisson distribution", Biometrika 28, 1936.
        """
        from scipy.stats import chi2

        days = seconds / _DAY
        low = float(chi2.ppf(0.025, 2 * events)) / 2 if events else 0.0
        high = float(chi2.ppf(0.975, 2 * events + 2)) / 2
        return cls(events, seconds / 3600, events / days, low / days, high / days)


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
    hop
        Seconds from one window to the next, by default half a window.
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
        hop: float | None = None,
        window: float | None = None,
    ) -> None:
        self.k, n = confirm
        if not 1 <= self.k <= n:
            raise ConfigError(f"{self.k} of {n} windows cannot be alarming; give e.g. 3 of 4")
        self.model, self.section, self.rate = model, section, rate
        self.size = max(1, round(model.window_samples(window) * rate / model.front_end.sample_rate))
        self.hop = self.size // 2 if hop is None else round(hop * rate)
        if not 1 <= self.hop <= self.size:
            raise ConfigError(
                f"a hop of {hop} s is not allowed, expected more than 0 and at most a window "
                f"({self.size / rate:.2f} s)"
            )
        self.threshold = model.thresholds[section]
        lower = max(1 - 2 * (1 - model.quantile), 0.5 * model.quantile)
        self.release = model.levels(lower)[section]
        self.last: deque[float] = deque(maxlen=n)
        self.peak: float | None = None
        """Highest score of the event that has begun and not ended; None without one."""
        self._heard, self._next = 0, self.size
        self._buffer = np.zeros(0, dtype=np.float32)

    @property
    def seconds(self) -> float:
        """How much was heard."""
        return self._heard / self.rate

    def push(self, samples: Waveform) -> Iterator[Event]:
        """Take the next samples (S,), and yield what they begin or end."""
        while len(samples):
            taken, samples = np.split(samples, [self._next - self._heard])
            self._buffer = np.concatenate([self._buffer, taken])[-self.size :]
            self._heard += len(taken)
            if self._heard == self._next:
                self._next += self.hop
                yield from self._decide(self._score())

    def _score(self) -> float:
        rate, samples = self.model.front_end.sample_rate, self._buffer
        if not np.isfinite(samples).all():
            raise DataError(
                f"NaN or infinite samples before {self.seconds:.1f} s; check the source"
            )
        return float(self.model.score(resampled(samples, self.rate, rate)[None], self.section)[0])

    def _decide(self, score: float) -> Iterator[Event]:
        self.last.append(score)
        if self.peak is None and sum(s > self.threshold for s in self.last) >= self.k:
            self.peak = max(self.last)
            yield self._event("begin", score)
        elif self.peak is not None:
            self.peak = max(self.peak, score)
            if max(self.last) <= self.release:
                yield self._event("end", self.peak)
                self.peak = None

    def _event(self, kind: str, score: float) -> Event:
        share = self.model.share_higher(self.section, score)
        return Event(kind, round(self.seconds, 3), self.section, score, self.threshold, share)


def false_alarms(
    make: Callable[[int], Listener], recordings: Iterable[Recording], channel: int = 0
) -> Rate:
    """Count the events in recordings of the healthy machine, one after the other as one stream.

    Parameters
    ----------
    make
        Makes a listener for a sample rate.
    recordings
        Normal ones that the model was not trained on; of others the rate comes out too low.
    channel
        Which to take.
    """
    listener: Listener | None = None
    events = 0
    for recording in recordings:
        listener = listener or make(recording.rate)
        block = 60 * recording.rate
        for start in range(0, recording.n_samples, block):
            length = min(block, recording.n_samples - start)
            samples = recording.read(start, length, channel, listener.rate)
            events += sum(event.event == "begin" for event in listener.push(samples))
    if listener is None or not listener.last:
        heard = listener.seconds if listener else 0.0
        raise DataError(f"{heard:.1f} s of normal sound fill no window; give longer recordings")
    return Rate.counted(events, listener.seconds)


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
        head, name, said = stream.read(12), b"", b""
        while head[:4] + head[8:] == b"RIFFWAVE" and name != b"data":
            name, size = struct.unpack("<4sI", stream.read(8).ljust(8, b"\0"))
            if (size > _LONGEST_CHUNK and name != b"data") or not name.strip(b"\0"):
                break
            said = stream.read(size + size % 2) if name == b"fmt " else said
            if name not in (b"fmt ", b"data"):
                stream.read(size + size % 2)
        if name != b"data" or len(said) < 16:
            raise DataError(
                "the stream begins with no WAV header; say the rate of raw samples (--rate)"
            )
        code, channels, rate, bits = struct.unpack("<HHI6xH", said[:16])
        code = struct.unpack("<H", said[24:26])[0] if code == 0xFFFE else code
        if (code, bits) not in _FORMATS or not channels or not rate:
            raise DataError(f"samples of {bits} bits cannot be streamed; send 16 or 32 bits")
        return cls(stream, rate, channels, _FORMATS[code, bits])

    def blocks(self, channel: int, wait: float) -> Iterator[Waveform]:
        """Yield the samples of a channel as they come, full scale 1.0.

        At the end more is waited for, up to `wait` seconds.
        """
        if not 0 <= channel < self.channels:
            raise DataError(
                f"channel {channel} is not in the stream (known: 0 to {self.channels - 1})"
            )
        frame, rest = self.channels * np.dtype(self.dtype).itemsize, b""
        scale = {"<i2": 2.0**-15, "<i4": 2.0**-31, "<f4": 1.0}[self.dtype]
        read: Callable[[int], bytes] = getattr(self.stream, "read1", self.stream.read)
        last = time.monotonic()
        while True:
            if content := read(_READ):
                last, content = time.monotonic(), rest + content
                whole = len(content) // frame * frame
                rest = content[whole:]
                samples = np.frombuffer(content[:whole], self.dtype)[channel :: self.channels]
                yield (samples * scale).astype(np.float32)
            elif time.monotonic() - last < wait:
                time.sleep(0.05)
            else:
                return


def microphone(rate: int, device: str | None, note: Callable[[str], None]) -> Iterator[Waveform]:
    """Yield what a microphone hears, a tenth of a second at a time (extra: live).

    `note` is called where samples were lost.

    Raises
    ------
    ConfigError
        If sounddevice or its library is lacking, or there is no such microphone.
    """
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
