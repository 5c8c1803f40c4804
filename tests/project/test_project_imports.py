"""The order of the rooms: a module imports only from rooms that stand before its own."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "asdlib"

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
# Metrics must stay usable without any model: for scores made by somebody else's system.
ONLY = {"evaluation": {"errors", "files", "data"}}


def may_import(room: str) -> set[str]:
    """Rooms that a module of ``room`` may import, its own included."""
    return ONLY.get(room, set(ORDER[: ORDER.index(room)])) | {room}


def imported_modules(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import, at any depth of the module; relative ones resolved."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")
                parents = parts[: len(parts) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            # `from asdlib import plots` imports a room, `from asdlib.plots import x` a name of it.
            names = [alias.name for alias in node.names] if base == "asdlib" else [""]
            yield from ((node.lineno, f"{base}.{name}".rstrip(".")) for name in names)


def violations(source: str, room: str, package: str, label: str) -> list[str]:
    """One line for each import that the order forbids."""
    found = []
    for line, name in imported_modules(ast.parse(source), package):
        parts = name.split(".")
        inside = parts[0] == "asdlib" and len(parts) > 1 and not parts[1].startswith("__")
        if inside and parts[1] not in may_import(room):
            found.append(f"{label}:{line}: {room} imports {name}")
    return found


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or (p / "__init__.py").exists()}
    assert rooms - {"__init__", "__main__"} <= set(ORDER)


def test_imports_follow_the_order_of_the_rooms() -> None:
    found: list[str] = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        room = relative.parts[0].removesuffix(".py")
        if room in ORDER:
            package = ".".join(("asdlib", *relative.parts[:-1]))
            text = path.read_text(encoding="utf-8")
            found += violations(text, room, package, relative.as_posix())
    assert found == []


def test_the_rule_sees_each_form_of_import() -> None:
    def check(source: str, room: str) -> list[str]:
        return violations(source, room, f"asdlib.{room}", "x.py")

    assert check("import asdlib.study.run", "data")
    assert check("from asdlib import plots", "features")
    assert check("from asdlib.method.losses import nt_xent_loss", "evaluation")
    assert check("from ..method import losses", "features")
    assert check("def f():\n    from asdlib.cli import main", "study")
    assert not check("from asdlib.errors import DataError", "evaluation")
    assert not check("from .clips import Clip", "data")
    assert not check("from asdlib import __version__", "data")


def test_light_rooms_do_not_load_heavy_libraries() -> None:
    code = (
        "import sys, asdlib, asdlib.data.synthetic, asdlib.evaluation\n"
        "print(*{'torch', 'lightning', 'matplotlib', 'librosa'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
