"""Set formulas as MathML when the book is built.

Browsers show MathML without a script and without a network, and screen readers read it aloud.
"""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)

# The converter leaves out the thin space between a function and what it is of: ln x, not lnx.
_FUNCTION = re.compile(r"(?<!<msub>)(?<!<msup>)(<mi>(?:ln|log|det|tr)</mi>)(?=<m[isn])")
# A prime is raised in itself; as a superscript it would be raised twice, and tiny.
_PRIME = re.compile(r"<msup>(<mi>\w</mi>)<mi>(&#x02032;)</mi></msup>")


def mathml(node: nodes.math | nodes.math_block, display: str) -> str:
    """Return one formula as MathML."""
    # The converter knows the environment under its other name only.
    written = convert(node.astext().replace("{aligned}", "{align*}"), display=display)
    if "\\" in written or ">&<" in written:  # what the converter does not know stays as it is
        logger.warning("formula not understood: %s", node.astext(), location=node)
    written = _PRIME.sub(r'<mrow>\1<mo lspace="0" rspace="0">\2</mo></mrow>', written)
    return _FUNCTION.sub(r'\1<mspace width="0.167em" />', written)


def inline(writer: Any, node: nodes.math) -> None:
    """Write a formula in a line of text."""
    writer.body.append(mathml(node, "inline"))
    raise nodes.SkipNode


def block(writer: Any, node: nodes.math_block) -> None:
    """Write a formula on a line of its own, which a narrow screen scrolls, by key as well."""
    writer.body.append(f'<div class="formula" tabindex="0">{mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
