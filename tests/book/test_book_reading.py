"""What a reader does with the book: search, copy, switch, move, go by keyboard."""

import json
import re
from base64 import b64decode
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from playwright.sync_api import Browser, Page
from reader import ROOT, SETTLED, open_page, pages

from asdlib import FrontEnd
from asdlib.plots import log_mel_to_audio

pytestmark = pytest.mark.book

FOCUS = """() => {
  const e = document.activeElement, style = getComputedStyle(e), box = e.getBoundingClientRect();
  return {
    what: e.outerHTML.slice(0, 160), text: (e.innerText || '').trim(),
    search: !!e.closest('.search-button__button, form.bd-search, .search-button-field')
      || e.type === 'search',
    menu: !!e.closest('nav.bd-links, .bd-sidebar-primary nav'),
    shown: box.width > 1 && box.height > 1 && box.bottom > 0,
    marked: (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0)
      || style.boxShadow !== 'none',
  };
}"""


def test_first_page_leads_to_the_book(browser: Browser, site: str) -> None:
    page = browser.new_page()
    page.goto(f"{site}/index.html")
    page.wait_for_url("**/intro.html")
    page.close()


def test_logo_and_favicon_are_ours(browser: Browser, site: str) -> None:
    page, _ = open_page(browser, site, "book/intro")
    assert page.eval_on_selector(".navbar-brand img", "i => i.naturalWidth") > 0
    assert page.locator(".navbar-brand img").first.get_attribute("alt")
    icon = page.eval_on_selector("link[rel~='icon']", "link => link.href")
    answer = page.request.get(icon)
    assert answer.ok
    assert "<svg" in answer.text()
    page.close()


def test_search_finds_the_partial_auc(browser: Browser, site: str) -> None:
    page, problems = open_page(browser, site, "search")
    page.goto(f"{site}/search.html?q=pAUC")
    page.wait_for_selector("#search-results li a")
    assert page.locator("#search-results li a").count() >= 3
    assert problems == []
    page.close()


def test_code_can_be_copied(browser: Browser, site: str) -> None:
    page, _ = open_page(
        browser, site, "book/reproduce", permissions=["clipboard-read", "clipboard-write"]
    )
    block = page.locator("div.highlight").filter(has=page.locator("button.copybtn")).first
    block.hover()
    block.locator("button.copybtn").click()
    page.wait_for_selector("button.copybtn.success")
    copied = page.evaluate("() => navigator.clipboard.readText()")
    assert copied.strip()
    assert copied.splitlines()[0].strip() in block.locator("pre").inner_text()
    page.close()


def test_the_reader_chooses_between_light_and_dark(browser: Browser, site: str) -> None:
    page, _ = open_page(browser, site, "book/intro")
    button = page.locator("button.theme-switch-button:visible").first
    themes = set()
    for _ in range(3):
        button.click()
        themes.add(page.evaluate("() => document.documentElement.dataset.theme"))
    assert themes == {"light", "dark"}
    page.close()


def test_keyboard_reaches_skip_link_search_and_menu(browser: Browser, site: str) -> None:
    page, _ = open_page(browser, site, "notebooks/13_metrics")
    stops = []
    for _ in range(25):
        page.keyboard.press("Tab")
        # The skip link slides in.
        page.evaluate(SETTLED)
        stops.append(page.evaluate(FOCUS))
    assert "skip to main content" in stops[0]["text"].lower()
    assert stops[0]["shown"]
    assert any(stop["search"] for stop in stops)
    assert any(stop["menu"] for stop in stops)
    assert [stop["what"] for stop in stops if stop["shown"] and not stop["marked"]] == []
    page.close()


def test_skip_link_goes_to_the_text(browser: Browser, site: str) -> None:
    page, _ = open_page(browser, site, "notebooks/13_metrics")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("() => !!document.activeElement.closest('main')")
    page.close()


def values(page: Page) -> dict[str, str]:
    told: dict[str, str] = page.eval_on_selector_all(
        ".threshold-values [data-value]",
        "all => Object.fromEntries(all.map(e => [e.dataset.value, e.textContent]))",
    )
    return told


def percent(text: str) -> float:
    return float(text.removesuffix("%").strip())


def test_the_threshold_can_be_moved(browser: Browser, site: str) -> None:
    page, problems = open_page(browser, site, "notebooks/12_threshold")
    explorer = page.locator(".threshold-explorer").first
    slider = explorer.locator("input[type=range]")
    slider.focus()
    page.keyboard.press("Home")
    low = values(page)
    assert percent(low["fpr"]) == 100
    page.keyboard.press("End")
    high = values(page)
    assert percent(high["fpr"]) == 0
    assert (high["auc"], high["pauc"]) == (low["auc"], low["pauc"])
    false_alarms = [percent(high["fpr"])]
    for _ in range(6):
        page.keyboard.press("ArrowLeft")
        false_alarms.append(percent(values(page)["fpr"]))
    assert false_alarms == sorted(false_alarms)
    assert values(page)["threshold"] != high["threshold"]
    assert "false alarms" in (slider.get_attribute("aria-valuetext") or "")
    picture = explorer.locator("svg").first
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    assert box is not None
    clicked = []
    for share in (0.2, 0.9):
        page.mouse.click(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])
        clicked.append(float(values(page)["threshold"]))
    assert clicked[0] < clicked[1]
    select = explorer.locator("select")
    if select.locator("option").count() > 1:
        name = select.locator("option").last.inner_text()
        select.select_option(label=name)
        assert name in (explorer.locator("svg").first.get_attribute("aria-label") or "")
    assert problems == []
    page.close()


