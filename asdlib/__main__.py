"""The entry of ``asd`` and of ``python -m asdlib``: Ctrl-C counts from the first import on."""

import io
import sys


def main() -> None:
    """Run the command line; Ctrl-C while it is still being imported ends it with one line, too."""
    try:
        from asdlib.cli import main as run
    except KeyboardInterrupt:
        print("error: stopped before anything was done", file=sys.stderr)
        sys.exit(130)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that knows fewer letters shows a question mark, and no traceback.
            stream.reconfigure(errors="replace")
    run()


if __name__ == "__main__":
    main()
