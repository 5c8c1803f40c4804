"""The API reference: every public module of a package, from its docstrings.

::

    ```{eval-rst}
    .. library-package:: asdlib.data
    ```

prints all modules of ``asdlib.data`` with their public functions and classes, so that a new module
is in the reference as soon as it exists. A parameter model of pydantic gets a table of its fields.
Docstrings are plain text with a few marks: signs that reStructuredText would read as markup, such
as bars of an absolute value, are escaped.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from pydantic import BaseModel
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

# What stays as it is: code, and words that are emphasised.
LITERAL = re.compile(r"(``.+?``|`[^`\n]+`|(?<![\w*\\])\*[A-Za-z][\w -]*\*(?![\w*]))")
PROSE = "PROSE"
# What signatures are shortened by: patterns and their replacements.
SHORTER = (
    (r"<(?:function [^<>]*<lambda>|factory|object object at \w+)>", "..."),
    (r"<(?:class '|function )(?:\w+\.)*(\w+)'?>", r"\1"),
    (r"[\w~.]*ndarray\[tuple\[[\w.~]+, \.\.\.\], [\w~.]*dtype\[([\w~.]+)\]\]", r"NDArray[\1]"),
    (r"[\w~.]*\b_Buffer \| .*?_NestedSequence\[complex \| bytes \| str\]", "ArrayLike"),
)
# What napoleon itself writes before the text of a returned value: a bullet, a name, a type.
MARKED = re.compile(
    r"(?::returns:|:Yields:|\s+)\s*(?:\* )?(?:\*\*[^*]+\*\*)?(?: ?\(?\*[^*]+\*\)?)?(?= --|$)"
)


def public_modules(package: str) -> list[str]:
    """Names of a package and of its public modules, in order."""
    module = importlib.import_module(package)
    names = [package]
    for entry in pkgutil.iter_modules(getattr(module, "__path__", []), f"{package}."):
        if not entry.name.rpartition(".")[2].startswith("_"):
            names += public_modules(entry.name) if entry.ispkg else [entry.name]
    return names


class LibraryPackage(SphinxDirective):
    """``.. library-package:: NAME``: the package, then one section a module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Write the reStructuredText of all modules and parse it."""
        found: list[nodes.Node] = []
        for name in public_modules(self.arguments[0]):
            # What a package passes on, and what a module re-exports, is described where it is.
            package = hasattr(importlib.import_module(name), "__path__")
            members = ["   :no-members:"] if package else ["   :members:", "   :ignore-module-all:"]
            # Values of constants may be tables of a hundred lines; their texts say what they hold.
            lines = [f".. automodule:: {name}", *members, "   :no-value:", ""]
            holder = nodes.Element()
            source = StringList(lines, source=f"library-package {name}")
            self.state.nested_parse(source, self.content_offset, holder)
            if package and name == self.arguments[0]:
                # The page has its name as title.
                found += holder.children
                continue
            section = nodes.section(ids=[nodes.make_id(f"module-{name}")], names=[name])
            section += nodes.title(name, name)
            section += holder.children
            found.append(section)
        return found


def keep_prose(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Give what is returned a type to stand under where it is told in prose alone.

    Napoleon takes every line that is not indented for a type of its own. `escape_signs` removes
    the type again.
    """
    heads = [i for i in range(len(lines) - 1) if lines[i].strip() and set(lines[i + 1]) == {"-"}]
    ends = [*heads[1:], len(lines)]
    # From the last section to the first, so that lines put in do not move the others.
    for head, following in reversed(list(zip(heads, ends, strict=False))):
        body = lines[head + 2 : following]
        told = [line for line in body if line.strip()]
        typed = any(line[0] == " " or " : " in line for line in told)
        if lines[head] in ("Returns", "Yields") and told and not typed:
            lines[head + 2 : following] = [PROSE, *(f"    {line}".rstrip() for line in body)]


