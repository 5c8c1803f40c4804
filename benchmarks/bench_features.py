"""Measure feature extraction against librosa, its memory, and random crops.

``python -m benchmarks.bench_features --help`` lists the sizes. The library and librosa take turns
at the same files in the same run, on the same number of cores: one job against the usual loop, all
jobs against that loop in as many processes, which have already started. The library also finds and
checks the files and writes the store. On a machine with other load, "clips/s of one core", measured
in processor time, is more reliable than wall-clock time. Crops are read from a store of 30,000
clips and compared with the number that training the default encoder needs, measured in the same
run.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from asdlib.features import FeatureStore, FrontEnd, build_store
from asdlib.features.store import ARRAY, write_blocks

Row = dict[str, Any]
Cost = tuple[float, float]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

LOOP, LOOPS = "librosa loop", f"librosa loop in {CORES} processes, running"
WIDTH, STEPS = 128, 12
OURS, OURS_ALL = "build_store, 1 job", f"build_store, {CORES} jobs"

MEMORY = f"""
import resource, sys
from asdlib.features import build_store
sys.path.insert(0, {str(Path(__file__).parent)!r})
from memory import peak_memory
if __name__ == "__main__":
    build_store(sys.argv[1], sys.argv[2], jobs=int(sys.argv[3]))
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert children == 0, "threads only: no process may be left out of the sum"
    print(peak_memory() / 2**20)
