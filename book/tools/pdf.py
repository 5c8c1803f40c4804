"""The book as one PDF: all chapters on one page, printed by Chromium.

The PDF builders of jupyter-book need LaTeX or a browser of their own, and the builder for one page
does not know dropdowns. So the articles of the rendered pages are put onto one page, which a
Chromium or Chrome as installed on the machine prints.
"""

import html
import os
import posixpath
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from asdlib.errors import RunError
from asdlib.files import whole_file
from book.tools.render import contents, render, stage_book

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_SECONDS = 1800  # that printing may take


def print_book(out: Path, profile: str, *, project: Path, workspace: Path) -> Path:
    """Print the book into the PDF `out`; see `book.tools.render.build_book` for what it needs.

    Raises
    ------
    RunError
        If there is no browser, or the book or the printing fails.
    """
    browser = find_browser()
    folder = render(stage_book(profile, project=project, workspace=workspace))
    page = folder / "whole-book.html"
    page.write_text(assemble(folder, contents(project)), encoding="utf-8")
    return print_page(browser, page, out)


def find_browser() -> str:
    """Find a Chromium: ``$ASDLIB_CHROMIUM``, or the first of `BROWSERS` on the path.

    Raises
    ------
    RunError
        If there is none.
    """
    named = os.environ.get("ASDLIB_CHROMIUM")
    if named and not Path(named).is_file():
        raise RunError(f"there is no browser at '{named}'; set ASDLIB_CHROMIUM to one or unset it")
    found = named or next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not found:
        raise RunError(
            f"no browser found (looked for {', '.join(BROWSERS)}); install chromium or set "
            "ASDLIB_CHROMIUM, then give the same command again"
        )
    return found


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
    articles, entries, head = [], "", ""
    for name in names:
        path, slug = folder / f"{name}.html", slugs[f"{name}.html"]
        soup = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")
        if not head:
            links = soup.select("head link[rel~=stylesheet]")
            head = "".join(str(_moved(link, "href", name, slugs)) for link in links)
        article = soup.select_one("article.bd-article")
        if article is None:
            raise RunError(f"'{path}' has no article; build the book once more")
        for tag in article.find_all(True):
            if tag.get("id"):
                tag["id"] = f"{slug}--{tag['id']}"
            tag.attrs.pop("loading", None)  # a printer does not scroll
            for attribute in ("href", "src"):
                _moved(tag, attribute, name, slugs)
        # Each coloured word would be an element of the PDF's structure, half of its size.
        for word in article.select("pre span, code span, .sig span, .sig em"):
            word.unwrap()
        for useless in article.select("a.headerlink, button, script"):
            useless.decompose()
        for folded in article.find_all("details"):
            folded["open"] = ""
        article["id"] = slug
        heading = article.find("h1")
        title = " ".join(heading.get_text().split()) if heading else name
        entries += f'<li><a href="#{slug}">{html.escape(title)}</a></li>'
        articles.append(str(article))
    articles.insert(
        1, f'<nav class="bd-article print-contents"><h1>Contents</h1><ol>{entries}</ol></nav>'
    )
    style = (Path(__file__).parent / "print.css").read_text(encoding="utf-8")
    return (
        '<!DOCTYPE html><html lang="en" data-theme="light" data-mode="light"><head>'
        f'<meta charset="utf-8"><title>Listening for failure</title>{head}'
        f"<style>\n{style}</style></head><body>{''.join(articles)}</body></html>"
    )


def _moved(tag: Any, attribute: str, name: str, slugs: dict[str, str]) -> Any:
    """Make an address that was relative to a page right for the page of all articles."""
    address = tag.get(attribute)
    if not address or urlsplit(address).scheme or address.startswith("//"):
        return tag
    path, _, anchor = address.partition("#")
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
    with whole_file(out) as partial, tempfile.TemporaryDirectory() as profile:
        done = subprocess.run(
            [
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--no-pdf-header-footer",
                "--virtual-time-budget=20000",
                f"--user-data-dir={profile}",
                f"--print-to-pdf={partial}",
                page.resolve().as_uri(),
            ],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        if done.returncode or not partial.is_file():
            reason = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise RunError(f"'{browser}' printed nothing: {reason}")
    return out
