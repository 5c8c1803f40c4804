"""What imports what: the order of the rooms, no circles, and nothing that is not declared."""

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import asdlib

# The small stores of the study's room serve here, too.
sys.path.append(str(Path(__file__).parents[1] / "study"))

from study_stores import make_store

from book.tools.rooms import ORDER, PICTURE, between_rooms, imported, modules, picture

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "asdlib"
GOLDEN = ROOT / "tests" / "golden" / "evaluation"

# Metrics must stay usable without any model: for scores made by somebody else's system.
ONLY = {"evaluation": {"errors", "files", "data"}}

# What is declared and imported nowhere, and where it is used.
USED_OTHERWISE = {
    "axe-playwright-python": "brings the script that the browser runs",
    "ipykernel": "runs the notebooks",
    "jupyter-book": "renders the book, as a program",
    "mypy": "make lint",
    "nbstripout": "pre-commit",
    "pandas-stubs": "mypy",
    "pre-commit": "pre-commit",
    "pytest-timeout": "pytest",
    "pytest-xdist": "make test",
    "ruff": "make lint",
    "scipy-stubs": "mypy",
    "sphinx-exercise": "an extension of the book, named in _config.yml",
    "types-pyyaml": "mypy",
}

# Folders whose modules are imported by their plain names.
OWN = ("tests", "teaching", "book/_ext", "benchmarks")

Imports = dict[str, set[str]]


def forbidden(name: str, imports: set[str]) -> list[str]:
    """What a module imports from rooms that do not stand before its own."""
    room = name.split(".")[1]
    may = ONLY.get(room, set(ORDER[: ORDER.index(room)])) | {room}
    others = [i for i in imports if i.startswith("asdlib.") and not i.startswith("asdlib.__")]
    return sorted(f"{name} imports {i}" for i in others if i.split(".")[1] not in may)


def circles(imports: Imports) -> list[list[str]]:
    """Groups of modules of which each can be reached from each of the group."""

    def module(name: str) -> str:
        """Name of the module that is or defines `name`, if it is one of ours."""
        while name and name not in imports:
            name = name.rpartition(".")[0]
        return name

    known = {name: {module(i) for i in names} - {"", name} for name, names in imports.items()}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        ahead = [start]
        while ahead:
            for name in known[ahead.pop()] - seen:
                seen.add(name)
                ahead.append(name)
        return seen

    ways = {name: reached(name) for name in known}
    groups = {tuple(sorted(b for b in ways[a] if a in ways[b])) for a in known if a in ways[a]}
    return [list(group) for group in sorted(groups)]


def test_imports_follow_the_order_of_the_rooms() -> None:
    found = {name: names for name, names in modules().items() if "." in name}
    del found["asdlib.__main__"]
    assert {name.split(".")[1] for name in found} <= set(ORDER)
    assert [line for name, names in found.items() for line in forbidden(name, names)] == []


def test_the_picture_of_the_rooms_is_up_to_date() -> None:
    drawn = PICTURE.read_text(encoding="utf-8")
    assert drawn == picture(between_rooms()), "run python -m book.tools.rooms"


def test_no_module_stands_in_a_circle() -> None:
    found = modules()
    # The package itself names its rooms and imports none before it is asked to.
    del found["asdlib"]
    assert circles(found) == []


def test_a_forbidden_import_is_seen_in_each_form() -> None:
    for name, source in [
        ("asdlib.data.x", "import asdlib.study.run"),
        ("asdlib.features.x", "from asdlib import plots"),
        ("asdlib.evaluation.x", "from asdlib.method.losses import nt_xent_loss"),
        ("asdlib.features.x", "from ..method import losses"),
        ("asdlib.study.x", "def f():\n    from asdlib.cli import main"),
    ]:
        assert forbidden(name, imported(source, name.rpartition(".")[0]))


def test_allowed_imports_pass() -> None:
    for name, source in (
        ("asdlib.evaluation.x", "from asdlib.errors import DataError"),
        ("asdlib.data.x", "from .clips import Clip\nfrom asdlib import __version__"),
        ("asdlib.data.x", "if TYPE_CHECKING:\n    from asdlib.study import run"),
    ):
        assert forbidden(name, imported(source, name.rpartition(".")[0])) == []


