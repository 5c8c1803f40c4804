"""What is made from executed notebooks: the staged book, slides, the page for printing, buttons."""

import base64
import io
import json
import shutil
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import yaml
from bs4 import BeautifulSoup
from PIL import Image

from asdlib.errors import ConfigError, RunError
from book.tools import launch, pdf
from book.tools.execute import failed_copy
from book.tools.render import (
    MADE_HERE,
    build_book,
    contents,
    stage_book,
    times_table,
    write_epub,
)
from book.tools.slides import write_slides

ROOT = Path(__file__).parents[2]
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
LEARN = "# A *title*\n\n**What you will learn**\n\n- what <b> is,\n  and more;\n- *two*.\n\nMore."


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A book of two chapters, whose notebook is executed on profile smoke in the folder ``ws``."""
    root = tmp_path / "project"
    (root / "book" / "tools").mkdir(parents=True)
    (root / "book" / "intro.md").write_text("# Introduction\n")
    (root / "book" / "task.md").write_text("# Task\n")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nparts:\n- caption: One\n  chapters:\n"
        "  - file: book/task\n    sections:\n    - file: notebooks/01_a\n"
    )
    (root / "_config.yml").write_text("title: A book\nonly_build_toc_files: true\n")
    picture = nbformat.v4.new_output("display_data", {"image/png": PNG})
    image = f'<img src="data:image/png;base64,{PNG}" alt="fan &amp; pump" width="3">'
    cards = f"<div><figcaption>fan 00</figcaption>{image}</div>"
    cells = [
        nbformat.v4.new_markdown_cell(LEARN),
        nbformat.v4.new_code_cell("profile = 0", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell("profile = 1", metadata={"tags": ["injected-parameters"]}),
        nbformat.v4.new_code_cell("import json\njson"),
        nbformat.v4.new_markdown_cell("Text.\n\n## The `second` part"),
        nbformat.v4.new_code_cell(
            "1", outputs=[picture], metadata={"mystnb": {"image": {"alt": 'a "dot"'}}}
        ),
        nbformat.v4.new_code_cell(
            "2", outputs=[nbformat.v4.new_output("display_data", {"text/html": cards})]
        ),
    ]
    executed = tmp_path / "ws" / "smoke" / "notebooks" / "01_a.ipynb"
    executed.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), executed)
    return root


@pytest.fixture
def places(project: Path) -> dict[str, Path]:
    return {"project": project, "workspace": project.parent / "ws"}


def test_prose_and_executed_notebooks_are_laid_side_by_side(places: dict[str, Path]) -> None:
    spent = {"seconds": 90.0, "workers": 2, "cores": 4, "date": "2026-11-22"}
    study = places["workspace"] / "smoke" / "study.json"
    study.write_text(json.dumps({"notebooks": {"01_a": spent}}))
    page = places["project"] / "book" / "teaching" / "times.md"
    page.parent.mkdir()
    page.write_text("nothing is measured")
    for _ in range(2):
        staged = stage_book("smoke", **places)
        notebook = json.loads((staged / "notebooks" / "01_a.ipynb").read_text())
        _, parameters, injected, imports, *rest = (cell["metadata"] for cell in notebook["cells"])
        assert parameters["tags"] == ["parameters", "hide-input"]
        assert parameters["mystnb"]["code_prompt_show"] == "Show parameters"
        assert injected["tags"] == ["injected-parameters", "remove-cell"]
        assert imports["tags"] == ["hide-input"]
        assert not any("tags" in metadata for metadata in rest)
        config = yaml.safe_load((staged / "_config.yml").read_text())
        assert config["execute"]["execute_notebooks"] == "off"
        times = (staged / "book" / "teaching" / "times.md").read_text()
        assert "on the profile `smoke`" in times
        assert "| {doc}`/notebooks/01_a` | 1.5 | 2 on 4 | 2026‑11‑22 |" in times
        assert not (staged / "book" / "tools").exists()
    assert page.read_text() == "nothing is measured"
    assert times_table(page, "smoke", ["notebooks/01_a"]) == ""


def test_sounds_and_cards_become_files_and_numbers_are_typeset(places: dict[str, Path]) -> None:
    source = places["workspace"] / "smoke" / "notebooks" / "01_a.ipynb"
    notebook = nbformat.read(source, as_version=4)
    table = "<table><th>auc_source</th><td>-1.5</td><td>NaN</td><td>65664</td><td>2020</td></table>"
    noise = np.random.default_rng(0).integers(0, 256, size=(300, 300, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, format="png")
    large = base64.b64encode(buffer.getvalue()).decode()
    for data in (
        {"text/html": '<audio preload="metadata" src="data:audio/flac;base64,AAAA"></audio>'},
        {"text/html": table},
        {"text/markdown": "falls by -3.1 [-4, -2] on 2026-11-28, `seed=-1`"},
        {"image/png": large},
    ):
        output = nbformat.v4.new_output("display_data", data)
        notebook.cells.append(nbformat.v4.new_code_cell("3", outputs=[output]))
    nbformat.write(notebook, source)
    staged = stage_book("smoke", **places)
    made = nbformat.read(staged / "notebooks" / "01_a.ipynb", as_version=4)
    cards, player, shown, said, picture = (c.outputs[0]["data"] for c in made.cells[-5:])
    folder = staged / "book" / "_static" / "shown"
    (image,) = folder.glob("*.png")
    (sound,) = folder.glob("*.flac")
    assert base64.b64decode(PNG) == image.read_bytes()
    assert f'loading="lazy" src="../_static/shown/{image.name}"' in cards["text/html"]
    assert player["text/html"] == (
        f'<audio preload="none" src="../_static/shown/{sound.name}"></audio>'
    )
    assert shown["text/html"] == (
        "<table><th>AUC (source)</th><td>−1.5</td><td>–</td><td>65,664</td><td>2020</td></table>"
    )
    assert said["text/markdown"] == "falls by −3.1 [−4, −2] on 2026-11-28, `seed=-1`"
    assert len(picture["image/png"]) < 0.6 * len(large)


def test_a_profile_that_is_none_removes_nothing(project: Path) -> None:
    before = sorted(project.parent.rglob("*"))
    places = {"project": project, "workspace": project}
    slides = partial(write_slides, project / "x.html")
    for name in ("", ".", "..", "../..", "book", "huge"):
        for make in (build_book, stage_book, slides):
            with pytest.raises(ConfigError, match=f"unknown profile '{name}'"):
                make(name, **places)
    assert sorted(project.parent.rglob("*")) == before


def test_a_folder_of_somebody_else_is_never_replaced(
    project: Path, places: dict[str, Path]
) -> None:
    mine = project / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    (mine / ".buildinfo").write_text("of another book by Sphinx")
    with pytest.raises(ConfigError, match=r"'.*mine' exists and is no book of asd; choose another"):
        build_book("smoke", html=mine, **places)
    staged = places["workspace"] / "smoke" / "staged"
    shutil.copytree(mine, staged)
    with pytest.raises(ConfigError, match="exists and was not made by asd book; choose another"):
        build_book("smoke", **places)
    assert (mine / "thesis.txt").exists()
    assert (staged / "thesis.txt").exists()
    (staged / MADE_HERE).touch()
    stage_book("smoke", **places)
    assert not (staged / "thesis.txt").exists()


def test_a_book_and_slides_need_executed_notebooks(places: dict[str, Path], tmp_path: Path) -> None:
    def refused(profile: str, message: str) -> None:
        with pytest.raises(RunError, match=message):
            build_book(profile, **places)
        with pytest.raises(RunError, match=message):
            write_slides(tmp_path / "x.html", profile, **places)

    refused("classroom", "'notebooks/01_a' is not executed on 'classroom'; run asd study")
    failed_copy(places["workspace"] / "smoke" / "notebooks" / "01_a.ipynb").write_text("{}")
    refused("smoke", "'notebooks/01_a' failed when it last ran; mend it and run asd study")
    assert not (places["project"] / "_build").exists()


def test_warnings_of_the_book_are_errors(places: dict[str, Path]) -> None:
    (places["project"] / "book" / "intro.md").write_text("# Introduction\n\n[](nowhere.md)\n")
    with pytest.raises(RunError, match=r"jupyter-book failed: .*nowhere.*build\.log"):
        build_book("smoke", **places)
    assert not (places["project"] / "_build").exists()


def test_each_figure_becomes_a_slide_with_its_heading_and_description(
    places: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out" / "slides.html"
    assert write_slides(out, "smoke", **places) == 3
    text = out.read_text(encoding="utf-8")
    points = "<ul><li>what &lt;b&gt; is, and more;</li><li>two.</li></ul>"
    assert f"<h1>A title</h1><p>What you will learn</p>{points}" in text
    assert text.count("<h2>The second part</h2>") == 1
    assert text.count("<h2>The second part: fan 00</h2>") == 1
    assert 'alt="a &quot;dot&quot;"' in text
    assert 'alt="fan &amp; pump"' in text
    assert "01_a, profile smoke · 3 of 3" in text
    assert [path.name for path in out.parent.iterdir()] == ["slides.html"]


def test_the_book_becomes_an_epub_without_sounds(places: dict[str, Path], tmp_path: Path) -> None:
    source = places["workspace"] / "smoke" / "notebooks" / "01_a.ipynb"
    notebook = nbformat.read(source, as_version=4)
    sound = nbformat.v4.new_output(
        "display_data",
        {"text/html": '<p>heard</p><audio src="data:audio/flac;base64,AAAA"></audio>'},
    )
    notebook.cells.append(nbformat.v4.new_code_cell("play()", outputs=[sound]))
    nbformat.write(notebook, source)
    out = write_epub(tmp_path / "out" / "book.epub", "smoke", **places)
    with zipfile.ZipFile(out) as archive:
        assert archive.read("mimetype") == b"application/epub+zip"
        (chapter,) = (name for name in archive.namelist() if name.endswith("01_a.xhtml"))
        text = archive.read(chapter).decode()
    assert "heard" in text
    assert "audio" not in text
    assert [path.name for path in out.parent.iterdir()] == ["book.epub"]


def test_the_lesson_has_the_slides_that_it_declares(
    places: dict[str, Path], tmp_path: Path
) -> None:
    source = places["workspace"] / "smoke" / "notebooks" / "01_a.ipynb"
    notebook = nbformat.read(source, as_version=4)
    players = "".join(f'<audio controls aria-label="fan {i}" src="data:{i}"></audio>' for i in "12")
    heard = nbformat.v4.new_output("display_data", {"text/html": f"<p>secret</p>{players}"})
    notebook.cells.append(nbformat.v4.new_code_cell("show(3)", outputs=[heard]))
    nbformat.write(notebook, source)
    lesson = places["project"] / "teaching" / "lesson.yml"
    lesson.parent.mkdir()
    slides: list[dict[str, Any]] = [
        {"heading": "Why?", "points": ["a < b"]},
        {"heading": "Guess", "cards": {"notebook": "01_a", "cell": "show(3)"}, "blind": [1, 0]},
        {"heading": "See", "cards": {"notebook": "01_a", "cell": "show(3)"}},
        {"heading": "Look", "picture": {"notebook": "01_a", "alt": 'a "d'}},
    ]
    lesson.write_text(yaml.safe_dump(slides))
    out = tmp_path / "slides.html"
    assert write_slides(out, "smoke", **places, lesson=True) == 4
    why, guess, see, look = BeautifulSoup(out.read_text(), "html.parser").find_all("section")
    assert why.li.get_text() == "a < b"
    assert [audio["src"] for audio in guess.find_all("audio")] == ["data:2", "data:1"]
    assert [audio["aria-label"] for audio in guess.find_all("audio")] == ["clip A", "clip B"]
    assert "secret" not in guess.get_text()
    assert "secret" in see.get_text()
    assert look.img["alt"] == 'a "dot"'
    lesson.write_text(yaml.safe_dump([slides[1] | {"cards": {"notebook": "01_a", "cell": "no"}}]))
    with pytest.raises(RunError, match="shows nothing for the slide 'Guess'"):
        write_slides(out, "smoke", **places, lesson=True)


def test_pages_become_one_page_with_contents_whose_links_lead_within_it(
    project: Path, tmp_path: Path
) -> None:
    html = tmp_path / "html"
    pages = {
        "book/intro": '<h1 id="top">One &amp; all<a class="headerlink" href="#top">#</a></h1>'
        '<a href="#top">up</a><details><summary>Sources</summary></details>'
        '<a href="../notebooks/01_a.html#x">a</a>'
        '<a href="https://example.org/b.html">out</a><img src="../_images/p.png">',
        "book/task": '<a href="intro.html">back</a><a href="../genindex.html">index</a>',
        "notebooks/01_a": '<h1 id="x">A</h1>',
    }
    for name, body in pages.items():
        path = html / f"{name}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(
            '<html><head><link rel="stylesheet" href="../_static/a.css?v=1"></head><body><nav>menu'
            f'</nav><article class="bd-article">{body}</article></body></html>'
        )
    assert contents(project) == list(pages)
    page = BeautifulSoup(pdf.assemble(html, contents(project)), "html.parser")
    tags = [tag.name for tag in page.body.find_all(recursive=False)]
    assert tags == ["article", "nav", "article", "article"]
    entries = page.select("nav.print-contents a")
    assert [entry.get_text() for entry in entries] == ["One & all", "book/task", "A"]
    assert all(page.select_one(str(entry["href"])) for entry in entries)
    assert [a["href"] for a in page.select("article a")] == [
        "#book-intro--top",
        "#notebooks-01_a--x",
        "https://example.org/b.html",
        "#book-intro",
        "genindex.html",
    ]
    assert page.select(".headerlink") == []
    assert page.select_one("#notebooks-01_a--x").get_text() == "A"
    assert page.select_one("link")["href"] == "_static/a.css?v=1"
    assert page.select_one("img")["src"] == "_images/p.png"
    assert all(folded.has_attr("open") for folded in page.find_all("details"))


def test_a_browser_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASDLIB_CHROMIUM", str(tmp_path / "none"))
    with pytest.raises(RunError, match="there is no browser at"):
        pdf.find_browser()
    monkeypatch.delenv("ASDLIB_CHROMIUM")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="no browser found .* install chromium"):
        pdf.find_browser()
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    (tmp_path / "chromium").write_text("#!/bin/sh\necho out of paper >&2; exit 1\n")
    (tmp_path / "chromium").chmod(0o755)
    assert pdf.find_browser() == str(tmp_path / "chromium")
    with pytest.raises(RunError, match="chromium' printed nothing: out of paper"):
        pdf.print_page(pdf.find_browser(), tmp_path / "a.html", tmp_path / "out" / "a.pdf")
    assert list((tmp_path / "out").iterdir()) == []


class Shell:
    """What a kernel offers as ``get_ipython()``."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.commands: list[str] = []

    def __str__(self) -> str:
        return f"<{self.kind} object>"

    def system(self, command: str) -> None:
        self.commands.append(command)


