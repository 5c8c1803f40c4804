"""Data of a student's own, from the name: the same machines as all, other clips.

Shapes: N scores, B clips, F mel bins, T frames.
"""

import hashlib
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asdlib.data.synthetic import SPECS, write_corpus
from asdlib.errors import ConfigError
from asdlib.features import build_store


def student_seed(name: str) -> int:
    """Return the seed of a student: one for all spellings of a name, hardly ever shared.

    Raises
    ------
    ConfigError
        If the name has no letter or digit.
    """
    plain = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(letter for letter in plain if letter.isalnum())
    if not plain:
        raise ConfigError(f"name {name!r} has no letter or digit; give a name or a number")
    return int.from_bytes(hashlib.sha256(plain.encode()).digest()[:4]) >> 1


def write_student_data(
    name: str, out: str | Path, *, profile: str = "classroom", jobs: int | None = None
) -> pd.DataFrame:
    """Write synthetic recordings of a student's own and return their clip table.

    Raises
    ------
    ConfigError
        If the profile is no key of `asdlib.data.synthetic.SPECS`, or the name is empty.
    """
    if profile not in SPECS:
        known = ", ".join(SPECS)
        raise ConfigError(f"unknown profile '{profile}' of synthetic data (known: {known})")
    spec = SPECS[profile].model_copy(update={"seed": student_seed(name)})
    return write_corpus(spec, out, jobs=jobs)


def student_scores(name: str, n: int = 300) -> tuple[Any, Any]:
    """Return labels (N,) and anomaly scores (N,) of an imagined detector, a student's own."""
    rng = np.random.default_rng(student_seed(name))
    y_true = np.tile([0, 0, 1], n // 3 + 1)[:n]
    return y_true, np.round(rng.gamma(3.0, size=n) + rng.uniform(1, 2) * y_true, 2)


def student_features(name: str, out: str | Path = "build/exercises") -> tuple[Any, Any, Any]:
    """Return log-mel features of a student's own fan recordings; they are made on first use.

    Returns
    -------
    Training clips (B, F, T) in dB, test clips (B, F, T) in dB, labels of the test clips (B,).
    """
    seed = student_seed(name)
    root = Path(out) / str(seed)
    size = {"machines": ("fan",), "n_sections": 1, "n_train": 40, "seed": seed}
    spec = SPECS["smoke"].model_copy(update={**size, "n_test_normal": 15, "n_test_anomaly": 15})
    write_corpus(spec, root / "recordings", jobs=1)
    store = build_store(root / "recordings", root / "store", preset="dcase2020", jobs=1)
    train, test = (
        np.asarray(store.features[store.rows(split=split).index], dtype=np.float32)
        for split in ("train", "test")
    )
    truth = (store.rows(split="test").manifest["label"] == "anomaly").to_numpy(dtype=int)
    return train, test, truth