def test_a_circle_is_seen() -> None:
    imports = {"a": {"a.b.name", "os"}, "a.b": {"a.c"}, "a.c": {"a.name"}, "d": {"a"}, "e": {"e"}}
    assert circles(imports) == [["a", "a.b", "a.c"]]


def sources(*folders: str) -> Iterator[str]:
    """Code of all modules and notebooks in folders."""
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield path.read_text(encoding="utf-8")
        for path in sorted((ROOT / folder).rglob("*.ipynb")):
            cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
            yield "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")


_known = cache(packages_distributions)
_imported = cache(imported)


def distributions(codes: Iterator[str], *, at_once: bool = False) -> set[str]:
    """Names of the packages from elsewhere that code imports, as they are declared."""
    known = _known()
    own = {path.stem for folder in OWN for path in (ROOT / folder).rglob("*.py")}
    own |= {"", "asdlib", "benchmarks", "book", "results"} | set(sys.stdlib_module_names)
    found = {i.split(".")[0] for code in codes for i in _imported(code, at_once=at_once)} - own
    return {canonicalize_name(known.get(top, [top])[0]) for top in found}


def declared(*extras: str) -> set[str]:
    """Names that pyproject.toml declares, for the library and for some of its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][e] for e in extras)]
    return {canonicalize_name(re.split(r"[^\w.-]", line)[0]) for names in lists for line in names}


def test_what_is_imported_is_declared() -> None:
    assert distributions(sources("asdlib"), at_once=True) - declared() == set()
    assert (
        distributions(sources("asdlib")) - declared("book", "export", "live", "pretrained", "scale")
        == set()
    )
    assert distributions(sources("book", "notebooks", "teaching")) - declared("book") == set()
    everything = declared("book", "dev", "export", "live", "pretrained", "scale")
    assert distributions(sources("tests", "benchmarks")) - everything == set()


def test_what_is_declared_is_imported_or_used_otherwise() -> None:
    folders = ("asdlib", "book", "notebooks", "teaching", "tests", "benchmarks")
    everywhere = distributions(sources(*folders))
    assert declared("book", "dev", "export", "live", "pretrained", "scale") - everywhere == set(
        USED_OTHERWISE
    )
    # What only the book, tests and lint need is no requirement of the library.
    assert declared() - distributions(sources("asdlib")) == set()


QUICK = """
import sys
from asdlib.cli import _main
run = ["run", "statistics", "--train", STORE, "--test", STORE]
for code, *words in (
    (0, "evaluate", SCORES, "--year", "2022"),
    (0, *run, "--out", FOUND),
    (1, *run, "--out", STORE),
    (1, "run", "contrastive", "--train", "nowhere", "--test", STORE, "--out", "x"),
    (1, "run", "svm", "--train", STORE, "--test", STORE, "--out", "x"),
    (1, "ablate", "--train", "nowhere", "--test", STORE, "--out", "x"),
    (1, "features", "nowhere", "x"),
    (1, "decide", "nowhere"),
    (1, "export", "nowhere", "x.onnx"),
    (1, "fuse", "nowhere", FOUND, "--out", "x"),
    (1, "compare", "nowhere", "--kind", "real"),
    (1, "store", "info", "nowhere"),
):
    sys.argv = ["asd", *words]
    assert _main() == code, words
    assert not {"torch", "sklearn", "matplotlib"} & set(sys.modules), words
"""


def test_what_is_evaluated_found_or_refused_loads_no_heavy_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDLIB_CACHE", str(tmp_path / "cache"))
    store = make_store(tmp_path / "store").path
    asdlib.run("statistics", store, store, tmp_path / "found")
    told = {"STORE": store, "FOUND": tmp_path / "found", "SCORES": GOLDEN / "dcase2022"}
    code = "\n".join([f"{name} = {str(path)!r}" for name, path in told.items()] + [QUICK])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_light_rooms_do_not_load_heavy_libraries() -> None:
    code = (
        "import sys, asdlib, asdlib.data, asdlib.evaluation, asdlib.study\n"
        "print(*{'torch', 'lightning', 'matplotlib', 'librosa', 'distributed'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
