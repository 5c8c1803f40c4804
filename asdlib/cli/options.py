"""Options that several commands have, with their help."""

import os
import warnings
from pathlib import Path
from typing import Annotated

import typer

from asdlib.cli.console import err_console, note, out_console, progress_bar, remark
from asdlib.errors import ConfigError


def _store_of(path: Path | None) -> Path | None:
    """Return the store of a folder of recordings, built beside it; a store is one already."""
    from asdlib.data.clips import has_recordings
    from asdlib.features.store import is_store

    if path is None or not path.is_dir() or is_store(path) or not has_recordings(path):
        return path
    from asdlib.features.build import own_store  # with torch

    with progress_bar() as report, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        store = own_store(path, on_progress=lambda done, total: report("features", done, total))
    for warning in said:
        note(str(warning.message))
    return store


TrainStore = Annotated[
    Path,
    typer.Option(
        "--train",
        callback=_store_of,
        help="store, or folder of recordings, to train on: normal training clips",
    ),
]
TestStore = Annotated[
    Path | None,
    typer.Option(
        "--test", callback=_store_of, help="the same to score: test clips; default: TRAIN"
    ),
]
TrainedOn = Annotated[
    Path | None,
    typer.Option(
        "--train",
        callback=_store_of,
        help="store or recordings that a run was trained on, where held-out scores are lacking",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="seed of everything random")]
Parameters = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a parameter to change")
]
Machines = Annotated[
    list[str] | None,
    typer.Option("--machine", metavar="TYPE", help="only this machine type; may be repeated"),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="at a time; default: one a core")]
Year = Annotated[
    int | None,
    typer.Option(
        min=2020, max=2026, help="whose names and rules; default: what store and names tell"
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--ground-truth", help="labels of blind clips: list CSV (2020) or evaluator's folder"
    ),
]


def _only_json(value: bool) -> bool:
    out_console.quiet |= value
    return value


def _only_errors(value: bool) -> bool:
    err_console.quiet |= value
    return _only_json(value)


AsJson = Annotated[
    bool, typer.Option("--json", help="print JSON only", callback=_only_json, is_eager=True)
]
Quiet = Annotated[
    bool, typer.Option("--quiet", help="print errors only", callback=_only_errors, is_eager=True)
]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]
Scheduler = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="do the runs on this Dask cluster")
]
Resources = Annotated[
    str | None,
    typer.Option(metavar="NAME=NUMBER", help="what a run takes of its worker, such as GPU=1"),
]


def use_cluster(address: str | None, resources: str | None) -> None:
    """Let experiments send their runs to a scheduler, if one is named; say where to watch them."""
    from asdlib.study import cluster

    if resources is not None:
        cluster.parse_resources(resources)
        if address is None:
            raise ConfigError("--resources belong to a cluster; give --scheduler too")
    if address is None:
        return
    with cluster.connect(address) as client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        remark(f"scheduler {address}: {workers} workers; dashboard: {client.dashboard_link}")
    os.environ |= {cluster.SCHEDULER: address, cluster.RESOURCES: resources or ""}
