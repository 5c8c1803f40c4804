"""Measure exported files: size, and time and memory per second of audio on one core.

Four sections of noise stand in for a machine type, because neither time nor memory depends on the
sound; only the nearest neighbours of the contrastive method grow with the number of training clips
(here 32). Each file holds one section. A separate process loads it and scores a clip of ten
seconds. Memory is the peak of that process beyond what importing onnxruntime takes.

If ASDLIB_REAL_DATA holds slide rails and the weights of the AudioSet network, the table of the book
is measured instead and written to ``results/export``; see ``results/export/export.py``. Stores and
trainings are kept below ``build/bench`` and reused; the trainings take a quarter of an hour.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

SECONDS = 10
SCRIPT = f"""
import sys, time
import numpy as np, onnxruntime
sys.path.insert(0, {str(Path(__file__).parent)!r})
from memory import peak_memory
before, spent = peak_memory(), []
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = options.inter_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options)
shape = 1, {SECONDS} * int(sys.argv[2])
clip = np.random.default_rng(0).normal(0, 0.1, shape).astype(np.float32)
for _ in range(5):
    start = time.process_time()
    session.run(["score", "anomalous"], {{"waveform": clip}})
    spent.append(time.process_time() - start)
print(1000 * min(spent) / {SECONDS}, (peak_memory() - before) / 2**20)
"""


def measure(file: Path, sample_rate: int) -> dict[str, float]:
    """Size (kB), processor time (ms a second of audio) and peak memory (MiB) of a file."""
    command = [sys.executable, "-c", SCRIPT, str(file), str(sample_rate)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ms, mib = map(float, done.stdout.split())
    return {"kB": file.stat().st_size / 1000, "ms / s": ms, "MiB": mib}


ROOT = Path(__file__).resolve().parents[1]
SLIDER: dict[str, tuple[str, str, dict[str, Any]]] = {
    "statistics": ("dcase2020", "statistics", {}),
    "statistics, pooled": ("dcase2020", "statistics", {"covariance": "pooled"}),
    "autoencoder": ("dcase2020", "autoencoder", {"epochs": 30}),
    "contrastive": ("dcase2020", "contrastive", {}),
    "AudioSet network, frozen": ("efficientat", "contrastive", {
        "encoder": "efficientat", "epochs": 0}),
}  # fmt: skip


def slider(real: Path, work: Path) -> list[dict[str, Any]]:
    """Make the runs that are lacking, measure all, write ``results/export``; return the table."""
    import asdlib
    from asdlib.features import build_store
    from asdlib.study.held_out import held_out
    from results.export.export import main

    wav, runs = real / "sound", []
    for name, (preset, system, params) in SLIDER.items():
        if "encoder" in params:
            params = params | {"pretrained": {"source": str(real / "weights"), "mode": "frozen"}}
        store = build_store(wav, work / preset, preset=preset, resample=True).path
        held_out(asdlib.run(system, store, store, work / name, params=params), store)
        runs.append(f"{name}={work / name}")
    notebook = ["papermill", str(ROOT / "notebooks" / "42_what_sounds_wrong.ipynb"), "-"]
    told = ["-p", "profile", "classroom", "-p", "workspace", str(work)]
    subprocess.run([sys.executable, "-m", *notebook, *told], check=True, capture_output=True)
    out = ROOT / "results" / "export"
    shutil.copy(work / "classroom" / "results" / "localisation.csv", out)
    main(out, wav, runs)
    rows: list[dict[str, Any]] = pd.read_csv(out / "table.csv").to_dict("records")
    return rows


def run() -> list[dict[str, Any]]:
    """Measure all systems; int8 where there is a network."""
    real = os.environ.get("ASDLIB_REAL_DATA")
    if real and (Path(real) / "sound" / "slider").is_dir() and (Path(real) / "weights").is_dir():
        return slider(Path(real), ROOT / "build" / "bench")
    import asdlib
    from asdlib.features import build_store
    from asdlib.study.export import export
    from asdlib.study.held_out import write_held_out

    systems: list[tuple[str, str, str, dict[str, Any]]] = [
        ("statistics", "dcase2020", "statistics", {}),
        ("autoencoder", "dcase2020", "autoencoder", {"epochs": 1}),
        ("contrastive", "dcase2020", "contrastive", {"epochs": 1}),
    ]
    rows: list[dict[str, Any]] = []
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        for split, n in (("train", 8), ("test", 1)):
            folder = place / "wav" / "fan" / split
            folder.mkdir(parents=True)
            for k in range(4 * n):
                noise = rng.normal(scale=0.05 * (1 + k % 4), size=3 * 16000)
                soundfile.write(folder / f"normal_id_{k % 4:02d}_{k:08d}.wav", noise, 16000)
        for name, preset, system, params in systems:
            store = build_store(place / "wav", place / preset, preset=preset, resample=True)
            made = asdlib.run(system, store.path, store.path, place / name, params=params)
            normal = store.rows(split="train").manifest
            # Made up: neither figure depends on the threshold, and held-out fits take minutes.
            write_held_out(normal.assign(anomaly_score=rng.gamma(9.0, size=len(normal))), made.path)
            for int8 in (False, True)[: 1 + (system != "statistics")]:
                file = place / "model.onnx"
                told = export(made, file, sections=["fan/00"], int8=int8)
                row = {"system": name, "weights": told["precision"]}
                rows.append(row | measure(file, told["front_end"]["sample_rate"]))
    return rows
