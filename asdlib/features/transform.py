"""What one process of a build does: recordings in, rows of the array on disk out.

Clips go through the transform one by one: they then stay in the processor's cache, which is twice
as fast on a CPU as batches are. Rows are written by ordinary writes, not through a memory map: a
full disk is then an error that can be told, not a signal that kills the process.

Shapes: S samples, F mel bins, T frames.
"""

import multiprocessing
import os
import signal
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torchaudio.functional import resample

from asdlib.errors import DataError
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
    target: Target, front_end: FrontEnd, channel: int | None, first: int, files: list[str]
) -> list[int]:
    """Compute the rows of `files` and write them from row `first` on.

    Returns
    -------
    The CRC-32 checksum of the samples of each file.

    Raises
    ------
    DataError
        If a file cannot be decoded or holds samples that are not finite.
    OSError
        If the rows cannot be written.
    """
    block = np.zeros((len(files), front_end.n_mels, target.width), dtype=np.float16)
    checksums = []
    with single_threaded(), torch.inference_mode():
        for row, file in zip(block, files, strict=True):
            samples, rate = decode(file, channel)
            checksums.append(zlib.crc32(samples.tobytes()))
            waveform = torch.from_numpy(as_waveform(samples))[None]
            if rate != front_end.sample_rate:
                waveform = resample(waveform, rate, front_end.sample_rate)
            log_mel = _transform(front_end)(waveform)[0].half().numpy()
            row[:, : log_mel.shape[1]] = log_mel
    wrong = first_not_finite(block)
    if wrong is not None:
        raise DataError(
            f"file '{files[wrong]}' gives features that are NaN or infinite; its samples must be "
            "numbers, full scale 1.0; fetch or record it again"
        )
    write_rows(target, first, block)
    return checksums


def write_rows(target: Target, first: int, block: np.ndarray) -> None:
    """Write `block` from row `first` on."""
    with open(target.file, "r+b") as stream:  # noqa: PTH123
        stream.seek(target.offset + first * block[0].nbytes)
        stream.write(block.data.cast("B"))


@contextmanager
def single_threaded() -> Iterator[None]:
    """Let torch use one thread: the processes of a build share the processors already."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def start_worker() -> None:
    """Prepare a process of the pool."""
    # Ctrl-C reaches all processes of a terminal; the parent decides what becomes of the work.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    keep_freed_memory()


def keep_freed_memory() -> None:
    """Make glibc keep freed blocks of a clip's size instead of asking for new pages each time.

    Its threshold follows the largest block that was given back; this alone halves the time of a
    clip. Elsewhere it does nothing.
    """
    torch.empty(7_000_000)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@lru_cache(maxsize=1)
def _transform(front_end: FrontEnd) -> LogMel:
    return LogMel(front_end)
