"""Sphinx directive that prints published results from the library's own CSV files.

No published figure is typed into a chapter: the directive reads ``asdlib/evaluation/published``,
so a corrected CSV corrects the book. Sources become links. Two shapes::

    ```{published-results} dcase2020
    :where: split=development
    :pivot: machine
    :values: auc pauc
    ```

prints one row a system and one column a machine, with auc above pauc in each cell; without
``:pivot:`` the columns of the file are printed as they stand. A figure whose status is neither
"read" nor "confirmed" is never printed.
"""

from __future__ import annotations

import csv
import re
from importlib.resources import files
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

HEADINGS = {
    "auc": "AUC",
    "pauc": "pAUC",
    "auc_source": "AUC (source)",
    "auc_target": "AUC (target)",
    "omega": "Ω",
    "section": "ID",
}
NOTES = {
    "pooling": "pooling: ",
    "training_data": "training data: ",
    "selection": "selection: ",
    "protocol": "",
}
LINK = re.compile(
    r"arXiv:(?P<arxiv>\d{4}\.\d{4,5})"
    r"|(?<![\w/])(?P<repository>(?!docs/)[A-Za-z][\w-]*/[A-Za-z][\w.-]*)"
)
NUMBER = re.compile(r"-?\d+(\.\d+)?")
Row = dict[str, str]


def read(name: str) -> list[Row]:
    """Rows of one published table.

    Raises
    ------
    ValueError
        If the library holds no such table; the message lists those it holds.
    """
    folder = files("asdlib") / "evaluation" / "published"
    table = folder / f"{name}.csv"
    if not table.is_file():
        known = sorted(entry.name[:-4] for entry in folder.iterdir() if entry.name.endswith(".csv"))
        raise ValueError(f"no published table {name!r} (known: {', '.join(known)})")
    return list(csv.DictReader(table.read_text(encoding="utf-8").splitlines()))


def only_confirmed(rows: list[Row]) -> list[Row]:
    """Blank every figure that was neither read nor confirmed, and drop rows without any left."""
    kept = []
    for row in rows:
        figures = [column for column in row if f"{column}_status" in row]
        doubtful = {
            column: ""
            for column in figures
            if not row[f"{column}_status"].startswith(("read", "confirmed"))
        }
        if not figures or len(doubtful) < len(figures):
            kept.append({**row, **doubtful})
    return kept


def where(rows: list[Row], condition: str) -> list[Row]:
    """Rows that fulfil ``column=value|value; column=value``."""
    for clause in filter(None, (part.strip() for part in condition.split(";"))):
        column, _, values = clause.partition("=")
        allowed = {value.strip() for value in values.split("|")}
        rows = [row for row in rows if row[column.strip()] in allowed]
    if not rows:
        raise ValueError(f"no published row fulfils {condition!r}")
    return rows


def shown(text: str) -> str:
    """Round figures to two decimals at most; add no digit that the source does not have."""
    if NUMBER.fullmatch(text) and len(text.partition(".")[2]) > 2:
        return f"{float(text):.2f}"
    return text or "–"


def pivot(rows: list[Row], column: str, values: list[str]) -> tuple[list[str], list[list[str]]]:
    """One row a system, one column for each value of ``column``; ``average`` comes first."""
    columns = sorted({row[column] for row in rows}, key=lambda name: (name != "average", name))
    body: dict[str, dict[str, str]] = {}
    for row in rows:
        cell = "\n".join(shown(row[value]) for value in values)
        body.setdefault(row["system"], {})[row[column]] = cell
    header = ["System", *columns]
    return header, [
        [system, *(cells.get(c, "–") for c in columns)] for system, cells in body.items()
    ]


def inline(text: str) -> list[nodes.Node]:
    """Text with arXiv numbers and GitHub repositories turned into links."""
    parts: list[nodes.Node] = []
    position = 0
    for match in LINK.finditer(text):
        parts.append(nodes.Text(text[position : match.start()]))
        arxiv, repository = match["arxiv"], match["repository"]
        url = f"https://arxiv.org/abs/{arxiv}" if arxiv else f"https://github.com/{repository}"
        parts.append(nodes.reference("", match[0], refuri=url))
        position = match.end()
    return [*parts, nodes.Text(text[position:])]


def build_table(caption: str, header: list[str], body: list[list[str]]) -> nodes.table:
    """Lay out a table with a caption; cells of numbers are marked for right alignment."""
    table = nodes.table(classes=["published", "colwidths-auto"])
    if caption:
        table += nodes.title(caption, caption)
    group = nodes.tgroup(cols=len(header))
    table += group
    group += [nodes.colspec(colwidth=1) for _ in header]

    def numeric(cell: str) -> bool:
        return cell == "–" or all(NUMBER.fullmatch(part) for part in cell.split("\n"))

    def line(cells: list[str], right: list[bool]) -> nodes.row:
        row = nodes.row()
        for cell, at_right in zip(cells, right, strict=True):
            paragraphs = [nodes.paragraph("", "", *inline(part)) for part in cell.split("\n")]
            row += nodes.entry("", *paragraphs, classes=["numeric"] if at_right else [])
        return row

    right = [all(map(numeric, column)) for column in zip(*body, strict=True)]
    group += nodes.thead("", line(header, right))
    group += nodes.tbody("", *(line(cells, right) for cells in body))
    return table


class PublishedResults(SphinxDirective):
    """``{published-results} NAME``: a table of published figures, or their sources as a list."""

    required_arguments = 1
    option_spec: ClassVar[dict[str, Any]] = {
        "pivot": directives.unchanged_required,
        "values": directives.unchanged_required,
        "columns": directives.unchanged_required,
        "where": directives.unchanged_required,
        "caption": directives.unchanged_required,
        "sources": directives.flag,
    }

    def run(self) -> list[nodes.Node]:
        """Read, select, and lay out the table."""
        try:
            rows = only_confirmed(read(self.arguments[0]))
            rows = where(rows, self.options.get("where", ""))
            if "sources" in self.options:
                return [self.source_list(rows)]
            if "pivot" in self.options:
                values = self.options["values"].split()
                header, body = pivot(rows, self.options["pivot"], values)
            else:
                columns = self.options.get("columns", " ".join(rows[0])).split()
                header = [HEADINGS.get(c, c.replace("_", " ").capitalize()) for c in columns]
                body = [[shown(row[column]) for column in columns] for row in rows]
        except (ValueError, KeyError) as error:
            raise self.error(f"published-results {self.arguments[0]}: {error}") from error
        return [build_table(self.options.get("caption", ""), header, body)]

    def source_list(self, rows: list[Row]) -> nodes.definition_list:
        """Each system once, with its kind, what is known of its protocol, and its source."""
        result = nodes.definition_list()
        seen: set[tuple[str, ...]] = set()
        for row in rows:
            known = [
                NOTES.get(column, "") + row[column]
                for column in ("kind", *NOTES, "source", "status")
                if row.get(column, "not stated") not in ("", "not stated")
            ]
            facts = (row["system"], *known)
            if facts not in seen:
                seen.add(facts)
                text = "; ".join(known) + "."
                result += nodes.definition_list_item(
                    "",
                    nodes.term("", facts[0]),
                    nodes.definition("", nodes.paragraph("", "", *inline(text))),
                )
        return result


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive."""
    app.add_directive("published-results", PublishedResults)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
