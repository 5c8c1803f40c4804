"""Commands about recordings (make, download, check) and about feature stores (build, cut, join)."""

from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.filesize import decimal

from asdlib.cli import console
from asdlib.cli.console import (
    Commands,
    app,
    count,
    note,
    print_frame,
    print_json,
    progress_bar,
    remark,
    say,
)
from asdlib.errors import ConfigError, DataError, DownloadError, shorten

_SHOWN = 20  # faults that are printed; a data set that lacks an archive has thousands

Layout = Literal["dcase2020", "dcase2022", "dcase2023", "dcase2024", "dcase2025", "dcase2026"]
Root = Annotated[Path, typer.Argument(help="folder of recordings in an official layout")]
Store = Annotated[Path, typer.Argument(help="feature store")]
data_app = typer.Typer(
    cls=Commands, help="Look at and check a folder of recordings.", rich_markup_mode=None
)
store_app = typer.Typer(
    cls=Commands, help="Look at, cut and join feature stores.", rich_markup_mode=None
)


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(help="folder to make")],
    profile: Annotated[
        Literal["smoke", "classroom"], typer.Option(help="number and length of clips")
    ] = "classroom",
    layout: Annotated[Layout, typer.Option(help="official layout")] = "dcase2020",
    shift: Annotated[
        Literal["mild", "hard"], typer.Option(help="shift of domain, not in dcase2020")
    ] = "mild",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="seed of the clips")] = 0,
    jobs: console.Jobs = None,
) -> None:
    """Write synthetic machine recordings, WAV files in an official layout."""
    from asdlib.data.synthetic import SPECS, write_corpus

    changes = {"layout": layout, "shift": shift, "seed": seed}
    spec = SPECS[profile].model_copy(update=changes)
    if spec.first_shot:  # its one section holds the clips of all
        counts = ("n_train", "n_test_normal", "n_test_anomaly")
        more = {name: spec.n_sections * getattr(spec, name) for name in counts}
        spec = spec.model_copy(update=more)
    with progress_bar() as report:
        table = write_corpus(
            spec, out, jobs=jobs, on_progress=lambda done, total: report("clips", done, total)
        )
    say(f"{count(len(table), 'clip')} in {out}")


@app.command()
def download(
    dataset: Annotated[str, typer.Argument(help="dcase2020 … dcase2026")],
    machine: console.Machines = None,
    subset: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="development, additional or evaluation; may be repeated"),
    ] = None,
    root: Annotated[Path, typer.Option(help="folder for the data")] = Path("data"),
    base_url: Annotated[str | None, typer.Option(help="mirror to use instead")] = None,
    jobs: Annotated[int, typer.Option(min=1, help="files at a time")] = 2,
    keep: Annotated[bool, typer.Option("--keep", help="keep the archives, too")] = False,
    yes: console.Yes = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
) -> None:
    """Download a DCASE Task 2 dataset: verified, resumable, unpacked to the official layout."""
    from asdlib.data.download import download as fetch, free_bytes, plan_download

    plan = plan_download(dataset, machine, subset, root, base_url=base_url)
    if plan.note:
        note(plan.note)
    if not plan.missing:
        say(f"all {len(plan.archives)} files of {dataset} are in place in {root}")
        return
    left = [max(0, (archive.size or 0) - archive.fetched) for archive in plan.missing]
    rows = [
        {"file": a.file, "subset": a.subset, "to fetch": decimal(n) if a.size else "?"}
        for a, n in zip(plan.missing, left, strict=True)
    ]
    print_frame(rows, f"{dataset} → {root}")
    licences = dict.fromkeys(archive.licence or "not stated" for archive in plan.archives)
    say(
        f"to fetch: {decimal(sum(left))}; disk needed: about "
        f"{decimal(plan.disk_needed(jobs=jobs, keep=keep))} of {decimal(free_bytes(root))} free; "
        f"licence: {'; '.join(licences)}"
    )
    if dry_run:
        return
    if not yes:
        agreed = False
        with suppress(typer.Abort):  # at the end of the input
            agreed = typer.confirm("Download?", default=False, err=True)
        if not agreed:
            raise DownloadError("nothing was downloaded; --yes answers the question beforehand")
    with progress_bar(sizes=True) as report:
        fetched = len(fetch(plan, jobs=jobs, keep=keep, on_progress=report))
    say(f"{fetched} files fetched, {len(plan.archives) - fetched} were there; all in {root}")


app.add_typer(data_app, name="data")


@data_app.command("ls")
def list_clips(root: Root, year: console.Year = None, as_json: console.AsJson = False) -> None:
    """Count the clips for each machine, section, split, domain and label."""
    from asdlib.data import index_folder, summarise

    counts = summarise(index_folder(root, year=year))
    if as_json:
        print_json(counts.to_dict("records"))
    print_frame(counts, f"{count(counts['clips'].sum(), 'clip')} in {root}")


