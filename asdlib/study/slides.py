"""Slides from the figures of executed notebooks: one HTML file without scripts from elsewhere.

Each chapter of the contents that is a notebook gives a title slide, from its heading and what one
learns, and a slide for each figure, with the heading above it. Arrow keys, Page up and Page down,
and Space move; the browser prints one slide a page.
"""

import html
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asdlib.errors import ConfigError, RunError

_STYLE = """
:root { color-scheme: light; --ink: #101820; --accent: #005a8f; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff;
  font: 1.35rem/1.45 system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; }
section { min-height: 100vh; padding: 4vh 6vw; display: flex; flex-direction: column;
  justify-content: center; scroll-snap-align: start; border-bottom: 1px solid #cbd2d9; }
html { scroll-snap-type: y proximity; }
h1 { font-size: 2.6rem; line-height: 1.15; margin: 0 0 0.6em; color: var(--accent); }
ul { margin: 0; }
li { margin: 0.3em 0; }
h2 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 0.6em; color: var(--accent); }
figure { margin: 0; min-height: 0; }
img { display: block; max-width: 100%; max-height: 76vh; margin: auto; }
footer { margin-top: 1em; font-size: 0.95rem; color: #52606d; }
section:focus { outline: 4px solid #e69f00; outline-offset: -6px; }
@media print {
  @page { size: 297mm 167mm; margin: 0; }
  section { height: 167mm; min-height: 0; break-after: page; border: 0; padding: 8mm 14mm; }
  img { max-height: 118mm; }
}
"""
_SCRIPT = """
const all = [...document.querySelectorAll('section')];
const go = step => {
  const here = all.findIndex(s => s.getBoundingClientRect().bottom > innerHeight / 2);
  const next = all[Math.min(Math.max(here + step, 0), all.length - 1)];
  next.focus({preventScroll: true});
  next.scrollIntoView();
};
document.addEventListener('keydown', event => {
  const step = {ArrowRight: 1, ArrowDown: 1, PageDown: 1, ' ': 1,
    ArrowLeft: -1, ArrowUp: -1, PageUp: -1}[event.key];
  if (step) { event.preventDefault(); go(step); }
});
"""


@dataclass(frozen=True)
class Slide:
    """One slide: a heading, and a text or a picture with its description."""

    heading: str
    text: str
    picture: str
    alt: str
    source: str


def write_slides(
    out: str | Path,
    profile: str,
    *,
    workspace: str | Path = "build/study",
    source: str | Path = ".",
) -> int:
    """Write the slides.

    Parameters
    ----------
    out
        HTML file, replaced.
    profile
        Profile whose executed notebooks are shown.
    workspace
        Workspace of the study.
    source
        Project folder, with ``_toc.yml``.

    Returns
    -------
    Number of slides.

    Raises
    ------
    ConfigError
        If `source` has no contents.
    RunError
        If a notebook of the contents is not executed.
    """
    folder = Path(workspace) / profile
    found = [s for name in _notebooks(Path(source)) for s in _slides(folder, name, profile)]
    body = "\n".join(_section(slide, i, len(found)) for i, slide in enumerate(found, start=1))
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Listening for failure: slides</title>\n<style>{_STYLE}</style></head>\n"
        f"<body>\n<main>\n{body}\n</main>\n<script>{_SCRIPT}</script>\n</body></html>\n"
    )
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(out)
    return len(found)


def _notebooks(source: Path) -> list[str]:
    """Names of the notebooks of the contents, in reading order."""
    import yaml

    toc = source / "_toc.yml"
    if not toc.is_file():
        raise ConfigError(f"'{source}' has no _toc.yml; give --source PROJECT")
    return [
        name.removeprefix("notebooks/")
        for name in re.findall(r"file:\s*(\S+)", yaml.safe_dump(yaml.safe_load(toc.read_text())))
        if name.startswith("notebooks/")
    ]


def _slides(folder: Path, name: str, profile: str) -> Iterator[Slide]:
    path = folder / "notebooks" / f"{name}.ipynb"
    if not path.is_file():
        raise RunError(
            f"notebook '{name}' is not executed on profile '{profile}'; "
            f"run asd study --profile {profile} first"
        )
    heading = name
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            titles = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
            if titles and text.startswith("# "):
                yield Slide(_plain(titles[0]), _learned(text), "", "", f"{name}, {profile}")
            heading = _plain(titles[-1]) if titles else heading
            continue
        for output in cell.get("outputs", []):
            told = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
            for picture, alt, caption in _pictures(output.get("data", {}), told):
                title = f"{heading}: {caption}" if caption else heading
                yield Slide(title, "", picture, alt, f"{name}, profile {profile}")


def _learned(text: str) -> str:
    """Give what one learns, a line each, from the list below that heading."""
    found = re.search(r"\*\*What you will learn\*\*\n+((?:[-* ] .*\n?)+)", text)
    points = re.split(r"^[-*] +", found[1], flags=re.MULTILINE)[1:] if found else []
    return "\n".join(_plain(point) for point in points)


def _pictures(data: dict[str, Any], told: str) -> Iterator[tuple[str, str, str]]:
    """Give sources, descriptions and captions of an output's pictures; `told` is of plain ones."""
    shown = "".join(data.get("text/html", []))
    found = re.findall(r"(?:<figcaption>([^<]*)</figcaption>)?\s*(<img\b[^>]*>)", shown)
    for caption, tag in found:
        given = dict(re.findall(r'(src|alt)="([^"]*)"', tag))
        if given.get("src", "").startswith("data:image/"):
            alt = html.unescape(given.get("alt", "")) or told
            yield given["src"], alt, html.unescape(caption)
    if not shown and "image/png" in data:
        yield f"data:image/png;base64,{''.join(data['image/png']).strip()}", told, ""


def _plain(markdown: str) -> str:
    """Text of a line of Markdown."""
    text = re.sub(r"\{[a-z]+\}`([^`<]*?)(?:\s*<[^>]*>)?`", r"\1", markdown)
    return " ".join(re.sub(r"[*_`]+(?=\S)|(?<=\S)[*`]+", "", text).split())


def _section(slide: Slide, number: int, count: int) -> str:
    title = "h2" if slide.picture else "h1"
    parts = [f"<{title}>{html.escape(slide.heading)}</{title}>"]
    if slide.text:
        points = "".join(f"<li>{html.escape(line)}</li>" for line in slide.text.splitlines())
        parts.append(f"<p>What you will learn</p><ul>{points}</ul>")
    if slide.picture:
        alt = html.escape(slide.alt, quote=True)
        parts.append(f'<figure><img src="{slide.picture}" alt="{alt}"></figure>')
    parts.append(f"<footer>{html.escape(slide.source)} · {number} of {count}</footer>")
    label = html.escape(slide.heading, quote=True)
    return f'<section tabindex="-1" aria-label="{label}">{"".join(parts)}</section>'
