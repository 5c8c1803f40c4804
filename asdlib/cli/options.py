"""Options that several commands have, with their help."""

from pathlib import Path
from typing import Annotated

import typer

TrainStore = Annotated[
    Path, typer.Option("--train", help="store to train on: its normal training rows")
]
TestStore = Annotated[Path, typer.Option("--test", help="store to score: its test rows")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="seed of everything random")]
Parameters = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a parameter to change")
]
Machines = Annotated[
    list[str] | None, typer.Option("--machine", help="only this machine type; may be repeated")
]
Jobs = Annotated[int | None, typer.Option(min=1, help="at a time; default: one a core")]
Year = Annotated[int | None, typer.Option(help="year, where the names do not tell")]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--ground-truth", help="labels of blind clips: list CSV (2020) or evaluator's folder (2022)"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
Yes = Annotated[bool, typer.Option("--yes", help="do not ask")]
