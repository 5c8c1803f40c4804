"""Look at stores, cut parts out of them and join them.

New stores are written row by row in small blocks, so that memory does not grow with their size, and
get their name only when they are complete.

Shapes: N clips, F mel bins, T frames.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from asdlib.data.check import summarise
from asdlib.errors import StoreError
from asdlib.features.files import ARRAY, StoreFolder, create_array, write_parts
from asdlib.features.rows import Rows
from asdlib.features.store import FeatureStore, check_same_front_end

_BLOCK_BYTES = 2**24


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
    with StoreFolder(out) as folder:
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
