"""Time a whole training step against the bare forward and backward pass of its encoder.

The step is the one that users get: crops read from a store, two views, projection head, loss,
optimiser, and Lightning's loop. The bare pass is the encoder alone on views of the same shape. Both
take turns in the same run, so that other load slows both; the median counts. A step that takes more
than 1.15 times as long as the bare pass is an error.

The gains of bfloat16 and, on a GPU, of the compiled step follow.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from asdlib.features import PRESETS, FeatureStore, write_store
from asdlib.method import Contrastive, SpectrumAugmentation
from asdlib.method.encoders import build_encoder

N_MELS, N_CROP, N_CLIP = 128, 64, 200
CLIPS, EPOCHS, WARM_UP = 512, 6, 8
MAX_RATIO = 1.15


def make_store(folder: Path, clips: int) -> FeatureStore:
    """Write a store of normal clips of four machine IDs: noise with levels like log-mels."""
    sections = [f"{i % 4:02d}" for i in range(clips)]
    manifest = pd.DataFrame(
        {
            "clip": [f"normal_id_{s}_{i:08d}.wav" for i, s in enumerate(sections)],
            "machine": "fan",
            "section": sections,
            "split": "train",
            "label": "normal",
            "domain": "source",
        }
    )
    features = np.random.default_rng(0).normal(-40, 10, size=(clips, N_MELS, N_CLIP))
    return write_store(
        folder / "store", manifest, features.astype(np.float16), PRESETS["dcase2020"]
    )


class Turns:
    """After every training step, one bare step of the encoder; both are timed."""

    def __init__(self, batch_size: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        generator = torch.Generator().manual_seed(0)
        crops = torch.randn(batch_size, N_MELS, N_CROP, generator=generator)
        views = SpectrumAugmentation(mean=0.0, std=1.0)(crops, generator)
        self.views = views.flatten(0, 1).to(self.device)
        self.encoder = build_encoder("small_cnn", N_MELS).to(self.device).train()
        self.steps: list[float] = []
        self.bare: list[float] = []
        self.last = float("nan")

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != "training":
            return
        start = self.now()
        self.steps.append(start - self.last)
        self.encoder.zero_grad()
        torch.autograd.backward(self.encoder(self.views).square().mean())
        self.last = self.now()
        self.bare.append(self.last - start)


def measure(store: FeatureStore, epochs: int, **switches: Any) -> tuple[float, float]:
    """Return the seconds of a whole step and of a bare one, medians."""
    system = Contrastive(epochs=epochs, crop_frames=N_CROP, batch_size=64, **switches)
    turns = Turns(system.params.batch_size)
    system.fit(store.rows(split="train"), progress=turns)
    return statistics.median(turns.steps[WARM_UP:]), statistics.median(turns.bare[WARM_UP:])


def run(*, clips: int = CLIPS, epochs: int = EPOCHS) -> list[dict[str, Any]]:
    """Measure; see the module's docstring."""
    switches: dict[str, dict[str, Any]] = {"bfloat16": {"precision": "bfloat16"}}
    if torch.cuda.is_available():  # on a CPU it needs a C++ compiler
        switches["bfloat16, compiled"] = {"precision": "bfloat16", "compile": True}
    with tempfile.TemporaryDirectory() as folder:
        store = make_store(Path(folder), clips)
        whole, bare = measure(store, epochs, precision="float32")
        gains = {
            name: whole / measure(store, epochs, **changes)[0] for name, changes in switches.items()
        }
    rows: list[dict[str, Any]] = [
        {"what": "training step, 64 crops, two views", "value": 1e3 * whole, "unit": "ms"},
        {"what": "bare forward and backward", "value": 1e3 * bare, "unit": "ms"},
        {"what": f"ratio (target: at most {MAX_RATIO})", "value": whole / bare, "unit": "times"},
        *(
            {"what": f"steps a second with {name}", "value": gain, "unit": "times float32"}
            for name, gain in gains.items()
        ),
    ]
    if whole > MAX_RATIO * bare:
        raise RuntimeError(
            f"a step takes {whole / bare:.2f} times the bare one, target {MAX_RATIO} "
            f"({1e3 * whole:.0f} against {1e3 * bare:.0f} ms)"
        )
    return rows


if __name__ == "__main__":
    try:
        for row in run():
            print(f"{row['what']}: {row['value']:.4g} {row['unit']}")
    except RuntimeError as error:
        sys.exit(str(error))
