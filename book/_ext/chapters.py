"""Print what a chapter finds, what it builds on, how long it takes, and what follows.

The sentences stand in ``chapters.yml``; the minutes are counted from the page.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

WORDS = 200
"""Words of prose that are read in a minute."""
PICTURE = 0.5
"""Minutes for a picture, or for what a cell shows."""


def reading_minutes(document: nodes.document) -> int:
    """Estimate how long the prose and the pictures of a page take; code is not counted."""
    words = sum(
        len(text.astext().split())
        for text in document.findall(nodes.Text)
        if not any(isinstance(parent, nodes.literal_block) for parent in ancestors(text))
    )
    shown = sum(1 for _ in document.findall(nodes.image)) + sum(
        "cell_output" in node["classes"] for node in document.findall(nodes.container)
    )
    return max(1, round(words / WORDS + PICTURE * shown))


def ancestors(node: nodes.Node) -> list[nodes.Node]:
    """Return all nodes above a node."""
    found = []
    while (node := node.parent) is not None:
        found.append(node)
    return found


def link(page: str, document: str) -> pending_xref:
    """Make a link to a page, with its title as text."""
    reference = pending_xref(
        "", refdomain="std", reftype="doc", reftarget=f"/{page}", refdoc=document,
        refexplicit=False, refwarn=True,
    )  # fmt: skip
    reference += nodes.inline("", page, classes=["xref", "std", "std-doc"])
    return reference


def add_sentences(app: Sphinx, document: nodes.document) -> None:
    """Put the sentences of a chapter below its title and at the end of its summary."""
    name = app.env.docname
    chapter = app.config.chapters.get(name)
    title = document.next_node(nodes.title)
    if chapter is None or title is None:
        return
    finding = nodes.paragraph("", "", nodes.strong("", "In one sentence. "))
    finding += nodes.Text(chapter["finding"])
    needs = nodes.paragraph(classes=["chapter-needs"])
    for i, page in enumerate(chapter["builds_on"]):
        needs += nodes.Text(", " if i else "Builds on ")
        needs += link(page, name)
    minutes = reading_minutes(document)
    needs += nodes.Text(f"{'. ' if chapter['builds_on'] else ''}Reading time: {minutes} min.")
    head = nodes.container("", finding, needs, classes=["chapter-head"])
    title.parent.insert(title.parent.index(title) + 1, head)
    follows = nodes.paragraph("", "", nodes.strong("", "What follows. "), classes=["chapter-next"])
    follows += nodes.Text(chapter["follows"])
    titles = list(document.findall(nodes.title))
    summary = next((other for other in titles if other.astext() == "Summary"), title)
    summary.parent.append(follows)


def read_chapters(app: Sphinx, config: Any) -> None:
    """Read the sentences; pages are made anew when they change."""
    path = Path(app.srcdir) / "book" / "chapters.yml"
    config.chapters = yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else {}


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_config_value("chapters", {}, "env")
    app.connect("config-inited", read_chapters)
    app.connect("doctree-read", add_sentences)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
