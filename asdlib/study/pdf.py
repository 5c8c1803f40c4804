"""The book as one PDF: all chapters on one page, printed by Chromium.

The PDF builders of jupyter-book need LaTeX or a browser of their own. Chromium, Chrome or Edge as
installed on the machine prints the same page that is read on a screen.
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from asdlib.errors import RunError
from asdlib.study.book import render, stage_book

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
_PRINT = """<style>
@page { size: A4; margin: 16mm 14mm; }
@media print {
  .bd-header, .bd-header-article, .bd-sidebar-primary, .bd-sidebar-secondary, .bd-footer,
  .bd-footer-article, .prev-next-footer, .headerlink, .copybtn, audio, dialog,
  .skip-link, #pst-skip-link, .threshold-controls { display: none !important; }
  html { font-size: 11pt; }
  .bd-main, .bd-content, .bd-article-container, .bd-article {
    display: block !important; max-width: none !important; padding: 0 !important; }
  .bd-article h1 { break-before: page; }
  h1, h2, h3 { break-after: avoid; }
  img, svg, figure, .admonition, pre { break-inside: avoid; max-width: 100% !important; }
  pre { white-space: pre-wrap; }
  .toggle-hidden, details:not([open]) > * { display: block !important; visibility: visible; }
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
    folder = render(staged, "singlehtml")
    # The first page of the contents holds them all; others, like the search, are small.
    page = max(folder.rglob("*.html"), key=lambda path: path.stat().st_size)
    text = page.read_text(encoding="utf-8")
    page.write_text(text.replace("</head>", _PRINT, 1), encoding="utf-8")
    return print_page(browser, page, Path(out))


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
