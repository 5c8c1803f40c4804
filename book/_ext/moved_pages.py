"""Lead readers of an old address to the page that took its place.

Links and bookmarks outlive file names. For every page that was renamed the built book holds a small
page under the old name, which sends the browser on, with the part of the address after ``#``.
"""

from __future__ import annotations

import html
import json
import os
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.errors import ExtensionError

MOVED = {
    "notebooks/01_data": "notebooks/31_data",
    "notebooks/02_features": "notebooks/14_features",
    "notebooks/03_augmentation": "notebooks/25_block",
    "notebooks/04_training": "notebooks/33_training",
    "notebooks/05_ablation": "notebooks/34_ablation",
    "notebooks/06_comparison": "notebooks/35_comparison",
    "notebooks/07_domains": "notebooks/36_domains",
    "notebooks/08_machines": "notebooks/15_machines",
    "notebooks/09_premise": "notebooks/37_premise",
    "notebooks/10_real_recordings": "notebooks/39_real_recordings",
    "notebooks/13_where": "notebooks/38_where",
    "notebooks/14_findings": "notebooks/40_findings",
    "notebooks/25_pairs": "notebooks/26_pairs",
    "notebooks/26_loss": "notebooks/27_loss",
    "notebooks/27_encoder": "notebooks/28_encoder",
    "notebooks/28_backend": "notebooks/29_backend",
    "book/metrics": "notebooks/13_metrics",
    "book/baselines": "notebooks/32_baselines",
}
"""Old name of each page: new name."""

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>This page has moved</title>
<link rel="canonical" href="{address}">
<meta http-equiv="refresh" content="1; url={address}">
<script>location.replace({script} + location.hash);</script>
</head>
<body><p>This page has moved to <a href="{address}">{name}</a>.</p></body>
</html>
"""


def write_moved_pages(app: Sphinx, error: Exception | None) -> None:
    """Write a page under every old name that no page has any more."""
    if error is not None or app.builder.format != "html":
        return
    known = app.env.found_docs
    for old, new in MOVED.items():
        if old in known:
            continue
        if new not in known:
            raise ExtensionError(f"page '{old}' has moved to '{new}', which is not in the book")
        address = os.path.relpath(f"{new}.html", Path(old).parent).replace(os.sep, "/")
        text = PAGE.format(address=html.escape(address), name=new, script=json.dumps(address))
        target = Path(app.outdir) / f"{old}.html"
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.connect("build-finished", write_moved_pages)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
