"""Put every script of a page into it once.

Inline scripts that extensions add while the environment is read stand in each page twice, once
under no name and once under an empty one. The second copy declares the same constants again, which
browsers report as an error on every page.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx


def drop_repeated(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Keep the first of equal scripts."""
    kept: dict[tuple[str, str], Any] = {}
    for script in context.get("script_files", []):
        attributes = getattr(script, "attributes", {})
        name = str(getattr(script, "filename", script) or "")
        kept.setdefault((name, str(attributes.get("body", ""))), script)
    context["script_files"] = list(kept.values())


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx, after those who add scripts."""
    app.connect("html-page-context", drop_repeated, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
