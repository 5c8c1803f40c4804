"""Keep pages light: no index of the search, pictures when they come near, few of 2,000 icons."""

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
SEARCH = re.compile(
    r'<script src="[^"]*(?:searchtools|language_data|searchindex)\.js"></script>\s*'
)
"""What answers while one types, which the book does not; the page of results has its own."""
PICTURE = re.compile(r'<img (?=[^>]*src="[./]*_images/[^"]*\.png")')


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Drop the index of the search from pages and unused icons; fetch pictures when they near."""
    script = Path(app.outdir) / "_static" / "scripts" / "fontawesome.js"
    if error is not None or not script.is_file():
        return
    used: set[str] = set()
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        used.update(re.findall(r"\bfa-([a-z0-9-]+)", text))
        if page.name != "search.html":
            page.write_text(PICTURE.sub('<img loading="lazy" ', SEARCH.sub("", text)), "utf-8")

    def kept(icon: re.Match[str]) -> str:
        names = {icon[1] or icon[2], *re.findall(r'"([a-z0-9-]+)"', icon[3])}
        return icon[0] if names & used else ""

    script.write_text(ICON.sub(kept, script.read_text(encoding="utf-8")), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", lighten)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
