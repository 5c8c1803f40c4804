"""The command line, ``asd …``: each command is one call of the library.

Errors that a user can act on end with one line on standard error and exit code 1; wrong usage with
code 2; Ctrl-C with 130. ``data``, ``runs``, ``score`` and ``study`` hold the commands, ``console``
what they share.
"""

import sys
from typing import Annotated, Any

import typer

from asdlib import __version__
from asdlib.cli import data, runs, score, study  # noqa: F401  (they add their commands)
from asdlib.cli.console import app, err_console, out_console
from asdlib.errors import AsdError, shorten
from asdlib.files import is_disk_full

__all__ = ["app", "main"]

# Typer brings its own copy of click, or uses the installed one: this is the right class of both.
UsageError: Any = typer.BadParameter.__base__

_EXTRAS = {
    "book": ("bs4", "IPython", "nbclient", "nbformat", "papermill", "psutil", "yaml"),
    "export": ("onnx", "onnxruntime", "onnxscript"),
    "pretrained": ("huggingface_hub", "peft", "transformers"),
    "scale": ("distributed",),
}


@app.callback(invoke_without_command=True)
def _version(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="print the version")] = False,
) -> None:
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())


def main() -> None:
    """Run the command line; every expected error is one line."""
    sys.exit(_main())


def _main() -> int:
    out_console.quiet = err_console.quiet = False
    try:
        code = app(standalone_mode=False)
    except AsdError as error:
        return _fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        code = 130
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        extra = next((name for name, needed in _EXTRAS.items() if package in needed), "")
        what = f"asdlib with the extra '{extra}'" if extra else "it"
        return _fail(f"{error.name} is not installed; install {what}")
    except UsageError as error:
        return _fail(error.format_message(), 2)
    except OSError as error:
        if is_disk_full(error):
            return _fail("the disk is full; free some space and give the same command again")
        return _fail(f"{error.filename or 'input/output'}: {error.strerror or error}")
    # Typer turns Ctrl-C into this code, older versions into Abort.
    if code == 130:
        return _fail("stopped; no result is half-written, the same command goes on from here", code)
    return int(code or 0)


def _fail(message: str, code: int = 1) -> int:
    """Print an error as one line; what is very long is cut in the middle."""
    printable = (word if word.isprintable() else ascii(word)[1:-1] for word in message.split())
    words = [shorten(word, 200) for word in printable]
    print(f"error: {shorten(' '.join(words), 400)}", file=sys.stderr)
    return code
