"""Commands about finished runs: compare them, fuse their scores, decide by them."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer

from asdlib.cli.console import note, print_frame, print_metrics, say
from asdlib.errors import ConfigError

DataKind = StrEnum("DataKind", ["real", "synthetic"])

Train = Annotated[
    Path | None,
    typer.Option(help="store that the runs were trained on, where held-out scores are lacking"),
]
Folds = Annotated[
    int | None,
    typer.Option(
        min=2,
        help="parts of the training clips for held-out scores; default: what is there, or 5",
    ),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for name, command in (("compare", compare), ("fuse", fuse), ("decide", decide)):
        app.command(name)(command)


def fuse(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs on the same clips")],
    out: Annotated[Path, typer.Option(help="folder of the fused run, made by it")],
    weight: Annotated[
        list[float] | None, typer.Option(help="weight of a run, one for each; default: equal")
    ] = None,
    name: Annotated[str | None, typer.Option(help="name of the fused system in tables")] = None,
    train: Train = None,
    folds: Folds = None,
) -> None:
    """Fuse the scores of several systems, or of several seeds of one, into a run of its own."""
    from asdlib.study.fuse import fuse as fuse_runs

    result = fuse_runs(runs, out, weights=weight, name=name, train=train, folds=folds)
    print_metrics(result.metrics, result.record.config.system)
    for notice in result.record.notices:
        note(notice)
    done = "found, not computed again" if result.cached else f"{len(runs)} runs fused"
    say(f"{done}; scores and metrics in {result.path}")


def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=]RUN", help="runs; those of one name are its seeds"),
    ] = None,
    kind: Annotated[
        DataKind | None, typer.Option(help="whether the recordings are real or synthetic")
    ] = None,
    scores: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FOLDER", help="score files of any system")
    ] = None,
    published: Annotated[bool, typer.Option("--published", help="add published figures")] = False,
    paired: Annotated[
        bool,
        typer.Option("--paired", help="test every system against the first, on the same clips"),
    ] = False,
    against: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="test against this system instead; may be repeated"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder for the tables")] = None,
    data: Annotated[str | None, typer.Option(help="what was scored, in words")] = None,
    split: Annotated[str, typer.Option(help="which part of it")] = "test rows of the store",
    selection: Annotated[str, typer.Option(help="how epoch and parameters were chosen")] = (
        "last epoch, parameters given in advance"
    ),
    year: Annotated[int | None, typer.Option(help="whose rules, for score files alone")] = None,
    ground_truth: Annotated[
        Path | None, typer.Option(help="labels, where the file names have none")
    ] = None,
) -> None:
    """Put runs, score files and published figures into one table that says what each row is."""
    from asdlib.files import write_text
    from asdlib.study import comparison
    from asdlib.study.result import write_provenance, write_table

    if kind is None:
        raise ConfigError("state what the recordings are: --kind real or --kind synthetic")
    entries = [comparison.read_run(text, ground_truth) for text in runs or []]
    years = sorted({entry.evaluation.year for entry in entries} | ({year} if year else set()))
    if scores and not years:
        raise ConfigError("the year of score files alone is not known; give --year")
    entries += [comparison.read_score_files(text, years[0], ground_truth) for text in scores or []]
    table = comparison.compare(
        entries,
        data_kind=kind.value,
        data=data,
        split=split,
        selection=selection,
        published=published,
    )
    tests = comparison.pairwise(entries, against=against or ()) if paired or against else None
    print_frame(_narrow(comparison.in_percent(table)), "comparison, in %")
    if tests is not None:
        overall = tests[tests["machine"] == "Average"].drop(columns=["machine", "section"])
        points, p_values = ["difference", "low", "high"], ["p_value", "delong_p"]
        overall[points] = (100 * overall[points]).map("{:+.2f}".format)
        overall[p_values] = overall[p_values].map("{:.3g}".format).replace("nan", "")
        print_frame(overall, "paired bootstrap over clips, difference to the reference in points")
    if out is None:
        return
    write_table(comparison.tidy(entries), out / "systems.csv")
    write_table(table, out / "comparison.csv")
    write_text(out / "comparison.md", comparison.to_markdown(table))
    if tests is not None:
        write_table(tests, out / "paired.csv")
    kept = {"key", "config", "members", "train", "test", "finished"}
    runs_of = {
        e.folder: e.record.model_dump(mode="json", include=kept) for e in entries if e.record
    }
    content = {"command": "compare", "data": data, "data_kind": kind.value, "runs": runs_of}
    write_provenance(out / "provenance.json", {}, **content)
    say(f"systems.csv, comparison.csv, comparison.md and provenance.json in {out}")


def _narrow(shown: pd.DataFrame) -> pd.DataFrame:
    """Return a comparison for a narrow screen: figures, and in one column what the row is."""
    figures = ("auc", "pauc", "auc_source", "auc_target", "omega", "mauc")
    words = shown["origin"] + ", " + shown["data_kind"] + "; " + shown["data"] + "; "
    words += shown["split"] + "; trained on: " + shown["training_data"] + "; selection: "
    words += shown["selection"] + "; seeds: " + shown["seeds"] + "; source: " + shown["source"]
    return shown[["system", *(name for name in figures if name in shown)]].assign(row=words)


def decide(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    quantile: Annotated[float, typer.Option(help="share of normal clips below the threshold")] = (
        0.9
    ),
    out: Annotated[Path | None, typer.Option(help="folder; default: that of the run")] = None,
    train: Train = None,
    folds: Folds = None,
) -> None:
    """Set a threshold for each section from held-out normal clips; write decisions and their F1."""
    from asdlib.study.held_out import decide_run

    done = decide_run(run, quantile=quantile, out=out, train=train, folds=folds)
    print_frame(done.thresholds.round(4), f"thresholds, quantile {quantile:g}")
    if done.metrics.empty:
        note("the test clips carry no labels: decisions only, no metrics")
    print_metrics(done.metrics, "precision, recall and F1")
    say(f"decision files and decisions.json in {done.path}")
