"""What a reader's browser finds on one page, wide, in the dark, and on a phone."""

import json
import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from playwright.sync_api import Browser, ConsoleMessage, Page

ROOT = Path(__file__).parents[2]
SHOTS = ROOT / "build" / "screenshots"
AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")

MEDIA_READY = """async () => {
  const wait = (element, events, ready) => ready() ? null : new Promise(resolve => {
    events.forEach(name => element.addEventListener(name, resolve, {once: true}));
    setTimeout(resolve, 8000);
  });
  for (const image of document.querySelectorAll('main img')) {
    image.loading = 'eager';
    await wait(image, ['load', 'error'], () => image.complete);
  }
  for (const sound of document.querySelectorAll('audio')) {
    sound.preload = 'metadata';
    if (!(sound.readyState >= 1)) sound.load();
    await wait(sound, ['loadedmetadata', 'error'], () => sound.readyState >= 1);
  }
}"""
FIND = """() => ({
  images: [...document.querySelectorAll('main img')].map(i => (
    {source: (i.currentSrc || i.src).slice(0, 120), alt: i.alt.trim(), width: i.naturalWidth})),
  drawings: [...document.querySelectorAll('.bd-article svg[role=img]:not([aria-hidden=true])')].map(
    s => (s.getAttribute('aria-label') || s.querySelector('title')?.textContent || '').trim()),
  sounds: [...document.querySelectorAll('audio')].map(a => a.duration || 0),
  words: document.querySelector('main').innerText.split(/\\s+/).length,
  headings: document.querySelectorAll('article.bd-article h1').length,
})"""
SERIOUS = """async (rules) => {
  const options = {resultTypes: ['violations'], preload: false};
  if (rules) options.runOnly = {type: 'rule', values: rules};
  const found = await axe.run(document, options);
  return found.violations
    .filter(v => ['serious', 'critical'].includes(v.impact))
    .map(v => `${v.id}: ${v.nodes.length} × ${v.nodes[0].html.slice(0, 160)} `
      + `(${v.nodes[0].any[0]?.message || v.help})`);
}"""
FADED = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  await frame(); await frame();
  const ends = document.getAnimations().filter(a => isFinite(a.effect.getComputedTiming().endTime));
  await Promise.race([
    Promise.allSettled(ends.map(a => a.finished)), new Promise(late => setTimeout(late, 5000))]);
  await frame();
}"""
WIDER = """() => {
  const root = document.documentElement;
  if (root.scrollWidth <= root.clientWidth) return [];
  return [...document.querySelectorAll('main *')]
    .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1)
    .filter(e => !e.closest('pre, .cell_output, .pst-scrollable-table-container'))
    .slice(0, 3).map(e => e.outerHTML.slice(0, 120)).concat([`${root.scrollWidth} px`]);
}"""


@dataclass
class Visit:
    """What one visit found.

    Attributes
    ----------
    problems
        Errors on the console and exceptions of the page's own scripts.
    found
        Pictures, sounds, words and headings.
    serious
        Violations of accessibility rules in light mode.
    dark
        Violations of the contrast rule in dark mode.
    wider
        Elements that make the page of a phone wider than its screen.
    """

    problems: list[str] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)
    serious: list[str] = field(default_factory=list)
    dark: list[str] = field(default_factory=list)
    wider: list[str] = field(default_factory=list)


def pages() -> list[str]:
    """All pages of the contents, in reading order."""
    names: list[str] = []

    def walk(entry: Any) -> None:
        if isinstance(entry, list):
            for item in entry:
                walk(item)
        elif isinstance(entry, dict):
            names.extend(entry[key] for key in ("root", "file") if key in entry)
            for key in ("parts", "chapters", "sections"):
                walk(entry.get(key))

    walk(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    return names


def open_page(browser: Browser, site: str, name: str, **context: Any) -> tuple[Page, list[str]]:
    """Open a page with the net cut off; give it and the list of its problems, which may grow."""
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **context})
    problems: list[str] = []

    def note(message: ConsoleMessage) -> None:
        source = (message.location or {}).get("url", site)
        if message.type == "error" and source.startswith(site):
            problems.append(f"{message.text} ({source})")

    page.on("console", note)
    page.on("pageerror", lambda error: problems.append(str(error)))
    # The book has to be readable without the net: whatever is not ours is refused.
    page.route(
        lambda url: not url.startswith((site, "data:", "blob:")), lambda route: route.abort()
    )
    response = page.goto(f"{site}/{name}.html", wait_until="load")
    assert response is not None
    assert response.ok, name
    return page, problems


def visit(browser: Browser, site: str, name: str) -> Visit:
    """Look at a page as a whole, and keep screenshots: wide, dark, phone."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    shot = str(SHOTS / name.replace("/", "-"))
    page, problems = open_page(browser, site, name)
    page.evaluate(MEDIA_READY)
    seen = Visit(problems, page.evaluate(FIND))
    page.screenshot(path=f"{shot}-wide.png", full_page=True)
    page.evaluate(AXE)
    seen.serious = page.evaluate(SERIOUS, None)
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    # Colours fade from one theme to the other; the contrast counts at the end.
    page.evaluate(FADED)
    seen.dark = page.evaluate(SERIOUS, ["color-contrast"])
    page.screenshot(path=f"{shot}-dark.png", full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(150)
    seen.wider = page.evaluate(WIDER)
    page.screenshot(path=f"{shot}-phone.png", full_page=True)
    page.close()
    return seen


def shown_bytes(html: Path) -> int:
    """Bytes of a page and its pictures, without sounds."""
    text = html.read_text(encoding="utf-8")
    sounds = sum(len(found) for found in re.findall(r'"data:audio/[^"]*"', text))
    sources = set(re.findall(r'<img[^>]*\ssrc="([^":]+)"', text))
    pictures = sum((html.parent / source).stat().st_size for source in sources)
    return len(text.encode()) - sounds + pictures


def load_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
