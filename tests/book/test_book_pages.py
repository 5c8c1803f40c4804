"""The rendered book as a reader meets it."""

import json
from pathlib import Path

import pytest
import yaml
from playwright.sync_api import Browser, ConsoleMessage, Page

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "screenshots"
pytestmark = [pytest.mark.book, pytest.mark.timeout(900)]


def pages() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    chapters = [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    return [toc["root"], *chapters]


NOTEBOOKS = [page for page in pages() if page.startswith("notebooks/")]


def open_page(browser: Browser, site: str, name: str, width: int = 1280) -> tuple[Page, list[str]]:
    page = browser.new_page(viewport={"width": width, "height": 900})
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        elsewhere = not (message.location or {}).get("url", site).startswith(site)
        if message.type == "error" and not elsewhere:
            problems.append(message.text)

    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    # The book has to be readable without the net: whatever is not ours is refused.
    page.route(lambda url: not url.startswith(site), lambda route: route.abort())
    response = page.goto(f"{site}/{name}.html", wait_until="load")
    assert response is not None
    assert response.ok, name
    return page, problems


@pytest.mark.parametrize("name", pages())
def test_page_loads_with_all_pictures_and_without_errors(
    browser: Browser, site: str, name: str
) -> None:
    page, problems = open_page(browser, site, name)
    pictures = page.eval_on_selector_all(
        "main img",
        "all => all.map(i => { i.loading = 'eager'; "
        "return {src: i.currentSrc || i.src, alt: i.alt} })",
    )
    page.wait_for_function(
        "() => [...document.querySelectorAll('main img')].every(i => i.complete)"
    )
    widths = page.eval_on_selector_all("main img", "all => all.map(i => i.naturalWidth)")
    assert all(width > 0 for width in widths), pictures
    assert all(picture["alt"].strip() for picture in pictures), pictures
    assert len(page.inner_text("main").split()) > 60
    assert not problems
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name.replace('/', '-')}-wide.png", full_page=True)
    page.close()


@pytest.mark.parametrize("name", pages())
def test_page_fits_a_phone(browser: Browser, site: str, name: str) -> None:
    page, _ = open_page(browser, site, name, width=390)
    overflow = page.evaluate(
        "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    page.screenshot(path=SHOTS / f"{name.replace('/', '-')}-phone.png", full_page=True)
    assert overflow <= 0
    page.close()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_shows_executed_output(browser: Browser, site: str, name: str) -> None:
    page, _ = open_page(browser, site, name)
    assert page.locator(".cell_output").count() >= 2
    assert "Traceback" not in page.inner_text("main")
    page.close()


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_ran_on_the_profile_from_its_parameters(built: Path, name: str) -> None:
    path = built / "study" / "smoke" / f"{name}.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    tags = [cell["metadata"].get("tags", []) for cell in notebook["cells"]]
    assert sum("injected-parameters" in tag for tag in tags) == 1
    counts = [c["execution_count"] for c in notebook["cells"] if c["cell_type"] == "code"]
    assert all(count for count in counts)


def test_recordings_can_be_played(browser: Browser, site: str) -> None:
    page, _ = open_page(browser, site, "notebooks/01_data")
    page.wait_for_function(
        "() => { const all = [...document.querySelectorAll('audio')];"
        " return all.length >= 4 && all.every(a => a.duration > 0.5) }"
    )
    page.close()


def test_search_finds_the_partial_auc(browser: Browser, site: str) -> None:
    page, _ = open_page(browser, site, "search")
    page.goto(f"{site}/search.html?q=pAUC")
    page.wait_for_selector("#search-results li a", timeout=20_000)
    page.close()


def test_first_page_leads_to_the_book(browser: Browser, site: str) -> None:
    page = browser.new_page()
    page.goto(f"{site}/index.html")
    page.wait_for_url("**/intro.html")
    page.close()
