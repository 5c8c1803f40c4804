"""Commands about weights to start from: pre-train an encoder, fetch a public checkpoint."""

from pathlib import Path
from typing import Annotated, Any

import typer

from asdlib.cli.console import note, progress_bar, say


def register(app: typer.Typer) -> None:
    """Add the commands of this module to the command line."""
    app.command()(pretrain)
    app.command()(weights)


def pretrain(
    store: Annotated[Path, typer.Argument(help="store to learn from; labels are not used")],
    out: Annotated[Path, typer.Option(help="folder of the encoder, made by it")],
    encoder: Annotated[str, typer.Option(help="small_cnn or mobilefacenet")] = "small_cnn",
    epochs: Annotated[int, typer.Option(min=1, help="passes over the clips")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="seed of everything random")] = 0,
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="a parameter of the contrastive system"),
    ] = None,
) -> None:
    """Train an encoder without labels; asd run contrastive --set pretrained=OUT starts from it."""
    from asdlib.method import ContrastiveParams
    from asdlib.method import pretrain as train
    from asdlib.study.config import parse_overrides
    from asdlib.system import validate_params

    asked: dict[str, Any] = {"loss": "nt_xent", "encoder": encoder, "epochs": epochs}
    params = validate_params(ContrastiveParams, asked | parse_overrides(assign or []), "pretrain")
    with progress_bar() as report:
        made = train(store, out, seed=seed, progress=report, **params.model_dump())
    told = made.description
    if told["clips_left_out"]:
        note(
            f"{told['clips_left_out']} clips are shorter than crop_frames={params.crop_frames} and "
            "were left out"
        )
    done = "found, not computed again" if made.cached else f"trained on {told['clips']} clips"
    loss = told["loss"]
    say(f"{done}; loss {loss['first']:.3f} → {loss['last']:.3f}; weights in {made.path}")


def weights(
    name: Annotated[str, typer.Argument(help="owner/name of a checkpoint on the public hub")],
    revision: Annotated[str | None, typer.Option(help="branch, tag or commit")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
) -> None:
    """Fetch a public checkpoint, after showing its licence and size."""
    from asdlib.method.weights import Offer, fetch, weights_sha256

    def confirm(offer: Offer) -> bool:
        say(
            f"{offer.name}, version {offer.commit[:12]}: {offer.n_bytes / 1e6:.1f} MB, "
            f"licence {offer.licence}"
        )
        return yes or typer.confirm("Download?", default=False, err=True)

    folder = fetch(name, revision, confirm=confirm)
    say(f"{folder}")
    say(f"SHA-256 of the weights: {weights_sha256(folder)}")
