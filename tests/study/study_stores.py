"""Make small stores and recordings, and keep what a run needs small, too."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from asdlib.features import FeatureStore, FrontEnd, write_store

FRONT_END = FrontEnd(n_fft=512, hop_length=256, n_mels=16)
QUICK: dict[str, dict[str, Any]] = {
    "contrastive": {"epochs": 1, "crop_frames": 8, "batch_size": 8},
    "autoencoder": {"epochs": 1, "hidden": 8, "bottleneck": 2},
    "statistics": {},
}
"""Parameters with which a system is fitted in well under a second."""


def clip_name(year: int, section: str, split: str, domain: str, label: str, i: int) -> str:
    if year == 2020:
        return f"{label}_id_{section}_{i:08d}.wav"
    return f"section_{section}_{domain}_{split}_{label}_{i:04d}_n_A.wav"


def make_manifest(
    year: int = 2020,
    machines: tuple[str, ...] = ("fan", "pump"),
    sections: tuple[str, ...] = ("00", "02"),
    n_train: int = 6,
    n_test: int = 8,
) -> pd.DataFrame:
    """List normal training clips, and test clips of which every other one is anomalous.

    In 2022 one training clip in three, and one pair of test clips in two, is of the target domain.
    """
    rows = []
    for machine in machines:
        for section in sections:
            for i in range(n_train + n_test):
                split = "train" if i < n_train else "test"
                target = year != 2020 and (i % 3 == 2 if split == "train" else i // 2 % 2 == 1)
                domain = "target" if target else "source"
                label = "anomaly" if split == "test" and i % 2 else "normal"
                name = clip_name(year, section, split, domain, label, i)
                rows.append((name, str(year), machine, section, split, label, domain))
    columns = ["clip", "year", "machine", "section", "split", "label", "domain"]
    return pd.DataFrame(rows, columns=columns)


def make_features(manifest: pd.DataFrame, n_frames: int = 24, seed: int = 0) -> np.ndarray:
    """Draw noise around a spectrum of each section; anomalies are tilted. Shape (N, F, T)."""
    rng = np.random.default_rng(seed)
    keys = manifest["machine"] + manifest["section"]
    n_mels = FRONT_END.n_mels
    spectra = {key: rng.normal(-40.0, 6.0, n_mels) for key in sorted(set(keys))}
    spectrum = np.stack([spectra[key] for key in keys])
    tilt = np.linspace(-1.5, 1.5, n_mels)
    spectrum += (manifest["label"] == "anomaly").to_numpy()[:, None] * tilt
    noise = rng.normal(0.0, 3.0, (len(manifest), n_mels, n_frames))
    return spectrum[:, :, None] + noise


def make_store(
    path: Path,
    manifest: pd.DataFrame | None = None,
    *,
    n_frames: int = 24,
    seed: int = 0,
    front_end: FrontEnd = FRONT_END,
    **of_manifest: Any,
) -> FeatureStore:
    table = make_manifest(**of_manifest) if manifest is None else manifest
    return write_store(path, table, make_features(table, n_frames, seed), front_end)


def write_recordings(
    root: Path,
    *,
    machines: tuple[str, ...] = ("fan",),
    sections: tuple[str, ...] = ("00", "02"),
    n_train: int = 4,
    n_test: int = 4,
    seconds: float = 1.0,
) -> Path:
    """Write 16 kHz recordings in the layout of 2020: noise and a tone, louder where anomalous."""
    rng = np.random.default_rng(1)
    manifest = make_manifest(2020, machines, sections, n_train, n_test)
    n_samples = round(16000 * seconds)
    for row in manifest.itertuples():
        tone = np.sin(np.arange(n_samples) * (0.05 + 0.01 * int(row.section)))
        level = 0.3 if row.label == "anomaly" else 0.1
        samples = level * tone + rng.normal(scale=0.02, size=n_samples)
        folder = root / row.machine / row.split
        folder.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / row.clip, samples, 16000, subtype="PCM_16")
    return root


def score_bytes(run: Path) -> dict[str, bytes]:
    """Content of all score files of a run."""
    return {file.name: file.read_bytes() for file in sorted(run.glob("anomaly_score_*.csv"))}


def listing(folder: Path) -> list[str]:
    """Name everything in a folder, hidden files too."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def set_arguments(params: dict[str, Any]) -> list[str]:
    """Say parameters as ``--set`` options."""
    said = [f"{k}={v if isinstance(v, str) else json.dumps(v)}" for k, v in params.items()]
    return [word for pair in said for word in ("--set", pair)]
