"""Stores that a study makes for itself: of synthetic machines, and derived from other stores.

A derived store (fewer clips, fewer mel bins, another front end) gets a name that holds the
fingerprint of what it was made from, so that a second call finds it and a changed source makes a
new one.

Shapes: N clips, F mel bins, T frames.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from asdlib.errors import ConfigError, StoreError
from asdlib.features import FeatureStore, subset_store
from asdlib.features.store import ARRAY, create_array, write_parts
from asdlib.files import lock_file, whole_folder

_BLOCK = 64
KEYS = ["machine", "section", "split", "clip"]


def synthetic_store(
    root: Path, name: str, corpus: Mapping[str, Any], processes: int | None
) -> FeatureStore:
    """Make a synthetic corpus and its features, or find them.

    Recordings go to ``recordings/<name>`` below `root`, the store to ``stores/<name>``; `corpus`
    holds parameters of `asdlib.data.synthetic.SyntheticSpec`.

    Raises
    ------
    ConfigError
        If a parameter is not valid.
    DataError
        If there is another corpus of this name.
    """
    from asdlib.data.synthetic import SyntheticSpec, write_corpus
    from asdlib.features.build import build_store
    from asdlib.system import validate_params

    spec = validate_params(SyntheticSpec, corpus, "a synthetic store")
    recordings = root / "recordings" / name
    with FileLock(lock_file(recordings)):
        write_corpus(spec, recordings, jobs=processes)
    out = root / "stores" / name
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock_file(out)):
        return build_store(recordings, out, jobs=processes)


def share_of_training(store: FeatureStore, share: float, seed: int, folder: Path) -> FeatureStore:
    """Keep a share of the normal training clips of each section and domain, drawn at random.

    The clips of a smaller share are among those of a larger one with the same seed. At least two
    clips of each section and domain are kept, or all of them where there are fewer.

    Raises
    ------
    ConfigError
        If the share is not above 0 and at most 1.
    """
    if not 0 < share <= 1:
        raise ConfigError(f"share of training clips is {share}, expected above 0 and at most 1")
    out = folder / f"share-{share:g}-seed-{seed}-{store.fingerprint[:12]}"

    def make() -> None:
        table = store.manifest
        rng = np.random.default_rng(seed)
        keep: list[int] = []
        training = table[(table["split"] == "train") & (table["label"] != "anomaly")]
        for _, rows in training.groupby(["machine", "section", "domain"], sort=True):
            n = max(round(share * len(rows)), min(2, len(rows)))
            keep += rng.permutation(rows.index.to_numpy())[:n].tolist()
        mask = np.zeros(len(store), dtype=bool)
        mask[keep] = True
        subset_store(store, out, mask)

    return _made(out, make)


def half_bins(store: FeatureStore, folder: Path) -> FeatureStore:
    """Average neighbouring mel bins in power: half as many bins, from the features alone.

    A front end of its own, derived from that of the store: filters twice as wide, on the same
    frequencies, frames and logarithm.

    Raises
    ------
    StoreError
        If the store has an odd number of bins or does not say its logarithm.
    """
    if store.n_mels % 2 or "scale" not in store.front_end:
        raise StoreError(
            f"the bins of '{store.path}' cannot be halved: {store.n_mels} bins, scale "
            f"{store.front_end.get('scale', 'not stated')!r}; expected an even number and a scale"
        )
    to_log = 1.0 if str(store.front_end["scale"]).startswith("ln") else np.log(10) / 10
    front_end = {
        **store.front_end,
        "n_mels": store.n_mels // 2,
        "derived": "mean power of two neighbouring mel bins",
    }
    out = folder / f"half-bins-{store.fingerprint[:12]}"
    return _made(out, lambda: _write_half(store, out, front_end, to_log))


def _write_half(store: FeatureStore, out: Path, front_end: dict[str, Any], to_log: float) -> None:
    n, f, t = store.features.shape
    with whole_folder(out, StoreError) as folder:
        write_parts(folder, store.manifest, front_end)
        offset = create_array(folder / ARRAY, (n, f // 2, t))
        with (folder / ARRAY).open("r+b") as stream:
            stream.seek(offset)
            for start in range(0, n, _BLOCK):
                block = pair_means(store.features[start : start + _BLOCK], to_log)
                # Beyond the valid frames a store holds zeros.
                beyond = np.arange(t) >= store.frames[start : start + _BLOCK, None]
                block[np.broadcast_to(beyond[:, None], block.shape)] = 0
                stream.write(block.data.cast("B"))


def pair_means(log_mel: NDArray[np.float16], to_log: float) -> NDArray[np.float16]:
    """Mean power of bins 2 k and 2 k + 1, (N, F, T) → (N, F/2, T); x · `to_log` = ln power."""
    x = log_mel.astype(np.float64) * to_log
    mean = np.logaddexp(x[:, ::2], x[:, 1::2]) - np.log(2)
    halved: NDArray[np.float16] = (mean / to_log).astype(np.float16)
    return halved


def from_recordings(
    stores: Sequence[FeatureStore], wav: Path, preset: str, folder: Path, *, jobs: int | None = None
) -> FeatureStore:
    """Build a store of another front end from the recordings of the clips that `stores` hold.

    Raises
    ------
    StoreError
        If a clip of the stores is not among the recordings.
    """
    from asdlib.data.clips import index_folder
    from asdlib.features.build import build_store

    wanted = {key for store in stores for key in map(tuple, store.manifest[KEYS].to_numpy())}
    table = index_folder(wav)
    table = table[[tuple(row) in wanted for row in table[KEYS].to_numpy()]]
    if len(table) < len(wanted):
        found = set(map(tuple, table[KEYS].to_numpy()))
        machine, section, split, clip = sorted(wanted - found)[0]
        raise StoreError(
            f"{len(wanted - found)} of {len(wanted)} clips of the store are not in '{wav}', the "
            f"first is '{clip}' of {machine} {section} {split}; give the folder of the recordings "
            "that the store was built from"
        )
    marks = "-".join(store.fingerprint[:12] for store in dict.fromkeys(stores))
    folder.mkdir(parents=True, exist_ok=True)
    return build_store(wav, folder / f"{preset}-{marks}", preset=preset, table=table, jobs=jobs)


def _made(out: Path, make: Callable[[], None]) -> FeatureStore:
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock_file(out)):
        if not out.exists():
            make()
    return FeatureStore.open(out)
