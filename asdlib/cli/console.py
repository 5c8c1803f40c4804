"""The application: what its commands print with, and the options that several of them have."""

import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from typer.core import TyperGroup

from asdlib.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from asdlib.study.cluster import Scheduler as Cluster


class Commands(TyperGroup):
    """A group of commands whose help shows each summary as a whole."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands, see `click.Group.format_commands`."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, (one.help or "").split("\n")[0]) for name, one in commands.items() if one]
            )


app = typer.Typer(
    name="asd",
    cls=Commands,
    help="Contrastive anomalous sound detection: data, features, systems, evaluation, study, book.",
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
out_console = Console(highlight=False)
err_console = Console(stderr=True, highlight=False)

Report = Callable[[str, int, int], None]


def count(number: int, thing: str) -> str:
    """Return a number with its noun: "1 clip", "2 clips"."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def say(text: str) -> None:
    """Print one line of text as it stands, however long."""
    out_console.print(text, soft_wrap=True, markup=False)


def remark(text: str) -> None:
    """Print one line on standard error."""
    err_console.print(text, soft_wrap=True, markup=False)


def note(text: str) -> None:
    """Print a notice on standard error."""
    remark(f"note: {text}")


def print_json(content: Any) -> None:
    """Print JSON on standard output."""
    typer.echo(json.dumps(content, indent=2, allow_nan=False, default=str))


def records(frame: "pd.DataFrame") -> list[dict[Any, Any]]:
    """Return the rows of a table for JSON, which knows no NaN."""
    rows = frame.to_dict("records")
    return [{key: None if v != v else v for key, v in row.items()} for row in rows]


def print_frame(
    rows: "pd.DataFrame | list[dict[str, Any]]", title: str, digits: int | None = None
) -> None:
    """Print a table as it stands, or its fractions rounded; rows of means stand out."""
    import pandas as pd

    frame = pd.DataFrame(rows)
    table = Table(title=escape(title))
    for column in frame.columns:
        numeric = pd.api.types.is_numeric_dtype(frame[column])
        table.add_column(str(column), justify="right" if numeric else "left", overflow="fold")
    for row in frame.itertuples(index=False):
        mean = not {"Average", "Harmonic mean"}.isdisjoint(map(str, row))
        texts = (f"{v:.{digits}f}" if digits and isinstance(v, float) else str(v) for v in row)
        table.add_row(*map(escape, texts), style="bold" if mean else "", end_section=mean)
    out_console.print(table)


def print_metrics(metrics: "pd.DataFrame", title: str) -> None:
    """Print a metrics table in percent."""
    if len(metrics):
        figures = metrics.select_dtypes("float")
        print_frame(metrics.assign(**(100 * figures)), f"{title} (in %)", digits=2)


@contextmanager
def progress_bar(*, sizes: bool = False) -> Iterator[Report]:
    """Show progress on a terminal; yield the function to call with ``(what, done, total)``.

    With `sizes`, the numbers are bytes. Warnings of the library become notices at the end.
    """
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn() if sizes else MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=err_console,
        transient=True,
        disable=not err_console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(escape(what), total=total)
        bar.update(tasks[what], completed=done, total=total)

    with bar, warnings.catch_warnings(record=True) as said:
        yield report
    for warning in said:
        note(str(warning.message))


def _store_of(path: Path | None) -> Path | None:
    """Return the store of a folder of recordings, built beside it; a store is one already."""
    from asdlib.data.clips import has_recordings
    from asdlib.features.store import is_store

    if path is None or not path.is_dir() or is_store(path) or not has_recordings(path):
        return path
    from asdlib.features.build import own_store  # with torch

    with progress_bar() as report:
        return own_store(path, on_progress=lambda done, total: report("features", done, total))


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
        "--test", callback=_store_of, help="the same, to score: test clips; default: as --train"
    ),
]
TrainedOn = Annotated[
    Path | None,
    typer.Option(
        "--train",
        callback=_store_of,
        help="store or recordings that the run was trained on, if it lacks held-out scores",
    ),
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="seed of everything random")]
Parameters = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a parameter (repeatable)")
]
Machines = Annotated[
    list[str] | None,
    typer.Option("--machine", metavar="TYPE", help="only this machine type; may be repeated"),
]
Jobs = Annotated[int | None, typer.Option(min=1, help="how many at a time; default: one per core")]
Year = Annotated[
    int | None,
    typer.Option(
        min=2020, max=2026, help="year of file names and rules; default: as store or names say"
    ),
]
Truth = Annotated[
    Path | None,
    typer.Option(
        "--ground-truth", help="labels that names hide: CSV list (2020) or evaluator's folder"
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
    str | None, typer.Option(metavar="ADDRESS", help="send the runs to this Dask cluster")
]
Resources = Annotated[
    str | None,
    typer.Option(metavar="NAME=NUMBER", help="what a run needs of its worker, such as GPU=1"),
]


def cluster(address: str | None, resources: str | None) -> "Cluster | None":
    """Find the scheduler, if one is named; say where to watch it."""
    from asdlib.study.cluster import Scheduler
    from asdlib.study.config import parse_overrides

    if not address:
        if resources:
            raise ConfigError("--resources needs a cluster; give --scheduler too")
        return None
    needs = parse_overrides(resources.split(",") if resources else ())
    if not all(isinstance(number, int | float) for number in needs.values()):
        raise ConfigError(f"resources are '{resources}', expected NAME=NUMBER such as GPU=1")
    asked = Scheduler(address, needs)
    with asked.connect() as client:
        workers = len(client.scheduler_info(n_workers=-1)["workers"])
        remark(f"scheduler {address}: {workers} workers; dashboard: {client.dashboard_link}")
    return asked
