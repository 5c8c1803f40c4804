"""Stores of synthetic machines that a study makes for itself."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from asdlib.features import FeatureStore
from asdlib.study.paths import lock_file


def synthetic_store(
    root: Path, name: str, corpus: Mapping[str, Any], processes: int | None
) -> FeatureStore:
    """Make a synthetic corpus and its features, or find them.

    Parameters
    ----------
    root
        Folder of the study; recordings go to ``recordings/<name>``, the store to ``stores/<name>``.
    name
        Name of the corpus within the study.
    corpus
        Parameters of `asdlib.data.synthetic.SyntheticSpec`.
    processes
        Processes and threads that work.
    """
    from asdlib.data.synthetic import SyntheticSpec, write_corpus
    from asdlib.features.build import build_store

    recordings = root / "recordings" / name
    with FileLock(lock_file(recordings)):
        write_corpus(SyntheticSpec(**corpus), recordings, jobs=processes)
    out = root / "stores" / name
    out.parent.mkdir(parents=True, exist_ok=True)
    return build_store(recordings, out, jobs=processes)
