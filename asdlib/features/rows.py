"""A selection of rows of a feature store, and the two ways to read it.

`Rows.batches` gives whole clips, for scoring; `Rows.crops` gives excerpts at random places, for
training. Both gather from the memory map in one go, and neither ever hands out padding: a clip
ends where its ``frames`` end.

Shapes: N clips of the store, n rows of the selection, B batch, F mel bins, T frames.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

from asdlib.errors import StoreError

if TYPE_CHECKING:
    from asdlib.features.store import FeatureStore


class Rows:
    """A selection of rows of one store.

    Attributes
    ----------
    store
        Where the rows come from.
    index
        Row numbers in the store, shape (n,), int64; ascending unless reordered by `select`.
    """

    def __init__(self, store: "FeatureStore", index: ArrayLike) -> None:
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
