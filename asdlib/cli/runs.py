"""Commands about runs: one, or many of an experiment; evaluate, compare, fuse, decide; encoders.

The experiments go on where they were stopped: a run that is there already is not computed again.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from asdlib.cli import console
from asdlib.cli.console import (
    app,
    note,
    print_frame,
    print_json,
    print_metrics,
    progress_bar,
    records,
    remark,
    say,
)
from asdlib.errors import ConfigError, RunError

if TYPE_CHECKING:
    import pandas as pd

    from asdlib.study import RunResult

Run = Annotated[Path, typer.Option(help="folder of the run, which is made")]
Quantile = Annotated[float, typer.Option(help="share of normal clips below the threshold")]

Out = Annotated[Path, typer.Option(help="folder for tables, figure and provenance")]
Work = Annotated[Path | None, typer.Option(help="folder of runs and what they need; default: OUT")]


class WithSystem(TyperCommand):
    """A command whose help lists the parameters of the system that it is asked with."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Note the words before they are parsed: a request for help comes before all else."""
        ctx.meta["words"] = list(args)
        return super().parse_args(ctx, args)

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """List the parameters, or say how to see them; see `click.Command.format_epilog`."""
        from asdlib.study.config import SYSTEMS, describe_parameters

        name = next((word for word in ctx.meta["words"] if word in SYSTEMS), None)
        if name is None:
            formatter.write_paragraph()
            formatter.write_text("asd run SYSTEM --help lists the parameters of a system.")
            return
        with formatter.section(f"Parameters of {name}, for --set"):
            formatter.write_dl(describe_parameters(name))


@app.command(cls=WithSystem)
def run(
    system: Annotated[
        str,
        typer.Argument(help="contrastive, autoencoder, statistics, autoencoder2022 or mobilenetv2"),
    ],
    train: console.TrainStore,
    out: Run,
    test: console.TestStore = None,
    seed: console.Seed = 0,
    assign: console.Parameters = None,
    machine: console.Machines = None,
    year: console.Year = None,
    held_out: Annotated[
        int | None,
        typer.Option(min=2, max=100, metavar="FOLDS", help="also score held-out training clips"),
    ] = None,
    network_of: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="train nothing: take the network of this run"),
    ] = None,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Train a system on normal clips, score the test clips, write and print the metrics."""
    from asdlib.study import run as run_system
    from asdlib.study.config import parse_overrides
    from asdlib.study.held_out import held_out as score_held_out

    with progress_bar() as report:
        result = run_system(
            system,
            train,
            test or train,
            out,
            params=parse_overrides(assign or []),
            seed=seed,
            machines=machine,
            year=year,
            network_of=network_of,
            progress=report,
        )
    if held_out is not None:
        score_held_out(result, train, folds=held_out)
    done = f"fitted in {result.record.seconds.fit:.1f} s"
    _show(result, f"{system}, seed {seed}", done, as_json)


def _show(result: "RunResult", title: str, done: str, as_json: bool) -> None:
    if as_json:
        facts = {"folder": result.path, "found": result.cached, "run": result.record.as_json()}
        figures = {"metrics": result.metrics, "intervals": result.intervals}
        print_json(facts | {name: records(frame) for name, frame in figures.items()})
    _print_figures(result.intervals, result.record.year, title)
    for notice in result.record.notices:
        note(notice)
    done = "found, not computed again" if result.cached else done
    say(f"{done}; scores and metrics in {result.path}")


def _print_figures(frame: "pd.DataFrame", year: int, title: str) -> None:
    """Print sections and means of an interval frame, those of all with intervals, the official."""
    if frame.empty:
        return
    from asdlib.evaluation import official_score
    from asdlib.evaluation.metrics import metric_columns
    from asdlib.study.report import with_bounds

    keys = frame[["machine", "section"]].drop_duplicates()
    wide = frame.pivot(index=["machine", "section"], columns="metric", values="estimate")
    columns = list(metric_columns(year))
    print_metrics(keys.merge(wide[columns].reset_index()), title)
    overall = frame[frame["machine"] == frame["section"]].assign(
        shown=lambda rows: [
            with_bounds(*row) for row in rows[["estimate", "low", "high"]].to_numpy()
        ]
    )
    means = overall.pivot(index="metric", columns="section", values="shown").loc[columns]
    print_frame(means.reset_index(), "over all machines and sections, in %, with 95 % interval")
    names = {"omega": "Ω", "auc": "AUC", "pauc": "pAUC"}
    score = official_score(frame, year).items()
    said = ", ".join(f"{names[name]} {with_bounds(*interval) or '–'}" for name, interval in score)
    say(f"official score of {year}, in %: {said}")


@app.command()
def evaluate(
    scores: Annotated[Path, typer.Argument(help="folder of official score files")],
    year: console.Year = None,
    ground_truth: console.Truth = None,
    as_json: console.AsJson = False,
) -> None:
    """Evaluate a folder of score files, ours or somebody else's."""
    from asdlib.evaluation import evaluate_folder, interval_frame
    from asdlib.study.result import year_of_folder

    year = year or year_of_folder(scores)
    evaluation = evaluate_folder(scores, year, ground_truth)
    intervals = interval_frame([evaluation.scores], year)
    if as_json:
        print_json(evaluation.to_json_dict() | {"intervals": records(intervals)})
        return
    _print_figures(intervals, year, f"{scores.name}, rules of {year}")
    for notice in evaluation.notices:
        note(notice)


