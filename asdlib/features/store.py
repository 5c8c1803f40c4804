"""The feature store: log-mels of many clips in one memory-mapped array, with their manifest.

A store is a folder. ``manifest.csv`` has one row per clip, ``logmel.npy`` one (F, T) float16
spectrogram per clip, ``feature.json`` the front end; row i of the first two belong together. The
array is as wide as the longest clip; shorter clips end in zeros, and the manifest column ``frames``
says how many frames are valid. A store is never changed once it has its name, and ``SHA256SUMS``,
which older stores lack, tells whether it was: its small files are compared at every opening, the
array whenever it is read as a whole, for a fingerprint or a copy.

Shapes: N clips of the store, n rows of a selection, B batch, F mel bins, T frames.
"""

import errno
import hashlib
import io
import json
import math
import os
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from asdlib.data.naming import LABELLED, plain_name
from asdlib.errors import ConfigError, StoreError
from asdlib.features.front_end import FrontEnd, differences
from asdlib.files import check_regular, read_json, reading, whole_folder

MANIFEST, ARRAY, FRONT_END, SUMS = "manifest.csv", "logmel.npy", "feature.json", "SHA256SUMS"
REQUIRED = ("clip", "machine", "section", "split", "label", "domain")

Picked = NDArray[Any] | Sequence[Any] | pd.Series
"""A Boolean mask of rows, or their numbers."""

CHECKED_BYTES = 512 * 2**20
"""Arrays up to this size are checked in full for finite values, of larger ones a sample."""

_BLOCK_BYTES = 2**24
_REBUILD = "build the store again"
_VALUES = {"label": ("normal", "anomaly", ""), "domain": ("source", "target", "")}
_digests: dict[tuple[Any, ...], str] = {}


