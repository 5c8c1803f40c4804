"""Measure how time and memory grow with the number of clips: index, store, statistics, back-ends.

Each step runs in its own process, at several sizes. Time is processor time, so that other load does
not count. Memory is the peak beyond what the process held before the step, without pages of files,
which the system can take back. The exponent e of the growth, seconds ~ clips^e, is that of the two
largest sizes; 1 means proportional. ``--csv FILE`` writes the table of the book.

Clips have `N_FRAMES` frames instead of 313, so that 300,000 of them fit on a disk. Reading a real
store therefore takes 39 times as long; what is computed from one vector per clip does not.
"""

from __future__ import annotations

import argparse
import math
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import soundfile

from benchmarks.memory import anonymous

N_MELS, N_FRAMES, SIZE, OF_SECTION = 128, 8, 128, 1000
SIZES = (3_000, 30_000, 300_000)
QUADRATIC = 30_000
"""Largest size of a step whose time grows with the square: one section of so many clips."""


def manifest(clips: int) -> pd.DataFrame:
    """Sections of `OF_SECTION` clips, six in a machine type; one clip in five is a test clip."""
    number = np.arange(clips)
    section = number // OF_SECTION
    name = [f"normal_id_{s % 6:02d}_{i:08d}.wav" for i, s in enumerate(section)]
    return pd.DataFrame(
        {
            "clip": name,
            "machine": [f"machine{s // 6:03d}" for s in section],
            "section": [f"{s % 6:02d}" for s in section],
            "split": np.where(number % 5 == 0, "test", "train"),
            "label": "normal",
            "domain": "source",
        }
    )


def make_recordings(root: Path, clips: int) -> None:
    """Lay out files of 0.1 s, hard links of a few."""
    table = manifest(clips)
    table["folder"] = table["machine"] + "/" + table["split"]
    rng = np.random.default_rng(0)
    for folder in table["folder"].unique():
        (root / folder).mkdir(parents=True)
        soundfile.write(root / folder / "one.wav", rng.normal(size=1600) / 9, 16000)
    for folder, clip in zip(table["folder"], table["clip"], strict=True):
        (root / folder / clip).hardlink_to(root / folder / "one.wav")
    for folder in table["folder"].unique():
        (root / folder / "one.wav").unlink()


def index(folder: Path, clips: int) -> Callable[[], Any]:
    from asdlib.data import index_folder
    from asdlib.features.build import inspect_sources
    from asdlib.features.front_end import FrontEnd

    make_recordings(folder / "wav", clips)

    def work() -> None:
        table = index_folder(folder / "wav")
        inspect_sources(folder / "wav", table, FrontEnd(), channel=None, resample=False)

    return work


def write(folder: Path, clips: int) -> Callable[[], Any]:
    from asdlib.features import PRESETS
    from asdlib.features.store import write_blocks

    def blocks() -> Iterator[np.ndarray]:
        rng = np.random.default_rng(0)
        for start in range(0, clips, 1000):
            shape = (min(1000, clips - start), N_MELS, N_FRAMES)
            yield rng.normal(-40, 10, shape).astype(np.float16)

    table, shape = manifest(clips), (clips, N_MELS, N_FRAMES)
    described = PRESETS["dcase2020"].describe()
    return lambda: write_blocks(folder / "store", table, described, shape, blocks())


def opened(folder: Path, clips: int) -> Callable[[], Any]:
    from asdlib.features import FeatureStore

    return lambda: FeatureStore.open(folder / "store").fingerprint


def deviation(folder: Path, clips: int) -> Callable[[], Any]:
    from asdlib.features import FeatureStore
    from asdlib.method.contrastive import mean_and_deviation

    rows = FeatureStore.open(folder / "store").rows(split="train")
    return lambda: mean_and_deviation(rows)


def covariance(folder: Path, clips: int) -> Callable[[], Any]:
    from asdlib.baselines import TimeStatistics
    from asdlib.features import FeatureStore

    store = FeatureStore.open(folder / "store")
    train, test = (store.rows(split=split) for split in ("train", "test"))
    return lambda: TimeStatistics().fit(train).score(test)


