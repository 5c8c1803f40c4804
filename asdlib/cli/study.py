"""Commands about systems and results: run one, evaluate scores, run the study, render the book."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from asdlib.cli.console import err_console, note, print_frame, print_metrics, progress_bar, say
from asdlib.errors import AsdError


class Year(StrEnum):
    """Years with an official form of score files."""

    y2020 = "2020"
    y2022 = "2022"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("run")(run_command)
    app.command()(evaluate)
    app.command("study")(study_command)
    app.command()(book)


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
    for notice in result.record["notices"]:
        note(notice)
    seconds = result.record["seconds"]
    done = "found, not computed again" if result.cached else f"fitted in {seconds['fit']:.1f} s"
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


def study_command(
    profile: Annotated[str, typer.Option(help="smoke, classroom, toycar, dcase2020, dcase2022")] = (
        "classroom"
    ),
    out: Annotated[Path, typer.Option(help="workspace for all that is made")] = Path("build/study"),
    store: Annotated[Path | None, typer.Option(help="real feature store (toycar)")] = None,
    data_root: Annotated[Path | None, typer.Option(help="downloaded recordings")] = None,
    notebooks: Annotated[Path, typer.Option(help="folder of notebooks")] = Path("notebooks"),
    only: Annotated[list[str] | None, typer.Option(help="only notebooks that start so")] = None,
    force: Annotated[bool, typer.Option(help="run also what did not change")] = False,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="notebooks at a time; default one a core, 1 on a GPU")
    ] = None,
) -> None:
    """Run the notebooks that changed, several at a time; failures do not stop the others."""
    from asdlib.study.notebooks import run_notebooks

    started = time.perf_counter()
    outcomes = run_notebooks(
        profile,
        notebooks=notebooks,
        workspace=out,
        store=store,
        data_root=data_root,
        only=only,
        force=force,
        jobs=jobs,
        on_start=lambda name, i, n: err_console.print(f"[{i}/{n}] {name} …", markup=False),
        on_done=lambda o, done, n: err_console.print(
            f"{done} of {n} done: {o.name} {o.status}, {o.seconds:.1f} s", markup=False
        ),
    )
    rows = [
        {"notebook": o.name, "outcome": o.status, "seconds": f"{o.seconds:.1f}"} for o in outcomes
    ]
    print_frame(pd.DataFrame(rows), f"study on profile {profile}")
    say(f"{len(rows)} notebooks in {time.perf_counter() - started:.1f} s")
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        err_console.print(f"\n{outcome.name}:\n{outcome.error}", markup=False)
    if failed:
        raise AsdError(
            f"{len(failed)} of {len(outcomes)} notebooks failed: "
            f"{', '.join(outcome.name for outcome in failed)}; see the traceback above"
        )


def book(
    profile: Annotated[str, typer.Option(help="profile whose executed notebooks are shown")] = (
        "classroom"
    ),
    out: Annotated[Path, typer.Option(help="workspace of the study")] = Path("build/study"),
    source: Annotated[Path, typer.Option(help="folder with _config.yml and _toc.yml")] = Path(),
    html: Annotated[Path | None, typer.Option(help="where to; default _build/html")] = None,
    pdf: Annotated[
        Path | None, typer.Option(help="print it as one PDF to this file; needs Chromium")
    ] = None,
) -> None:
    """Render the book with the executed notebooks of a profile."""
    from asdlib.study.book import build_book

    if pdf is not None:
        from asdlib.study.pdf import print_book

        say(f"the book is at {print_book(pdf, profile, workspace=out, source=source)}")
        return
    index = build_book(profile, workspace=out, source=source, html=html)
    say(f"the book is at {index}")
