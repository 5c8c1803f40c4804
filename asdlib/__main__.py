"""``python -m asdlib`` is ``asd``."""

from asdlib.cli import main

main()
