"""Measure how many clips of 10 s the synthetic machines produce per second.

The corpus holds all machine types of the 2020 layout; half of the test clips are anomalous.
"running" counts the second half of the clips only and so leaves out what all clips share.
`ratio` refers to the target of 10 clips per second on two cores.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from asdlib.data.synthetic import SyntheticSpec, write_corpus

Row = dict[str, Any]

CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PROMISED = 10.0


def cpu_seconds() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def measure(spec: SyntheticSpec, out: Path, jobs: int) -> list[Row]:
    told: list[tuple[float, int]] = []
    start, cpu = time.perf_counter(), cpu_seconds()
    n = len(
        write_corpus(
            spec,
            out,
            jobs=jobs,
            on_progress=lambda done, total: told.append((time.perf_counter(), done)),
        )
    )
    whole, used = time.perf_counter() - start, cpu_seconds() - cpu
    half = next(at for at in told if at[1] >= n / 2)
    running = (told[-1][0] - half[0]) / (told[-1][1] - half[1])
    what = f"{n} clips of 10 s, {jobs} jobs"
    return [
        row(what, "clips/s", n / whole),
        row(what, "clips/s, running", 1 / running),
        row(what, "clips/s of one core", n / used),
    ]


def row(what: str, unit: str, value: float) -> Row:
    return {"what": what, "value": value, "unit": unit, "ratio": value / PROMISED}


def run(*, per_section: int = 12) -> list[Row]:
    """Measure with one job and with as many as there are cores."""
    rows: list[Row] = []
    # The first clips of a process also make what all clips share.
    for jobs in dict.fromkeys((1, CORES)):
        spec = SyntheticSpec(
            n_sections=1,
            n_train=max(2, per_section // 2),
            n_test_normal=max(1, per_section // 4),
            n_test_anomaly=max(1, per_section // 4),
            seed=jobs,
        )
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(spec, Path(folder) / "corpus", jobs)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--per-section", type=int, default=12, help="clips of each machine")
    for entry in run(per_section=parser.parse_args().per_section):
        print(f"{entry['what']:34} {entry['value']:8.2f} {entry['unit']:20} {entry['ratio']:6.2f}")


if __name__ == "__main__":
    main()