"""


def make_clips(root: Path, n: int, seconds: float, *, different: int = 50) -> list[Path]:
    """`n` clips of noise; only `different` of them are files of their own, the rest are links."""
    rng = np.random.default_rng(0)
    folder = root / "fan" / "train"
    folder.mkdir(parents=True)
    files = [folder / f"normal_id_00_{i:08d}.wav" for i in range(n)]
    for i, file in enumerate(files):
        if i < different:
            noise = rng.normal(scale=0.05, size=int(16000 * seconds))
            soundfile.write(file, noise, 16000, subtype="PCM_16")
        else:
            file.hardlink_to(files[i % different])
    return files


def by_librosa(files: list[Path]) -> None:
    """The usual loop: load, mel spectrogram, logarithm."""
    import librosa

    for file in files:
        waveform, rate = librosa.load(file, sr=None)
        mel = librosa.feature.melspectrogram(
            y=waveform,
            sr=rate,
            n_fft=1024,
            hop_length=512,
            n_mels=128,
            power=2.0,
            pad_mode="reflect",
        )
        (10.0 * np.log10(mel + np.finfo(np.float64).eps)).astype(np.float16)


def librosa_cost(files: list[Path]) -> Cost:
    # One thread each, as ours: more would only get into each other's way.
    with threadpool_limits(1):
        by_librosa(files[:1])
        return cost_of(lambda: by_librosa(files))


def librosa_processes_cost(pool: ProcessPoolExecutor, files: list[Path]) -> Cost:
    """The loop in `CORES` processes that run already."""
    costs = list(pool.map(librosa_cost, [files[i::CORES] for i in range(CORES)]))
    return max(wall for wall, _ in costs), sum(cpu for _, cpu in costs)


def cost_of(work: Callable[[], object]) -> Cost:
    """Seconds by the clock, and of this process on a processor."""
    start, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - start, time.process_time() - cpu


def bench_speed(folder: Path, clips: int, rounds: int) -> list[Row]:
    root = folder / "speed"
    files = make_clips(root, clips, 10.0)
    few = folder / "few"
    make_clips(few, 20, 10.0)
    build_store(few, folder / "warm", jobs=1)
    by_librosa(files[:20])

    def ours(turn: int, jobs: int) -> Cost:
        return cost_of(lambda: build_store(root, folder / f"{turn}-{jobs}", jobs=jobs))

    costs: dict[str, list[Cost]] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(CORES, mp_context=context) as pool:
        librosa_processes_cost(pool, files[: 2 * CORES])
        for turn in range(rounds):
            costs.setdefault(LOOP, []).append(librosa_cost(files))
            costs.setdefault(OURS, []).append(ours(turn, 1))
            costs.setdefault(LOOPS, []).append(librosa_processes_cost(pool, files))
            costs.setdefault(OURS_ALL, []).append(ours(turn + rounds, CORES))
    rows: list[Row] = []
    for which, unit in ((0, "clips/s"), (1, "clips/s of one core")):
        best = {name: min(cost[which] for cost in all_) for name, all_ in costs.items()}
        # As many cores as theirs: one against one, all against all.
        against = {LOOP: LOOP, OURS: LOOP, LOOPS: LOOPS, OURS_ALL: LOOPS}
        rows += [
            row(f"{clips} clips of 10 s", name, clips / t, unit, best[against[name]] / t)
            for name, t in best.items()
        ]
    return rows


def bench_memory(folder: Path, sizes: tuple[int, ...]) -> list[Row]:
    rows: list[Row] = []
    script = folder / "memory.py"
    script.write_text(MEMORY)
    for n in sizes:
        root = folder / f"memory{n}"
        make_clips(root, n, 2.0)
        done = subprocess.run(
            [sys.executable, str(script), str(root), str(folder / f"m{n}"), str(CORES)],
            capture_output=True,
            text=True,
            check=True,
        )
        peak = float(done.stdout)
        first = float(rows[0]["value"]) if rows else peak
        rows.append(row(f"{n} clips of 2 s", "whole process", peak, "MiB peak", peak / first))
    return rows


def make_store(path: Path, clips: int) -> FeatureStore:
    shape = (clips, 128, WIDTH)
    sections = [f"{i % 4:02d}" for i in range(clips)]
    table = pd.DataFrame({"clip": [f"normal_id_00_{i:08d}.wav" for i in range(clips)]}).assign(
        machine="fan", section=sections, split="train", label="normal", domain="source"
    )
    block = np.random.default_rng(0).normal(-40, 10, size=(100, *shape[1:])).astype(np.float16)
    blocks = (block[: clips - start] for start in range(0, clips, 100))
    return write_blocks(path, table, FrontEnd().describe(), shape, blocks)


def crops_of(store: FeatureStore, batches: int) -> float:
    rng = np.random.default_rng(1)
    rows = store.rows(split="train")
    start = time.perf_counter()
    for _ in range(batches):
        rows.crops(rng.integers(0, len(rows), 256), rng.integers(0, WIDTH - 64, 256), 64)
    return 256 * batches / (time.perf_counter() - start)


def crops_by_loop(store: FeatureStore, batches: int) -> float:
    """The naive way: one clip after the other from the same memory map."""
    rng = np.random.default_rng(1)
    start = time.perf_counter()
    for _ in range(batches):
        rows, starts = rng.integers(0, len(store), 256), rng.integers(0, WIDTH - 64, 256)
        np.stack(
            [
                store.features[i][:, s : s + 64].astype(np.float32)
                for i, s in zip(rows, starts, strict=True)
            ]
        )
    return 256 * batches / (time.perf_counter() - start)


def crops_needed(store: FeatureStore) -> float:
    """Crops a second that the training of the default encoder takes: 64 frames, batches of 64."""
    from asdlib.method import Contrastive

    at: dict[int, float] = {}

    def told(what: str, done: int, total: int) -> None:
        if what == "training":
            at[done] = time.perf_counter()

    rows = store.rows(np.arange(64 * STEPS))
    Contrastive(epochs=1, crop_frames=64, batch_size=64).fit(rows, progress=told)
    # The first steps warm up.
    return 64 * (STEPS - 2) / (at[STEPS] - at[2])


def bench_crops(folder: Path, clips: int) -> list[Row]:
    store = make_store(folder / "crops", clips)
    what = f"crops of 64 frames, {clips} clips"
    rows: list[Row] = []
    if hasattr(os, "posix_fadvise"):
        with (store.path / ARRAY).open("rb") as stream:
            os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        rows.append(row(what, "Rows.crops, from disk", crops_of(store, 8), "crops/s", 0.0))
    store = FeatureStore.open(store.path)
    crops_of(store, 8)
    rows.append(row(what, "loop over clips", crops_by_loop(store, 40), "crops/s", 0.0))
    rows.append(row(what, "Rows.crops", crops_of(store, 40), "crops/s", 0.0))
    need = crops_needed(store)
    rows.append(row(what, "taken by training on this machine", need, "crops/s", 1.0))
    return [entry | {"ratio": entry["value"] / need} for entry in rows]


def row(what: str, by: str, value: float, unit: str, ratio: float) -> Row:
    return {"what": what, "by": by, "value": value, "unit": unit, "ratio": ratio}


def run(
    *,
    clips: int = 600,
    rounds: int = 3,
    memory: tuple[int, ...] = (1000, 10000),
    crop_clips: int = 30000,
    folder: str | None = None,
    only: Sequence[str] = ("speed", "memory", "crops"),
) -> list[Row]:
    """Measure; `ratio` is to librosa on as many cores, the smallest size, or the need."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        return [
            *(bench_speed(place, clips, rounds) if "speed" in only else ()),
            *(bench_memory(place, memory) if "memory" in only else ()),
            *(bench_crops(place, crop_clips) if "crops" in only else ()),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=600, help="10 s clips to time")
    parser.add_argument("--rounds", type=int, default=3, help="turns; the best counts")
    parser.add_argument("--memory", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--crop-clips", type=int, default=30000, help="clips in the crop store")
    parser.add_argument("--folder", help="where the scratch folder goes")
    parser.add_argument("--only", nargs="+", default=["speed", "memory", "crops"])
    given = parser.parse_args()
    for entry in run(
        clips=given.clips,
        rounds=given.rounds,
        memory=tuple(given.memory),
        crop_clips=given.crop_clips,
        folder=given.folder,
        only=given.only,
    ):
        print(
            f"{entry['what']:36} {entry['by']:42} {entry['value']:10.1f} {entry['unit']:20}"
            f" {entry['ratio']:6.2f}"
        )


if __name__ == "__main__":
    main()
