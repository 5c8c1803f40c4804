"""Make small stores on which the contrastive system is trained in a blink."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asdlib.features import FeatureStore, FrontEnd, write_store
from asdlib.method import Contrastive, ContrastiveParams

FRONT_END = FrontEnd(n_fft=256, hop_length=128, n_mels=16)
QUICK: dict[str, Any] = {
    "epochs": 2,
    "crop_frames": 8,
    "batch_size": 8,
    "projection_size": 8,
    "backend": "knn",
}


def quick(**changes: Any) -> ContrastiveParams:
    return ContrastiveParams.model_validate(QUICK | changes)


def quick_system(seed: int = 0, **changes: Any) -> Contrastive:
    return Contrastive(seed=seed, **QUICK | changes)


def make_store(
    path: Path,
    *,
    n_train: int = 7,
    n_test: int = 4,
    domains: bool = False,
    frames: tuple[int, ...] = (20, 18, 17),
    level: float = -40.0,
) -> FeatureStore:
    """Two machines of two sections; with domains, two training clips a section are target."""
    rows = []
    for machine in ("fan", "pump"):
        for section in ("00", "02"):
            for i in range(n_train + n_test):
                split = "train" if i < n_train else "test"
                label = "anomaly" if split == "test" and i % 2 else "normal"
                domain = "target" if domains and i in (1, 4) else "source"
                name = f"{label}_id_{section}_{i:08d}.wav"
                rows.append((name, machine, section, split, label, domain))
    manifest = pd.DataFrame(
        rows, columns=["clip", "machine", "section", "split", "label", "domain"]
    )
    rng = np.random.default_rng(0)
    keys = manifest["machine"] + manifest["section"]
    spectra = {key: rng.normal(level, 6.0, FRONT_END.n_mels) for key in sorted(set(keys))}
    valid = np.resize(frames, len(manifest))
    noise = rng.normal(0.0, 3.0, (len(manifest), FRONT_END.n_mels, valid.max()))
    features = np.stack([spectra[key] for key in keys])[:, :, None] + noise
    features *= np.arange(valid.max()) < valid[:, None, None]
    return write_store(path, manifest.assign(frames=valid), features, FRONT_END)