def backend(name: str, clips: int, sections: int | None, **params: Any) -> Callable[[], Any]:
    """Fit on four of five clips, score the others; `sections` are those of the manifest or one."""
    from asdlib.method.backends import build_backend

    table = manifest(clips)
    x = np.random.default_rng(0).standard_normal((clips, SIZE), dtype=np.float32)
    names = (table["machine"] + "/" + table["section"]).to_numpy(object)
    if sections == 1:
        names[:] = "machine/00"
    train = (table["split"] == "train").to_numpy()
    made = build_backend(name, **params)
    return lambda: made.fit(x[train], names[train]).score(x[~train], names[~train])


LEVELS = {"levels": ("spectrum", "feature_map"), "sizes": (SIZE // 2, SIZE // 2)}
STEPS: dict[str, Callable[[Path, int], Callable[[], Any]]] = {
    "index and headers of recordings": index,
    "store: write": write,
    "store: open, check, fingerprint": opened,
    "mean and deviation": deviation,
    "statistics: mean and covariance": covariance,
    "nearest neighbours": lambda _, n: backend("knn", n, None),
    "local density": lambda _, n: backend("local_density_knn", n, None),
    "sum of two levels": lambda _, n: backend("level_sum", n, None, **LEVELS),
    "nearest neighbours, one section": lambda _, n: backend("knn", n, 1),
    "local density, one section": lambda _, n: backend("local_density_knn", n, 1),
}


@contextmanager
def watched() -> Iterator[list[float]]:
    """Collect how much memory is held, every 5 ms."""
    seen, ended = [anonymous()], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            seen.append(anonymous())

    thread = threading.Thread(target=watch)
    thread.start()
    yield seen
    ended.set()
    thread.join()


def measure(step: str, folder: Path, clips: int) -> tuple[float, float]:
    """Seconds and MiB of a step, in a process that has done nothing else."""
    work = STEPS[step](folder, clips)
    import sklearn.covariance  # noqa: F401  (not a part of the step that needs it first)

    with watched() as seen:
        start = time.process_time()
        work()
        seconds = time.process_time() - start
    return seconds, (max(seen) - seen[0]) / 2**20


def run(*, sizes: tuple[int, ...] = SIZES, folder: str | None = None) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        for step in STEPS:
            last: tuple[int, float] | None = None
            for clips in sizes:
                place = Path(scratch) / str(clips)
                place.mkdir(exist_ok=True)
                if step.endswith("one section") and clips > QUADRATIC:
                    continue
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    seconds, mib = pool.submit(measure, step, place, clips).result()
                grown = math.log(seconds / last[1], clips / last[0]) if last else float("nan")
                last = clips, seconds
                row = {"what": step, "clips": clips, "seconds": seconds, "MiB": mib}
                rows.append(row | {"exponent": grown})
                shutil.rmtree(place / "wav", ignore_errors=True)
    return rows


def wide(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """One row a step: seconds and MiB at each size, and the exponent."""
    table = pd.DataFrame(rows)
    parts: dict[str, Any] = {}
    for column, digits in (("seconds", 2), ("MiB", 0)):
        unit = column.replace("seconds", "s")
        for clips, of_size in table.groupby("clips"):
            values = of_size.set_index("what")[column]
            name = f"{unit}: {clips:,} clips" if clips == table["clips"].min() else f"{clips:,}"
            parts[f"{unit} {clips}"] = (name, values.map(lambda value: f"{value:,.{digits}f}"))  # noqa: B023
    found = pd.DataFrame({key: values for key, (_, values) in parts.items()})
    exponents = table.dropna().groupby("what")["exponent"].last()
    found = found.reindex(list(STEPS)).assign(exponent=exponents.map("{:.2f}".format)).fillna("–")
    found.columns = pd.Index([*(name for name, _ in parts.values()), "exponent"])
    return found.rename_axis("step").reset_index()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--folder", help="where the scratch folder goes")
    parser.add_argument("--csv", type=Path, help="file to write")
    given = parser.parse_args()
    table = wide(run(sizes=tuple(given.sizes), folder=given.folder))
    if given.csv:
        table.to_csv(given.csv, index=False)
    print(table.to_string(index=False))


if __name__ == "__main__":
    main()
