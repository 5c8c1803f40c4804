"""Commands that run many variants over seeds: the ablation, and where each step of the block helps.

Both go on where they were stopped: a run that is there already is not computed again.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from asdlib.cli.console import note, print_frame, remark, say
from asdlib.errors import RunError

if TYPE_CHECKING:
    from asdlib.study import RunResult
    from asdlib.study.experiment import Job

Jobs = Annotated[
    int | None, typer.Option(min=1, help="runs at a time; default: one a core, one on a GPU")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command("ablate")(ablate_command)
    app.command("conditions")(conditions_command)


def ablate_command(
    train: Annotated[Path, typer.Option(help="store to train on: its normal training rows")],
    test: Annotated[Path, typer.Option(help="store to score: its test rows")],
    out: Annotated[Path, typer.Option(help="folder for tables, figure, runs and derived stores")],
    seeds: Annotated[int, typer.Option(min=1, help="number of seeds, from 0")] = 3,
    jobs: Jobs = None,
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
    from asdlib.study.ablation import ablate, summarise
    from asdlib.study.config import parse_overrides
    from asdlib.study.result import write_provenance, write_table

    params = parse_overrides(assign or [])
    failures: list[str] = []
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
        on_done=_report,
    )
    summary = summarise(table)
    write_table(table, out / "ablation.csv")
    write_table(summary, out / "summary.csv")
    names = {"auc": "AUC", "pauc": "pAUC"}
    overall = summary[(summary["machine"] == "Average") & summary["metric"].isin(names)]
    overall = overall.replace({"metric": names})
    drawn = overall.dropna(subset="difference")
    if len(drawn):
        bounds = {"difference": "mean", "difference_low": "low", "difference_high": "high"}
        drawn = drawn.drop(columns=list(bounds.values())).rename(columns=bounds)
        by = ("metric", "group", "variant")
        _draw(drawn, by, "difference to full (points)", out / "ablation")
    write_provenance(
        out / "provenance.json",
        {"train": FeatureStore.open(train), "test": FeatureStore.open(test)},
        command="ablate",
        seeds=seeds,
        groups=only or "all",
        params=params,
        failures=failures,
    )
    for name, rows in overall.groupby("metric", sort=False):
        shown = rows[["group", "variant", "seeds"]].assign(
            mean=rows["mean"].map("{:.1f}".format), against_full=rows["verdict"]
        )
        print_frame(shown, f"{name} in %, difference to full with 95 % interval")
    say(f"tables, figure and provenance in {out}")
    for line in failures:
        note(f"failed: {line}")
    if failures:
        done = len(table.drop_duplicates(["variant", "seed"]))
        raise RunError(
            f"{len(failures)} of {done + len(failures)} runs failed and are not in the tables, the "
            f"first: {failures[0]}"
        )


def conditions_command(
    out: Annotated[Path, typer.Option(help="folder for tables, figure and provenance")],
    work: Annotated[
        Path | None, typer.Option(help="folder of recordings, stores and runs; default: OUT")
    ] = None,
    jobs: Jobs = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="of the study, e.g. seeds, n_train"),
    ] = None,
) -> None:
    """Find where each step of the block helps: machine, band, domain, clips, classes."""
    from asdlib.files import write_text
    from asdlib.study import conditions
    from asdlib.study.config import parse_overrides
    from asdlib.study.result import write_provenance, write_table
    from asdlib.system import validate_params

    asked = parse_overrides(assign or [])
    spec = validate_params(conditions.ConditionsSpec, asked, "asd conditions")
    table = conditions.study_conditions(spec, work or out, processes=jobs, on_done=_report)
    found = conditions.effects_of(table)
    write_table(table.round(6), out / "conditions.csv")
    write_table(found.round(4), out / "effects.csv")
    drawn = found[found["against"] == ""].rename(columns={"effect": "mean"})
    xlabel = "AUC with all steps minus without the step (points)"
    _draw(drawn, ("step", "question", "level"), xlabel, out / "conditions")
    write_provenance(
        out / "provenance.json",
        {},
        command="asd conditions",
        spec=spec.model_dump(mode="json"),
        conditions=list(conditions.CONDITIONS),
    )
    write_text(out / "verdict.md", conditions.conditions_verdict(found) + "\n")
    overall = found[found["question"] == "all machines"]
    print_frame(
        overall[["step", "seeds", "effect", "low", "high"]].round(1),
        "AUC with all steps minus AUC without the step, points, 95 % interval over seeds",
    )
    say(f"tables, figure and provenance in {out}")


def _report(job: "Job", result: "RunResult | str", number: int, total: int) -> None:
    outcome = f"failed: {result}"
    if not isinstance(result, str):
        seconds = "found" if result.cached else f"{result.record.seconds.fit:.0f} s"
        outcome = f"AUC {100 * result.auc:.1f}, pAUC {100 * result.pauc:.1f}, {seconds}"
    remark(f"[{number}/{total}] {job.name}, seed {job.seed}: {outcome}")


def _draw(effects: pd.DataFrame, by: tuple[str, str, str], xlabel: str, path: Path) -> None:
    from asdlib.plots.intervals import plot_effects, save_figure

    panel, group, row = by
    effects = effects.replace({panel: {"all but pre-norm": "all but\npre-norm"}})
    save_figure(plot_effects(effects, panel=panel, group=group, row=row, xlabel=xlabel), path)
