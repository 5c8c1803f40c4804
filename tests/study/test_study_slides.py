"""Slides and the page for printing, made from small notebooks and pages."""

from pathlib import Path

import nbformat
import pytest

from asdlib.errors import ConfigError, RunError
from asdlib.study.pdf import assemble, contents, find_browser
from asdlib.study.slides import write_slides

PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

LEARN = "# A *title*\n\n**What you will learn**\n\n- what <b> is,\n  and more;\n- *two*.\n\nMore."


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A book of one notebook, executed."""
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nparts:\n- caption: One\n  chapters:\n"
        "  - file: book/task\n    sections:\n    - file: notebooks/01_a\n"
    )
    output = nbformat.v4.new_output("display_data", {"image/png": PNG})
    image = f'<img src="data:image/png;base64,{PNG}" alt="fan &amp; pump" width="3">'
    cards = f"<div><figcaption>fan 00</figcaption>{image}</div>"
    cells = [
        nbformat.v4.new_markdown_cell(LEARN),
        nbformat.v4.new_markdown_cell("Text.\n\n## The `second` part"),
        nbformat.v4.new_code_cell(
            "1", outputs=[output], metadata={"mystnb": {"image": {"alt": 'a "dot"'}}}
        ),
        nbformat.v4.new_code_cell(
            "2", outputs=[nbformat.v4.new_output("display_data", {"text/html": cards})]
        ),
    ]
    executed = tmp_path / "ws" / "smoke" / "notebooks" / "01_a.ipynb"
    executed.parent.mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), executed)
    return tmp_path


def test_each_figure_becomes_a_slide_with_its_heading_and_description(project: Path) -> None:
    out = project / "out" / "slides.html"
    assert write_slides(out, "smoke", workspace=project / "ws", source=project) == 3
    text = out.read_text(encoding="utf-8")
    points = "<ul><li>what &lt;b&gt; is, and more;</li><li>two.</li></ul>"
    assert f"<h1>A title</h1><p>What you will learn</p>{points}" in text
    assert text.count("<h2>The second part</h2>") == 1
    assert text.count("<h2>The second part: fan 00</h2>") == 1
    assert 'alt="a &quot;dot&quot;"' in text
    assert 'alt="fan &amp; pump"' in text
    assert "01_a, profile smoke · 3 of 3" in text
    assert [path.name for path in out.parent.iterdir()] == ["slides.html"]


def test_slides_need_executed_notebooks(project: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="'01_a' is not executed on profile 'classroom'; run asd"):
        write_slides(project / "x.html", "classroom", workspace=project / "ws", source=project)
    with pytest.raises(ConfigError, match=r"has no _toc\.yml; give --source"):
        write_slides(project / "x.html", "smoke", source=tmp_path / "none")


def test_pages_become_one_page_whose_links_lead_within_it(project: Path) -> None:
    html = project / "html"
    pages = {
        "book/intro": '<h1 id="top">I</h1><a href="../notebooks/01_a.html#x">a</a>'
        '<a href="#top">t</a>'
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
    names = contents(project)
    assert names == list(pages)
    text = assemble(html, names)
    assert text.count("<article") == 3
    assert "menu" not in text
    for told in (
        'href="_static/a.css?v=1"',
        'href="#notebooks-01_a--x"',
        'id="notebooks-01_a--x"',
        'href="#book-intro--top"',
        'href="#book-intro"',
        'href="https://example.org/b.html"',
        'src="_images/p.png"',
        'href="genindex.html"',
    ):
        assert told in text


def test_a_browser_that_is_not_there_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ASDLIB_CHROMIUM", str(tmp_path / "none"))
    with pytest.raises(RunError, match="there is no browser at"):
        find_browser()
    monkeypatch.delenv("ASDLIB_CHROMIUM")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RunError, match="no browser found .* install chromium"):
        find_browser()
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    (tmp_path / "chromium").write_text("#!/bin/sh\n")
    (tmp_path / "chromium").chmod(0o755)
    assert find_browser() == str(tmp_path / "chromium")
