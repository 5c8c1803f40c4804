"""Make small stores, with noise for features."""

from pathlib import Path

import numpy as np
import pandas as pd

from asdlib.features import FeatureStore, FrontEnd, write_store

SMALL = FrontEnd(n_fft=256, hop_length=128, n_mels=8)


def make_manifest(n: int, *, machine: str = "fan") -> pd.DataFrame:
    """Half training, half test rows over two sections."""
    label = ["anomaly" if i >= n // 2 and i % 3 == 0 else "normal" for i in range(n)]
    return pd.DataFrame(
        {
            "clip": [f"{label[i]}_id_0{i % 2}_{i:08d}.wav" for i in range(n)],
            "machine": machine,
            "section": [f"0{i % 2}" for i in range(n)],
            "split": ["train" if i < n // 2 else "test" for i in range(n)],
            "label": label,
            "domain": "source",
        }
    )


def flip(file: Path, bit: int) -> None:
    """Flip one bit of a file, counted from its start; beyond its end, begin again."""
    content = bytearray(file.read_bytes())
    content[bit // 8 % len(content)] ^= 1 << bit % 8
    file.write_bytes(content)


def make_store(path: Path, n: int = 12, n_frames: int = 20, *, seed: int = 0) -> FeatureStore:
    """Make a store of clips of three lengths, with noise for features."""
    rng = np.random.default_rng(seed)
    frames = n_frames - np.arange(n) % 3
    features = rng.normal(-40.0, 10.0, size=(n, SMALL.n_mels, n_frames))
    features[np.arange(n_frames) >= frames[:, None, None] + np.zeros((1, 8, 1))] = 0.0
    return write_store(path, make_manifest(n).assign(frames=frames), features, SMALL)
