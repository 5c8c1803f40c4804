"""The feature store: log-mels of many clips in one memory-mapped array, with their manifest.

A store is a folder of three files. ``manifest.csv`` has one row a clip, ``logmel.npy`` one
(F, T) float16 spectrogram a clip, ``feature.json`` the front end. Row i of the first two belong
together. The array is as wide as the longest clip; shorter clips end in zeros, and the manifest
column ``frames`` says how many frames are valid. A store is never changed once it has its name.

Shapes: N clips, F mel bins, T frames.
"""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from asdlib.errors import StoreError
from asdlib.features.files import (
    ARRAY,
    FRONT_END,
    MANIFEST,
    StoreFolder,
    check_finite,
    check_manifest,
    map_array,
    read_front_end,
    read_manifest,
    write_parts,
)
from asdlib.features.front_end import FrontEnd, mel_frequencies
from asdlib.features.rows import Rows, as_positions

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
        front_end = read_front_end(path / FRONT_END)
        features = map_array(path / ARRAY)
        manifest = read_manifest(path / MANIFEST, features.shape[2])
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
            check_finite(path, features, manifest)
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
        """Give the centre frequency of every mel bin in Hz, shape (F,).

        A store that does not say otherwise spans 0 Hz to half the sample rate on Slaney's scale.
        """
        told = self.front_end
        top = float(told.get("f_max", told.get("sample_rate", 16000) / 2))
        scale = told.get("mel_scale", "slaney")
        return mel_frequencies(self.n_mels, float(told.get("f_min", 0.0)), top, scale)

    def rows(self, mask: ArrayLike | None = None, **where: str | Sequence[str]) -> Rows:
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
    table = check_manifest(table, array.shape[2], path)
    with np.errstate(over="ignore"):
        half = array.astype(np.float16)
    check_finite(path, half, table)
    with StoreFolder(path) as folder:
        write_parts(folder, table, front_end)
        np.save(folder / ARRAY, half)
        FeatureStore.open(folder, check=False)
    return FeatureStore.open(path, check=False)


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


def _reopen(path: Path) -> FeatureStore:
    return FeatureStore.open(path, check=False)
