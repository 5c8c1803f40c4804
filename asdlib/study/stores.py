"""Stores that a study makes for itself: of synthetic machines, and derived from other stores.

The name of a derived store (fewer clips, fewer mel bins, another front end) holds the fingerprint
of its source: a second call finds it, and a changed source makes a new one. A process that needs a
store which another one is making waits for it.

Shapes: N clips, F mel bins, T frames.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from asdlib.errors import ConfigError, StoreError
from asdlib.features import FeatureStore, subset_store, write_store
from asdlib.files import lock_file, only_process

_BLOCK = 64
KEYS = ["machine", "section", "split", "clip"]


def alone(out: Path) -> AbstractContextManager[None]:
    """Hold the lock of `out`, whose parent folders are made; other processes wait."""
    return only_process(out, StoreError, lock=lock_file(out), wait=True)


def synthetic_store(
    root: Path, name: str, corpus: Mapping[str, Any], processes: int | None
) -> FeatureStore:
    """Make a synthetic corpus and its features, or find them.

    Recordings go to ``recordings/<name>`` below `root`, the store to ``stores/<name>``; `corpus`
    holds parameters of `asdlib.data.synthetic.SyntheticSpec`.
    """
    from asdlib.data.synthetic import SyntheticSpec, write_corpus
    from asdlib.features.build import build_store
    from asdlib.system import validate_params

    spec = validate_params(SyntheticSpec, corpus, "a synthetic store")
    recordings, out = root / "recordings" / name, root / "stores" / name
    with alone(recordings):
        write_corpus(spec, recordings, jobs=processes)
    with alone(out):
        return build_store(recordings, out, jobs=processes)


def share_of_training(store: FeatureStore, share: float, seed: int, folder: Path) -> FeatureStore:
    """Keep a share of the normal training clips of each section and domain, drawn at random.

    The clips of a smaller share are among those of a larger one with the same seed. At least two
    clips of each section and domain are kept, or all of them where there are fewer.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share of training clips is {share}, expected above 0 and at most 1")
    out = folder / f"share-{share:g}-seed-{seed}-{store.fingerprint[:12]}"
    with alone(out):
        if out.exists():
            return FeatureStore.open(out)
        table = store.manifest
        rng = np.random.default_rng(seed)
        mask = np.zeros(len(store), dtype=bool)
        training = table[(table["split"] == "train") & (table["label"] != "anomaly")]
        for _, rows in training.groupby(["machine", "section", "domain"], sort=True):
            n = max(round(share * len(rows)), min(2, len(rows)))
            mask[rng.permutation(rows.index.to_numpy())[:n]] = True
        return subset_store(store, out, mask)


def half_bins(store: FeatureStore, folder: Path) -> FeatureStore:
    """Average neighbouring mel bins in power: filters twice as wide, from the features alone."""
    if store.n_mels % 2 or "scale" not in store.front_end:
        raise StoreError(
            f"the bins of '{store.path}' cannot be halved: {store.n_mels} bins, scale "
            f"{store.front_end.get('scale', 'not stated')!r}; expected an even number and a scale"
        )
    front_end = store.front_end | {
        "n_mels": store.n_mels // 2,
        "derived": "mean power of two neighbouring mel bins",
    }
    to_log = 1.0 if str(store.front_end["scale"]).startswith("ln") else np.log(10) / 10
    out = folder / f"half-bins-{store.fingerprint[:12]}"
    with alone(out):
        if out.exists():
            return FeatureStore.open(out)
        starts = range(0, len(store), _BLOCK)
        halved = np.concatenate(
            [pair_means(store.features[i : i + _BLOCK], to_log) for i in starts]
        )
        # Beyond the valid frames a store holds zeros.
        beyond = np.arange(store.n_frames) >= store.frames[:, None]
        halved[np.broadcast_to(beyond[:, None], halved.shape)] = 0
        return write_store(out, store.manifest, halved, front_end)


def pair_means(log_mel: NDArray[np.float16], to_log: float) -> NDArray[np.float16]:
    """Mean power of bins 2 k and 2 k + 1, (N, F, T) → (N, F/2, T); x · `to_log` = ln power."""
    x = log_mel.astype(np.float64) * to_log
    mean = np.logaddexp(x[:, ::2], x[:, 1::2]) - np.log(2)
    halved: NDArray[np.float16] = (mean / to_log).astype(np.float16)
    return halved


def from_recordings(
    stores: Sequence[FeatureStore], wav: Path, preset: str, folder: Path, *, jobs: int | None = None
) -> FeatureStore:
    """Build a store of another front end from the recordings of the clips that `stores` hold."""
    from asdlib.data.clips import index_folder
    from asdlib.features.build import build_store

    wanted = pd.concat([store.manifest[KEYS] for store in stores]).drop_duplicates()
    table = index_folder(wav).merge(wanted, on=KEYS)
    lost = pd.concat([wanted, table[KEYS]]).drop_duplicates(keep=False).sort_values(KEYS)
    if len(lost):
        machine, section, split, clip = lost.iloc[0]
        raise StoreError(
            f"{len(lost)} of {len(wanted)} clips of the store are not in '{wav}', the first is "
            f"'{clip}' of {machine} {section} {split}; give the folder that it was built from"
        )
    marks = "-".join(store.fingerprint[:12] for store in dict.fromkeys(stores))
    folder.mkdir(parents=True, exist_ok=True)
    return build_store(wav, folder / f"{preset}-{marks}", preset=preset, table=table, jobs=jobs)