def test_areas_of_the_moving_figure_are_those_of_the_library(browser: Browser, site: str) -> None:
    page, _ = open_page(browser, site, "notebooks/12_threshold")
    data = page.evaluate(
        "() => JSON.parse(document.querySelector('.threshold-explorer script').textContent)"
    )
    select = page.locator(".threshold-explorer select").first
    for i, section in enumerate(data["sections"]):
        select.select_option(value=str(i))
        shown = values(page)
        assert percent(shown["auc"]) == pytest.approx(100 * section["auc"], abs=0.051), section
        assert percent(shown["pauc"]) == pytest.approx(100 * section["pauc"], abs=0.051), section
    page.close()


def test_launch_buttons_start_the_notebook_where_a_repository_is_named(built: Path) -> None:
    repository = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))["repository"]
    owner, branch = repository["url"].removeprefix("https://github.com/"), repository["branch"]
    for name in (page for page in pages() if page.startswith("notebooks/")):
        text = (built / "html" / f"{name}.html").read_text(encoding="utf-8")
        links = re.findall(
            r'href="(https://(?:colab\.research\.google\.com|mybinder\.org)/[^"]+)"', text
        )
        if owner.startswith("your-account/"):
            assert links == []
            continue
        assert (
            f"https://colab.research.google.com/github/{owner}/blob/{branch}/{name}.ipynb" in links
        )
        (binder,) = (link for link in links if link.startswith("https://mybinder.org/"))
        assert binder.startswith(f"https://mybinder.org/v2/gh/{owner}/{branch}?")
        assert binder.endswith(f"{name}.ipynb")


def test_what_the_sliders_of_the_block_show_and_play_is_what_the_library_makes(
    browser: Browser, site: str
) -> None:
    page, problems = open_page(browser, site, "notebooks/25_block", has_touch=True)
    explorer = page.locator(".augment-explorer")
    data = json.loads(explorer.locator("script").text_content() or "")
    low, high = data["range"]
    x, z = (
        low + (high - low) * np.frombuffer(b64decode(data[name]), np.uint8) / 255
        for name in ("x", "z")
    )
    size = (data["bins"], data["frames"])
    x, z = x.reshape(size), z.reshape(size)

    def sounding(part: str) -> np.ndarray:
        told = explorer.evaluate(f"e => Array.from({part})")
        return np.array(told)

    def set_to(**values: float) -> None:
        for name, value in values.items():
            slider = explorer.locator(f"input[name={name}]")
            slider.evaluate("(s, v) => { s.value = v; s.dispatchEvent(new Event('input')) }", value)

    set_to(share=0)
    np.testing.assert_allclose(sounding("e.asd.view()").reshape(size), x, atol=1e-4)
    # Everything at once, against PyTorch.
    set_to(share=0.3, cutoff=2, height=0.7, top=0.5, width=1.25, left=0.2)
    mixed = np.where(
        (np.array(data["mel_hz"]) >= 2000)[:, None], np.log(0.7 * np.exp(x) + 0.3 * np.exp(z)), x
    )
    bins, frames = size
    margin, long = (int(1.5 * frames) - frames) // 2, int(1.5 * frames)
    canvas = np.zeros((bins, long))
    canvas[:, margin : margin + frames] = mixed
    height, width = int(0.7 * bins), int(1.25 * frames)
    top, left = int(0.5 * (bins - height)), int(0.2 * (long - width))
    box = torch.from_numpy(canvas[top : top + height, left : left + width])[None, None]
    expected = torch.nn.functional.interpolate(box, size, mode="bicubic", align_corners=True)
    np.testing.assert_allclose(
        sounding("e.asd.view()").reshape(size), expected[0, 0].numpy(), atol=1e-3
    )
    # The sound of the input, against the library.
    set_to(share=0, cutoff=0, height=1, top=0, width=1, left=0.5)
    heard = sounding("e.asd.toSound(e.asd.view(), 60, 8)")
    front_end = FrontEnd(n_mels=bins, n_fft=data["n_fft"], hop_length=data["hop"])
    log_mel = (x * data["std"] + data["mean"]).astype(np.float32)
    told = log_mel_to_audio(log_mel, front_end, iterations=8, peak=None)
    assert len(heard) == len(told)
    assert np.corrcoef(heard, told)[0, 1] > 0.98
    # By keys, mouse and touch.
    slider = explorer.locator("input[name=share]")
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "0.05"
    assert "0.05" in (explorer.locator("canvas").get_attribute("aria-label") or "")
    explorer.get_by_role("button", name="Play the view").click()
    explorer.get_by_role("button", name="Play the input").tap()
    assert problems == []
    page.close()


