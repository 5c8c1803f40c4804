"""What a reader's browser finds on one page, wide, in the dark, and on a phone."""

import functools
import html
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from playwright.sync_api import Browser, ConsoleMessage, Page, Route

ROOT = Path(__file__).parents[2]
AXE = (files("axe_playwright_python") / "axe.min.js").read_text(encoding="utf-8")
PATIENCE = 300_000
"""Milliseconds that the browser may take for one step; a slow machine is no fault."""

LINKS = re.compile(r'<(?:a|link|img|script|source)\b[^>]*?\s(?:href|src)="([^"]+)"')
MEDIA_READY = """async () => {
  const wait = (element, events, ready) => ready() ? null : new Promise(resolve => {
    events.forEach(name => element.addEventListener(name, resolve, {once: true}));
    setTimeout(resolve, 60000);
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
SERIOUS = """async ([all, seen]) => {
  // The contrast of an element follows from its place in the page: of elements with equal tags,
  // classes and styles all the way up, in one column and in rows of one parity, one is judged,
  // on the first page that has it.
  const kinds = new Map();
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) continue;
    let kind = '';
    for (let up = e; up !== document.body; up = up.parentElement) {
      const place = [...up.parentElement.children].indexOf(up);
      const cell = {TR: place % 2, TD: place, TH: place}[up.tagName] ?? '';
      kind += `${up.tagName}.${up.className}[${up.getAttribute('style') || ''}]${cell} `;
    }
    if (!kinds.has(kind)) kinds.set(kind, e);
  }
  const run = async (context, only) => (await axe.run(context, {
    resultTypes: ['violations'], preload: false, ...only})).violations;
  for (const kind of seen) kinds.delete(kind);
  const found = all ? await run(document, {rules: {'color-contrast': {enabled: false}}}) : [];
  if (kinds.size) {
    found.push(...await run({include: [...kinds.values()]}, {runOnly: ['color-contrast']}));
  }
  const serious = found
    .filter(v => ['serious', 'critical'].includes(v.impact))
    .map(v => `${v.id}: ${v.nodes.length} × ${v.nodes[0].html.slice(0, 160)} `
      + `(${v.nodes[0].any[0]?.message || v.help})`);
  return [serious, [...kinds.keys()]];
}"""
SETTLED = """async () => {
  const frame = () => new Promise(requestAnimationFrame);
  await frame(); await frame();
  const ends = document.getAnimations().filter(a => isFinite(a.effect.getComputedTiming().endTime));
  await Promise.race([
    Promise.allSettled(ends.map(a => a.finished)), new Promise(late => setTimeout(late, 60000))]);
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
    """Open a page with the net cut off; return it and the list of its faults, which may grow."""
    page = browser.new_page(**{"viewport": {"width": 1280, "height": 900}, **context})
    page.set_default_timeout(PATIENCE)
    faults: list[str] = []

    def note(message: ConsoleMessage) -> None:
        source = (message.location or {}).get("url", site)
        if message.type == "error" and source.startswith(site):
            faults.append(f"console: {message.text} ({source})")

    def refuse(route: Route) -> None:
        faults.append(f"needs the net: {route.request.url}")
        route.abort()

    page.on("console", note)
    page.on("pageerror", lambda error: faults.append(f"script: {error}"))
    # The book has to be readable without the net: whatever is not ours is refused.
    page.route(lambda url: not url.startswith((site, "data:", "blob:")), refuse)
    response = page.goto(f"{site}/{name}.html", wait_until="load")
    assert response is not None
    assert response.ok, name
    return page, faults


def barriers(page: Page, seen: set[str], *, all_rules: bool = True) -> list[str]:
    """Name serious barriers; contrast is judged of the kinds of elements not yet `seen`."""
    found, kinds = page.evaluate(SERIOUS, [all_rules, list(seen)])
    if not found:
        seen.update(kinds)
    return list(found)


BRIGHT: set[str] = set()
DARK: set[str] = set()
"""Kinds of elements whose contrast was found good, in each theme of the book."""


def faults_seen(browser: Browser, site: str, name: str) -> list[str]:
    """Visit a page once, wide, in the dark and on a phone, and name all that is wrong with it."""
    page, faults = open_page(browser, site, name)
    page.evaluate(MEDIA_READY)
    found = page.evaluate(FIND)
    keep_screenshot(page, f"{name}-wide")
    page.evaluate(AXE)
    # References are large and made of the same parts: one of them stands for all.
    whole = not name.startswith("book/api/") or name == "book/api/features"
    faults += [f"barrier: {violation}" for violation in barriers(page, BRIGHT, all_rules=whole)]
    page.emulate_media(color_scheme="dark")
    page.wait_for_function("() => document.documentElement.dataset.theme === 'dark'")
    # Colours fade from one theme to the other; the contrast counts at the end.
    page.evaluate(SETTLED)
    faults += [f"in the dark: {v}" for v in barriers(page, DARK, all_rules=False)]
    keep_screenshot(page, f"{name}-dark")
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 390, "height": 844})
    page.evaluate(SETTLED)
    faults += [f"wider than a phone: {element}" for element in page.evaluate(WIDER)]
    keep_screenshot(page, f"{name}-phone")
    page.close()
    if found["words"] <= 60:
        faults.append(f"only {found['words']} words")
    if found["headings"] != 1:
        faults.append(f"{found['headings']} headings of the first rank")
    faults += [f"not loaded: {i['source']}" for i in found["images"] if not i["width"]]
    # Where a picture has no text, the renderer puts the name of its file.
    nameless = [i for i in found["images"] if not i["alt"] or i["alt"].endswith((".png", ".svg"))]
    faults += [f"no alt text: {i['source']}" for i in nameless]
    faults += ["a drawing without a description" for text in found["drawings"] if not text]
    faults += [f"a sound of {s} s" for s in found["sounds"] if not s > 0.5]
    return faults