class FeatureStore:
    """An opened store, read-only.

    Attributes
    ----------
    path
        Its folder.
    manifest
        One row per clip; text columns, and ``frames`` as integers.
    features
        Shape (N, F, T), float16, memory-mapped.
    front_end
        The content of ``feature.json`` as it stands; older stores may lack parameters.
    parameters
        The same as a `FrontEnd`; parameters that it lacks have their defaults.

    Raises
    ------
    StoreError
        If the parts do not fit together.
    """

    def __init__(
        self,
        path: Path,
        manifest: pd.DataFrame,
        features: NDArray[np.float16],
        front_end: dict[str, Any],
    ) -> None:
        self.path = path
        self.features = features
        self.front_end = front_end
        if len(manifest) != len(features):
            raise StoreError(
                f"store '{path}' is damaged: {len(manifest)} manifest rows for {len(features)} "
                f"spectrograms; {_REBUILD}"
            )
        self.manifest = _check_manifest(manifest, self.n_frames, path)
        try:
            self.parameters = FrontEnd.from_description({"n_mels": self.n_mels} | front_end)
        except ConfigError as error:
            raise StoreError(f"'{path / FRONT_END}' is wrong: {error}; {_REBUILD}") from None
        if self.parameters.n_mels != self.n_mels:
            raise StoreError(
                f"store '{path}' is damaged: {FRONT_END} says n_mels {self.parameters.n_mels}, the "
                f"spectrograms have {self.n_mels} bins; {_REBUILD}"
            )

    @classmethod
    def open(cls, path: str | Path, *, check: bool = True) -> Self:
        """Open a store.

        With `check`, the small files are compared with ``SHA256SUMS``, and values are looked at for
        NaN and infinity: all up to `CHECKED_BYTES`, in evenly spaced rows of that size beyond.

        Raises
        ------
        StoreError
            If this is no store, it cannot be read or is damaged, or values are not finite.
        """
        path = Path(path)
        with reading(path, StoreError, _REBUILD):
            check_regular(path)
            missing = [name for name in (MANIFEST, ARRAY, FRONT_END) if not (path / name).is_file()]
        if missing:
            what = f"it lacks {', '.join(missing)}" if path.is_dir() else "no such folder"
            raise StoreError(f"'{path}' is not a feature store: {what}; build it or mend the path")
        front_end = read_json(path / FRONT_END, StoreError, _REBUILD)
        store = cls(path, _read_manifest(path / MANIFEST), _map_array(path / ARRAY), front_end)
        if check:
            store.compare_sums(MANIFEST, FRONT_END)
            store.check_finite()
        return store

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path alone: a data-loading process opens the memory map for itself."""
        return partial(FeatureStore.open, check=False), (self.path,)

    def __len__(self) -> int:
        return len(self.features)

    def __repr__(self) -> str:
        n, f, t = self.features.shape
        return f"FeatureStore('{self.path}', {n} clips, {f} bins, {t} frames)"

    @property
    def described(self) -> dict[str, Any]:
        """What is known of the front end: what ``feature.json`` states, and the number of bins."""
        return self.front_end | {"n_mels": self.n_mels}

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
        """SHA-256 over manifest, front end and spectrograms, which are compared with their sums."""
        digests = self.compare_sums(MANIFEST, FRONT_END, ARRAY)
        return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()

    def compare_sums(self, *names: str) -> list[str]:
        """Compare files with ``SHA256SUMS``, where there is one, and return their digests."""
        sums = self.path / SUMS
        digests = [_digest(self.path / name) for name in names]
        if not sums.exists():
            return digests
        with reading(sums, StoreError, _REBUILD):
            expected = sums.read_text(encoding="ascii").split("\n")
        for name, digest in zip(names, digests, strict=True):
            if f"{digest}  {name}" not in expected:
                raise StoreError(
                    f"'{self.path / name}' is not what {SUMS} says: it was damaged or edited; "
                    f"{_REBUILD}, or remove {SUMS} after an edit"
                )
        return digests

    def check_finite(self) -> None:
        """Refuse NaN and infinite values; beyond `CHECKED_BYTES` in evenly spaced rows only."""
        step = max(1, -(-self.features.nbytes // CHECKED_BYTES))
        kept, clips = self.features[::step], self.manifest["clip"].iloc[::step]
        size = max(1, 2**22 // self.features[0].nbytes)
        for start in range(0, len(kept), size):
            _check_finite(kept[start : start + size], clips.iloc[start:])

    def check_front_end(self, described: dict[str, Any], where: str) -> None:
        """Refuse, by a `StoreError`, features that do not mean the same as those of `where`.

        Lengths may differ. Parameters that only one of them states are not compared.
        """
        if differ := differences(self.described, described):
            raise StoreError(
                f"store '{self.path}' and {where} have different front ends: {differ}; build both "
                "with the same preset"
            )

    def mel_frequencies(self) -> NDArray[np.float64]:
        """Return the centre frequency of every mel bin in Hz, shape (F,)."""
        return self.parameters.mel_frequencies()

    def rows(self, mask: Picked | None = None, **where: str | Sequence[str]) -> "Rows":
        """Select rows.

        Parameters
        ----------
        mask
            True for the rows to keep, shape (N,), or row numbers; all rows if not given.
        **where
            Column = value or list of values; a row has to meet all of them, for example
            ``store.rows(split="train", machine=["fan", "pump"])``.

        Raises
        ------
        StoreError
            If a column is not in the manifest, or a value not in its column.
        """
        index = np.arange(len(self))
        if mask is not None:
            index = index[mask]
        keep = np.ones(len(self), dtype=bool)
        for column, wanted in where.items():
            if column not in self.manifest:
                raise StoreError(
                    f"column '{column}' is not in the manifest of '{self.path}' "
                    f"(known: {', '.join(map(str, self.manifest))})"
                )
            values = self.manifest[column].astype(str)
            wanted = [wanted] if isinstance(wanted, str) else list(wanted)
            known = sorted(set(values))
            for value in sorted(set(wanted) - set(known)):
                shown = textwrap.shorten(", ".join(map(repr, known)), 160, placeholder=" …")
                raise StoreError(
                    f"{column} '{value}' is not in the store '{self.path}' (known: {shown})"
                )
            keep &= values.isin(wanted).to_numpy(dtype=bool)
        return Rows(self, index[keep[index]])


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
        self.index: NDArray[np.int64] = np.asarray(index, dtype=np.int64)

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

    def select(self, mask: Picked) -> "Rows":
        """Narrow the selection by a mask (n,), or by positions in it in any order."""
        return Rows(self.store, self.index[mask])

    def batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Read whole clips, grouped by their number of frames, shortest first.

        Yields
        ------
        positions
            Positions in this selection, shape (B,), B at most `batch_size`; each comes once.
        log_mel
            Shape (B, F, T), T the valid frames that all clips of the batch have.

        Raises
        ------
        StoreError
            If values are NaN or infinite.
        """
        if batch_size < 1:
            raise StoreError(f"batch size {batch_size} must be at least 1")
        for n_frames in np.unique(self.frames):
            group = np.flatnonzero(self.frames == n_frames)
            for start in range(0, group.size, batch_size):
                positions = group[start : start + batch_size]
                rows = self.index[positions]
                # A slice of the memory map is converted without an intermediate copy.
                neighbours = np.all(np.diff(rows) == 1)
                at = slice(rows[0], rows[-1] + 1) if neighbours else rows
                picked = np.asarray(self.store.features[at, :, :n_frames])
                _check_finite(picked, self.store.manifest["clip"].iloc[rows])
                yield positions, picked.astype(np.float32, order="C")

    def crops(self, positions: ArrayLike, starts: ArrayLike, n_frames: int) -> NDArray[np.float32]:
        """Read one excerpt of `n_frames` frames from each of B clips: (B, F, n_frames), float32.

        Parameters
        ----------
        positions
            Positions in this selection, shape (B,), in any order, repeated or not.
        starts
            First frame of each excerpt, shape (B,).
        n_frames
            Frames of an excerpt.

        Raises
        ------
        StoreError
            If an excerpt does not lie within the valid frames of its clip.
        """
        at, first = np.asarray(positions, np.int64), np.asarray(starts, np.int64)
        wrong = np.flatnonzero((first < 0) | (first + n_frames > self.frames[at]) | (n_frames < 1))
        if wrong.size:
            begin, row = first[wrong[0]], self.index[at[wrong[0]]]
            raise StoreError(
                f"frames {begin} … {begin + n_frames - 1} are not within clip "
                f"'{self.store.manifest['clip'].iloc[row]}' of {self.store.frames[row]} frames; "
                "take shorter excerpts or leave out shorter clips"
            )
        # A window view makes "clip i from frame s on" one fancy index: no loop over clips.
        windows = sliding_window_view(self.store.features, n_frames, axis=2)
        return windows[self.index[at], :, first].astype(np.float32, order="C")


