"""Send two hours of sound through ``asd listen``; measure its speed and that its memory is bounded.

The sound is that of synthetic fans (training clips of 10 s) at 48 kHz, as raw 16-bit samples in
blocks of a second; a window is scored every 5 s. Memory may differ by 10 MB at most between ten
minutes and two hours.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import asdlib
from asdlib.data.synthetic import SyntheticSpec, render_clip, write_corpus
from asdlib.features import build_store
from asdlib.study.held_out import held_out
from asdlib.study.listen import Listener
from asdlib.study.score import load_model, resampled

RATE, HOURS, MOST_MB = 48000, 2.0, 10.0
SYSTEMS: dict[str, dict[str, Any]] = {
    "statistics": {},
    "contrastive": {"epochs": 1},
    "autoencoder": {"epochs": 1},
}


def second_by_second(sound: np.ndarray, held: list[float]) -> Iterator[np.ndarray]:
    """Two hours of a clip, repeated; note the memory (MB) after ten minutes and at the end."""
    for second in range(1, round(3600 * HOURS) + 1):
        start = second * RATE % len(sound)
        yield sound[start : start + RATE]
        if second in (600, round(3600 * HOURS)):
            held.append(psutil.Process().memory_info().rss / 1e6)


def run() -> list[dict[str, Any]]:
    rows = []
    spec = SyntheticSpec(
        machines=("fan",), n_sections=2, n_train=20, n_test_normal=2, n_test_anomaly=2, seconds=10.0
    )
    clips = [render_clip(spec, "fan", "00", "test", "normal", i) for i in range(3)]
    sound = resampled(np.concatenate(clips), 16000, RATE)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_corpus(spec, folder / "wav")
        store = build_store(folder / "wav", folder / "store").path
        for system, params in SYSTEMS.items():
            held_out(asdlib.run(system, store, store, folder / system, params=params), store)
            listener = Listener(load_model(folder / system), "fan/00", RATE)
            held: list[float] = []
            started = time.process_time()
            list(listener.hear(second_by_second(sound, held)))
            took = time.process_time() - started
            first, last = held
            if last - first > MOST_MB:
                raise RuntimeError(f"memory grew from {first:.0f} to {last:.0f} MB")
            rows.append(
                {
                    "system": system,
                    "hours": HOURS,
                    "processor seconds": took,
                    "real-time factor": took / (3600 * HOURS),
                    "MB after 10 min": first,
                    "MB at the end": last,
                }
            )
    return rows
