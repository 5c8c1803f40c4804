"""The recordings behind a store: their headers, their samples, and how to tell them from others.

All files are looked at before any work starts, so that a broken one is named at once.

Shapes: N clips, S samples.
"""

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray

from asdlib.data.check import check_audio
from asdlib.errors import DataError
from asdlib.features.front_end import FrontEnd


@dataclass(frozen=True)
class Sources:
    """Recordings that were found fit to become a store.

    Attributes
    ----------
    root
        Folder that the paths of the table begin at.
    table
        The clip table, N rows.
    n_samples
        Samples of each clip after resampling, shape (N,).
    rates
        Sample rates of the files in Hz, shape (N,).
    channel
        Which channel to take, or None where all files have one.
    """

    root: Path
    table: pd.DataFrame
    n_samples: NDArray[np.int64]
    rates: NDArray[np.int64]
    channel: int | None

    def files(self) -> list[str]:
        """List the paths of the files, in table order."""
        return [str(self.root / path) for path in self.table["path"]]

    def identity(self) -> dict[str, Any]:
        """Tell these recordings from others without reading them: names, sizes and times."""
        text = self.table.to_csv(index=False, lineterminator="\n")
        state = hashlib.sha256()
        for file in self.files():
            stat = Path(file).stat()
            state.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode())
        return {
            "clips": len(self.table),
            "clip_table": hashlib.sha256(text.encode()).hexdigest(),
            "file_states": state.hexdigest(),
        }

    def checksum(self) -> str:
        """Read all samples and give the same checksum that a build of them records."""
        return join_checksums(
            zlib.crc32(decode(file, self.channel)[0].tobytes()) for file in self.files()
        )


def join_checksums(checksums: Iterable[int]) -> str:
    """Make one SHA-256 of the CRC-32 checksums of all clips, in table order."""
    text = "".join(f"{checksum:08x}\n" for checksum in checksums)
    return hashlib.sha256(text.encode()).hexdigest()


def inspect_sources(
    root: Path, table: pd.DataFrame, front_end: FrontEnd, *, channel: int | None, resample: bool
) -> Sources:
    """Look at the headers of all files of a clip table.

    Raises
    ------
    DataError
        Naming the first file that is broken or too short, has another sample rate while
        `resample` is False, or several channels while `channel` is None.
    """
    faults = check_audio(root, table, sample_rate=None, channels=None)
    if faults:
        more = f" (and {len(faults) - 1} more such files)" if len(faults) > 1 else ""
        raise DataError(faults[0].message + more)
    rate, shortest = front_end.sample_rate, front_end.shortest
    n_samples = np.empty(len(table), dtype=np.int64)
    rates = np.empty(len(table), dtype=np.int64)
    for row, path in enumerate(table["path"]):
        header = soundfile.info(str(root / path))
        rates[row] = header.samplerate
        n_samples[row] = -(-header.frames * rate // header.samplerate)
        if header.samplerate != rate and not resample:
            raise DataError(
                f"file '{path}' has {header.samplerate} Hz, expected {rate} Hz; ask for "
                "resampling (resample=True, --resample) or convert it"
            )
        if channel is None and header.channels != 1:
            raise DataError(
                f"file '{path}' has {header.channels} channels, expected one; say which to take "
                f"(channel=0, --channel 0, up to {header.channels - 1})"
            )
        if channel is not None and not 0 <= channel < header.channels:
            raise DataError(
                f"channel {channel} is not in file '{path}' (known: 0 to {header.channels - 1})"
            )
        if n_samples[row] < shortest:
            raise DataError(
                f"file '{path}' has {n_samples[row]} samples, the front end needs at least "
                f"{shortest}; leave it out"
            )
    return Sources(root, table, n_samples, rates, channel)


def decode(file: str, channel: int | None) -> tuple[NDArray[Any], int]:
    """Read one channel of a file.

    Returns
    -------
    samples
        Shape (S,), int16 where the file holds 16 bits, float32 with full scale 1.0 otherwise.
    rate
        Sample rate in Hz.

    Raises
    ------
    DataError
        If the file cannot be decoded or ends before its header says.
    """
    try:
        with soundfile.SoundFile(file) as stream:
            # 16-bit samples are read as they are: libsndfile's conversion takes five times longer.
            dtype = "int16" if stream.subtype == "PCM_16" else "float32"
            samples = stream.read(dtype=dtype, always_2d=True)
            if len(samples) != stream.frames:
                raise DataError(
                    f"file '{file}' ends after {len(samples)} of {stream.frames} samples; "
                    "fetch or record it again"
                )
            return np.ascontiguousarray(samples[:, channel or 0]), int(stream.samplerate)
    except soundfile.SoundFileError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(
            f"file '{file}' cannot be decoded ({reason}); fetch or record it again"
        ) from error


def as_waveform(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Scale samples as `decode` gives them to full scale 1.0, float32."""
    scale = 1 / 32768 if samples.dtype == np.int16 else 1.0
    waveform: NDArray[np.float32] = np.multiply(samples, scale, dtype=np.float32)
    return waveform
