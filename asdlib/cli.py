"""The command line, ``asd …``: each command is one call of the library.

Errors that a user can act on end with one line on standard error and exit code 1; wrong usage with
code 2; Ctrl-C with 130.
"""

import errno
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from asdlib import __version__
from asdlib.errors import AsdError, ConfigError

app = typer.Typer(
    name="asd",
    help="Contrastive anomalous sound detection: data, features, systems, evaluation, study, book.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
out_console = Console(highlight=False)
err_console = Console(stderr=True, highlight=False)


# Typer brings its own copy of click, or uses the installed one: this is the right class of both.
UsageError: Any = typer.BadParameter.__base__


class Layout(StrEnum):
    """Official folder layouts."""

    dcase2020 = "dcase2020"
    dcase2022 = "dcase2022"


class Year(StrEnum):
    """Years with an official form of score files."""

    y2020 = "2020"
    y2022 = "2022"


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="folder to make")],
    profile: Annotated[str, typer.Option(help="size of the corpus: smoke or classroom")] = "smoke",
    layout: Annotated[Layout, typer.Option(help="official layout")] = Layout.dcase2020,
    seed: Annotated[int, typer.Option(min=0, help="another seed, other machines")] = 0,
    jobs: Annotated[int | None, typer.Option(min=1, help="processes; default: cores")] = None,
) -> None:
    """Write synthetic machine recordings, WAV files in an official layout."""
    from asdlib.data.synthetic import SPECS, write_corpus

    if profile not in SPECS:
        raise ConfigError(
            f"unknown profile '{profile}' of synthetic data (known: {', '.join(SPECS)})"
        )
    spec = SPECS[profile].model_copy(update={"layout": layout.value, "seed": seed})
    with progress_bar() as report:
        table = write_corpus(
            spec, out, jobs=jobs, on_progress=lambda done, total: report("clips", done, total)
        )
    out_console.print(f"{len(table)} clips in {out}", soft_wrap=True)


@app.command()
def features(
    wav_root: Annotated[Path, typer.Argument(help="folder of recordings in an official layout")],
    store: Annotated[Path, typer.Argument(help="feature store to make")],
    preset: Annotated[str, typer.Option(help="front end: dcase2020, dcase2022 or byola")] = (
        "dcase2020"
    ),
    jobs: Annotated[int | None, typer.Option(min=1, help="processes; default: cores")] = None,
    channel: Annotated[int | None, typer.Option(min=0, help="channel of several")] = None,
    resample: Annotated[bool, typer.Option(help="accept other sample rates")] = False,
) -> None:
    """Build a log-mel feature store from recordings."""
    from asdlib.features.build import build_store

    with progress_bar() as report:
        built = build_store(
            wav_root,
            store,
            preset=preset,
            jobs=jobs,
            channel=channel,
            resample=resample,
            on_progress=lambda done, total: report("features", done, total),
        )
    out_console.print(
        f"{len(built)} clips, {built.n_mels} mel bins, {built.n_frames} frames in {store}",
        soft_wrap=True,
    )


@app.command("run")
def run_command(
    system: Annotated[str, typer.Argument(help="contrastive, autoencoder or statistics")],
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
) -> None:
    """Train a system on normal clips, score the test clips, write and print the metrics."""
    from asdlib.study.config import parse_overrides
    from asdlib.study.run import run

    params = parse_overrides(assign or [])
    with progress_bar() as report:
        result = run(
            system, train, test, out, params=params, seed=seed, machines=machine, progress=report
        )
    print_metrics(result.metrics, f"{system}, seed {seed}")
    for notice in result.record["notices"]:
        err_console.print(f"note: {notice}", soft_wrap=True, markup=False)
    seconds = result.record["seconds"]
    done = "found, not computed again" if result.cached else f"fitted in {seconds['fit']:.1f} s"
    out_console.print(f"{done}; scores and metrics in {result.path}", soft_wrap=True)


