"""Commands about systems and results: run one system, evaluate scores."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from asdlib.cli.console import note, print_metrics, progress_bar, say


class Year(StrEnum):
    """Years with an official form of score files."""

    y2020 = "2020"
    y2022 = "2022"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("run")(run_command)
    app.command()(evaluate)


def run_command(
    system: Annotated[
        str,
        typer.Argument(help="contrastive, autoencoder, statistics, autoencoder2022 or mobilenetv2"),
    ],
    train: Annotated[Path, typer.Option(help="store to train on: its normal training rows")],
    test: Annotated[Path, typer.Option(help="store to score: its test rows")],
    out: Annotated[Path, typer.Option(help="folder of the run, made by it")],
    seed: Annotated[int, typer.Option(min=0, help="seed of everything random")] = 0,
    assign: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a system's parameter")
    ] = None,
    machine: Annotated[
        list[str] | None, typer.Option(help="only this machine type; may be repeated")
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(min=2, metavar="FOLDS", help="also score held-out training clips"),
    ] = None,
    network_of: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="take the network of a finished run, only score anew"),
    ] = None,
) -> None:
    """Train a system on normal clips, score the test clips, write and print the metrics."""
    from asdlib.study.config import parse_overrides
    from asdlib.study.held_out import held_out as score_held_out
    from asdlib.study.run import run

    params = parse_overrides(assign or [])
    with progress_bar() as report:
        result = run(
            system,
            train,
            test,
            out,
            params=params,
            seed=seed,
            machines=machine,
            network_of=network_of,
            progress=report,
        )
    if held_out is not None:
        score_held_out(result, train, folds=held_out)
    print_metrics(result.metrics, f"{system}, seed {seed}")
    for notice in result.record.notices:
        note(notice)
    done = (
        "found, not computed again"
        if result.cached
        else f"fitted in {result.record.seconds.fit:.1f} s"
    )
    say(f"{done}; scores and metrics in {result.path}")


def evaluate(
    scores: Annotated[Path, typer.Argument(help="folder of official score files")],
    year: Annotated[Year, typer.Option(help="whose rules")],
    ground_truth: Annotated[
        Path | None,
        typer.Option(help="labels: list CSV (2020) or the evaluator's folder (2022)"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Evaluate a folder of score files, ours or somebody else's."""
    from asdlib.evaluation import evaluate_folder

    evaluation = evaluate_folder(scores, int(year.value), ground_truth)
    told = evaluation.to_json_dict()
    if as_json:
        typer.echo(json.dumps(told, indent=2, allow_nan=False))
        return
    print_metrics(evaluation.frame, f"{scores.name}, rules of {year.value}")
    if told.get("omega") is not None:
        say(f"official score Ω: {100 * told['omega']:.2f} %")
    for notice in evaluation.notices:
        note(notice)
