"""Keep of the theme's icons those that the book shows: all 2,000 are 1.5 MB of a first visit."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ICON = re.compile(
    r'(?:"([a-z0-9-]+)"|\b([a-z0-9]+)):\[\d+,\d+,\[([^\]]*)\],"[0-9a-f]+",'
    r'(?:"[^"]*"|\[(?:"[^"]*",?)*\])\],?'
)
"""Name, width, height, other names, code point and outline of an icon."""


def drop_unused(app: Sphinx, error: Exception | None) -> None:
    """Rewrite the script of the icons with those whose names stand in a page."""
    script = Path(app.outdir) / "_static" / "scripts" / "fontawesome.js"
    if error is not None or not script.is_file():
        return
    used: set[str] = set()
    for page in Path(app.outdir).rglob("*.html"):
        used.update(re.findall(r"\bfa-([a-z0-9-]+)", page.read_text(encoding="utf-8")))

    def kept(icon: re.Match[str]) -> str:
        names = {icon[1] or icon[2], *re.findall(r'"([a-z0-9-]+)"', icon[3])}
        return icon[0] if names & used else ""

    script.write_text(ICON.sub(kept, script.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", drop_unused)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
