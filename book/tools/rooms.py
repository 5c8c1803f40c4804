"""Draw which room of the library imports which: ``python -m book.tools.rooms``."""

import ast
from collections import Counter
from itertools import product
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "book" / "_static" / "rooms.svg"

ORDER = (
    "errors",
    "files",
    "data",
    "features",
    "system",
    "method",
    "baselines",
    "evaluation",
    "study",
    "plots",
    "cli",
)
"""Rooms and single modules of the package; each imports only from those before it."""


def imported(source: str, package: str = "", *, at_once: bool = False) -> set[str]:
    """Return the dotted names of all imports; ``from a import b`` gives ``a.b``.

    Names that only types need are left out, and with `at_once` what functions import when called.
    """
    found: set[str] = set()

    def visit(node: ast.AST) -> None:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if at_once and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*(parents if node.level else []), *filter(None, [node.module])])
            found.update(f"{base}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(ast.parse(source))
    return found


def modules() -> dict[str, set[str]]:
    """Return, for each module of asdlib, what it imports, at any depth."""
    found = {}
    for path in sorted((ROOT / "asdlib").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        package = ".".join(parts[:-1])
        name = package if path.stem == "__init__" else ".".join(parts)
        found[name] = imported(path.read_text(encoding="utf-8"), package)
    return found


def between_rooms() -> Counter[tuple[str, str]]:
    """Count, for each pair of rooms, the modules of the first that import the second."""
    counts: Counter[tuple[str, str]] = Counter()
    for name, names in modules().items():
        room = name.split(".")[1] if "." in name else ""
        others = {other.split(".")[1] for other in names if other.startswith("asdlib.")}
        counts.update((room, other) for other in others - {room} if room in ORDER)
    return Counter({pair: count for pair, count in counts.items() if pair[1] in ORDER})


def picture(counts: Counter[tuple[str, str]]) -> str:
    """Return a square per pair of rooms as SVG, the darker the more modules import."""
    size, left, top = 44, 110, 96
    width, height = left + size * len(ORDER) + 20, top + size * len(ORDER) + 20
    sentences = [
        f"{room} imports {', '.join(of)}."
        for room in ORDER
        if (of := [other for other in ORDER if counts[room, other]])
    ]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        'aria-labelledby="t d" font-family="system-ui, sans-serif" font-size="14">',
        '<title id="t">Which room imports which</title>',
        f'<desc id="d">{" ".join(sentences)}</desc>',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, room in enumerate(ORDER):
        along = size * place + size // 2
        lines += [
            f'<text x="{left - 8}" y="{top + along + 5}" text-anchor="end">{room}</text>',
            f'<text transform="translate({left + along + 5} {top - 8}) rotate(-50)">{room}</text>',
        ]
    for (row, room), (column, other) in product(enumerate(ORDER), repeat=2):
        x, y, count = left + size * column, top + size * row, counts[room, other]
        shade = f"rgb({(255, 222, 190, 150)[min(count, 3)]} 235 255)" if count else "#f5f7fa"
        lines.append(
            f'<rect x="{x}" y="{y}" width="{size - 2}" height="{size - 2}" fill="{shade}"/>'
        )
        if count:
            middle = f'x="{x + size // 2 - 1}" y="{y + size // 2 + 4}"'
            lines.append(f'<text {middle} text-anchor="middle">{count}</text>')
    return "\n".join([*lines, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture(between_rooms()), encoding="utf-8")
