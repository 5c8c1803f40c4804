"""Run every ``benchmarks/bench_*.py`` and save the measurements to ``build/bench.json``.

A benchmark is a module with a function ``run()`` that returns rows, mappings with the same keys:
what was measured, in which implementation, and how fast. The library and an independent reference
are timed in the same run, so that other load on the machine affects both. ``python -m benchmarks
logmel`` runs only the benchmarks whose name contains ``logmel``.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FOLDER = Path(__file__).resolve().parent
REPORT = FOLDER.parent / "build" / "bench.json"


def discover(folder: Path = FOLDER, wanted: Sequence[str] = ()) -> list[str]:
    """Sorted names of the benchmark modules; ``wanted`` keeps those with one of its words."""
    names = sorted(path.stem for path in folder.glob("bench_*.py"))
    return [name for name in names if not wanted or any(word in name for word in wanted)]


def as_table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """One benchmark's rows as a table; floats with four significant digits."""
    table = Table(title=title, title_justify="left")
    for key in rows[0] if rows else ():
        numeric = isinstance(rows[0][key], int | float)
        table.add_column(str(key), justify="right" if numeric else "left")
    for row in rows:
        table.add_row(*(f"{v:.4g}" if isinstance(v, float) else str(v) for v in row.values()))
    return table


def save(report: Mapping[str, Any], path: Path = REPORT) -> None:
    """Write the report under a temporary name, then rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")
    partial.replace(path)


def main(arguments: Sequence[str]) -> int:
    """Run, print and save; the exit code is 1 if a benchmark failed."""
    console = Console()
    names = discover(wanted=arguments)
    if not names:
        what = " ".join(arguments) or "bench_*.py"
        console.print(f"no benchmark in {FOLDER.name}/ matches {what}")
        return 1
    results: dict[str, Any] = {}
    failed = 0
    for name in names:
        started = time.perf_counter()
        try:
            rows = [dict(row) for row in importlib.import_module(f"benchmarks.{name}").run()]
        except Exception as error:  # one broken benchmark must not hide the others
            console.print(f"[red]{name} failed[/]: {type(error).__name__}: {error}")
            results[name] = {"error": f"{type(error).__name__}: {error}"}
            failed += 1
            continue
        results[name] = {"rows": rows, "seconds": time.perf_counter() - started}
        console.print(as_table(name, rows))
    machine = {
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
    }
    save({"machine": machine, "benchmarks": results})
    console.print(f"written: {REPORT.relative_to(FOLDER.parent)}")
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