@app.command()
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
    from asdlib.evaluation.tables import evaluate_folder

    evaluation = evaluate_folder(scores, int(year.value), ground_truth)
    told = evaluation.to_json_dict()
    if as_json:
        typer.echo(json.dumps(told, indent=2, allow_nan=False))
        return
    print_metrics(evaluation.frame, f"{scores.name}, rules of {year.value}")
    if told.get("omega") is not None:
        out_console.print(f"official score Ω: {100 * told['omega']:.2f} %")
    for notice in evaluation.notices:
        err_console.print(f"note: {notice}", soft_wrap=True, markup=False)


@app.command("study")
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
) -> None:
    """Run all notebooks through papermill, in order; failures do not stop the others."""
    from asdlib.study.notebooks import run_notebooks

    outcomes = run_notebooks(
        profile,
        notebooks=notebooks,
        workspace=out,
        store=store,
        data_root=data_root,
        only=only,
        force=force,
        on_start=lambda name, i, n: err_console.print(f"[{i}/{n}] {name} …", markup=False),
    )
    table = Table(title=f"study on profile {profile}")
    for column in ("notebook", "outcome", "seconds"):
        table.add_column(column, justify="right" if column == "seconds" else "left")
    for outcome in outcomes:
        table.add_row(outcome.name, outcome.status, f"{outcome.seconds:.1f}")
    out_console.print(table)
    failed = [outcome for outcome in outcomes if outcome.error]
    for outcome in failed:
        err_console.print(f"\n{outcome.name}:\n{outcome.error}", markup=False)
    if failed:
        raise AsdError(
            f"{len(failed)} of {len(outcomes)} notebooks failed: "
            f"{', '.join(outcome.name for outcome in failed)}; see the traceback above"
        )


@app.command()
def book(
    profile: Annotated[str, typer.Option(help="profile whose executed notebooks are shown")] = (
        "classroom"
    ),
    out: Annotated[Path, typer.Option(help="workspace of the study")] = Path("build/study"),
    source: Annotated[Path, typer.Option(help="folder with _config.yml and _toc.yml")] = Path(),
) -> None:
    """Render the book, with the executed notebooks of a profile, to _build/html."""
    from asdlib.study.notebooks import build_book

    index = build_book(profile, workspace=out, source=source)
    out_console.print(f"the book is at {index}", soft_wrap=True)


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def print_metrics(metrics: pd.DataFrame, title: str) -> None:
    """Print a metrics table in percent; averages stand out."""
    if metrics.empty:
        return
    table = Table(title=title + " (in %)")
    for column in metrics.columns:
        table.add_column(column, justify="left" if column in ("machine", "section") else "right")
    for row in metrics.itertuples(index=False):
        cells = [f"{100 * v:.2f}" if isinstance(v, float) else escape(str(v)) for v in row]
        average = "Average" in cells[:2]
        table.add_row(*cells, style="bold" if average else "", end_section=average)
    out_console.print(table)


@contextmanager
def progress_bar() -> Iterator[Any]:
    """Show progress on a terminal; give the function to tell it."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err_console,
        transient=True,
        disable=not err_console.is_terminal,
    )
    tasks: dict[str, Any] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield report


def main() -> None:
    """Run the command line; every expected error is one line."""
    sys.exit(_main())


def _main() -> int:
    try:
        code = app(standalone_mode=False)
    except AsdError as error:
        return _fail(str(error))
    except typer.Abort:
        return _fail("stopped", 130)
    except KeyboardInterrupt:
        return _fail("stopped; nothing half-written is left, the same command goes on", 130)
    except UsageError as error:
        return _fail(error.format_message(), 2)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            return _fail("the disk is full; free some space and give the same command again")
        return _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    return int(code or 0)


def _fail(message: str, code: int = 1) -> int:
    line = " ".join(message.split())
    print(f"error: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
