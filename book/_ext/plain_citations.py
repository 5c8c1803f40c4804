"""Take the role of a list from the list of citations.

The writer gives the list the role ``list`` and its entries the role ``doc-biblioentry``, which
holds a link back. A list may hold list items only, so that screen readers drop what is in it.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

WRITTEN = '<div role="list" class="citation-list">'


def drop_role(
    app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: Any
) -> None:
    """Write the list without a role."""
    if "body" in context:
        context["body"] = context["body"].replace(WRITTEN, '<div class="citation-list">')


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("html-page-context", drop_role)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