def is_store(path: Path) -> bool:
    """Return whether a folder is a feature store, or one that lacks a part."""
    return any((path / name).exists() for name in (MANIFEST, ARRAY, FRONT_END))


def write_store(
    path: str | Path,
    manifest: pd.DataFrame,
    features: ArrayLike,
    front_end: FrontEnd | dict[str, Any],
) -> FeatureStore:
    """Write a store from an array in memory: for derived and test stores.

    Parameters
    ----------
    path
        Its folder, which must not exist yet.
    manifest
        One row per clip, with at least the columns of `REQUIRED`; values become text. The column
        ``frames`` counts the valid frames of each clip; without it all T are valid.
    features
        Shape (N, F, T), finite; kept as float16.
    front_end
        Their parameters, or the content of ``feature.json``.

    Raises
    ------
    StoreError
        If `path` exists, parts do not fit together, or values are not finite in float16.
    """
    array = np.asarray(features)
    if array.ndim != 3 or 0 in array.shape or len(array) != len(manifest):
        raise StoreError(
            f"features of shape {array.shape} do not fit {len(manifest)} manifest rows; "
            "expected (clips, mel bins, frames), at least one of each"
        )
    with np.errstate(over="ignore"):
        half = np.ascontiguousarray(array.astype(np.float16))
    stated = front_end.describe() if isinstance(front_end, FrontEnd) else front_end
    store = FeatureStore(Path(path), manifest, half, stated)
    return write_blocks(store.path, store.manifest, stated, half.shape, [half])


