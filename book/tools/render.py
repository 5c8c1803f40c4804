"""Render prose and executed notebooks as a book: HTML, warnings as errors.

Both are laid side by side in ``<workspace>/<profile>/staged`` and built there. A folder is emptied
only if this module has made it: such a folder holds a file that says so.
"""

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from asdlib.errors import AsdError, ConfigError, RunError
from asdlib.files import is_taken, whole_file
from asdlib.study.study import get_profile
from book.tools.execute import failed_copy
from book.tools.listen import make_box

MADE_HERE = ".made-by-asd-book"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_SOUND = re.compile(r"<audio\b.*?</audio>")
_INSIDE = re.compile(r"data:(?:audio|image)/(\w+);base64,([A-Za-z0-9+/=]+)")
_METRIC = re.compile(r"(?<=<th>)(p?auc)(_source|_target)?(?=</th>)")
_DOMAIN = {None: "", "_source": " (source)", "_target": " (target)"}
_HYPHEN = re.compile(r"(?<![\w`/.=-])-(?=\d)")
_PICTURE = re.compile(r'(?<="image/png": ")[A-Za-z0-9+/=]{150000,}')


def build_book(profile: str, *, project: Path, workspace: Path, html: Path | None = None) -> Path:
    """Render prose and executed notebooks; warnings are errors.

    Parameters
    ----------
    profile
        Whose executed notebooks are shown.
    project
        Project folder, with ``_config.yml``, ``_toc.yml``, ``book/`` and ``notebooks/``.
    workspace
        Workspace of the study.
    html
        Folder of the rendered book; by default ``_build/html`` of `project`.

    Returns
    -------
    The book's first page.

    Raises
    ------
    ConfigError
        If the profile is unknown, or a folder that has to be emptied holds something else.
    RunError
        If notebooks are not executed yet or failed, or jupyter-book fails.
    """
    target = html or project / "_build" / "html"
    # What `jupyter-book build .` has left in its own place is a rendered book, too.
    ours = (target / MADE_HERE).is_file() or (html is None and (target / ".buildinfo").is_file())
    if is_taken(target) and not ours:
        raise ConfigError(f"'{target}' exists and is no book of asd; choose another --html")
    made = render(stage_book(profile, project=project, workspace=workspace))
    shutil.rmtree(target, ignore_errors=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, target)
    return target / "index.html"


def write_epub(out: Path, profile: str, *, project: Path, workspace: Path) -> Path:
    """Write the book as EPUB to the file `out`; see `build_book` for what it needs.

    Sounds are left out, as a reader of electronic paper plays none, and what unfolds is open.
    """
    staged = stage_book(profile, project=project, workspace=workspace)
    for path in (staged / "notebooks").glob("*.ipynb"):
        text = path.read_text(encoding="utf-8")
        path.write_text(_SOUND.sub("", text), encoding="utf-8")
    for sound in (staged / "book" / "_static").rglob("*.flac"):
        sound.unlink()
    folder = render(staged, "--builder", "custom", "--custom-builder", "epub")
    made = next(folder.with_name("epub").glob("*.epub"))
    with whole_file(out) as partial:
        shutil.move(made, partial)
    return out


