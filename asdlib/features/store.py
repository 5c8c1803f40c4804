"""The feature store: log-mels of many clips in one memory-mapped array, with their manifest.

A store is a folder of three files. ``manifest.csv`` has one row per clip, ``logmel.npy`` one (F, T)
float16 spectrogram per clip, ``feature.json`` the front end. Row i of the first two belong
together. The array is as wide as the longest clip; shorter clips end in zeros, and the manifest
column ``frames`` says how many frames are valid. A store is never changed once it has its name.

`FeatureStore` opens one, `Rows` is a selection of its rows and reads them, `write_store` writes an
array in memory as a store, `subset_store` and `merge_stores` cut and join stores block by block, so
that memory does not grow with their size.

Shapes: N clips of the store, n rows of a selection, B batch, F mel bins, T frames.
"""

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from asdlib.data.clips import summarise
from asdlib.errors import StoreError
from asdlib.features.front_end import FrontEnd, mel_frequencies
from asdlib.files import whole_folder

MANIFEST, ARRAY, FRONT_END = "manifest.csv", "logmel.npy", "feature.json"
REQUIRED = ("clip", "machine", "section", "split", "label", "domain")

CHECKED_BYTES = 512 * 2**20
"""Arrays up to this size are checked in full for finite values, of larger ones a sample."""

_BLOCK_BYTES = 2**24
_fingerprints: dict[tuple[Any, ...], str] = {}