def keep_screenshot(page: Page, name: str) -> None:
    """Keep what a page looks like in the folder ``$ASDLIB_SCREENSHOTS``, if it is named."""
    if folder := os.environ.get("ASDLIB_SCREENSHOTS"):
        path = ROOT / folder / f"{name.replace('/', '-')}.png"
        page.screenshot(path=path, full_page=True)


def faults_written(folder: Path, name: str) -> list[str]:
    """Name what is wrong with the HTML of a page: its weight, its links, markup that is left."""
    page = folder / f"{name}.html"
    text = page.read_text(encoding="utf-8")
    faults = []
    sounds = sum(len(found) for found in re.findall(r'"data:audio/[^"]*"', text))
    sources = set(re.findall(r'<img[^>]*\ssrc="([^":]*/_images/[^":]+)"', text))
    pictures = sum((page.parent / source).stat().st_size for source in sources)
    if (size := len(text.encode()) - sounds + pictures) > 1_500_000:
        faults.append(f"{size} bytes without its sounds")
    for link in sorted(set(LINKS.findall(text))):
        address = urlsplit(html.unescape(link))
        if address.scheme or address.netloc:
            continue
        target = (page.parent / unquote(address.path)).resolve() if address.path else page
        anchor = unquote(address.fragment)
        if not target.exists() or (
            anchor and target.suffix == ".html" and anchor not in ids(target)
        ):
            faults.append(f"broken link: {link}")
    fields = re.findall(r'<dd class="field-(?:odd|even)">(.*?)</dd>', text, re.DOTALL)
    plain = [re.sub(r"<code.*?</code>|<[^>]+>", "", field, flags=re.DOTALL) for field in fields]
    left = re.compile(r"(?:^|\s)(\*{1,2})[\w(][^*]*\1|PROSE")
    faults += [f"markup is left: {field[:80]}" for field in plain if left.search(field)]
    if name.startswith("book/api/") and not name.endswith("/index") and not fields:
        faults.append("a reference without parameters")
    return faults


@functools.cache
def ids(page: Path) -> frozenset[str]:
    """Return all anchors of a page."""
    found = re.findall(r'\b(?:id|name)="([^"]+)"', page.read_text(encoding="utf-8"))
    return frozenset(map(html.unescape, found))