def test_the_blind_listening_test_counts_like_its_reader(browser: Browser, site: str) -> None:
    page, problems = open_page(browser, site, "notebooks/11_listening", has_touch=True)
    test = page.locator(".listening-test")
    data = json.loads(test.locator("script").text_content() or "")
    broken = {pair["anomaly"] for pair in data["pairs"]}
    count, asked = len(data["pairs"]), []
    for number in range(count):
        question = test.locator(".listening-question").inner_text()
        assert question.startswith(f"Pair {number + 1} of {count}")
        sources = test.locator("audio").evaluate_all("all => all.map(a => a.getAttribute('src'))")
        asked.append(tuple(sources))
        # The first answer is wrong on purpose; keys, mouse and touch take turns.
        side = int(sources[1] in broken) ^ int(number == 0)
        button = test.get_by_role("button", name=f"{'AB'[side]} is broken")
        if number % 3 == 0:
            button.focus()
            page.keyboard.press("Enter")
        elif number % 3 == 1:
            button.click()
        else:
            button.tap()
        verdict = test.get_by_role("status").inner_text()
        assert verdict.startswith("Not this time" if number == 0 else "Right")
        page.keyboard.press("Enter")  # the next button has the focus
    assert sorted({source for pair in asked for source in pair} & broken) == sorted(broken)
    rows = test.locator("tr").all_inner_texts()
    assert rows[0].split() == ["you", str(count - 1), "of", str(count), *rows[0].split()[-2:]]
    for name, row in zip(data["detectors"], rows[1:], strict=True):
        right = sum(pair["right"][name] for pair in data["pairs"])
        assert row.split()[:2] == [name, str(right)]
    assert problems == []
    page.close()


def test_single_clips_are_sorted_filtered_and_opened(browser: Browser, site: str) -> None:
    page, problems = open_page(browser, site, "notebooks/33_training", has_touch=True)
    clips = page.locator(".clip-browser")
    names = clips.locator("th").all_inner_texts()

    def column(name: str) -> list[str]:
        texts = clips.locator(f"tbody td:nth-child({names.index(name) + 1})").all_inner_texts()
        return [text.strip().replace("−", "-") for text in texts]

    def opened() -> str:
        (card,) = [card for card in clips.locator("figure").all() if card.is_visible()]
        return card.locator("figcaption").inner_text().split()[0]

    everything = column("clip")
    wrong = [float(share) for share in column("wrong side (%)")]
    assert wrong == sorted(wrong, reverse=True)
    assert opened() == everything[0] == "1"
    clips.get_by_label("order").select_option("highest score first")
    scores = [float(score) for score in column("score")]
    assert scores == sorted(scores, reverse=True)
    assert sorted(column("clip")) == sorted(everything)
    clips.get_by_label("label").select_option("normal")
    kept = column("clip")
    assert set(column("label")) == {"normal"}
    told = f"{len(kept)} of {len(everything)} clips"
    assert clips.get_by_role("status").inner_text() == told
    assert opened() in kept
    clips.get_by_role("button", name=f"Show clip {kept[-1]}", exact=True).tap()
    assert opened() == kept[-1]
    page.keyboard.press("ArrowUp")
    assert opened() == kept[-2]
    assert problems == []
    page.close()


def test_a_page_can_be_read_without_javascript(browser: Browser, site: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    for name, parts in (
        ("notebooks/33_training", ".clip-browser tbody tr, .clip-browser figure, .solution p"),
        ("notebooks/12_threshold", ".threshold-fallback table, .solution p"),
        ("notebooks/25_block", ".augment-fallback, .quiz-why, .asd-card img, .solution p"),
    ):
        page.goto(f"{site}/{name}.html")
        found = page.locator(parts).all()
        assert len(found) >= 3, name
        assert [part.inner_text() for part in found if not part.is_visible()] == [], name
    context.close()


def test_a_quiz_answers_the_reader(browser: Browser, site: str) -> None:
    page, problems = open_page(browser, site, "book/task")
    quiz = page.locator(".quiz").first
    assert quiz.get_by_role("status").count() == 0
    quiz.get_by_role("radio").nth(1).check()
    assert quiz.get_by_role("status").inner_text().startswith("✗ No")
    page.keyboard.press("ArrowUp")
    assert quiz.get_by_role("status").inner_text().startswith("✓ Right")
    page.close()
    assert problems == []
    plain = browser.new_context(java_script_enabled=False).new_page()
    plain.goto(f"{site}/book/task.html")
    assert plain.locator(".quiz-why").first.is_visible()
    plain.close()


def test_a_page_brings_no_icons_that_nothing_shows(
    browser: Browser, site: str, built: Path
) -> None:
    assert (built / "html" / "_static" / "scripts" / "fontawesome.js").stat().st_size < 200_000
    page, problems = open_page(browser, site, "book/task")
    page.wait_for_selector("button.theme-switch-button svg path", state="attached")
    # An icon that is not known is drawn as a question mark under this name.
    assert page.locator("svg[data-icon]").count() >= 5
    assert page.locator("svg.fa-circle-question, i.fa-solid").count() == 0
    page.close()
    assert problems == []
