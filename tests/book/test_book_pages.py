"""Every page of the contents as a reader meets it, and every old address."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Browser
from reader import faults_seen, faults_written, open_page, pages

pytestmark = pytest.mark.book

NOTEBOOKS = [page for page in pages() if page.startswith("notebooks/")]


@pytest.mark.parametrize("name", pages())
def test_page(browser: Browser, site: str, built: Path, name: str) -> None:
    faults = faults_written(built / "html", name) + faults_seen(browser, site, name)
    assert faults == []


def test_notebooks_ran_on_the_profile_and_show_what_they_computed(built: Path) -> None:
    sounds = 0
    for name in NOTEBOOKS:
        text = (built / "html" / f"{name}.html").read_text(encoding="utf-8")
        assert text.count("cell_output") >= 2, name
        assert "Traceback (most recent call last)" not in text, name
        sounds += text.count("<audio")
        cells = json.loads((built / "study" / "smoke" / f"{name}.ipynb").read_text())["cells"]
        for cell in cells:
            if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
                alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
                assert alt.strip(), f"{name}: no text for the picture of {cell['source']}"
        tags = [cell["metadata"].get("tags", []) for cell in cells]
        assert sum("injected-parameters" in tag for tag in tags) == 1, name
        assert all(c["execution_count"] for c in cells if c["cell_type"] == "code"), name
    assert sounds >= 4


def test_old_addresses_lead_to_the_pages_of_today(browser: Browser, site: str, built: Path) -> None:
    html = built / "html"
    here = set(pages())
    moved = [path for path in html.glob("*/*.html") if "This page has moved" in path.read_text()]
    assert len(moved) >= 16
    for path in moved:
        assert path.relative_to(html).with_suffix("").as_posix() not in here
        target = path.read_text().split('<a href="')[1].split('"')[0]
        found = (path.parent / target).resolve().relative_to(html.resolve())
        assert found.with_suffix("").as_posix() in here
    page, faults = open_page(browser, site, "book/intro")
    page.goto(f"{site}/notebooks/05_ablation.html#summary", wait_until="commit")
    page.wait_for_url("**/notebooks/34_ablation.html#summary")
    page.close()
    assert faults == []
