"""Features: clips a second against librosa, memory against the number of clips, random crops.

``python -m benchmarks.bench_features --help`` lists the sizes; ``run`` takes the small ones. Ours
and librosa read the same files on the same cores in the same run, by turns. librosa is timed
as the usual loop (the faster of two settings of its matrix library counts), and as that loop in as
many processes as ours.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from asdlib.features import FeatureStore, FrontEnd, build_store
from asdlib.features.files import ARRAY, create_array, write_parts

Row = dict[str, Any]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

MEMORY = """
import json, resource, sys, time
from asdlib.features import build_store
if __name__ == "__main__":
    start = time.perf_counter()
    build_store(sys.argv[1], sys.argv[2], jobs=int(sys.argv[3]))
    peak = [resource.getrusage(who).ru_maxrss / 1024
            for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(json.dumps(peak))
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


def timed_librosa(files: list[Path]) -> float:
    # One thread each, as ours: more would only get into each other's way.
    with threadpool_limits(1):
        by_librosa(files[:1])
        return seconds_of(lambda: by_librosa(files))


def by_librosa_processes(files: list[Path]) -> float:
    """Seconds of the loop in `CORES` processes, once they run."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(CORES, mp_context=context) as pool:
        return max(pool.map(timed_librosa, [files[i::CORES] for i in range(CORES)]))


def seconds_of(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def build_seconds(root: Path, out: Path, jobs: int) -> tuple[float, float]:
    """Seconds of a build, and what the same number of clips takes once all processes run."""
    told: list[tuple[float, int]] = []
    start = time.perf_counter()
    store = build_store(
        root,
        out,
        jobs=jobs,
        on_progress=lambda done, total: told.append((time.perf_counter(), done)),
    )
    whole = time.perf_counter() - start
    # The last process may start later than the first; the second half is past that.
    half = next(at for at in told if at[1] >= len(store) / 2)
    return whole, (told[-1][0] - half[0]) / (told[-1][1] - half[1]) * len(store)


def bench_speed(folder: Path, clips: int, rounds: int) -> list[Row]:
    root = folder / "speed"
    files = make_clips(root, clips, 10.0)
    by_librosa(files[:20])
    best: dict[str, float] = {}
    for turn in range(rounds):
        one, _ = build_seconds(root, folder / f"one{turn}", 1)
        whole, running = build_seconds(root, folder / f"all{turn}", CORES)
        seconds = {
            "librosa loop": seconds_of(lambda: by_librosa(files)),
            "librosa loop, one BLAS thread": timed_librosa(files),
            f"librosa, {CORES} processes, once running": by_librosa_processes(files),
            "build_store, 1 process": one,
            f"build_store, {CORES} processes": whole,
            f"build_store, {CORES} processes, once running": running,
        }
        best = {name: min(s, best.get(name, s)) for name, s in seconds.items()}
    loop = min(best["librosa loop"], best["librosa loop, one BLAS thread"])
    return [
        row(f"{clips} clips of 10 s", name, clips / seconds, "clips/s", loop / seconds)
        for name, seconds in best.items()
    ]


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
        parent, worker = json.loads(done.stdout)
        first = float(rows[0]["value"]) if rows else parent
        second = float(rows[1]["value"]) if rows else worker
        rows.append(row(f"{n} clips of 2 s", "parent process", parent, "MiB peak", parent / first))
        rows.append(row(f"{n} clips of 2 s", "largest worker", worker, "MiB peak", worker / second))
    return rows


def make_store(path: Path, clips: int) -> FeatureStore:
    path.mkdir()
    shape = (clips, 128, 313)
    table = pd.DataFrame({"clip": [f"normal_id_00_{i:08d}.wav" for i in range(clips)]}).assign(
        machine="fan", section="00", split="train", label="normal", domain="source"
    )
    write_parts(path, table, FrontEnd())
    offset = create_array(path / ARRAY, shape)
    block = np.random.default_rng(0).normal(-40, 10, size=(100, *shape[1:])).astype(np.float16)
    with (path / ARRAY).open("r+b") as stream:
        stream.seek(offset)
        for start in range(0, clips, 100):
            stream.write(block[: clips - start].data.cast("B"))
        os.fsync(stream.fileno())
    return FeatureStore.open(path)


def crops_of(store: FeatureStore, batches: int) -> float:
    rng = np.random.default_rng(1)
    rows = store.rows(split="train")
    start = time.perf_counter()
    for _ in range(batches):
        rows.crops(rng.integers(0, len(rows), 256), rng.integers(0, 249, 256), 64)
    return 256 * batches / (time.perf_counter() - start)


def crops_by_loop(store: FeatureStore, batches: int) -> float:
    """The naive way: one clip after the other from the same memory map."""
    rng = np.random.default_rng(1)
    start = time.perf_counter()
    for _ in range(batches):
        rows, starts = rng.integers(0, len(store), 256), rng.integers(0, 249, 256)
        np.stack(
            [
                store.features[i][:, s : s + 64].astype(np.float32)
                for i, s in zip(rows, starts, strict=True)
            ]
        )
    return 256 * batches / (time.perf_counter() - start)


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
    loop = crops_by_loop(store, 40)
    rows.append(row(what, "loop over clips", loop, "crops/s", 1.0))
    rows.append(row(what, "Rows.crops", crops_of(store, 40), "crops/s", 0.0))
    return [entry | {"ratio": entry["value"] / loop} for entry in rows]


def row(what: str, by: str, value: float, unit: str, ratio: float) -> Row:
    return {"what": what, "by": by, "value": value, "unit": unit, "ratio": ratio}


def run(
    *,
    clips: int = 2000,
    rounds: int = 1,
    memory: tuple[int, ...] = (1000, 10000),
    crop_clips: int = 3000,
    folder: str | None = None,
) -> list[Row]:
    """Measure; `ratio` is to the librosa loop, the smallest size, or the loop over clips."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        place = Path(scratch)
        return [
            *bench_speed(place, clips, rounds),
            *bench_memory(place, memory),
            *bench_crops(place, crop_clips),
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=2000, help="10 s clips to time")
    parser.add_argument("--rounds", type=int, default=1, help="turns; the best counts")
    parser.add_argument("--memory", type=int, nargs="+", default=[1000, 10000])
    parser.add_argument("--crop-clips", type=int, default=3000, help="clips in the crop store")
    parser.add_argument("--folder", help="where the scratch folder goes")
    given = parser.parse_args()
    for entry in run(
        clips=given.clips,
        rounds=given.rounds,
        memory=tuple(given.memory),
        crop_clips=given.crop_clips,
        folder=given.folder,
    ):
        print(
            f"{entry['what']:36} {entry['by']:42} {entry['value']:10.1f} {entry['unit']:9}"
            f" {entry['ratio']:6.2f}"
        )


if __name__ == "__main__":
    main()
