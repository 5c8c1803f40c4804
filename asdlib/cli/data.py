"""Commands about recordings: make synthetic ones, download the official ones, check a folder."""

import json
from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.filesize import decimal

from asdlib.cli.console import err_console, note, print_frame, progress_bar, say
from asdlib.errors import ConfigError, DataError, DownloadError

_SHOWN = 20  # faults that are printed; a data set that lacks an archive has thousands

Layout = StrEnum("Layout", ["dcase2020", "dcase2022"])
data_app = typer.Typer(help="Look at and check a folder of recordings.", rich_markup_mode=None)

Root = Annotated[Path, typer.Argument(help="folder of recordings in an official layout")]
Year = Annotated[int | None, typer.Option(help="year, where the names do not tell")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]


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
    from asdlib.data.download import download as fetch, free_bytes, plan_download

    plan = plan_download(dataset, machine, subset, root, base_url=base_url)
    for text in plan.notes:
        note(text)
    if not plan.missing:
        say(f"all {len(plan.archives)} files of {dataset} are in place in {root}")
        return
    sizes = [archive.size and max(0, archive.size - archive.fetched) for archive in plan.missing]
    rows = [
        (archive.file, archive.subset, "?" if size is None else decimal(size))
        for archive, size in zip(plan.missing, sizes, strict=True)
    ]
    print_frame(pd.DataFrame(rows, columns=["file", "subset", "to fetch"]), f"{dataset} → {root}")
    unknown = f", {sizes.count(None)} files of unknown size" if None in sizes else ""
    licences = dict.fromkeys(archive.licence or "not stated" for archive in plan.archives)
    say(
        f"to fetch: {decimal(sum(size or 0 for size in sizes))}{unknown}; disk needed: about "
        f"{decimal(plan.disk_needed(keep=keep, jobs=jobs))} of {decimal(free_bytes(root))} free; "
        f"licence: {'; '.join(licences)}"
    )
    if dry_run:
        return
    if not yes and not typer.confirm("Download?", default=False, err=True):
        raise DownloadError("nothing was downloaded; --yes answers the question beforehand")
    with progress_bar(sizes=True) as report:
        fetched = len(fetch(plan, jobs=jobs, keep=keep, on_progress=report))
    say(f"{fetched} files fetched, {len(plan.archives) - fetched} were there; all in {root}")


@data_app.command("ls")
def list_clips(root: Root, year: Year = None, as_json: AsJson = False) -> None:
    """Count the clips for each machine, section, split, domain and label."""
    from asdlib.data import index_folder, summarise

    counts = summarise(index_folder(root, year=year))
    if as_json:
        typer.echo(json.dumps(counts.to_dict("records"), indent=2))
    else:
        print_frame(counts, f"{counts['clips'].sum()} clips in {root}")


@data_app.command("check")
def check(
    root: Root,
    year: Year = None,
    official: Annotated[
        bool, typer.Option(help="compare with the official counts; --no-official for own data")
    ] = True,
    machine: Annotated[
        list[str] | None, typer.Option(help="machine that has to be there; may be repeated")
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="threads")] = None,
    as_json: AsJson = False,
) -> None:
    """Name every missing, surplus, unreadable, wrong-rate or wrong-length file."""
    from asdlib.data import check_folder

    with progress_bar() as report:
        table, faults = check_folder(
            root, year=year, official=official, machines=machine or (), jobs=jobs,
            on_progress=lambda done, total: report("headers", done, total),
        )  # fmt: skip
    if as_json:
        listed = [fault._asdict() for fault in faults]
        typer.echo(json.dumps({"clips": len(table), "faults": listed}, indent=2))
    else:
        for fault in faults[:_SHOWN]:
            err_console.print(f"{fault.kind}: {fault.message}", soft_wrap=True, markup=False)
        if len(faults) > _SHOWN:
            note(f"{len(faults) - _SHOWN} more faults are not shown; --json lists all")
    if faults:
        counts = Counter(fault.kind for fault in faults)
        kinds = ", ".join(f"{count} {kind}" for kind, count in counts.items())
        own = "; for recordings of your own give --no-official" if official else ""
        raise DataError(f"'{root}': {len(faults)} faults among {len(table)} clips: {kinds}{own}")
    if not as_json:
        say(f"{len(table)} clips in {root}: no fault")
