"""Compare the trained baselines with a bare training loop, arrays of all windows, and single clips.

Peak memory is that of a separate process, libraries included, on random log-mels of the size of the
DCASE 2020 ToyCar training set (4000 clips of 11 s). The reference is the memory that the official
code needs for its array of windows alone, in double precision. If the environment variable
ASDLIB_REAL_DATA is set, the autoencoder is also trained on real recordings (some minutes).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from asdlib.baselines import Autoencoder, MobileNetV2
from asdlib.baselines.windows import gather_windows, read_frames, window_starts
from asdlib.features import PRESETS, FeatureStore

N_MELS, N_FRAMES = 128, 344
GIB = 1024**3


def make_store(path: Path, n_clips: int) -> FeatureStore:
    """Write random log-mels clip by clip, without the whole array in memory."""
    path.mkdir()
    shape = (n_clips, N_MELS, N_FRAMES)
    array = np.lib.format.open_memmap(path / "logmel.npy", "w+", np.float16, shape)
    generator = np.random.default_rng(0)
    for i in range(n_clips):
        array[i] = generator.normal(-20.0, 5.0, shape[1:])
    array.flush()
    section = [f"{i % 4 + 1:02d}" for i in range(n_clips)]
    manifest = pd.DataFrame(
        {
            "clip": [f"normal_id_{s}_{i:08d}.wav" for i, s in enumerate(section)],
            "machine": "ToyCar",
            "section": section,
            "split": "train",
            "label": "normal",
            "domain": "source",
        }
    )
    manifest.to_csv(path / "manifest.csv", index=False)
    front_end = PRESETS["dcase2020"].model_dump(mode="json")
    (path / "feature.json").write_text(json.dumps(front_end), encoding="utf-8")
    return FeatureStore.open(path, check=False)


class EnoughError(Exception):
    """The peak is reached: all clips are in memory, and one batch."""


def peak_of(system: str, path: Path) -> None:
    """Start to train on all clips, train on and score a few; print the peak memory in bytes."""
    from memory import peak_memory  # beside this file, which runs as a script here

    torch.set_num_threads(1)
    store = FeatureStore.open(path, check=False)
    detector: Any = Autoencoder(epochs=1) if system == "autoencoder" else MobileNetV2(epochs=1)
    loss, calls = detector.loss, itertools.count()

    def few_steps(*batch: Any) -> Tensor:
        if next(calls) == 20:
            raise EnoughError
        value: Tensor = loss(*batch)
        return value

    detector.loss = few_steps
    with contextlib.suppress(EnoughError):
        detector.fit(store.rows())
    detector.loss = loss
    few = store.rows(np.arange(8))
    detector.fit(few).score(few)
    print(peak_memory())


def time_plain_loop(network: nn.Module, frames: Tensor, start: Tensor, epochs: int) -> float:
    """CPU seconds of the same training by a bare loop, without history and checkpoints."""
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3, eps=1e-7, fused=True)
    network.train()
    began = time.process_time()
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(start)), 512):
            optimizer.zero_grad()
            vectors = gather_windows(frames, start[batch], 5).flatten(1)
            torch.autograd.backward(nn.functional.mse_loss(network(vectors), vectors))
            optimizer.step()
    return time.process_time() - began


def step_times(rows: Any, epochs: int) -> tuple[float, float]:
    """CPU seconds a training step of the autoencoder: here and by a bare loop, in turns."""
    system = Autoencoder(epochs=epochs, validation_fraction=0.0, device="cpu")
    n_steps = epochs * -(-len(rows) * (N_FRAMES - 4) // 512)
    frames = read_frames(rows)
    start, _ = window_starts(rows.frames, 5, 1)
    ours, theirs = [], []
    for _ in range(3):
        began = time.process_time()
        system.fit(rows)
        ours.append((time.process_time() - began) / n_steps)
        network = system.networks_["ToyCar"]
        theirs.append(time_plain_loop(network, frames, start, epochs) / n_steps)
    return min(ours), min(theirs)


def toycar_auc(store: FeatureStore) -> tuple[float, float]:
    """AUC and pAUC in % of the autoencoder after 30 epochs, mean over the sections."""
    test = store.rows(split="test")
    system = Autoencoder(epochs=30).fit(store.rows(split="train"))
    scores = system.score(test)
    figures = [
        (roc_auc_score(y, scores[part.index]), roc_auc_score(y, scores[part.index], max_fpr=0.1))
        for _, part in test.manifest.groupby("section")
        for y in (part["label"] == "anomaly",)
    ]
    auc, pauc = 100.0 * np.mean(figures, axis=0)
    return float(auc), float(pauc)


def run() -> list[dict[str, Any]]:
    """Measure on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    results: list[dict[str, Any]] = []

    def add(what: str, unit: str, ours: float, reference: float, against: str) -> None:
        row = {"what": what, "unit": unit, "ours": ours, "reference": reference}
        results.append({**row, "reference / ours": reference / ours, "against": against})

    try:
        with tempfile.TemporaryDirectory() as folder:
            n_clips = 4000
            big = make_store(Path(folder) / "big", n_clips)
            few = big.rows(np.arange(60))
            ours, theirs = step_times(few, epochs=3)
            add("autoencoder, training step", "CPU ms", 1e3 * ours, 1e3 * theirs, "bare loop")

            scorer = Autoencoder(epochs=1, device="cpu").fit(few)
            began = time.process_time()
            scorer.score(few)
            batched = time.process_time() - began
            began = time.process_time()
            for i in range(len(few)):
                scorer.score(few.select([i]))
            single = time.process_time() - began
            per_clip = 1e3 / len(few)
            add(
                "autoencoder, score",
                "CPU ms/clip",
                per_clip * batched,
                per_clip * single,
                "by clip",
            )

            windows = {
                "autoencoder": (N_FRAMES - 4) * 5,
                "mobilenetv2": ((N_FRAMES - 64) // 8 + 1) * 64,
            }
            for system, frames in windows.items():
                command = [sys.executable, __file__, system, str(big.path)]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                array = n_clips * frames * N_MELS * 8 / GIB
                add(f"{system}, peak memory", "GiB", int(done.stdout) / GIB, array, "array alone")
        if real_data := os.environ.get("ASDLIB_REAL_DATA"):
            auc, pauc = toycar_auc(FeatureStore.open(Path(real_data) / "toycar"))
            add("autoencoder on toycar, AUC", "%", auc, 80.7, "independent script")
            add("autoencoder on toycar, pAUC", "%", pauc, 72.9, "independent script")
    finally:
        torch.set_num_threads(threads)
    return results


if __name__ == "__main__":
    peak_of(sys.argv[1], Path(sys.argv[2]))