@app.command()
def pretrain(
    store: Annotated[Path, typer.Argument(help="store to learn from; labels are not used")],
    out: Annotated[Path, typer.Option(help="folder of the encoder, made by it")],
    encoder: Annotated[str, typer.Option(help="small_cnn or mobilefacenet")] = "small_cnn",
    epochs: Annotated[int, typer.Option(min=1, help="passes over the clips")] = 24,
    seed: console.Seed = 0,
    assign: console.Parameters = None,
) -> None:
    """Train an encoder without labels; asd run contrastive --set pretrained=OUT starts from it."""
    from asdlib.method.pretraining import PretrainingParams, pretrain as train
    from asdlib.study.config import parse_overrides
    from asdlib.system import validate_params

    asked: dict[str, Any] = {"encoder": encoder, "epochs": epochs}
    params = validate_params(PretrainingParams, asked | parse_overrides(assign or []), "pretrain")
    with progress_bar() as report:
        made = train(store, out, seed=seed, progress=report, **params.model_dump())
    facts = made.description
    if facts["clips_left_out"]:
        note(
            f"{facts['clips_left_out']} clips are shorter than crop_frames={params.crop_frames} "
            "and were left out"
        )
    done = "found, not computed again" if made.cached else f"trained on {facts['clips']} clips"
    loss = facts["loss"]
    say(f"{done}; loss {loss['first']:.3f} → {loss['last']:.3f}; weights in {made.path}")


@app.command()
def weights(
    name: Annotated[str, typer.Argument(help="mn01 … mn40, ast, or owner/name on the public hub")],
    revision: Annotated[str | None, typer.Option(help="branch, tag or commit")] = None,
    yes: console.Yes = False,
) -> None:
    """Fetch a public checkpoint, after showing its licence and size."""
    from asdlib.method.weights import Offer, fetch, weights_sha256

    def confirm(offer: Offer) -> bool:
        size = f"{offer.n_bytes / 1e6:.1f} MB"
        say(f"{offer.name}, version {offer.commit[:12]}: {size}, licence {offer.licence}")
        return yes or typer.confirm("Download?", default=False, err=True)

    folder = fetch(name, revision, confirm=confirm)
    say(f"{folder}\nSHA-256 of the weights: {weights_sha256(folder)}")


