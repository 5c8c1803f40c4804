"""Every page of the contents as a reader meets it."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from reader import Visit, load_json, pages, shown_bytes

pytestmark = [pytest.mark.book, pytest.mark.timeout(900)]

NOTEBOOKS = [page for page in pages() if page.startswith("notebooks/")]
each_page = pytest.mark.parametrize("name", pages())
each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)
See = Callable[[str], Visit]


@each_page
def test_page_loads_without_errors_and_has_something_to_read(see: See, name: str) -> None:
    seen = see(name)
    assert seen.problems == []
    assert seen.found["words"] > 60
    assert seen.found["headings"] == 1


@each_page
def test_pictures_and_sounds_are_loaded_and_described(see: See, name: str) -> None:
    found = see(name).found
    assert [image for image in found["images"] if not image["width"]] == []
    assert [image for image in found["images"] if not image["alt"]] == []
    assert all(found["drawings"]), found["drawings"]
    assert [seconds for seconds in found["sounds"] if not seconds > 0.5] == []


@each_page
def test_page_has_no_serious_barrier(see: See, name: str) -> None:
    assert see(name).serious == []


@each_page
def test_page_is_readable_in_the_dark(see: See, name: str) -> None:
    assert see(name).dark == []


@each_page
def test_page_fits_a_phone(see: See, name: str) -> None:
    assert see(name).wider == []


@each_page
def test_page_is_light(built: Path, name: str) -> None:
    assert shown_bytes(built / "html" / f"{name}.html") < 3_000_000


@pytest.mark.parametrize("name", [page for page in pages() if page.startswith("book/api/")])
def test_no_markup_is_left_in_the_reference(built: Path, name: str) -> None:
    page = (built / "html" / f"{name}.html").read_text(encoding="utf-8")
    fields = re.findall(r'<dd class="field-(?:odd|even)">(.*?)</dd>', page, re.DOTALL)
    assert fields or name.endswith("/index")
    plain = [re.sub(r"<code.*?</code>|<[^>]+>", "", field, flags=re.DOTALL) for field in fields]
    left = r"(?:^|\s)(\*{1,2})[\w(][^*]*\1|PROSE"
    assert [text[:80] for text in plain if re.search(left, text)] == []


@each_page
def test_links_within_the_book_lead_somewhere(built: Path, name: str) -> None:
    page = built / "html" / f"{name}.html"
    text = page.read_text(encoding="utf-8")
    broken = []
    for link in set(
        re.findall(r'<(?:a|link|img|script|source)\b[^>]*?\s(?:href|src)="([^"]+)"', text)
    ):
        address = urlsplit(html.unescape(link))
        if address.scheme or address.netloc:
            continue
        target = (page.parent / unquote(address.path)) if address.path else page
        anchors = (
            set(re.findall(r'\b(?:id|name)="([^"]+)"', target.read_text(encoding="utf-8")))
            if address.fragment and target.suffix == ".html" and target.is_file()
            else {unquote(address.fragment)}
        )
        if not target.exists() or (address.fragment and unquote(address.fragment) not in anchors):
            broken.append(link)
    assert broken == []


@each_notebook
def test_notebook_shows_what_it_computed(built: Path, name: str) -> None:
    text = (built / "html" / f"{name}.html").read_text(encoding="utf-8")
    assert text.count("cell_output") >= 2
    assert "Traceback (most recent call last)" not in text


@each_notebook
def test_notebook_ran_on_the_profile_from_its_parameters(built: Path, name: str) -> None:
    notebook = load_json(built / "study" / "smoke" / f"{name}.ipynb")
    tags = [cell["metadata"].get("tags", []) for cell in notebook["cells"]]
    assert sum("injected-parameters" in tag for tag in tags) == 1
    counts = [c["execution_count"] for c in notebook["cells"] if c["cell_type"] == "code"]
    assert all(count for count in counts)


def test_the_book_can_be_heard(see: See) -> None:
    assert sum(len(see(name).found["sounds"]) for name in NOTEBOOKS) >= 4
