"""Commands about finished runs: fuse their scores."""

from pathlib import Path
from typing import Annotated

import typer

from asdlib.cli.console import note, print_metrics, say

Train = Annotated[
    Path | None,
    typer.Option(help="store that the runs were trained on, where held-out scores are lacking"),
]
Folds = Annotated[int, typer.Option(min=2, help="parts of the training clips, for held-out scores")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("fuse")(fuse_command)


def fuse_command(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs on the same clips")],
    out: Annotated[Path, typer.Option(help="folder of the fused run, made by it")],
    weight: Annotated[
        list[float] | None, typer.Option(help="weight of a run, one for each; default: equal")
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the fused system in tables")] = None,
    train: Train = None,
    folds: Folds = 5,
) -> None:
    """Fuse the scores of several systems, or of several seeds of one, into a run of its own."""
    from asdlib.study.fuse import fuse

    result = fuse(runs, out, weights=weight, name=name, train=train, folds=folds)
    print_metrics(result.metrics, str(result.record["config"]["system"]))
    for notice in result.record["notices"]:
        note(notice)
    done = "found, not computed again" if result.cached else f"{len(runs)} runs fused"
    say(f"{done}; scores and metrics in {result.path}")