@app.command()
def ablate(
    train: console.TrainStore,
    out: Out,
    test: console.TestStore = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="number of seeds, 0 and up")] = 3,
    jobs: console.Jobs = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="GROUP", help="only this group; may be repeated")
    ] = None,
    assign: console.Parameters = None,
    year: console.Year = None,
    work: Work = None,
    scheduler: console.Scheduler = None,
    resources: console.Resources = None,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Run the ablation over seeds: tables, figure and provenance; goes on where it was stopped."""
    from asdlib.features import FeatureStore
    from asdlib.study.config import parse_overrides
    from asdlib.study.experiment import ablation, experiment, summarise
    from asdlib.study.result import Results, write_table

    params = parse_overrides(assign or [])
    stores = {"train": FeatureStore.open(train), "test": FeatureStore.open(test or train)}
    facts = {"command": "ablate", "seeds": seeds, "groups": only or "all", "params": params}
    facts |= {"year": year} if year else {}
    results, failures = Results(out, stores, **facts), list[str]()

    def report(name: str, made: "RunResult | str", number: int, total: int) -> None:
        outcome = f"failed: {made}"
        if not isinstance(made, str):
            seconds = "found" if made.cached else f"{made.record.seconds.fit:.0f} s"
            outcome = f"AUC {100 * made.auc:.1f}, pAUC {100 * made.pauc:.1f}, {seconds}"
        remark(f"[{number}/{total}] {name}: {outcome}")

    table = experiment(
        ablation(only, params),
        work or out,
        train=stores["train"],
        test=stores["test"],
        seeds=range(seeds),
        year=year,
        processes=jobs,
        scheduler=console.cluster(scheduler, resources),
        failures=failures,
        on_done=report,
    )
    summary = summarise(table)
    table.insert(2, "changes", table.pop("changes"))
    table["run"] = [Path(run).name for run in table["run"]]
    names = {"auc": "AUC", "pauc": "pAUC", "omega": "Ω"}
    means = summary[(summary["machine"] == "Average") & summary["metric"].isin(names)]
    means = means.replace({"metric": names})
    from asdlib.plots import plot_effects, save_figure

    with results.writing(failures=failures) as folder:
        write_table(table, folder / "ablation.csv")
        write_table(summary, folder / "summary.csv")
        bounds = {"difference": "mean", "difference_low": "low", "difference_high": "high"}
        drawn = means.dropna(subset="difference").drop(columns=list(bounds.values()))
        if len(drawn):
            by = {"panel": "metric", "group": "group", "row": "variant"}
            label = "difference to full (points)"
            figure = plot_effects(drawn.rename(columns=bounds), **by, xlabel=label)
            save_figure(figure, folder / "ablation")
    for metric, rows in means.groupby("metric", sort=False):
        shown = rows[["group", "variant", "seeds"]].assign(
            mean=rows["mean"].map("{:.1f}".format), against_full=rows["verdict"]
        )
        print_frame(shown, f"{metric} in %, difference to full with 95 % interval")
    if as_json:
        print_json({"folder": out, "failures": failures, "summary": records(summary)})
    say(f"tables, figure and provenance in {out}")
    for line in failures:
        note(f"failed: {line}")
    if failures:
        total = len(failures) + len(table.drop_duplicates(["variant", "seed"]))
        raise RunError(
            f"{len(failures)} of {total} runs failed and are not in the tables, the first: "
            f"{failures[0]}"
        )


@app.command()
def compare(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=RUN", help="runs, named or not; those of one name are seeds"),
    ] = None,
    kind: Annotated[
        Literal["real", "synthetic"] | None,
        typer.Option(help="whether the recordings are real or synthetic"),
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
    selection: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEXT", help="how epoch and parameters were chosen; NAME=TEXT for one system"
        ),
    ] = None,
    year: console.Year = None,
    ground_truth: console.Truth = None,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Put runs, score files and published figures into one table that says what each row is."""
    from asdlib.files import write_text
    from asdlib.study import comparison
    from asdlib.study.report import pairwise
    from asdlib.study.result import Results, write_table

    if kind is None:
        raise ConfigError("state what the recordings are: --kind real or --kind synthetic")
    entries = [comparison.read_entry(text, year, ground_truth) for text in runs or []]
    year = year or (entries[0].evaluation.year if entries else None)
    for text in scores or []:
        entries.append(comparison.read_entry(text, year, ground_truth, only_scores=True))
    table = comparison.compare(
        entries,
        data_kind=kind,
        data=data,
        split=split,
        selection=selection or (),
        published=published,
    )
    tables = {"comparison": table}
    if paired or against:
        groups = {
            name: [entry.evaluation.scores for entry in own]
            for name, own in comparison.by_name(entries).items()
        }
        references = against or list(groups)[:1]
        tables["paired"] = pairwise(groups, references, entries[0].evaluation.year)
    if out is not None:
        kept = {"key", "config", "members", "train", "test", "finished"}
        origin = {
            entry.folder: entry.record.model_dump(mode="json", include=kept)
            for entry in entries
            if entry.record
        }
        asked = {"data": data, "data_kind": kind, "against": against or []}
        with Results(out, {}, command="compare", **asked, runs=origin).writing() as folder:
            for name, made in (tables | {"systems": comparison.tidy(entries)}).items():
                write_table(made, folder / f"{name}.csv")
            write_text(folder / "comparison.md", comparison.to_markdown(table))
    if as_json:
        print_json({name: records(made) for name, made in tables.items()})
    # For a narrow screen: figures, and in one column what the row is.
    shown = comparison.in_percent(table).set_index("system")
    figures = [name for name in comparison.FIGURES if name in shown and "pooled" not in name]
    words = shown[list(comparison.WORDS[1:])].agg("; ".join, axis=1)
    about = ", ".join(comparison.WORDS[1:]).replace("_", " ")
    print_frame(shown[figures].assign(row=words).reset_index(), f"comparison, in %; row: {about}")
    if "paired" in tables:
        overall = tables["paired"][tables["paired"]["machine"] == "Average"]
        overall = overall.drop(columns=["machine", "section", "p_value", "p_bh"])
        overall[["difference", "low", "high"]] *= 100
        title = "paired over clips and seeds, difference to the reference in points"
        print_frame(overall, title, digits=3)
    if out is not None:
        say(f"systems.csv, comparison.csv, comparison.md and provenance.json in {out}")


