"""Options that several commands have, with their help."""

from pathlib import Path
from typing import Annotated

import typer

from asdlib.cli.console import err_console, out_console

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
Year = Annotated[int | None, typer.Option(help="year, where the names do not tell")]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--ground-truth", help="labels of blind clips: list CSV (2020) or evaluator's folder (2022)"
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