def subset_store(
    store: FeatureStore,
    out: str | Path,
    mask: Picked | None = None,
    **where: str | Sequence[str],
) -> FeatureStore:
    """Write some rows of a store as the new store `out`; see `FeatureStore.rows`.

    Raises a `StoreError` if no row meets the conditions, `out` exists or `store` is damaged.
    """
    rows = store.rows(mask, **where)
    if not len(rows):
        wanted = ", ".join(f"{column} {value!r}" for column, value in where.items())
        raise StoreError(f"no clip of '{store.path}' is selected by {wanted or 'the mask'}")
    return _copy(Path(out), [rows], rows.manifest, store.front_end)


def merge_stores(stores: Sequence[FeatureStore], out: str | Path) -> FeatureStore:
    """Join stores of the same front end, in the given order, as the new store `out`.

    A column that one of the stores lacks is empty in its rows; a front-end parameter that one of
    them does not state is not stated by the new one. The array is as wide as the longest clip.
    Raises a `StoreError` if front ends differ, two stores hold the same clip, or one is damaged.
    """
    if not stores:
        raise StoreError("no stores to merge; name at least one")
    for other in stores[1:]:
        stores[0].check_front_end(other.described, f"store '{other.path}'")
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
    return _copy(Path(out), [store.rows() for store in stores], manifest, front_end)


def _copy(
    out: Path, parts: Sequence[Rows], manifest: pd.DataFrame, front_end: dict[str, Any]
) -> FeatureStore:
    for rows in parts:
        if (rows.store.path / SUMS).exists():
            rows.store.compare_sums(ARRAY)
    width = max(int(rows.frames.max()) for rows in parts)
    shape = (len(manifest), parts[0].store.n_mels, width)
    blocks = (block for rows in parts for block in _blocks(rows, width))
    return write_blocks(out, manifest, front_end, shape, blocks)


def write_blocks(
    out: Path,
    manifest: pd.DataFrame,
    front_end: dict[str, Any],
    shape: tuple[int, ...],
    blocks: Iterable[NDArray[np.float16]],
) -> FeatureStore:
    """Write a store of a shape (N, F, T), whose spectrograms come in blocks (rows, F, T)."""
    with whole_folder(out, StoreError) as folder:
        fill_store(folder, manifest, front_end, shape, blocks)
    return FeatureStore.open(out, check=False)


def fill_store(
    folder: Path,
    manifest: pd.DataFrame,
    front_end: dict[str, Any],
    shape: tuple[int, ...],
    blocks: Iterable[NDArray[np.float16]],
) -> None:
    """Write the files of a store into `folder`; `blocks` begin after `rows_written`."""
    done = rows_written(folder, shape)
    with (folder / ARRAY).open("ab") as stream:
        if shutil.disk_usage(folder).free < 2 * math.prod(shape) - stream.tell():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), stream.name)
        if not done:
            stream.write(_header(shape))
        for block in blocks:
            _check_finite(block, manifest.get("path", manifest["clip"]).iloc[done:])
            stream.write(block.data.cast("B"))
            # What counts as written is on disk, even after a power failure.
            stream.flush()
            os.fsync(stream.fileno())
            done += len(block)
    manifest.to_csv(folder / MANIFEST, index=False, lineterminator="\n")
    stated = {"layout": "clip, mel, frame"} | front_end | {"dtype": "float16"}
    (folder / FRONT_END).write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")
    sums = "".join(f"{_digest(folder / name)}  {name}\n" for name in (MANIFEST, ARRAY, FRONT_END))
    (folder / SUMS).write_text(sums, encoding="ascii")


def rows_written(folder: Path, shape: tuple[int, ...]) -> int:
    """Count the whole spectrograms in the array of an unfinished store, and cut off the rest."""
    file, row, start = folder / ARRAY, 2 * math.prod(shape[1:]), len(_header(shape))
    if not file.exists():
        return 0
    whole = max(0, file.stat().st_size - start) // row
    os.truncate(file, start + whole * row if whole else 0)
    return whole


