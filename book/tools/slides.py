"""Slides from the figures of executed notebooks: one HTML file without scripts from elsewhere.

Each chapter of the contents that is a notebook gives a title slide, from its heading and what one
learns, and a slide for each figure, with the heading above it. The lesson has slides of its own,
declared in ``teaching/lesson.yml``. The browser prints one a page.
"""

import base64
import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from asdlib.errors import RunError
from asdlib.files import write_text
from asdlib.study.study import get_profile
from book.tools.render import contents, executed_notebook

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Slide:
    """One slide: a heading, and below it points or cards in HTML, or a described picture."""

    heading: str
    points: str = ""
    picture: str = ""
    alt: str = ""
    cards: str = ""


def write_slides(
    out: Path, profile: str, *, project: Path, workspace: Path, lesson: bool = False
) -> int:
    """Write the slides.

    Parameters
    ----------
    out
        HTML file, replaced.
    profile
        Profile whose executed notebooks are shown.
    project
        Project folder, with ``_toc.yml``.
    workspace
        Workspace of the study.
    lesson
        Those of the lesson, with sound, instead of those of all figures.

    Returns
    -------
    Number of slides.

    Raises
    ------
    ConfigError
        If the profile is unknown.
    RunError
        If a notebook that is needed is not executed, or does not show what the lesson wants.
    """
    get_profile(profile)
    if lesson:
        found = [
            (slide, f"lesson, profile {profile}")
            for slide in _lesson_slides(project, profile, workspace)
        ]
    else:
        found = [
            (slide, f"{name.removeprefix('notebooks/')}, profile {profile}")
            for name in contents(project)
            if name.startswith("notebooks/")
            for slide in _slides(executed_notebook(name, profile, workspace))
        ]
    body = "\n".join(
        _section(slide, f"{source} · {i} of {len(found)}")
        for i, (slide, source) in enumerate(found, start=1)
    )
    style, script = (
        (_HERE / f"slides.{kind}").read_text(encoding="utf-8") for kind in ("css", "js")
    )
    page = (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>Listening for failure: slides</title>\n<style>\n{style}</style></head>\n"
        f"<body>\n<main>\n{body}\n</main>\n<script>\n{script}</script>\n</body></html>\n"
    )
    write_text(out, page)
    return len(found)


def _slides(path: Path) -> Iterator[Slide]:
    """Yield the slides of one executed notebook."""
    heading = path.stem
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            titles = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
            if titles and text.startswith("# "):
                yield Slide(_plain(titles[0]), points=_learned(text))
            heading = _plain(titles[-1]) if titles else heading
            continue
        alt = cell["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        for output in cell.get("outputs", []):
            for picture, described, caption in _pictures(output.get("data", {}), alt):
                title = f"{heading}: {caption}" if caption else heading
                yield Slide(title, picture=picture, alt=described)


def _lesson_slides(project: Path, profile: str, workspace: Path) -> Iterator[Slide]:
    """Yield the slides that ``teaching/lesson.yml`` declares."""
    told = yaml.safe_load((project / "teaching" / "lesson.yml").read_text(encoding="utf-8"))
    for slide in told:
        points = "".join(f"<li>{html.escape(point)}</li>" for point in slide.get("points", []))
        points = points and f"<ul>{points}</ul>"
        shown = slide.get("picture") or slide.get("cards") or {}
        picture, alt, cards = "", shown.get("alt", ""), ""
        if "image" in shown:
            drawing = (project / "book" / "_static" / shown["image"]).read_bytes()
            picture = f"data:image/svg+xml;base64,{base64.b64encode(drawing).decode()}"
        elif shown:
            path = executed_notebook(f"notebooks/{shown['notebook']}", profile, workspace)
            wanted = shown.get("cell") or alt
            found = _found(path, wanted, cell="cell" in shown)
            if found is None:
                raise RunError(f"'{path}' shows nothing for the slide '{slide['heading']}'")
            if "cell" in shown:
                order = slide.get("blind")
                cards = _blind(found[0], order) if order else found[0]
            else:
                picture, alt = found
        yield Slide(slide["heading"], points, picture, alt, cards)


def _found(path: Path, wanted: str, *, cell: bool) -> tuple[str, str] | None:
    """Find the cards of the cell with these words, or the picture described so and its text."""
    for code in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        alt = code["metadata"].get("mystnb", {}).get("image", {}).get("alt", "")
        for output in code.get("outputs", []):
            data = output.get("data", {})
            if cell and wanted in "".join(code["source"]) and "text/html" in data:
                return "".join(data["text/html"]), ""
            if not cell and alt.startswith(wanted):
                for picture, described, _ in _pictures(data, alt):
                    return picture, described
    return None


def _blind(cards: str, order: list[int]) -> str:
    """Leave of cards only their players, in this order and under the names A, B and so on."""
    players = re.findall(r"<audio[^>]*>", cards)
    named = zip("ABCDEFGH", (players[i] for i in order), strict=False)
    return "".join(
        f"<figure><figcaption>{letter}</figcaption>"
        + re.sub(r'aria-label="[^"]*"', f'aria-label="clip {letter}"', player)
        + "</audio></figure>"
        for letter, player in named
    )


def _learned(text: str) -> str:
    """List what one learns, from the points below that heading."""
    found = re.search(r"\*\*What you will learn\*\*\n+((?:[-* ] .*\n?)+)", text)
    points = re.split(r"^[-*] +", found[1], flags=re.MULTILINE)[1:] if found else []
    listed = "".join(f"<li>{html.escape(_plain(point))}</li>" for point in points)
    return f"<p>What you will learn</p><ul>{listed}</ul>" if listed else ""


def _pictures(data: dict[str, Any], alt: str) -> Iterator[tuple[str, str, str]]:
    """Yield source, description and caption of an output's pictures; `alt` describes plain ones."""
    shown = "".join(data.get("text/html", []))
    found = re.findall(r"(?:<figcaption>([^<]*)</figcaption>)?\s*(<img\b[^>]*>)", shown)
    for caption, tag in found:
        given = dict(re.findall(r'(src|alt)="([^"]*)"', tag))
        if given.get("src", "").startswith("data:image/"):
            described = html.unescape(given.get("alt", "")) or alt
            yield given["src"], described, html.unescape(caption)
    if not shown and "image/png" in data:
        yield f"data:image/png;base64,{''.join(data['image/png']).strip()}", alt, ""


def _plain(markdown: str) -> str:
    """Return the text of a line of Markdown."""
    text = re.sub(r"\{[a-z]+\}`([^`<]*?)(?:\s*<[^>]*>)?`", r"\1", markdown)
    return " ".join(re.sub(r"[*_`]+(?=\S)|(?<=\S)[*`]+", "", text).split())


def _section(slide: Slide, footer: str) -> str:
    heading, alt = html.escape(slide.heading), html.escape(slide.alt)
    shown = slide.picture or slide.cards
    body = f"<h2>{heading}</h2>" if shown else f"<h1>{heading}</h1>"
    body += slide.points
    if slide.cards:
        body += f'<div class="cards">{slide.cards}</div>'
    if slide.picture:
        body += f'<figure><img src="{slide.picture}" alt="{alt}"></figure>'
    body += f"<footer>{html.escape(footer)}</footer>"
    return f'<section tabindex="-1" aria-label="{heading}">{body}</section>'
