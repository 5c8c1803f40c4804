"""Questions with answers to choose from, which check themselves: the directive ``quiz``.

Each line is an answer, ``[x] right | why`` or ``[ ] wrong | why``. Without JavaScript
all reasons are shown; with it (``quiz.js``) that of the answer which is chosen.
"""

from __future__ import annotations

import html
import re
from typing import Any

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

ANSWER = re.compile(r"\[(x| )\] (.+?) \| (.+)")


class Quiz(Directive):
    """A question, its answers, and a reason for each."""

    required_arguments = 1
    final_argument_whitespace = True
    has_content = True

    def run(self) -> list[nodes.Node]:
        """Write the question as a group of radio buttons."""
        found = [ANSWER.fullmatch(line) for line in self.content if line.strip()]
        if not all(found) or [match and match[1] for match in found].count("x") != 1:
            raise self.error("an answer is '[x] right | why' or '[ ] wrong | why', one is right")
        name = nodes.make_id(self.arguments[0])
        parts = [f'<fieldset class="quiz"><legend>{html.escape(self.arguments[0])}</legend>']
        for match in filter(None, found):
            right, answer, why = match[1] == "x", html.escape(match[2]), html.escape(match[3])
            parts.append(
                f'<label><input type="radio" name="{name}"> {answer}</label>'
                f'<p class="quiz-why">{"✓ Right" if right else "✗ No"}: {why}</p>'
            )
        return [nodes.raw("", "".join(parts) + "</fieldset>", format="html")]


def setup(app: Sphinx) -> dict[str, Any]:
    """Register with Sphinx."""
    app.add_directive("quiz", Quiz)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