class FeatureStore:
    """An opened store, read-only.

    Attributes
    ----------
    path
        Its folder.
    manifest
        One row a clip; text columns, and ``frames`` as integers.
    features
        Shape (N, F, T), float16, memory-mapped.
    front_end
        The content of ``feature.json`` as it stands; older stores may lack parameters.
    """

    def __init__(
        self,
        path: Path,
        manifest: pd.DataFrame,
        features: NDArray[np.float16],
        front_end: dict[str, Any],
    ) -> None:
        self.path = path
        self.manifest = manifest
        self.features = features
        self.front_end = front_end

    @classmethod
    def open(cls, path: str | Path, *, check: bool = True) -> Self:
        """Open a store and check it.

        Parameters
        ----------
        path
            The folder of the store.
        check
            Whether to look for NaN and infinite values, too: in all rows up to 512 MiB, in
            evenly spaced rows of that size beyond.

        Raises
        ------
        StoreError
            If this is no store, its parts do not fit together, or values are not finite.
        """
        path = Path(path)
        missing = [name for name in (MANIFEST, ARRAY, FRONT_END) if not (path / name).is_file()]
        if missing:
            what = "no such folder" if not path.exists() else "it is a file"
            if path.is_dir():
                what = f"it lacks {', '.join(missing)}"
            raise StoreError(f"'{path}' is not a feature store: {what}; build one first")
        front_end = _read_front_end(path / FRONT_END)
        features = _map_array(path / ARRAY)
        manifest = _read_manifest(path / MANIFEST, features.shape[2])
        if len(manifest) != len(features):
            raise StoreError(
                f"store '{path}' is damaged: {len(manifest)} manifest rows for {len(features)} "
                "spectrograms; build it again"
            )
        if front_end.get("n_mels", features.shape[1]) != features.shape[1]:
            raise StoreError(
                f"store '{path}' is damaged: {FRONT_END} says n_mels {front_end['n_mels']}, the "
                f"spectrograms have {features.shape[1]} bins; build it again"
            )
        if check:
            _check_finite(path, features, manifest)
        return cls(path, manifest, features, front_end)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path alone: a data-loading process opens the memory map for itself."""
        return _reopen, (self.path,)

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        n, f, t = self.features.shape
        return f"FeatureStore('{self.path}', {n} clips, {f} bins, {t} frames)"

    @property
    def n_mels(self) -> int:
        """Number of mel bins F."""
        return int(self.features.shape[1])

    @property
    def n_frames(self) -> int:
        """Width T of the array: the frames of the longest clip."""
        return int(self.features.shape[2])

    @cached_property
    def frames(self) -> NDArray[np.int64]:
        """Valid frames of each clip, shape (N,)."""
        return self.manifest["frames"].to_numpy(dtype=np.int64)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over manifest, front end and spectrograms, as hexadecimal digits."""
        files = [self.path / name for name in (MANIFEST, FRONT_END, ARRAY)]
        stats = [file.stat() for file in files]
        key = (str(self.path.resolve()), *((s.st_size, s.st_mtime_ns) for s in stats))
        if key not in _fingerprints:
            total = hashlib.sha256()
            for file in files:
                with file.open("rb") as stream:
                    total.update(hashlib.file_digest(stream, "sha256").digest())
            _fingerprints[key] = total.hexdigest()
        return _fingerprints[key]

    def mel_frequencies(self) -> NDArray[np.float64]:
        """Return the centre frequency of every mel bin in Hz, shape (F,).

        A store that does not say otherwise spans 0 Hz to half the sample rate on Slaney's scale.
        """
        stated = self.front_end
        top = float(stated.get("f_max", stated.get("sample_rate", 16000) / 2))
        scale = stated.get("mel_scale", "slaney")
        return mel_frequencies(self.n_mels, float(stated.get("f_min", 0.0)), top, scale)

    def rows(self, mask: ArrayLike | None = None, **where: str | Sequence[str]) -> "Rows":
        """Select rows.

        Parameters
        ----------
        mask
            True for the rows to keep, shape (N,), or row numbers; all rows if not given.
        **where
            Column = value or list of values; a row has to meet all of them, for example
            ``store.rows(split="train", machine=["fan", "pump"])``.

        Returns
        -------
        The rows; none if each value occurs but no row meets all conditions.

        Raises
        ------
        StoreError
            If a column is not in the manifest, or a value not in its column.
        """
        index = np.arange(len(self)) if mask is None else as_positions(mask, len(self))
        keep = np.ones(len(self), dtype=bool)
        for column, wanted in where.items():
            keep &= self._matches(column, [wanted] if isinstance(wanted, str) else list(wanted))
        return Rows(self, index[keep[index]])

    def _matches(self, column: str, wanted: list[str]) -> NDArray[np.bool_]:
        if column not in self.manifest:
            raise StoreError(
                f"column '{column}' is not in the manifest of '{self.path}' "
                f"(known: {', '.join(map(str, self.manifest))})"
            )
        values = self.manifest[column].astype(str)
        for value in sorted(set(wanted) - set(values)):
            known = sorted(set(values))
            shown = ", ".join(repr(name) for name in known[:20])
            more = f", … {len(known)} in all" if len(known) > 20 else ""
            raise StoreError(
                f"{column} '{value}' is not in the store '{self.path}' (known: {shown}{more})"
            )
        matches: NDArray[np.bool_] = values.isin(wanted).to_numpy(dtype=bool)
        return matches


