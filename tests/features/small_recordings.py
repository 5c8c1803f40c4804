"""Write small recordings in the official layout."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 16000


def write_clip(
    file: Path,
    seed: int,
    *,
    n_samples: int = 4000,
    rate: int = RATE,
    channels: int = 1,
    subtype: str = "PCM_16",
) -> np.ndarray:
    """Write noise with a tone, another one in each channel; gives the samples."""
    rng = np.random.default_rng(seed)
    tone = 0.3 * np.sin(np.arange(n_samples)[:, None] * 0.1 * (1 + np.arange(channels)))
    samples = tone + rng.normal(scale=0.02, size=(n_samples, channels))
    file.parent.mkdir(parents=True, exist_ok=True)
    if subtype == "PCM_16":
        # Rounded here: libsndfile rounds differently for WAV and FLAC.
        samples = np.round(samples * 32768).astype(np.int16)
    soundfile.write(file, samples, rate, subtype=subtype)
    return samples / 32768 if subtype == "PCM_16" else samples


def write_tree(root: Path, n: int = 10, *, machine: str = "fan", suffix: str = "wav") -> list[Path]:
    """Write `n` clips of two lengths for training and half as many to test on."""
    files = []
    for i in range(n):
        file = root / machine / "train" / f"normal_id_0{i % 2}_{i:08d}.{suffix}"
        write_clip(file, i, n_samples=4000 + 600 * (i % 3 == 1))
        files.append(file)
    for i in range(n // 2):
        label = "anomaly" if i % 2 else "normal"
        file = root / machine / "test" / f"{label}_id_00_{i:08d}.{suffix}"
        write_clip(file, 1000 + i)
        files.append(file)
    return files
