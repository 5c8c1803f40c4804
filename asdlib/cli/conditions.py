"""The command that finds out where each step of the block helps, on synthetic machines."""

from pathlib import Path
from typing import Annotated, Any

import typer

from asdlib.cli.console import err_console, print_frame, say
from asdlib.errors import ConfigError


def register(app: typer.Typer) -> None:
    """Add the command of this module to the command line."""
    app.command("conditions")(conditions_command)


def conditions_command(
    out: Annotated[Path, typer.Option(help="folder for tables, figure and provenance")],
    work: Annotated[
        Path | None, typer.Option(help="folder of recordings, stores and runs; default: OUT")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="runs at a time; default: one a core, one on a GPU")
    ] = None,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="of the study, e.g. seeds, n_train"),
    ] = None,
) -> None:
    """Find where each step of the block helps: machine, band, domain, clips, classes."""
    from pydantic import ValidationError

    from asdlib.files import write_text
    from asdlib.plots.conditions import plot_conditions
    from asdlib.plots.intervals import save_figure
    from asdlib.study.conditions import CONDITIONS, ConditionsSpec, study_conditions
    from asdlib.study.config import parse_overrides
    from asdlib.study.effects import conditions_verdict, effects_of
    from asdlib.study.experiment import Job
    from asdlib.study.result import RunResult
    from asdlib.study.summary import write_provenance, write_table

    asked = parse_overrides(assign or [])
    try:
        spec = ConditionsSpec.model_validate(asked)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        known = ", ".join(ConditionsSpec.model_fields)
        raise ConfigError(f"--set {name}: {first['msg']} (known: {known})") from error

    def tell(job: Job, result: RunResult | str, number: int, total: int) -> None:
        told = f"failed: {result}"
        if isinstance(result, RunResult):
            told = "found" if result.cached else f"{result.record['seconds']['fit']:.0f} s"
        err_console.print(
            f"[{number}/{total}] {job.variant}, seed {job.seed}: {told}", markup=False
        )

    table = study_conditions(spec, work or out, processes=jobs, on_done=tell)
    found = effects_of(table)
    write_table(table.round(6), out / "conditions.csv")
    write_table(found.round(4), out / "effects.csv")
    save_figure(plot_conditions(found), out / "conditions")
    told: dict[str, Any] = {"spec": spec.model_dump(mode="json"), "conditions": list(CONDITIONS)}
    write_provenance(out / "provenance.json", {}, command="asd conditions", **told)
    write_text(out / "verdict.md", conditions_verdict(found) + "\n")
    overall = found[found["question"] == "all machines"]
    print_frame(
        overall[["step", "seeds", "effect", "low", "high"]].round(1),
        "AUC with all steps minus AUC without the step, points, 95 % interval over seeds",
    )
    say(f"tables, figure and provenance in {out}")
