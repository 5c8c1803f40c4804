"""The files of a store folder: reading each with its checks, and writing them under a hidden name.

Shapes: N clips, F mel bins, T frames.
"""

import errno
import json
import math
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdlib.errors import StoreError
from asdlib.features.front_end import FrontEnd

MANIFEST, ARRAY, FRONT_END = "manifest.csv", "logmel.npy", "feature.json"
REQUIRED = ("clip", "machine", "section", "split", "label", "domain")

CHECKED_BYTES = 512 * 2**20
"""Arrays up to this size are checked in full for finite values, of larger ones a sample."""


def read_front_end(file: Path) -> dict[str, Any]:
    """Read ``feature.json``.

    Raises
    ------
    StoreError
        If it is not a JSON object.
    """
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise StoreError(f"'{file}' cannot be read ({error}); build the store again") from error
    if not isinstance(told, dict):
        raise StoreError(f"'{file}' holds no front-end parameters; build the store again")
    return told


def map_array(file: Path) -> NDArray[np.float16]:
    """Open ``logmel.npy`` memory-mapped, shape (N, F, T).

    Raises
    ------
    StoreError
        If it is damaged or holds something else.
    """
    try:
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"'{file}' cannot be read ({reason}); build the store again") from error
    if array.ndim != 3 or array.dtype != np.float16 or 0 in array.shape:
        raise StoreError(
            f"'{file}' holds {array.dtype} of shape {array.shape}; expected float16 (clips, mel "
            "bins, frames); build the store again"
        )
    features: NDArray[np.float16] = array
    return features


def read_manifest(file: Path, width: int) -> pd.DataFrame:
    """Read ``manifest.csv`` and check it by `check_manifest`."""
    try:
        manifest = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise StoreError(f"'{file}' cannot be read ({error}); build the store again") from error
    return check_manifest(manifest, width, file)


def check_manifest(manifest: pd.DataFrame, width: int, where: Path) -> pd.DataFrame:
    """Give `manifest` with ``frames`` as integers; the full `width` where it has no such column.

    Raises
    ------
    StoreError
        If a column or a value is missing, or a number of frames is not within 1 … `width`.
    """
    missing = [column for column in REQUIRED if column not in manifest]
    if missing:
        has = ", ".join(map(str, manifest))
        raise StoreError(f"manifest of '{where}' lacks {', '.join(missing)} (has: {has})")
    empty = manifest.columns[manifest.isna().any()]
    if len(empty):
        raise StoreError(
            f"manifest of '{where}': column '{empty[0]}' has missing values; use empty text"
        )
    if "frames" not in manifest:
        return manifest.assign(frames=np.full(len(manifest), width, dtype=np.int64))
    frames = pd.to_numeric(manifest["frames"], errors="coerce")
    wrong = ~(frames.between(1, width) & (frames % 1 == 0))
    if wrong.any():
        row = manifest[wrong].iloc[0]
        raise StoreError(
            f"manifest of '{where}': clip '{row['clip']}' has frames '{row['frames']}'; "
            f"expected 1 to {width}"
        )
    return manifest.assign(frames=frames.astype(np.int64))


def check_finite(path: Path, features: NDArray[np.float16], manifest: pd.DataFrame) -> None:
    """Look for NaN and infinite values; beyond `CHECKED_BYTES` in evenly spaced rows only.

    Raises
    ------
    StoreError
        Naming the first such clip.
    """
    step = max(1, -(-features.nbytes // CHECKED_BYTES))
    chunk = max(1, 2**22 // features[0].nbytes)
    rows = np.arange(0, len(features), step)
    for start in range(0, len(rows), chunk):
        picked = rows[start : start + chunk]
        block = np.ascontiguousarray(features[picked[0] : picked[-1] + 1 : step])
        wrong = first_not_finite(block)
        if wrong is not None:
            raise StoreError(
                f"store '{path}' holds NaN or infinite values in clip "
                f"'{manifest['clip'].iloc[picked[wrong]]}'; build it again"
            )


def first_not_finite(block: NDArray[np.float16]) -> int | None:
    """Find the first row of a block (N, F, T) with NaN or infinite values; None if all are finite.

    Without its sign bit, a float16 that is NaN or infinite is at least 0xF800; looking for that is
    six times as fast as numpy's ``isfinite``.
    """
    bits = block.view(np.uint16) << 1
    if bits.max() < 0xF800:
        return None
    return int(np.argmax(bits.max(axis=(1, 2)) >= 0xF800))


def write_parts(folder: Path, manifest: pd.DataFrame, front_end: FrontEnd | dict[str, Any]) -> None:
    """Write ``manifest.csv`` and ``feature.json`` into `folder`."""
    manifest.to_csv(folder / MANIFEST, index=False, lineterminator="\n")
    told = front_end.describe() if isinstance(front_end, FrontEnd) else dict(front_end)
    told = {"layout": "clip, mel, frame"} | told | {"dtype": "float16"}
    (folder / FRONT_END).write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


def create_array(file: Path, shape: tuple[int, int, int]) -> int:
    """Create ``logmel.npy`` of the given shape (N, F, T), all zeros, and give the bytes before it.

    Raises
    ------
    OSError
        With ENOSPC if the disk has not enough room.
    """
    needed = 2 * math.prod(shape)
    if shutil.disk_usage(file.parent).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))
    with file.open("wb") as stream:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        offset = stream.tell()
        stream.truncate(offset + needed)
    return offset


def replace_text(file: Path, text: str) -> None:
    """Write a file under a temporary name, then rename it."""
    temporary = file.with_name(f"{file.name}.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(file)


class StoreFolder:
    """Context of a hidden folder beside `path` that gets that name when all went well.

    Raises
    ------
    StoreError
        If `path` exists, or the disk is full.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # With the process number, two processes that write the same store do not mix their files.
        self.partial = path.with_name(f".{path.name}.{os.getpid()}.partial")

    def __enter__(self) -> Path:
        if self.path.exists():
            raise StoreError(f"'{self.path}' exists; delete it or choose another name")
        shutil.rmtree(self.partial, ignore_errors=True)
        self.partial.mkdir(parents=True)
        return self.partial

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.partial.replace(self.path)
        except OSError as failure:
            raise StoreError(
                f"'{self.path}' cannot get its name ({failure.strerror}); another process may "
                "have written it"
            ) from failure
        finally:
            shutil.rmtree(self.partial, ignore_errors=True)
        if is_disk_full(error):
            raise disk_full(self.path) from error


def is_disk_full(error: BaseException | None) -> bool:
    """Tell whether `error` says that a disk or a quota has no room left."""
    return isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)


def disk_full(path: Path, needed: int | None = None) -> StoreError:
    """Make the error for a full disk under `path`; `needed` is in bytes."""
    room = f"{needed / 1e9:.2f} GB are needed; " if needed else ""
    return StoreError(
        f"the disk of '{path}' is full; {room}free some room or choose another place; nothing "
        "half-written was left"
    )
