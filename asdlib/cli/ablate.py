"""The command that runs the ablation of the contrastive system on any pair of stores."""

from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from asdlib.cli.console import err_console, note, print_frame, say
from asdlib.errors import RunError


def register(app: typer.Typer) -> None:
    """Add the command of this module to the command line."""
    app.command("ablate")(ablate_command)


def ablate_command(
    train: Annotated[Path, typer.Option(help="store to train on: its normal training rows")],
    test: Annotated[Path, typer.Option(help="store to score: its test rows")],
    out: Annotated[Path, typer.Option(help="folder for tables, figure, runs and derived stores")],
    seeds: Annotated[int, typer.Option(min=1, help="number of seeds, from 0")] = 3,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="runs at a time; default: one a core, one on a GPU")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="GROUP", help="only this group; may be repeated")
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="a parameter of all variants"),
    ] = None,
    wav: Annotated[
        Path | None, typer.Option(help="recordings of the stores, for the byola front end")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="folder of runs and derived stores; default: OUT")
    ] = None,
) -> None:
    """Run the ablation over seeds: tables, figure and provenance; goes on where it was stopped."""
    from asdlib.features import FeatureStore
    from asdlib.plots.differences import plot_differences
    from asdlib.plots.intervals import save_figure
    from asdlib.study import RunResult, ablate
    from asdlib.study.config import parse_overrides
    from asdlib.study.experiment import Job
    from asdlib.study.summary import summarise, write_provenance, write_table

    params = parse_overrides(assign or [])
    failures: list[str] = []
    runs = 0

    def tell(job: Job, result: RunResult | str, number: int, total: int) -> None:
        nonlocal runs
        runs = total
        told = f"failed: {result}"
        if isinstance(result, RunResult):
            told = f"AUC {100 * result.auc:.1f}, pAUC {100 * result.pauc:.1f}"
            told += ", found" if result.cached else f", {result.record['seconds']['fit']:.0f} s"
        err_console.print(
            f"[{number}/{total}] {job.variant}, seed {job.seed}: {told}", markup=False
        )

    table = ablate(
        train,
        test,
        work or out,
        seeds=range(seeds),
        groups=only,
        params=params,
        wav=wav,
        processes=jobs,
        failures=failures,
        on_done=tell,
    )
    summary = summarise(table)
    write_table(table, out / "ablation.csv")
    write_table(summary, out / "summary.csv")
    overall = summary[summary["machine"] == "Average"]
    if (overall["group"] != "reference").any():
        save_figure(plot_differences(summary), out / "ablation")
    write_provenance(
        out / "provenance.json",
        {"train": FeatureStore.open(train), "test": FeatureStore.open(test)},
        command="ablate",
        seeds=seeds,
        groups=only or "all",
        params=params,
        failures=failures,
    )
    for metric, name in (("auc", "AUC"), ("pauc", "pAUC")):
        rows = overall[overall["metric"] == metric]
        shown = rows[["group", "variant", "seeds"]].assign(
            mean=rows["mean"].map("{:.1f}".format), against_full=rows["verdict"]
        )
        print_frame(pd.DataFrame(shown), f"{name} in %, difference to full with 95 % interval")
    say(f"tables, figure and provenance in {out}")
    for line in failures:
        note(f"failed: {line}")
    if failures:
        raise RunError(
            f"{len(failures)} of {runs} runs failed and are not in the tables, the first: "
            f"{failures[0]}"
        )