def _header(shape: tuple[int, ...]) -> bytes:
    """Return what stands in ``logmel.npy`` before the spectrograms."""
    header = io.BytesIO()
    stated = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, stated)
    return header.getvalue()


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


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits, computed once for each state of it."""
    with reading(file, StoreError, _REBUILD):
        state = file.stat()
        key = (str(file.resolve()), state.st_size, state.st_mtime_ns)
        if key not in _digests:
            with file.open("rb") as stream:
                _digests[key] = hashlib.file_digest(stream, "sha256").hexdigest()
    return _digests[key]


def _map_array(file: Path) -> NDArray[np.float16]:
    """Open ``logmel.npy`` memory-mapped, shape (N, F, T)."""
    with reading(file, StoreError, _REBUILD):
        array = np.lib.format.open_memmap(file, mode="r")
        if array.ndim != 3 or array.dtype != np.float16 or 0 in array.shape:
            raise ValueError(
                f"it holds {array.dtype} of shape {array.shape}, expected float16 (clips, mel "
                "bins, frames)"
            )
        if file.stat().st_size != array.offset + array.nbytes:
            raise ValueError("it has more bytes than its header says")
    return array


def _read_manifest(file: Path) -> pd.DataFrame:
    with reading(file, StoreError, _REBUILD):
        content = file.read_bytes()
        if b"\0" in content:  # pandas ends a field there without a word
            raise ValueError("it holds bytes of zero")
        manifest = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
        if not isinstance(manifest.index, pd.RangeIndex):
            raise ValueError("rows have more fields than the header")
    return manifest


def _check_manifest(manifest: pd.DataFrame, width: int, where: Path) -> pd.DataFrame:
    """Return a valid `manifest` with ``frames`` as integers, by default the full `width`."""
    missing = [column for column in REQUIRED if column not in manifest]
    if missing:
        has = ", ".join(map(str, manifest))
        raise StoreError(f"manifest of '{where}' lacks {', '.join(missing)} (has: {has})")
    empty = manifest.columns[manifest.isna().any()]
    if len(empty):
        raise StoreError(
            f"manifest of '{where}': column '{empty[0]}' has missing values; use empty text"
        )
    for column in ("machine", "section"):
        for name in manifest[column].unique():
            plain_name(str(name), f"manifest of '{where}': {column}", StoreError)
    if "frames" not in manifest:
        manifest = manifest.assign(frames=np.full(len(manifest), width, dtype=np.int64))
    frames = pd.to_numeric(manifest["frames"], errors="coerce")
    label, said = manifest["label"], manifest["clip"].astype(str).str.extract(LABELLED)["label"]
    checks = [
        *((name, manifest[name].isin(v), f"one of {v}") for name, v in _VALUES.items()),
        ("label", said.isna() | (label == "") | (label == said), "what its name says"),
        ("frames", frames.between(1, width) & (frames % 1 == 0), f"1 to {width}"),
    ]
    for column, fine, expected in checks:
        if not fine.all():
            row = manifest[~fine].iloc[0]
            raise StoreError(
                f"manifest of '{where}': clip '{row['clip']}' has {column} '{row[column]}'; "
                f"expected {expected}"
            )
    return manifest.assign(frames=frames.astype(np.int64))


def _check_finite(block: NDArray[np.float16], clips: pd.Series) -> None:
    """Refuse NaN and infinite values in a block (n, F, T), whose clips come first in `clips`.

    Without its sign bit, such a float16 is at least 0xF800: six times as fast as ``isfinite``.
    """
    bits = block.view(np.uint16) << 1
    if bits.max() >= 0xF800:
        clip = clips.iloc[int(np.argmax(bits.max(axis=(1, 2)) >= 0xF800))]
        raise StoreError(
            f"clip '{clip}' holds NaN or infinite values, expected numbers, full scale 1.0; fetch "
            f"or record it again, or leave it out, and {_REBUILD}"
        )
