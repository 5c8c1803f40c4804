"""Commands about recordings: make synthetic ones, download the official ones, check a folder."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from asdlib.cli.console import err_console, note, print_frame, progress_bar, say
from asdlib.errors import ConfigError, DataError, DownloadError

_SHOWN = 20
"""Faults that are printed; all of a data set that lacks an archive would be thousands."""

data_app = typer.Typer(help="Look at and check a folder of recordings.", rich_markup_mode=None)


class Layout(StrEnum):
    """Official folder layouts."""

    dcase2020 = "dcase2020"
    dcase2022 = "dcase2022"


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command()(synth)
    app.command()(download)
    app.add_typer(data_app, name="data")


def synth(
    out: Annotated[Path, typer.Argument(help="folder to make")],
    profile: Annotated[str, typer.Option(help="size: smoke or classroom")] = "classroom",
    layout: Annotated[Layout, typer.Option(help="official layout")] = Layout.dcase2020,
    seed: Annotated[int, typer.Option(min=0, help="another seed, other clips")] = 0,
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
    say(f"{len(table)} clips in {out}")


def download(
    dataset: Annotated[str, typer.Argument(help="dcase2020 … dcase2026")],
    machine: Annotated[
        list[str] | None, typer.Option(help="only this machine type; may be repeated")
    ] = None,
    subset: Annotated[
        list[str] | None,
        typer.Option(help="development, additional or evaluation; may be repeated"),
    ] = None,
    root: Annotated[Path, typer.Option(help="data root")] = Path("data"),
    base_url: Annotated[str | None, typer.Option(help="mirror in place of the hosts")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="files at a time")] = 2,
    keep: Annotated[bool, typer.Option("--keep", help="keep the archives")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Download a DCASE Task 2 dataset: verified, resumable, unpacked to the official layout."""
    from asdlib.data.download import download as fetch
    from asdlib.data.download import plan_download
    from asdlib.data.plan import free_bytes

    plan = plan_download(dataset, machine, subset, root, base_url=base_url)
    for text in plan.notes:
        note(text)
    if not plan.missing:
        say(f"all {len(plan.items)} files of {dataset} are in place in {root}")
        return
    _print_plan(plan)
    needed = plan.disk_needed(keep=keep, jobs=jobs)
    unknown = f", {plan.unknown_sizes} files of unknown size" if plan.unknown_sizes else ""
    say(
        f"to fetch: {_size(plan.bytes_to_fetch)}{unknown}; disk needed: about {_size(needed)} of "
        f"{_size(free_bytes(root))} free; licence: {'; '.join(plan.licences)}"
    )
    if dry_run:
        return
    if not yes and not typer.confirm("Download?", default=False, err=True):
        raise DownloadError("nothing was downloaded; --yes answers the question beforehand")
    with progress_bar(sizes=True) as report:

        def told(progress: Any) -> None:
            what = f"{progress.file or 'all files'} {progress.stage}"
            report(what, progress.done, progress.total or progress.done or 1)

        done = fetch(plan, base_url=base_url, jobs=jobs, keep=keep, on_progress=told)
    say(f"{len(done.fetched)} files fetched, {len(done.already_there)} were there; all in {root}")


def _print_plan(plan: Any) -> None:
    rows = [
        {
            "file": item.archive.file,
            "subset": item.archive.subset,
            "to fetch": "?" if item.to_fetch is None else _size(item.to_fetch),
        }
        for item in plan.missing
    ]
    print_frame(pd.DataFrame(rows), f"{plan.dataset} → {plan.root}")


def _size(n_bytes: int) -> str:
    value, unit = float(n_bytes), "B"
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000 or unit == "TB":
            break
        value /= 1000
    return f"{value:.0f} {unit}" if unit in ("B", "kB") else f"{value:.1f} {unit}"


@data_app.command("ls")
def list_clips(
    root: Annotated[Path, typer.Argument(help="folder of recordings in an official layout")],
    year: Annotated[int | None, typer.Option(help="year, where the names do not tell")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Count the clips for each machine, section, split, domain and label."""
    from asdlib.data import index_folder, summarise

    counts = summarise(index_folder(root, year=year))
    if as_json:
        typer.echo(json.dumps(counts.to_dict("records"), indent=2))
        return
    print_frame(counts, f"{int(counts['clips'].sum())} clips in {root}")


@data_app.command("check")
def check(
    root: Annotated[Path, typer.Argument(help="folder of recordings in an official layout")],
    year: Annotated[int | None, typer.Option(help="year, where the names do not tell")] = None,
    official: Annotated[
        bool, typer.Option(help="compare with the official counts; --no-official for own data")
    ] = True,
    machine: Annotated[
        list[str] | None, typer.Option(help="machine that has to be there; may be repeated")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="threads")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Name every missing, surplus, unreadable, wrong-rate or wrong-length file."""
    from asdlib.data import check_folder

    with progress_bar() as report:
        found = check_folder(
            root,
            year=year,
            official=official,
            machines=tuple(machine or ()),
            jobs=jobs,
            on_progress=lambda done, total: report("headers", done, total),
        )
    if as_json:
        faults = [{"path": f.path, "kind": f.kind, "message": f.message} for f in found.faults]
        typer.echo(json.dumps({"clips": len(found.table), "faults": faults}, indent=2))
    else:
        for fault in found.faults[:_SHOWN]:
            err_console.print(f"{fault.kind}: {fault.message}", soft_wrap=True, markup=False)
        if len(found.faults) > _SHOWN:
            note(f"{len(found.faults) - _SHOWN} more faults are not shown; --json lists all")
    if not found.ok:
        kinds = ", ".join(f"{count} {kind}" for kind, count in found.by_kind().items())
        own = "; for recordings of your own give --no-official" if official else ""
        raise DataError(
            f"'{root}': {len(found.faults)} faults among {len(found.table)} clips: {kinds}{own}"
        )
    if not as_json:
        say(f"{len(found.table)} clips in {root}: no fault")