def test_the_cell_for_colab_installs_there_and_does_nothing_elsewhere(project: Path) -> None:
    config = project / "_config.yml"
    config.write_text("repository:\n  url: https://example.org/lab/asdlib\n  branch: v1\n")
    source = launch.setup_source(project)
    done: dict[str, list[str]] = {}
    for kind in ("ipykernel.zmqshell.ZMQInteractiveShell", "google.colab._shell.Shell"):
        shell = Shell(kind)
        exec(source, {"get_ipython": lambda shell=shell: shell})
        done[kind.split(".")[0]] = shell.commands
    install = "pip install --quiet 'asdlib[book] @ git+https://example.org/lab/asdlib@v1'"
    assert done == {"ipykernel": [], "google": [install]}
    config.write_text("title: none\n")
    with pytest.raises(ConfigError, match="names no repository with url and branch"):
        launch.setup_source(project)


def test_only_the_cell_for_colab_is_touched(project: Path) -> None:
    cells = [nbformat.v4.new_markdown_cell("# Ä title"), nbformat.v4.new_code_cell("profile = 1")]
    notebook: Any = nbformat.v4.new_notebook(cells=cells)
    path = project / "notebooks" / "a.ipynb"
    path.parent.mkdir()
    nbformat.write(notebook, path)
    before = json.loads(path.read_text())["cells"]
    config = project / "_config.yml"
    for branch in ("old", "new"):
        config.write_text(f"repository:\n  url: https://example.org/x\n  branch: {branch}\n")
        launch.main(project)
        after = json.loads(path.read_text())["cells"]
        assert [after[0], after[2]] == before
        assert f"https://example.org/x@{branch}" in "".join(after[1]["source"])
        assert after[1]["metadata"]["tags"] == ["colab-setup", "remove-cell"]
        nbformat.validate(nbformat.read(path, as_version=4))
    config.write_text(f"repository:\n  url: {launch.PLACEHOLDER}x\n  branch: new\n")
    launch.main(project)
    assert json.loads(path.read_text())["cells"] == before


def test_every_notebook_has_the_cell_of_the_repository() -> None:
    source = launch.setup_source(ROOT)
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        assert launch.with_setup_cell(notebook, source) == notebook, (
            f"{path.name}: run python -m book.tools.launch"
        )
