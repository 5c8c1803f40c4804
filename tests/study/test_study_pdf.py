"""The page that is printed: contents after the first chapter, nothing folded, links inside."""

from pathlib import Path

from bs4 import BeautifulSoup

from asdlib.study.pdf import assemble

PAGE = """<html><head><link rel="stylesheet" href="{up}_static/a.css"></head><body>
<article class="bd-article"><h1 id="top">{title}<a class="headerlink" href="#top">#</a></h1>
<details><summary>Sources</summary><p>named</p></details>
<p><a href="{other}">on</a></p></article></body></html>"""


def test_paper_has_contents_and_nothing_folded(tmp_path: Path) -> None:
    (tmp_path / "book").mkdir()
    first = PAGE.format(up="../", title="One & all", other="../end.html#top")
    (tmp_path / "book" / "intro.html").write_text(first)
    (tmp_path / "end.html").write_text(PAGE.format(up="", title="End", other="book/intro.html"))
    page = BeautifulSoup(assemble(tmp_path, ["book/intro", "end"]), "html.parser")
    entries = page.select("nav.print-contents a")
    assert [entry.get_text() for entry in entries] == ["One & all", "End"]
    assert all(page.select_one(str(entry["href"])) for entry in entries)
    assert [tag.name for tag in page.body.find_all(recursive=False)] == [
        "article",
        "nav",
        "article",
    ]
    assert all(folded.has_attr("open") for folded in page.find_all("details"))
    assert page.select_one("#book-intro p a")["href"] == "#end--top"
    assert page.select_one("link")["href"] == "_static/a.css"
