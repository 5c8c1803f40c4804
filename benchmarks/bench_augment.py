"""Time the augmentation of a batch of crops against a plain loop over single crops.

The reference is the per-sample implementation of the tests. All functions take turns in this
process, so that other load slows all of them; the shortest of several times counts. The share of
the augmentation in a training step is that of the default encoder. On a GPU the batch has 512 crops
and the target is a factor of 30. Missing a target is an error.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from asdlib.method.augment import SpectrumAugmentation
from asdlib.method.encoders import ProjectionHead, build_encoder
from asdlib.method.losses import supervised_contrastive_loss
from asdlib.method.training import keep_freed_memory

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "method"))
from slow_reference import Draw, SlowBlock

N_MELS, N_FRAMES = 128, 64
N_THREADS = 2
REPEATS = 12
MAX_SHARE = 0.09


def timed(function: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def best_times(functions: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Shortest time of each function, which take turns; the first two turns are warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats + 2):
        for name, function in functions.items():
            seconds[name].append(timed(function))
    return {name: min(values[2:]) for name, values in seconds.items()}


def measure(n_crops: int, device: str, repeats: int = REPEATS) -> dict[str, float]:
    """Best times in seconds of the block, of the plain one, and of a training step without it."""
    generator = torch.Generator().manual_seed(0)
    crops = torch.randn(n_crops, N_MELS, N_FRAMES, generator=generator).to(device)
    augment = SpectrumAugmentation(mean=0.0, std=1.0).to(device)
    for _ in range(2048 // n_crops + 1):
        augment(crops, generator)
    slow = SlowBlock(mean=0.0, std=1.0, bank=list(augment.bank.entries))
    encoder = build_encoder("small_cnn", N_MELS).to(device)
    head = ProjectionHead(encoder.embedding_size).to(device)
    labels = (torch.arange(n_crops) % 8).repeat(2).to(device)
    views = augment(crops, generator).flatten(0, 1)

    def one_by_one() -> None:
        draws = [Draw(*row) for row in torch.rand(2 * n_crops, 6, generator=generator).tolist()]
        slow(list(crops), [draws[:n_crops], draws[n_crops:]])

    def train() -> None:
        encoder.zero_grad()
        head.zero_grad()
        loss = supervised_contrastive_loss(head(encoder(views)), labels, 0.1)
        torch.autograd.backward(loss)

    functions: dict[str, Callable[[], object]] = {
        "batched": lambda: augment(crops, generator),
        "per sample": one_by_one,
        "forward and backward": train,
    }
    return best_times(functions, repeats)


def run() -> list[dict[str, Any]]:
    """Measure; see the module's docstring."""
    keep_freed_memory()
    threads = torch.get_num_threads()
    torch.set_num_threads(N_THREADS)
    device, n_crops, target = ("cuda", 512, 30.0) if torch.cuda.is_available() else ("cpu", 64, 2.0)
    try:
        best = measure(n_crops, device)
    finally:
        torch.set_num_threads(threads)
    ratio = best["per sample"] / best["batched"]
    share = best["batched"] / (best["batched"] + best["forward and backward"])
    rows = [
        {"what": f"{name}, {n_crops} crops, {device}", "value": 1e3 * seconds, "unit": "ms"}
        for name, seconds in best.items()
    ]
    rows += [
        {"what": f"speed ratio (target: at least {target:g})", "value": ratio, "unit": "times"},
        {"what": f"share of a step (target: at most {MAX_SHARE})", "value": share, "unit": ""},
    ]
    if ratio < target or share > MAX_SHARE:
        raise RuntimeError(
            f"{ratio:.2f} times as fast as one by one (target {target:g}), {share:.1%} of a step "
            f"(target {MAX_SHARE:.0%})"
        )
    return rows


if __name__ == "__main__":
    for row in run():
        print(f"{row['what']}: {row['value']:.4g} {row['unit']}")