class Rows:
    """A selection of rows of one store.

    Attributes
    ----------
    store
        Where the rows come from.
    index
        Row numbers in the store, shape (n,), int64; ascending unless reordered by `select`.
    """

    def __init__(self, store: FeatureStore, index: ArrayLike) -> None:
        self.store = store
        self.index: NDArray[np.int64] = np.asarray(index, dtype=np.int64).reshape(-1)
        if self.index.size and not 0 <= self.index.min() <= self.index.max() < len(store):
            raise StoreError(
                f"row numbers {self.index.min()} … {self.index.max()} are not all in the store "
                f"'{store.path}' of {len(store)} rows"
            )

    def __len__(self) -> int:
        return int(self.index.size)

    def __repr__(self) -> str:
        return f"Rows({len(self)} of {len(self.store)} rows of '{self.store.path}')"

    @cached_property
    def manifest(self) -> pd.DataFrame:
        """The manifest rows of the selection, in its order, with a fresh RangeIndex."""
        return self.store.manifest.iloc[self.index].reset_index(drop=True)

    @cached_property
    def frames(self) -> NDArray[np.int64]:
        """Valid frames of each clip, shape (n,)."""
        return self.store.frames[self.index]

    def select(self, mask: ArrayLike) -> "Rows":
        """Narrow the selection.

        Parameters
        ----------
        mask
            True for the rows to keep, shape (n,), or positions in this selection, any order.

        Raises
        ------
        StoreError
            If a mask has another length, or a position is outside of the selection.
        """
        return Rows(self.store, self.index[as_positions(mask, len(self))])

    def batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Read whole clips, grouped by their number of frames, shortest first.

        Parameters
        ----------
        batch_size
            Largest number of clips B in a batch.

        Yields
        ------
        positions
            Positions in this selection, shape (B,); every position comes once.
        log_mel
            Shape (B, F, T), T the valid frames that all clips of the batch have.

        Raises
        ------
        StoreError
            If `batch_size` is not positive.
        """
        if batch_size < 1:
            raise StoreError(f"batch size {batch_size} must be at least 1")
        for n_frames in np.unique(self.frames):
            group = np.flatnonzero(self.frames == n_frames)
            for start in range(0, group.size, batch_size):
                positions = group[start : start + batch_size]
                yield positions, self._whole(self.index[positions], int(n_frames))

    def _whole(self, rows: NDArray[np.int64], n_frames: int) -> NDArray[np.float32]:
        features = self.store.features
        if np.all(np.diff(rows) == 1):
            # A slice of the memory map is converted without an intermediate copy.
            picked = features[rows[0] : rows[-1] + 1, :, :n_frames]
        else:
            picked = features[rows, :, :n_frames]
        return np.asarray(picked).astype(np.float32, order="C")

    def crops(self, positions: ArrayLike, starts: ArrayLike, n_frames: int) -> NDArray[np.float32]:
        """Read one excerpt of `n_frames` frames from each of B clips.

        Parameters
        ----------
        positions
            Positions in this selection, shape (B,), in any order, repeated or not.
        starts
            First frame of each excerpt, shape (B,).
        n_frames
            Frames of an excerpt.

        Returns
        -------
        Shape (B, F, n_frames), float32.

        Raises
        ------
        StoreError
            If an excerpt does not lie within the valid frames of its clip.
        """
        at = as_positions(positions, len(self))
        first = np.asarray(starts, dtype=np.int64)
        if first.shape != at.shape:
            raise StoreError(f"{at.size} positions need as many starts, got shape {first.shape}")
        wrong = (first < 0) | (first + n_frames > self.frames[at])
        if n_frames < 1 or wrong.any():
            worst = int(np.argmax(wrong))
            clip = self.manifest["clip"].iloc[at[worst]] if at.size else ""
            valid = int(self.frames[at[worst]]) if at.size else 0
            begin = int(first[worst]) if at.size else 0
            raise StoreError(
                f"frames {begin} … {begin + n_frames - 1} are not within clip '{clip}' of "
                f"{valid} frames; take shorter excerpts or leave out shorter clips"
            )
        # A window view makes "clip i from frame s on" one fancy index: no loop over clips.
        windows = sliding_window_view(self.store.features, n_frames, axis=2)
        return windows[self.index[at], :, first].astype(np.float32, order="C")


def as_positions(mask: ArrayLike, length: int) -> NDArray[np.int64]:
    """Turn a Boolean mask or positions into positions, and check them against `length`.

    Raises
    ------
    StoreError
        If a mask has another length, or a position is negative or too large.
    """
    given = np.asarray(mask)
    if given.dtype == np.bool_:
        if given.shape != (length,):
            raise StoreError(f"a mask of shape {given.shape} does not fit {length} rows")
        return np.flatnonzero(given)
    if given.size and not np.issubdtype(given.dtype, np.integer):
        raise StoreError(f"rows are picked by a Boolean mask or integers, not by {given.dtype}")
    positions = given.reshape(-1).astype(np.int64)
    if positions.size and not 0 <= positions.min() <= positions.max() < length:
        raise StoreError(
            f"positions {positions.min()} … {positions.max()} are not all within {length} rows"
        )
    return positions


def check_same_front_end(a: FeatureStore, b: FeatureStore) -> None:
    """Refuse two stores whose features do not mean the same.

    Parameters that only one of them states are not compared; lengths may differ.

    Raises
    ------
    StoreError
        Naming the parameters that differ, with both values.
    """
    shared = [key for key in a.front_end if key in b.front_end and key != "dtype"]
    differ = [
        f"{key} {a.front_end[key]!r} and {b.front_end[key]!r}"
        for key in shared
        if a.front_end[key] != b.front_end[key]
    ]
    if a.n_mels != b.n_mels and "n_mels" not in shared:
        differ.append(f"n_mels {a.n_mels} and {b.n_mels}")
    if differ:
        raise StoreError(
            f"stores '{a.path}' and '{b.path}' have different front ends: {'; '.join(differ)}; "
            "build both with the same preset"
        )


def write_store(
    path: str | Path,
    manifest: pd.DataFrame,
    features: ArrayLike,
    front_end: FrontEnd | dict[str, Any],
    *,
    frames: ArrayLike | None = None,
) -> FeatureStore:
    """Write a store from an array in memory: for derived and test stores.

    Parameters
    ----------
    path
        Its folder, which must not exist yet.
    manifest
        One row a clip, with at least the columns of `REQUIRED`; values become text.
    features
        Shape (N, F, T), finite; kept as float16.
    front_end
        Their parameters, or the content of ``feature.json``.
    frames
        Valid frames of each clip, shape (N,). Without it the manifest column ``frames`` counts,
        and without that all T are valid.

    Raises
    ------
    StoreError
        If `path` exists, parts do not fit together, or values are not finite in float16.
    """
    path = Path(path)
    array = np.asarray(features)
    if array.ndim != 3 or 0 in array.shape or len(array) != len(manifest):
        raise StoreError(
            f"features of shape {array.shape} do not fit {len(manifest)} manifest rows; "
            "expected (clips, mel bins, frames), at least one of each"
        )
    table = manifest if frames is None else manifest.assign(frames=np.asarray(frames))
    table = _check_manifest(table, array.shape[2], path)
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    _check_finite(path, half, table)
    with whole_folder(path, StoreError) as folder:
        write_parts(folder, table, front_end)
        np.save(folder / ARRAY, half)
        FeatureStore.open(folder, check=False)
    return FeatureStore.open(path, check=False)


def subset_store(
    store: FeatureStore,
    out: str | Path,
    mask: ArrayLike | None = None,
    **where: str | Sequence[str],
) -> FeatureStore:
    """Write some rows of a store as a new store.

    Parameters
    ----------
    store
        The store to cut from.
    out
        Folder of the new store, which must not exist yet.
    mask, **where
        Which rows, see `FeatureStore.rows`.

    Raises
    ------
    StoreError
        If no row meets the conditions, `out` exists or the disk is full.
    """
    rows = store.rows(mask, **where)
    if not len(rows):
        wanted = ", ".join(f"{column} {value!r}" for column, value in where.items())
        raise StoreError(f"no clip of '{store.path}' is selected by {wanted or 'the mask'}")
    return _write(Path(out), [rows], rows.manifest, store.front_end)


def merge_stores(stores: Sequence[FeatureStore], out: str | Path) -> FeatureStore:
    """Join stores of the same front end, in the given order.

    A column that one of the stores lacks is empty in its rows; a front-end parameter that one of
    them does not state is not stated by the new one. The array is as wide as the longest clip.

    Parameters
    ----------
    stores
        The stores to join.
    out
        Folder of the new store, which must not exist yet.

    Raises
    ------
    StoreError
        If the front ends differ, two stores hold the same clip, `out` exists or the disk is full.
    """
    if not stores:
        raise StoreError("no stores to merge; name at least one")
    for other in stores[1:]:
        check_same_front_end(stores[0], other)
    manifest = pd.concat([store.manifest for store in stores], ignore_index=True).fillna("")
    keys = ["machine", "section", "split", "clip"]
    twice = manifest.duplicated(keys)
    if twice.any():
        first = manifest[twice].iloc[0]
        raise StoreError(
            f"clip '{first['clip']}' of {first['machine']} {first['split']} is in two of the "
            "stores; leave it out of one of them (subset)"
        )
    front_end = {
        key: value
        for key, value in stores[0].front_end.items()
        if all(key in store.front_end for store in stores)
    }
    return _write(Path(out), [store.rows() for store in stores], manifest, front_end)


def _write(
    out: Path, parts: Sequence[Rows], manifest: pd.DataFrame, front_end: dict[str, Any]
) -> FeatureStore:
    width = max(int(rows.frames.max()) for rows in parts)
    n_mels = parts[0].store.n_mels
    with whole_folder(out, StoreError) as folder:
        write_parts(folder, manifest, front_end)
        offset = create_array(folder / ARRAY, (len(manifest), n_mels, width))
        with (folder / ARRAY).open("r+b") as stream:
            stream.seek(offset)
            for rows in parts:
                for block in _blocks(rows, width):
                    stream.write(block.data.cast("B"))
    return FeatureStore.open(out)


def _blocks(rows: Rows, width: int) -> Iterator[NDArray[np.float16]]:
    """Read the rows in small blocks (rows of the block, F, `width`), cut or extended by zeros."""
    features = rows.store.features
    size = max(1, _BLOCK_BYTES // features[0].nbytes)
    shared = min(width, features.shape[2])
    for start in range(0, len(rows), size):
        index = rows.index[start : start + size]
        block = np.zeros((len(index), features.shape[1], width), dtype=np.float16)
        block[:, :, :shared] = features[index, :, :shared]
        yield block


def store_info(store: FeatureStore) -> dict[str, Any]:
    """Describe a store in plain values, ready for JSON.

    Returns
    -------
    dict
        ``path``, ``clips``, ``n_mels``, ``n_frames``; ``shortest`` and ``longest`` valid frames;
        ``bytes`` of the array; ``fingerprint``; ``front_end``; ``counts``: one record for each
        machine, section, split, domain and label, with its number of ``clips``.
    """
    return {
        "path": str(store.path),
        "clips": len(store),
        "n_mels": store.n_mels,
        "n_frames": store.n_frames,
        "shortest": int(store.frames.min()),
        "longest": int(store.frames.max()),
        "bytes": int(store.features.nbytes),
        "fingerprint": store.fingerprint,
        "front_end": store.front_end,
        "counts": summarise(store.manifest).to_dict(orient="records"),
    }


def _read_front_end(file: Path) -> dict[str, Any]:
    """Read ``feature.json``.

    Raises
    ------
    StoreError
        If it is not a JSON object.
    """
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise StoreError(f"'{file}' cannot be read ({error}); build the store again") from error
    if not isinstance(stated, dict):
        raise StoreError(f"'{file}' holds no front-end parameters; build the store again")
    return stated


def _map_array(file: Path) -> NDArray[np.float16]:
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


def _read_manifest(file: Path, width: int) -> pd.DataFrame:
    """Read ``manifest.csv`` and check it by `_check_manifest`."""
    try:
        manifest = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        raise StoreError(f"'{file}' cannot be read ({error}); build the store again") from error
    return _check_manifest(manifest, width, file)


def _check_manifest(manifest: pd.DataFrame, width: int, where: Path) -> pd.DataFrame:
    """Return `manifest` with ``frames`` as integers; the full `width` where it has no such column.

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


def _check_finite(path: Path, features: NDArray[np.float16], manifest: pd.DataFrame) -> None:
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
    stated = front_end.describe() if isinstance(front_end, FrontEnd) else dict(front_end)
    stated = {"layout": "clip, mel, frame"} | stated | {"dtype": "float16"}
    (folder / FRONT_END).write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")


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


def _reopen(path: Path) -> FeatureStore:
    return FeatureStore.open(path, check=False)