def stage_book(profile: str, *, project: Path, workspace: Path) -> Path:
    """Lay prose and executed notebooks side by side and return the folder; see `build_book`."""
    staged = workspace / get_profile(profile).name / "staged"
    if is_taken(staged) and not (staged / MADE_HERE).is_file():
        raise ConfigError(f"'{staged}' exists and was not made by asd book; choose another --out")
    names = [name for name in contents(project) if name.startswith("notebooks/")]
    executed = {name: executed_notebook(name, profile, workspace) for name in names}
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    (staged / MADE_HERE).touch()
    shutil.copytree(
        project / "book", staged / "book", ignore=shutil.ignore_patterns("tools", "__pycache__")
    )
    if (exercises := project / "teaching" / "exercises").is_dir():
        shutil.make_archive(str(staged / "book" / "teaching" / "exercises"), "zip", exercises)
    for name in ("export", "scale"):  # tables that pages print
        if (kept := project / "results" / name).is_dir():
            shutil.copytree(kept, staged / "results" / name)
    (staged / "notebooks").mkdir()
    for name, path in executed.items():
        notebook = json.loads(_lighter(path.read_text(encoding="utf-8"), staged / "book"))
        for cell in notebook["cells"]:
            _typeset(cell)
            tags = cell["metadata"].get("tags", [])
            if "injected-parameters" in tags:  # paths of this machine
                cell["metadata"]["tags"] = [*tags, "remove-cell"]
            elif setup := _setup(cell):  # a page opens with its subject
                cell["metadata"]["tags"] = [*tags, "hide-input"]
                shown = cell["metadata"].setdefault("mystnb", {})
                shown |= {"code_prompt_show": f"Show {setup}", "code_prompt_hide": f"Hide {setup}"}
        (staged / f"{name}.ipynb").write_text(json.dumps(notebook, indent=1), encoding="utf-8")
    config = yaml.safe_load((project / "_config.yml").read_text(encoding="utf-8"))
    config.setdefault("execute", {})["execute_notebooks"] = "off"
    (staged / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    shutil.copy2(project / "_toc.yml", staged / "_toc.yml")
    times = times_table(workspace / profile / "study.json", profile, names)
    if "book/own_machine" in contents(project):
        try:
            make_box(staged / "book" / "_static" / "listen", profile, workspace)
        except AsdError as error:
            warnings.warn(f"the page book/own_machine has no detector: {error}", stacklevel=2)
    page = staged / "book" / "teaching" / "times.md"
    if times and page.is_file():
        page.write_text(times, encoding="utf-8")
    return staged


def _lighter(notebook: str, book: Path) -> str:
    """Move sounds and cards of a notebook into files, fetched when wanted; shrink pictures."""

    def beside(found: re.Match[str]) -> str:
        content = base64.b64decode(found[2])
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.{found[1]}"
        folder = book / "_static" / "shown"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        return f"../_static/shown/{name}"

    def shrink(picture: re.Match[str]) -> str:
        # A spectrogram has no more than 256 colours.
        large, small = io.BytesIO(base64.b64decode(picture[0])), io.BytesIO()
        few = Image.open(large).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        few.save(small, format="png", optimize=True)
        return base64.b64encode(small.getvalue()).decode()

    notebook = _PICTURE.sub(shrink, notebook)
    for now, later in (
        ('preload=\\"metadata\\"', 'preload=\\"none\\"'),
        ('<img src=\\"data:', '<img loading=\\"lazy\\" src=\\"data:'),
    ):
        notebook = notebook.replace(now, later)
    return _INSIDE.sub(beside, notebook)


def _typeset(cell: dict[str, Any]) -> None:
    """Give numbers that a cell shows a minus sign and separators, and metrics their names."""
    for data in (output.get("data", {}) for output in cell.get("outputs", [])):
        for kind in data.keys() & {"text/markdown", "text/html"}:
            text = "".join(data[kind])
            if kind == "text/markdown":
                text = _HYPHEN.sub("−", text)
            elif "<table" in text:
                text = re.sub(r"(?<=<td>)-(?=\d)", "−", text).replace("<td>NaN</td>", "<td>–</td>")
                text = re.sub(r"(?<=<td>)\d{5,}(?=</td>)", lambda n: f"{int(n[0]):,}", text)
                text = _METRIC.sub(lambda m: m[1].upper().replace("P", "p") + _DOMAIN[m[2]], text)
            data[kind] = text


def _setup(cell: dict[str, Any]) -> str:
    """Name what a cell prepares, ``parameters`` or ``imports``; empty if it does something else."""
    if "parameters" in cell["metadata"].get("tags", []):
        return "parameters"
    starts = re.match(r"(?:import|from) \w", "".join(cell["source"]))
    return "imports" if cell["cell_type"] == "code" and starts else ""


def contents(project: Path) -> list[str]:
    """Return the names of all pages, in the order of reading."""
    toc = yaml.safe_load((project / "_toc.yml").read_text(encoding="utf-8"))
    return [toc["root"], *re.findall(r"\bfile: (\S+)", yaml.safe_dump(toc, sort_keys=False))]


def executed_notebook(name: str, profile: str, workspace: Path) -> Path:
    """Return the executed copy of a notebook of the contents.

    Raises
    ------
    RunError
        If it is not executed on this profile yet, or failed when it was last run.
    """
    path = workspace / profile / f"{name}.ipynb"
    command = f"asd study --profile {profile}"
    if failed_copy(path).exists():
        raise RunError(f"notebook '{name}' failed when it last ran; mend it and run {command}")
    if not path.is_file():
        raise RunError(f"notebook '{name}' is not executed on '{profile}'; run {command} first")
    return path


def times_table(path: Path, profile: str, names: list[str]) -> str:
    """Write the times of a study, in the order of the notebooks' names; empty if there are none."""
    try:
        notebooks = json.loads(path.read_text(encoding="utf-8"))["notebooks"]
    except (OSError, ValueError, KeyError):
        return ""
    timed = {name: notebooks.get(Path(name).name) for name in names}
    rows = "".join(
        f"| {{doc}}`/{name}` | {spent['seconds'] / 60:.1f} "
        f"| {spent['workers']} on {spent['cores']} | {spent['date'].replace('-', '‑')} |\n"
        for name, spent in timed.items()
        if spent
    )
    return (
        f"Measured by `asd study` on the profile `{profile}`, each when it was last executed:\n\n"
        f"| Notebook | Minutes | At a time, on cores | Day |\n|---|---|---|---|\n{rows}"
    )


def render(staged: Path, *builder: str) -> Path:
    """Run jupyter-book on a staged book and return the folder of the HTML.

    Warnings are errors, but for another `builder`: EPUB does not know all kinds of files.
    """
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(staged)]
    log = staged / "build.log"
    with log.open("w", encoding="utf-8") as stream:
        code = subprocess.run(
            [*command, *(builder or ("--warningiserror", "--nitpick", "--keep-going"))],
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        ).returncode
    if code:
        lines = _ANSI.sub("", log.read_text(encoding="utf-8")).splitlines()
        reasons = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-5:]
        raise RunError(f"jupyter-book failed: {' | '.join(reasons[:5])}; the whole log is {log}")
    made = staged / "_build" / "html"
    if not builder:
        (made / MADE_HERE).touch()
    return made
