"""The book's sources: table of contents, settings, readable notebooks without outputs."""

import ast
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
IMPORTED = {
    "asdlib",
    "matplotlib",
    "numpy",
    "pandas",
    "scipy",
    "seaborn",
    "sklearn",
    "soundfile",
    "torch",
    "torchaudio",
}
CHAPTERS = sorted((ROOT / "book").rglob("*.md"))


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def files_of(entry: Any) -> list[str]:
    """All files of a table of contents, in reading order."""
    if isinstance(entry, list):
        return [name for item in entry for name in files_of(item)]
    names = [entry[key] for key in ("root", "file") if key in entry]
    for key in ("parts", "chapters", "sections"):
        names += files_of(entry.get(key, []))
    return names


def source_of(cell: Any) -> str:
    """Code of a cell without the lines that only IPython understands."""
    return "\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith("%"))


def names_read(tree: ast.AST) -> set[str]:
    """All names in code."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_every_entry_of_the_contents_exists_once() -> None:
    names = files_of(read_yaml("_toc.yml"))
    assert len(names) == len(set(names))
    for name in names:
        path = ROOT / name
        assert any(path.with_name(path.name + s).is_file() for s in (".md", ".ipynb")), name


def test_every_chapter_and_notebook_is_in_the_contents() -> None:
    names = set(files_of(read_yaml("_toc.yml")))
    included = {
        (chapter.parent / name).resolve()
        for chapter in CHAPTERS
        for name in re.findall(r"\{include\} (\S+)", chapter.read_text(encoding="utf-8"))
    }
    sources = {
        path.relative_to(ROOT).with_suffix("").as_posix()
        for path in (*CHAPTERS, *NOTEBOOKS)
        if path not in included
    }
    assert sources - names == set()


def test_the_book_builds_only_what_the_contents_name() -> None:
    config = read_yaml("_config.yml")
    assert config["only_build_toc_files"] is True
    assert config["execute"]["allow_errors"] is False
    assert config["execute"]["execute_notebooks"] == "cache"


def test_every_figure_in_the_prose_has_a_text_for_those_who_cannot_see_it() -> None:
    for chapter in CHAPTERS:
        text = chapter.read_text(encoding="utf-8")
        assert not re.search(r"!\[\s*\]\(", text), f"{chapter.name}: image without alt text"
        for block in re.findall(r"```\{(?:figure|image)\}.*?```", text, flags=re.DOTALL):
            assert re.search(r"^:alt: \S", block, flags=re.MULTILINE), (
                f"{chapter.name}: {block[:60]}"
            )


def test_every_chapter_closes_with_a_summary_or_is_a_list() -> None:
    lists = {"intro.md", "published.md", "glossary.md", "bibliography.md"}
    for chapter in (ROOT / "book").glob("*.md"):
        if chapter.name not in lists:
            assert "\n## Summary\n" in chapter.read_text(encoding="utf-8"), chapter.name


def texts() -> dict[Path, str]:
    """Markdown of every chapter and notebook."""
    found = {path: path.read_text(encoding="utf-8") for path in CHAPTERS}
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        found[path] = "\n\n".join(c.source for c in cells if c.cell_type == "markdown")
    return found


def test_links_to_chapters_lead_to_pages_of_the_contents() -> None:
    names = set(files_of(read_yaml("_toc.yml")))
    lost = []
    for path, text in texts().items():
        for link in re.findall(r"\{doc\}`(?:[^`<]*<)?([^`<>]+)>?`", text):
            folder = ROOT if link.startswith("/") else path.parent
            if os.path.relpath(folder / link.lstrip("/"), ROOT) not in names:
                lost.append(f"{path.name}: {link}")
    assert lost == []


def test_every_exercise_has_one_folded_solution() -> None:
    exercises: list[str] = []
    solutions: list[str] = []
    for path, text in texts().items():
        exercises += re.findall(r"```\{exercise\}[^\n]*\n:label: (\S+)", text)
        solutions += (mine := re.findall(r"```\{solution\} (\S+)\n:class: dropdown", text))
        assert len(mine) == text.count("```{solution}"), f"{path.name}: a solution is not folded"
    assert len(exercises) == len(set(exercises))
    assert sorted(exercises) == sorted(solutions)


def test_numbers_of_notebooks_come_from_their_results() -> None:
    for path in NOTEBOOKS:
        cells = nbformat.read(path, as_version=4).cells
        code = "\n".join(c.source for c in cells if c.cell_type == "code")
        text = "\n".join(c.source for c in cells if c.cell_type == "markdown")
        for name in re.findall(r"\{glue:text\}`(\w+)", text):
            kept = name in code or (name.startswith("loss_") and '"loss_{name}"' in code)
            assert kept, f"{path.name}: {name} is shown and never computed"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_has_the_form_of_a_chapter_and_no_outputs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    text = "\n\n".join(c.source for c in notebook.cells if c.cell_type == "markdown")
    assert "**What you will learn**\n\n- " in text
    assert re.search(r"^## Summary$.*^## Exercises$.*```\{exercise\}", text, re.M | re.S)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [c for c in code if c.outputs or c.execution_count is not None] == []
    assert [c.source for c in code if len(c.source.splitlines()) > 30] == []
    # Exactly one cell is tagged `parameters`.
    (parameters,) = (c for c in code if "parameters" in c.metadata.get("tags", []))
    declared = set()
    for line in parameters.source.splitlines():
        assert re.fullmatch(r"\w+: (str|int|float|bool) = \S.*  # \S.*", line), line
        # What a window of 1280 px shows on one line.
        assert len(line) <= 77, line
    tree = ast.parse("\n".join(source_of(c) for c in code if c is not parameters))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        else:
            continue
        assert {name.split(".")[0] for name in names} <= IMPORTED | sys.stdlib_module_names, names
    # Jupyter shows the last line of a cell; what a line before it or in a block returns is lost.
    lines = {c.source: ast.parse(source_of(c)) for c in code if source_of(c).strip()}
    last = {id(cell.body[-1]) for cell in lines.values()}
    lost = [
        ast.unparse(node)
        for cell in lines.values()
        for node in ast.walk(cell)
        if isinstance(node, ast.Expr) and id(node) not in last
        if re.match(r"plots\.(say|table|listen|show\w*)\(", ast.unparse(node))
    ]
    assert lost == []
    # A page that shows kept results reads none of those that every page has.
    declared = {line.split(":")[0] for line in parameters.source.splitlines()}
    unread = declared - names_read(tree)
    assert unread in (set(), {"profile", "workspace", "store", "data_root"}), unread


def test_a_chapter_says_what_it_finds_and_builds_on_chapters_before_it() -> None:
    chapters = read_yaml("book/chapters.yml")
    contents = read_yaml("_toc.yml")
    names = files_of({"parts": contents["parts"][:3]})
    assert list(chapters) == names, (
        "book/chapters.yml: one entry a page of parts I to III, in order"
    )
    for name, told in chapters.items():
        assert set(told) == {"finding", "builds_on", "follows"}, name
        assert told["finding"].endswith("."), name
        assert len(told["finding"].split()) <= 30, name
        assert set(told["builds_on"]) <= set(names[: names.index(name)]), name
