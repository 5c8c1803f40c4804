"""Commands about systems: run one, evaluate scores, pre-train an encoder, fetch public weights."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from asdlib.cli.console import note, print_metrics, progress_bar, say


class Year(StrEnum):
    """Years with an official form of score files."""

    y2020 = "2020"
    y2022 = "2022"


Parameters = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a parameter of the system")
]
Seed = Annotated[int, typer.Option(min=0, help="seed of everything random")]


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    for command in (run, evaluate, pretrain, weights):
        app.command()(command)


def run(
    system: Annotated[
        str,
        typer.Argument(help="contrastive, autoencoder, statistics, autoencoder2022 or mobilenetv2"),
    ],
    train: Annotated[Path, typer.Option(help="store to train on: its normal training rows")],
    test: Annotated[Path, typer.Option(help="store to score: its test rows")],
    out: Annotated[Path, typer.Option(help="folder of the run, made by it")],
    seed: Seed = 0,
    assign: Parameters = None,
    machine: Annotated[
        list[str] | None, typer.Option(help="only this machine type; may be repeated")
    ] = None,
    held_out: Annotated[
        int | None,
        typer.Option(min=2, metavar="FOLDS", help="also score held-out training clips"),
    ] = None,
    network_of: Annotated[
        Path | None,
        typer.Option(metavar="RUN", help="take the network of a finished run, only score anew"),
    ] = None,
) -> None:
    """Train a system on normal clips, score the test clips, write and print the metrics."""
    from asdlib.study import run as run_system
    from asdlib.study.config import parse_overrides

    params = parse_overrides(assign or [])
    with progress_bar() as report:
        result = run_system(
            system,
            train,
            test,
            out,
            params=params,
            seed=seed,
            machines=machine,
            network_of=network_of,
            progress=report,
        )
    if held_out is not None:
        from asdlib.study.held_out import held_out as score_held_out

        score_held_out(result, train, folds=held_out)
    print_metrics(result.metrics, f"{system}, seed {seed}")
    for notice in result.record.notices:
        note(notice)
    fitted = f"fitted in {result.record.seconds.fit:.1f} s"
    done = "found, not computed again" if result.cached else fitted
    say(f"{done}; scores and metrics in {result.path}")


def evaluate(
    scores: Annotated[Path, typer.Argument(help="folder of official score files")],
    year: Annotated[Year, typer.Option(help="whose rules")],
    ground_truth: Annotated[
        Path | None,
        typer.Option(help="labels: list CSV (2020) or the evaluator's folder (2022)"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON")] = False,
) -> None:
    """Evaluate a folder of score files, ours or somebody else's."""
    from asdlib.evaluation import evaluate_folder

    evaluation = evaluate_folder(scores, int(year.value), ground_truth)
    content = evaluation.to_json_dict()
    if as_json:
        typer.echo(json.dumps(content, indent=2, allow_nan=False))
        return
    print_metrics(evaluation.frame, f"{scores.name}, rules of {year.value}")
    if content.get("omega") is not None:
        say(f"official score Ω: {100 * content['omega']:.2f} %")
    for notice in evaluation.notices:
        note(notice)


def pretrain(
    store: Annotated[Path, typer.Argument(help="store to learn from; labels are not used")],
    out: Annotated[Path, typer.Option(help="folder of the encoder, made by it")],
    encoder: Annotated[str, typer.Option(help="small_cnn or mobilefacenet")] = "small_cnn",
    epochs: Annotated[int, typer.Option(min=1, help="passes over the clips")] = 24,
    seed: Seed = 0,
    assign: Parameters = None,
) -> None:
    """Train an encoder without labels; asd run contrastive --set pretrained=OUT starts from it."""
    from asdlib.method import ContrastiveParams, pretrain as train
    from asdlib.study.config import parse_overrides
    from asdlib.system import validate_params

    asked: dict[str, Any] = {"loss": "nt_xent", "encoder": encoder, "epochs": epochs}
    params = validate_params(ContrastiveParams, asked | parse_overrides(assign or []), "pretrain")
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


def weights(
    name: Annotated[str, typer.Argument(help="owner/name of a checkpoint on the public hub")],
    revision: Annotated[str | None, typer.Option(help="branch, tag or commit")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Fetch a public checkpoint, after showing its licence and size."""
    from asdlib.method.weights import Offer, fetch, weights_sha256

    def confirm(offer: Offer) -> bool:
        size = f"{offer.n_bytes / 1e6:.1f} MB"
        say(f"{offer.name}, version {offer.commit[:12]}: {size}, licence {offer.licence}")
        return yes or typer.confirm("Download?", default=False, err=True)

    folder = fetch(name, revision, confirm=confirm)
    say(f"{folder}\nSHA-256 of the weights: {weights_sha256(folder)}")
