"""What leaves the book: slides and the PDF."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from reader import AXE, ROOT, barriers, keep_screenshot

from book.tools.pdf import assemble, print_page
from book.tools.render import contents
from book.tools.slides import write_slides

pytestmark = pytest.mark.book


def pdf_pages(content: bytes) -> int:
    """Pages of a PDF as Chromium writes it."""
    return len(re.findall(rb"/Type\s*/Page\b", content))


def test_slides_can_be_shown_and_printed(browser: Browser, built: Path, tmp_path: Path) -> None:
    out = tmp_path / "slides.html"
    count = write_slides(out, "smoke", project=ROOT, workspace=built / "study")
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(out.as_uri())
    assert page.locator("section").count() == count > 20
    widths = page.eval_on_selector_all("img", "all => all.map(i => i.naturalWidth)")
    assert all(width > 0 for width in widths)
    assert page.locator("img:not([alt]), img[alt='']").count() == 0
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.wait_for_function(
        "() => { const all = [...document.querySelectorAll('section')];"
        " return document.activeElement === all[1]"
        " && Math.abs(all[1].getBoundingClientRect().top) < 40 }"
    )
    page.evaluate(AXE)
    assert barriers(page, set()) == []
    keep_screenshot(page, "slides")
    assert pdf_pages(page.pdf(prefer_css_page_size=True)) == count
    assert problems == []
    page.close()


def test_pages_of_the_book_can_be_printed(chromium: Path, built: Path, tmp_path: Path) -> None:
    names = contents(ROOT)[::4]
    text = assemble(built / "html", names)
    assert text.count("<article") == len(names)
    pictures = set(re.findall(r'<img[^>]*\ssrc="([^":]+)"', text))
    assert pictures
    assert [name for name in pictures if not (built / "html" / name).is_file()] == []
    whole = built / "html" / "whole-book.html"
    whole.write_text(text, encoding="utf-8")
    try:
        out = print_page(str(chromium), whole, tmp_path / "book.pdf")
    finally:
        whole.unlink()
    assert pdf_pages(out.read_bytes()) > len(names)