@app.command()
def fuse(
    runs: Annotated[list[Path], typer.Argument(help="folders of runs on the same clips")],
    out: Run,
    train: console.TrainedOn = None,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Fuse the scores of several systems, or of several seeds of one, into a run of its own."""
    from asdlib.study.held_out import fuse as fuse_runs

    result = fuse_runs(runs, out, train=train)
    _show(result, result.record.config.system, f"{len(runs)} runs fused", as_json)


@app.command()
def decide(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    quantile: Quantile = 0.9,
    train: console.TrainedOn = None,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Set a threshold for each section from held-out normal clips; write decisions and their F1."""
    from asdlib.study.held_out import decide_run

    done = decide_run(run, quantile=quantile, train=train)
    if as_json:
        rows = {name: records(frame) for name, frame in done._asdict().items()}
        print_json({"folder": run, "quantile": quantile, **rows})
    print_frame(done.thresholds, f"thresholds, quantile {quantile:g}", digits=4)
    if done.metrics.empty:
        note("the test clips carry no labels: decisions only, no metrics")
    print_metrics(done.metrics, "precision, recall and F1")
    say(f"decision files and decisions.json in {run}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="folder of a finished run")],
    out: Annotated[Path, typer.Argument(help="file to write, e.g. model.onnx")],
    quantile: Quantile = 0.9,
    section: Annotated[
        list[str] | None,
        typer.Option(metavar="MACHINE/ID", help="only this section; may be repeated"),
    ] = None,
    int8: Annotated[
        bool, typer.Option("--int8", help="network in 8-bit integers: smaller, less exact")
    ] = False,
    train: console.TrainedOn = None,
    quiet: console.Quiet = False,
    as_json: console.AsJson = False,
) -> None:
    """Write a run as one ONNX file: waveform in, score and decision out (extra: export)."""
    from asdlib.study.result import load_run

    found = load_run(run)
    from asdlib.study.export import export as write

    made = write(found, out, train=train, quantile=quantile, sections=section or (), int8=int8)
    if as_json:
        print_json({"file": out, **made})
    limits = zip(made["sections"], made["thresholds"], strict=True)
    print_frame(
        [{"section": name, "threshold": limit} for name, limit in limits],
        f"thresholds, quantile {quantile:g}",
        digits=4,
    )
    say(f"{out.stat().st_size / 1e6:.2f} MB in {out}")
