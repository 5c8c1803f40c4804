"""Commands about feature stores: build one, look at it, cut it, join several."""

import json
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from asdlib.cli.console import print_frame, progress_bar, say
from asdlib.errors import ConfigError

store_app = typer.Typer(help="Look at, cut and join feature stores.", rich_markup_mode=None)


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command()(features)
    app.add_typer(store_app, name="store")


def features(
    wav_root: Annotated[Path, typer.Argument(help="folder of recordings in an official layout")],
    store: Annotated[Path, typer.Argument(help="feature store to make")],
    preset: Annotated[str, typer.Option(help="front end: dcase2020, dcase2022, byola or ast")] = (
        "dcase2020"
    ),
    jobs: Annotated[int | None, typer.Option(min=1, help="threads; default: cores")] = None,
    channel: Annotated[int | None, typer.Option(min=0, help="channel of several")] = None,
    resample: Annotated[bool, typer.Option("--resample", help="accept other sample rates")] = False,
    year: Annotated[int | None, typer.Option(help="year, where the names do not tell")] = None,
    any_layout: Annotated[
        bool, typer.Option("--any-layout", help="all audio below the folder, to pre-train on")
    ] = False,
    ground_truth: Annotated[
        Path | None,
        typer.Option(help="labels of blind clips: list CSV (2020) or evaluator's folder (2022)"),
    ] = None,
) -> None:
    """Build a log-mel feature store from recordings."""
    from asdlib.data import index_any_folder, index_folder, join_ground_truth, read_ground_truth
    from asdlib.features.build import build_store

    if any_layout and ground_truth:
        raise ConfigError(
            "--ground-truth needs official names, which --any-layout does not read; leave one out"
        )
    table = index_any_folder(wav_root) if any_layout else None
    if ground_truth:
        truth = read_ground_truth(ground_truth)
        table = join_ground_truth(index_folder(wav_root, year=year), truth)
    with progress_bar() as report:
        built = build_store(
            wav_root,
            store,
            preset=preset,
            jobs=jobs,
            channel=channel,
            resample=resample,
            year=year,
            table=table,
            on_progress=lambda done, total: report("features", done, total),
        )
    say(
        f"{len(built)} clips, {built.n_mels} mel bins, {built.n_frames} frames in {store}",
    )


@store_app.command("info")
def info(
    store: Annotated[Path, typer.Argument(help="feature store")],
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Describe a store: size, front end, fingerprint, counts."""
    from asdlib.features import FeatureStore, store_info

    told = store_info(FeatureStore.open(store))
    if as_json:
        typer.echo(json.dumps(told, indent=2))
        return
    for key, value in told.items():
        if key != "counts":
            say(f"{key}: {value}")
    print_frame(pd.DataFrame(told["counts"]), "clips")


@store_app.command("subset")
def subset(
    store: Annotated[Path, typer.Argument(help="feature store to cut from")],
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
        conditions[column] = values.split(",")
    made = subset_store(FeatureStore.open(store), out, **conditions)
    say(f"{len(made)} clips in {out}")


@store_app.command("merge")
def merge(
    stores: Annotated[list[Path], typer.Argument(help="stores of one front end, then the new one")],
) -> None:
    """Join stores of the same front end; the last argument is the store to make."""
    from asdlib.features import FeatureStore, merge_stores

    *sources, out = stores
    if not sources:
        raise ConfigError(f"only '{out}' is given; name the stores to join and then the new one")
    made = merge_stores([FeatureStore.open(path) for path in sources], out)
    say(f"{len(made)} clips in {out}")
