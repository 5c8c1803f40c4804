"""The recordings behind a store: their headers, their samples, and how to tell them from others.

All files are looked at before any work starts, so that a broken one is named at once.

Shapes: N clips, S samples.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from numpy.typing import NDArray

from asdlib.data.headers import Header, read_headers
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
    headers
        Header and state of each file, N of them.
    channel
        Which channel to take, or None where all files have one.
    """

    root: Path
    table: pd.DataFrame
    n_samples: NDArray[np.int64]
    headers: tuple[Header, ...]
    channel: int | None

    @property
    def rates(self) -> NDArray[np.int64]:
        """Sample rates of the files in Hz, shape (N,)."""
        return np.array([header.rate for header in self.headers], dtype=np.int64)

    def files(self, rows: range) -> list[tuple[str, Header]]:
        """List the paths and headers of some rows of the table."""
        paths = self.table["path"].iloc[rows.start : rows.stop]
        return [
            (f"{self.root}/{path}", header)
            for path, header in zip(paths, self.headers[rows.start : rows.stop], strict=True)
        ]

    def identity(self) -> dict[str, Any]:
        """Tell these recordings from others without reading them: names, sizes and times."""
        text = self.table.to_csv(index=False, lineterminator="\n")
        state = hashlib.sha256()
        for header in self.headers:
            state.update(f"{header.size} {header.mtime_ns}\n".encode())
        return {
            "clips": len(self.table),
            "clip_table": hashlib.sha256(text.encode()).hexdigest(),
            "file_states": state.hexdigest(),
        }


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
    paths = table["path"].tolist()
    found = list(read_headers([f"{root}/{path}" for path in paths]))
    headers = tuple(header for header in found if isinstance(header, Header))
    if len(headers) < len(found):
        path, bad = next(
            (path, header)
            for path, header in zip(paths, found, strict=True)
            if not isinstance(header, Header)
        )
        n_more = len(found) - len(headers) - 1
        more = f" (and {n_more} more such files)" if n_more else ""
        raise DataError(f"file '{path}' {bad.what}{more}")
    rate, shortest = front_end.sample_rate, front_end.shortest
    n_samples = np.empty(len(table), dtype=np.int64)
    for row, (path, header) in enumerate(zip(paths, headers, strict=True)):
        n_samples[row] = -(-header.frames * rate // header.rate)
        if header.rate != rate and not resample:
            raise DataError(
                f"file '{path}' has {header.rate} Hz, expected {rate} Hz; ask for "
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
    return Sources(root, table, n_samples, headers, channel)


def decode(file: str, header: Header, channel: int | None) -> NDArray[Any]:
    """Read one channel of a file.

    Returns
    -------
    Shape (S,), int16 where the file holds 16 bits, float32 with full scale 1.0 otherwise.

    Raises
    ------
    DataError
        If the file cannot be decoded or has not the samples that its header promised.
    """
    if header.pcm16_at is not None:
        # Half of libsndfile's time: the samples stand there as they are.
        values = np.empty(header.frames * header.channels, "<i2")
        try:
            with open(file, "rb", buffering=0) as raw:  # noqa: PTH123
                raw.seek(header.pcm16_at)
                held = raw.readinto(values.data.cast("B"))
        except OSError as error:
            raise DataError(
                f"file '{file}' cannot be read ({error.strerror}); check the file and its "
                "permissions"
            ) from error
        _check_whole(file, held // (2 * header.channels), header.frames)
        return values[channel or 0 :: header.channels]
    try:
        with soundfile.SoundFile(file) as stream:
            # 16-bit samples are read as they are: libsndfile's conversion takes five times longer.
            dtype = "int16" if stream.subtype == "PCM_16" else "float32"
            samples = stream.read(dtype=dtype, always_2d=True)
            _check_whole(file, len(samples), header.frames)
            picked: NDArray[Any] = samples[:, channel or 0]
            return picked
    except soundfile.SoundFileError as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise DataError(
            f"file '{file}' cannot be decoded ({reason}); fetch or record it again"
        ) from error


def _check_whole(file: str, held: int, promised: int) -> None:
    if held != promised:
        raise DataError(
            f"file '{file}' ends after {held} of {promised} samples; fetch or record it again"
        )


def as_waveform(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Scale samples (S,) as `decode` gives them to full scale 1.0, float32."""
    scale = 1.0 if samples.dtype == np.float32 else 1 / 32768
    waveform: NDArray[np.float32] = np.multiply(samples, scale, dtype=np.float32)
    return waveform
