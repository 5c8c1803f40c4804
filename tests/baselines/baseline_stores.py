"""Make small stores: each section has a spectrum of its own, an anomaly another shape."""

from pathlib import Path

import numpy as np
import pandas as pd

from asdlib.features import FeatureStore, FrontEnd, write_store

SMALL = FrontEnd(n_fft=256, hop_length=128, n_mels=8)


def make_manifest(
    machines: tuple[str, ...] = ("fan", "pump"),
    sections: tuple[str, ...] = ("00", "02"),
    n_train: int = 8,
    n_test: int = 6,
) -> pd.DataFrame:
    """List training clips, all normal, and test clips, every other one anomalous."""
    return pd.DataFrame(
        [
            {
                "clip": f"{'anomaly' if anomalous else 'normal'}_id_{section}_{i:08d}.wav",
                "machine": machine,
                "section": section,
                "split": "train" if i < n_train else "test",
                "label": "anomaly" if anomalous else "normal",
                "domain": "source",
            }
            for machine in machines
            for section in sections
            for i in range(n_train + n_test)
            for anomalous in (i >= n_train and i % 2 == 1,)
        ]
    )


def make_features(manifest: pd.DataFrame, n_frames: int, n_mels: int, seed: int = 0) -> np.ndarray:
    """Draw noise around a spectrum of each section (N, F, T); anomalies alternate over the bins."""
    rng = np.random.default_rng(seed)
    spectra = {key: rng.normal(-40.0, 6.0, n_mels) for key in sorted(set(manifest["section"]))}
    spectrum = np.stack([spectra[section] for section in manifest["section"]])
    anomalous = (manifest["label"] == "anomaly").to_numpy()
    spectrum = spectrum + 6.0 * anomalous[:, None] * np.resize([1.0, -1.0], n_mels)
    noise = rng.normal(0.0, 2.0, (len(manifest), n_mels, n_frames))
    return spectrum[:, :, None] + noise


def make_store(
    path: Path,
    *,
    n_frames: int = 20,
    n_mels: int = 8,
    ragged: bool = False,
    seed: int = 0,
    **of_manifest: object,
) -> FeatureStore:
    """Write such a store; `ragged` clips have three different lengths."""
    manifest = make_manifest(**of_manifest)  # type: ignore[arg-type]
    features = make_features(manifest, n_frames, n_mels, seed)
    frames = np.full(len(manifest), n_frames)
    if ragged:
        frames -= np.arange(len(manifest)) % 3
        features *= np.arange(n_frames) < frames[:, None, None]
    front_end = SMALL.model_copy(update={"n_mels": n_mels})
    return write_store(path, manifest.assign(frames=frames), features, front_end)


def poison(store: FeatureStore, row: int, value: float = np.nan) -> FeatureStore:
    """Put `value` into a clip behind the store's back, as a damaged disk would."""
    array = np.lib.format.open_memmap(store.path / "logmel.npy", "r+")
    array[row, 0, 3] = value
    array.flush()
    return FeatureStore.open(store.path, check=False)
