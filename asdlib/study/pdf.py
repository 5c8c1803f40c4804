"""The book as one PDF: all chapters on one page, printed by Chromium.

The PDF builders of jupyter-book need LaTeX or a browser of their own, and the builder for one page
does not know dropdowns. So the articles of the rendered pages are put onto one page, which a
Chromium or Chrome as installed on the machine prints.
"""

import html
import os
import posixpath
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asdlib.errors import RunError
from asdlib.study.book import render, stage_book

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PRINT = """<style>
@page { size: A4; margin: 16mm 14mm; @bottom-center { content: counter(page); } }
.print-contents ol { list-style: none; padding: 0; columns: 2; }
@media print {
  .headerlink, .copybtn, audio, .toggle-button { display: none !important; }
  html { font-size: 10.5pt; }
  body { display: block; }
  .bd-article { padding: 0 !important; break-before: page; }
  article.bd-article:first-of-type { break-before: auto; }
  h1, h2, h3 { break-after: avoid; }
  img, svg, figure, .admonition, pre { break-inside: avoid; max-width: 100% !important; }
  tr, .threshold-explorer { break-inside: avoid; }
  .asd-card:not(:has(img)) { display: none !important; }
  div:has(> table) { overflow: visible !important; }
  pre { white-space: pre-wrap; }
  .toggle-hidden { display: block !important; visibility: visible; }
}
</style></head>"""


def find_browser() -> str:
    """Find a Chromium: ``$ASDLIB_CHROMIUM``, or the first of `BROWSERS` on the path.

    Raises
    ------
    RunError
        If there is none.
    """
    told = os.environ.get("ASDLIB_CHROMIUM")
    if told and not Path(told).is_file():
        raise RunError(f"there is no browser at '{told}'; set ASDLIB_CHROMIUM to one or unset it")
    found = told or next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not found:
        raise RunError(
            f"no browser found (looked for {', '.join(BROWSERS)}); install chromium or set "
            "ASDLIB_CHROMIUM, then give the same command again"
        )
    return found


def print_book(
    out: str | Path,
    profile: str,
    *,
    workspace: str | Path = "build/study",
    source: str | Path = ".",
) -> Path:
    """Print the book; see `asdlib.study.book.build_book` for what it needs.

    Parameters
    ----------
    out
        PDF to write, replaced.
    profile
        Whose executed notebooks are shown.
    workspace
        Workspace of the study.
    source
        Project folder.

    Raises
    ------
    ConfigError
        If `source` is no book.
    RunError
        If there is no browser, or the book or the printing fails.
    """
    browser = find_browser()
    staged = stage_book(profile, workspace=workspace, source=source)
    folder = render(staged, "html")
    page = folder / "whole-book.html"
    page.write_text(assemble(folder, contents(staged)), encoding="utf-8")
    return print_page(browser, page, Path(out))


def contents(source: Path) -> list[str]:
    """Names of all pages in reading order."""
    import yaml

    text = yaml.safe_dump(yaml.safe_load((source / "_toc.yml").read_text(encoding="utf-8")))
    root = re.findall(r"^root: (\S+)", text, flags=re.MULTILINE)
    return root + re.findall(r"file: (\S+)", text)


def assemble(folder: Path, names: list[str]) -> str:
    """Put the articles of rendered pages onto one page, with a list of them after the first.

    Links between them stay links, and what unfolds is open, since paper cannot be clicked.

    Parameters
    ----------
    folder
        The rendered book.
    names
        Pages, without suffix.

    Returns
    -------
    The page, to be saved in `folder`.
    """
    from bs4 import BeautifulSoup

    slugs = {f"{name}.html": name.replace("/", "-") for name in names}
    articles, titles, head = [], [], ""
    for name in names:
        path = folder / f"{name}.html"
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        if not head:
            links = soup.select("head link[rel~=stylesheet]")
            head = "".join(str(_moved(link, "href", name, slugs)) for link in links)
        article = soup.select_one("article.bd-article")
        if article is None:
            raise RunError(f"'{path}' has no article; build the book once more")
        for tag in article.find_all(True):
            if tag.get("id"):
                tag["id"] = f"{slugs[f'{name}.html']}--{tag['id']}"
            for attribute in ("href", "src"):
                _moved(tag, attribute, name, slugs)
        for folded in article.find_all("details"):
            folded["open"] = ""
        article["id"] = slugs[f"{name}.html"]
        heading = article.find("h1")
        titles.append(_heading_text(heading) if heading else name)
        articles.append(str(article))
    articles.insert(1, _contents_page(list(slugs.values()), titles))
    return (
        '<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light"><head>'
        f'<meta charset="utf-8"><title>Listening for failure</title>{head}{_PRINT}'
        f"<body>{''.join(articles)}</body></html>"
    )


def _heading_text(heading: Any) -> str:
    return " ".join(heading.get_text().removesuffix("#").split())


def _contents_page(slugs: list[str], titles: list[str]) -> str:
    entries = "".join(
        f'<li><a href="#{slug}">{html.escape(title)}</a></li>'
        for slug, title in zip(slugs, titles, strict=True)
    )
    return f'<nav class="bd-article print-contents"><h1>Contents</h1><ol>{entries}</ol></nav>'


def _moved(tag: Any, attribute: str, name: str, slugs: dict[str, str]) -> Any:
    """Make an address that was relative to a page right for the page of all articles."""
    told = tag.get(attribute)
    if not told or urlsplit(told).scheme or told.startswith("//"):
        return tag
    path, _, anchor = told.partition("#")
    target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
    if not path:
        target = f"{name}.html"
    if target in slugs:
        tag[attribute] = f"#{slugs[target]}--{anchor}" if anchor else f"#{slugs[target]}"
    else:
        tag[attribute] = target + (f"#{anchor}" if anchor else "")
    return tag


def print_page(browser: str, page: Path, out: Path) -> Path:
    """Print one HTML file as PDF."""
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp.pdf")
    with tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-pdf-header-footer",
                "--virtual-time-budget=20000",
                f"--user-data-dir={profile}",
                f"--print-to-pdf={temporary}",
                page.resolve().as_uri(),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
    if done.returncode or not temporary.is_file():
        told = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RunError(f"'{browser}' printed nothing: {told}")
    temporary.replace(out)
    return out