def keep_colon(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Write a colon in the first line on a constant as a dash: napoleon ends a type there."""
    if what in ("data", "attribute", "property") and lines:
        lines[0] = re.sub(r":(?= |$)", " –", lines[0])


def escape_signs(
    app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]
) -> None:
    """Escape bars and stars outside of literals, and add the fields of parameter models."""
    verbatim: int | None = None  # how far the line before a literal block is indented
    for number, whole in enumerate(lines):
        indent = len(whole) - len(whole.lstrip())
        if verbatim is not None and whole.strip() and indent <= verbatim:
            verbatim = None
        if verbatim is not None or whole.lstrip().startswith(".. "):  # a directive and its names
            continue
        verbatim = indent if whole.endswith("::") else None
        line = whole.replace(f" *{PROSE}* --", "")
        marked = MARKED.match(line)
        made = marked[0] if marked else ""
        parts = LITERAL.split(line[len(made) :])
        for i in range(0, len(parts), 2):
            parts[i] = re.sub(r"(?<!\\)([|*])", r"\\\1", parts[i])
            parts[i] = re.sub(r"(\w)_(?=[\s,.;:)]|$)", r"\1\\_", parts[i])
        lines[number] = made + "".join(parts)
    if what == "class" and isinstance(obj, type) and issubclass(obj, BaseModel):
        lines += ["", *field_table(obj)]


def field_table(model: type[BaseModel]) -> list[str]:
    """ReStructuredText of the fields of a model: name, default, meaning."""
    described = [(name, field) for name, field in model.model_fields.items() if field.description]
    if not described:
        return []
    lines = [".. list-table::", "   :header-rows: 1", "", "   * - Parameter", "     - Default"]
    lines.append("     - Meaning")
    for name, field in described:
        default = "required" if field.is_required() else f"``{shown(field.get_default())}``"
        meaning = re.sub(r"([|*`])", r"\\\1", field.description or "")
        lines += [f"   * - ``{name}``", f"     - {default}", f"     - {meaning}"]
    return [*lines, ""]


def shown(value: object) -> str:
    """Write a default, short enough for a cell."""
    text = type(value).__name__ + "()" if isinstance(value, BaseModel) else repr(value)
    return text if len(text) <= 40 else text[:37] + "…"


def short_signature(
    app: Sphinx, what: str, name: str, obj: object, options: Any, signature: str, returned: str
) -> tuple[str | None, str | None]:
    """Write types by their usual names, without the bounds of parameters.

    What no parser can read, such as the default ``<lambda>``, would also keep Sphinx from
    shortening the names of types. The fields of a parameter model stand in its table.
    """
    if (
        what == "class"
        and isinstance(obj, type)
        and issubclass(obj, BaseModel)
        and field_table(obj)
    ):
        return "(**params)", None
    shorter = []
    for text in (signature, returned):
        text = without_bounds(text or "")
        for pattern, replacement in SHORTER:
            text = re.sub(pattern, replacement, text)
        shorter.append(text or None)
    return shorter[0], shorter[1]


def without_bounds(text: str) -> str:
    """Replace each ``Annotated[TYPE, …]`` by its type."""
    while (start := text.find("Annotated[")) >= 0:
        head = text[:start].removesuffix("~typing.").removesuffix("typing.")
        inside = text[start + len("Annotated[") :]
        depth, first = 0, len(inside)
        for place, sign in enumerate(inside):
            depth += (sign in "[(") - (sign in "])")
            if sign == "," and depth == 0:
                first = min(first, place)
            if depth < 0:
                text = head + inside[: min(first, place)] + inside[place + 1 :]
                break
        else:
            return text
    return text


def leave_out(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: Any
) -> bool | None:
    """Leave out what pydantic adds to every model, and fields of which nothing is said."""
    silent = str(getattr(obj, "__doc__", "")).startswith("Alias for field number")
    return True if name.startswith("model_") or silent else None


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directive and what mends docstrings before and after napoleon reads them."""
    app.setup_extension("sphinx.ext.autodoc")
    app.setup_extension("sphinx.ext.napoleon")
    app.add_directive("library-package", LibraryPackage)
    app.connect("autodoc-process-docstring", keep_prose, priority=400)
    app.connect("autodoc-process-docstring", keep_colon, priority=400)
    app.connect("autodoc-process-docstring", escape_signs, priority=900)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("autodoc-skip-member", leave_out)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
