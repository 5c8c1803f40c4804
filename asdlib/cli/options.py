"""Options that several commands have, with their help."""

import os
from pathlib import Path
from typing import Annotated

import typer

from asdlib.cli.console import err_console, out_console, remark
from asdlib.errors import ConfigError

TrainStore = Annotated[
    Path, typer.Option("--train", help="store to train on: its normal training rows")
]
TestStore = Annotated[Path, typer.Option("--test", help="store to score: its test rows")]
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


AsJson = Annotated[bool, typer.Option("--json", help="print JSON only", callback=_only_json)]
Quiet = Annotated[bool, typer.Option("--quiet", help="print errors only", callback=_only_errors)]
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