@data_app.command()
def check(
    root: Root,
    year: console.Year = None,
    official: Annotated[
        bool, typer.Option(help="compare with the official counts; --no-official for own data")
    ] = True,
    jobs: console.Jobs = None,
    as_json: console.AsJson = False,
) -> None:
    """Name every missing, surplus, unreadable, wrong-rate or wrong-length file."""
    from asdlib.data import check_folder

    with progress_bar() as report:
        table, faults = check_folder(
            root,
            year=year,
            official=official,
            jobs=jobs,
            on_progress=lambda done, total: report("headers", done, total),
        )
    if as_json:
        print_json({"clips": len(table), "faults": [fault._asdict() for fault in faults]})
    else:
        for fault in faults[:_SHOWN]:
            remark(f"{fault.kind}: {shorten(fault.message, 300)}")
        if len(faults) > _SHOWN:
            note(f"{len(faults) - _SHOWN} more faults are not shown; --json lists all")
    if faults:
        counts = Counter(fault.kind for fault in faults)
        kinds = ", ".join(f"{number} {kind}" for kind, number in counts.items())
        own = "; for recordings of your own give --no-official" if official else ""
        among = f"{count(len(faults), 'fault')} among {count(len(table), 'clip')}"
        raise DataError(f"'{root}': {among}: {kinds}{own}")
    say(f"{count(len(table), 'clip')} in {root}: no fault")


@app.command()
def features(
    wav_root: Root,
    store: Annotated[Path, typer.Argument(help="feature store to make")],
    preset: Annotated[
        str, typer.Option(help="front end: dcase2020, dcase2022, byola, ast or efficientat")
    ] = "dcase2020",
    jobs: console.Jobs = None,
    channel: Annotated[int | None, typer.Option(min=0, help="channel to take, if several")] = None,
    far: Annotated[
        Literal["keep", "subtract"] | None,
        typer.Option(help="far microphone, channel 1: subtract its noise, or keep it as rows"),
    ] = None,
    resample: Annotated[bool, typer.Option("--resample", help="convert other rates")] = False,
    year: console.Year = None,
    any_layout: Annotated[
        bool, typer.Option("--any-layout", help="take audio of any name, for pre-training")
    ] = False,
    ground_truth: console.Truth = None,
) -> None:
    """Build a log-mel feature store from recordings."""
    from asdlib.data import index_any_folder, index_folder, join_ground_truth, read_ground_truth

    if any_layout and ground_truth:
        raise ConfigError(
            "--ground-truth needs official names, which --any-layout does not read; leave one out"
        )
    table = index_any_folder(wav_root) if any_layout else index_folder(wav_root, year=year)
    if ground_truth:
        table = join_ground_truth(table, read_ground_truth(ground_truth))
    from asdlib.features.build import build_store  # with torch: what is refused needs none

    with progress_bar() as report:
        built = build_store(
            wav_root,
            store,
            preset=preset,
            jobs=jobs,
            channel=channel,
            far=far,
            resample=resample,
            table=table,
            on_progress=lambda done, total: report("features", done, total),
        )
    size = f"{built.n_mels} mel bins, {count(built.n_frames, 'frame')}"
    say(f"{count(len(built), 'clip')}, {size} in {store}")


app.add_typer(store_app, name="store")


@store_app.command()
def info(store: Store, as_json: console.AsJson = False) -> None:
    """Check a store for damage and describe it: size, front end, fingerprint, counts."""
    from asdlib.data import summarise
    from asdlib.features import FeatureStore

    opened = FeatureStore.open(store)
    facts: dict[str, Any] = {
        "path": str(store),
        "clips": len(opened),
        "n_mels": opened.n_mels,
        "n_frames": opened.n_frames,
        "shortest": int(opened.frames.min()),
        "longest": int(opened.frames.max()),
        "bytes": opened.features.nbytes,
        "fingerprint": opened.fingerprint,
        "front_end": opened.front_end,
        "counts": summarise(opened.manifest).to_dict("records"),
    }
    if as_json:
        print_json(facts)
    for key, value in facts.items():
        if key != "counts":
            say(f"{key}: {value}")
    print_frame(facts["counts"], "clips")


@store_app.command()
def subset(
    store: Store,
    out: Annotated[Path, typer.Argument(help="store to make")],
    where: Annotated[list[str], typer.Option(metavar="COLUMN=VALUE[,VALUE…]", help="rows to keep")],
) -> None:
    """Write the rows that meet all conditions as a new store."""
    from asdlib.features import FeatureStore, subset_store

    conditions: dict[str, list[str]] = {}
    for text in where:
        column, equals, values = text.partition("=")
        if not equals or not column:
            raise ConfigError(f"'{text}' is not of the form column=value, e.g. machine=fan,pump")
        conditions.setdefault(column, []).extend(values.split(","))
    made = subset_store(FeatureStore.open(store), out, **conditions)
    say(f"{count(len(made), 'clip')} in {out}")


@store_app.command()
def translate(
    store: Store,
    out: Annotated[Path, typer.Argument(help="store to make")],
    preset: Annotated[str, typer.Option(help="front end of the new store")] = "efficientat",
) -> None:
    """Turn log-mels into those of another front end, approximately, without the recordings."""
    from asdlib.features import FeatureStore, translate_store

    made = translate_store(FeatureStore.open(store), out, preset)
    say(f"{count(len(made), 'clip')}, {made.n_mels} mel bins, {made.n_frames} frames in {out}")


@store_app.command()
def merge(
    stores: Annotated[list[Path], typer.Argument(help="stores of one front end, then the new one")],
) -> None:
    """Join stores of the same front end; the last argument is the store to make."""
    from asdlib.features import FeatureStore, merge_stores

    *sources, out = stores
    if not sources:
        raise ConfigError(f"only '{out}' is given; name the stores to join and then the new one")
    made = merge_stores([FeatureStore.open(path) for path in sources], out)
    say(f"{count(len(made), 'clip')} in {out}")
