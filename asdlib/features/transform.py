"""What one thread of a build does: recordings in, rows of the array on disk out.

Threads are enough: reading, the compiled loops and the Fourier transform all leave Python's lock,
and no process has to import torch anew. Rows are written by ordinary writes, not through a memory
map: a full disk is then an error that can be told, not a signal that kills the process.

Shapes: S samples, F mel bins, T frames.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from asdlib.data.headers import Header
from asdlib.errors import DataError
from asdlib.features.clip_transform import ClipTransform, Samples
from asdlib.features.files import first_not_finite
from asdlib.features.front_end import FrontEnd
from asdlib.features.logmel import LogMel
from asdlib.features.sources import as_waveform, decode


@dataclass(frozen=True)
class Target:
    """The array on disk that a build fills.

    Attributes
    ----------
    file
        The ``.npy`` file, of its full size from the start.
    offset
        Bytes before its first row.
    width
        Frames of a row.
    """

    file: str
    offset: int
    width: int


def fill_rows(
    target: Target,
    front_end: FrontEnd,
    channel: int | None,
    first: int,
    files: Sequence[tuple[str, Header]],
) -> None:
    """Compute the rows of `files` and write them from row `first` on.

    Raises
    ------
    DataError
        If a file cannot be decoded or holds samples that are not finite.
    OSError
        If the rows cannot be written.
    """
    block = compute_rows(target.width, front_end, channel, files)
    wrong = first_not_finite(block)
    if wrong is not None:
        raise DataError(
            f"file '{files[wrong][0]}' gives features that are NaN or infinite; its samples must "
            "be numbers, full scale 1.0; fetch or record it again"
        )
    write_rows(target, first, block)


def compute_rows(
    width: int, front_end: FrontEnd, channel: int | None, files: Sequence[tuple[str, Header]]
) -> NDArray[np.float16]:
    """Compute the rows of `files`, zeros after the end of each: (len(files), F, `width`)."""
    block = np.zeros((len(files), front_end.n_mels, width), dtype=np.float16)
    with torch.inference_mode():
        transform = _transform(front_end)
        for row, (file, header) in zip(torch.from_numpy(block), files, strict=True):
            samples = decode(file, header, channel)
            if header.rate != front_end.sample_rate:
                samples = _resampled(samples, header.rate, front_end.sample_rate)
            transform(samples, row[:, : front_end.n_frames(len(samples))])
    return block


def write_rows(target: Target, first: int, block: NDArray[np.float16]) -> None:
    """Write `block` from row `first` on."""
    with open(target.file, "r+b") as stream:  # noqa: PTH123
        stream.seek(target.offset + first * block[0].nbytes)
        stream.write(block.data.cast("B"))


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch use one thread in each thread that starts in here: they share the processors."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def start_thread() -> None:
    """Prepare a thread of the build.

    It makes glibc keep freed blocks of a clip's size instead of asking for new pages each time.
    glibc's threshold follows the largest block that was given back; this alone halves the time of a
    clip. Elsewhere it does nothing.
    """
    torch.set_num_threads(1)
    torch.empty(7_000_000)


def _resampled(samples: Samples, rate: int, new_rate: int) -> Samples:
    from torchaudio.functional import resample

    resampled: Samples = resample(torch.from_numpy(as_waveform(samples)), rate, new_rate).numpy()
    return resampled


_own = threading.local()


def _transform(front_end: FrontEnd) -> Callable[[Samples, torch.Tensor], None]:
    """Give the transform of this thread; ``transform(samples, out)`` fills `out`, (F, T)."""
    if getattr(_own, "front_end", None) != front_end:
        _own.transform = (
            ClipTransform(front_end) if front_end.framing == "stft" else _by_torch(front_end)
        )
        _own.front_end = front_end
    transform: Callable[[Samples, torch.Tensor], None] = _own.transform
    return transform


def _by_torch(front_end: FrontEnd) -> Callable[[Samples, torch.Tensor], None]:
    log_mel = LogMel(front_end)

    def transform(samples: Samples, out: torch.Tensor) -> None:
        out.copy_(log_mel(torch.from_numpy(as_waveform(samples))[None])[0])

    return transform
