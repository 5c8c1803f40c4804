"""Render prose and executed notebooks as a book: HTML, warnings as errors."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from asdlib.errors import ConfigError, RunError
from asdlib.study.notebooks import failed_copy

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def build_book(
    profile: str,
    *,
    workspace: str | Path = "build/study",
    source: str | Path = ".",
    html: str | Path | None = None,
) -> Path:
    """Render prose and executed notebooks; warnings are errors.

    Parameters
    ----------
    profile
        Whose executed notebooks are shown.
    workspace
        Workspace of the study.
    source
        Project folder, with ``_config.yml``, ``_toc.yml``, ``book/`` and ``notebooks/``.
    html
        Folder of the rendered book; by default ``_build/html`` of `source`.

    Returns
    -------
    The book's first page.

    Raises
    ------
    ConfigError
        If `source` is no book, or `html` holds something else.
    RunError
        If notebooks are not executed yet or failed, or jupyter-book fails.
    """
    source = Path(source)
    html = Path(html) if html else source / "_build" / "html"
    if html.exists() and not _is_rendered(html):
        raise ConfigError(f"'{html}' exists and is no rendered book; choose another --html")
    staged = stage_book(profile, workspace=workspace, source=source)
    made = render(staged, "html")
    shutil.rmtree(html, ignore_errors=True)
    html.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, html)
    return html / "index.html"


def stage_book(profile: str, *, workspace: str | Path, source: str | Path) -> Path:
    """Lay prose and executed notebooks side by side; give the folder. See `build_book`."""
    import yaml

    source = Path(source)
    if not (source / "_toc.yml").is_file() or not (source / "_config.yml").is_file():
        raise ConfigError(f"'{source}' has no _toc.yml and _config.yml; give --source PROJECT")
    executed = Path(workspace) / profile / "notebooks"
    staged = Path(workspace) / profile / "book"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    shutil.copytree(source / "book", staged / "book")
    (staged / "notebooks").mkdir()
    for path in sorted((source / "notebooks").glob("*.ipynb")):
        if not (executed / path.name).is_file():
            raise RunError(
                f"notebook '{path.name}' is not executed on profile '{profile}'; "
                f"run asd study --profile {profile} first"
            )
        if failed_copy(executed / path.name).exists():
            raise RunError(
                f"notebook '{path.name}' failed when it was last run on profile '{profile}'; "
                f"mend it and run asd study --profile {profile} again"
            )
        _stage(executed / path.name, staged / "notebooks" / path.name)
    config = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8"))
    config.setdefault("execute", {})["execute_notebooks"] = "off"
    (staged / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    shutil.copy2(source / "_toc.yml", staged / "_toc.yml")
    times = times_table(Path(workspace) / profile / "study.json", profile)
    page = staged / "book" / "teaching" / "times.md"
    if times and page.is_file():
        page.write_text(times, encoding="utf-8")
    return staged


def times_table(path: Path, profile: str) -> str:
    """Write the times of a study as a Markdown table; empty if there are none."""
    try:
        notebooks = json.loads(path.read_text(encoding="utf-8"))["notebooks"]
    except (OSError, ValueError, KeyError):
        return ""
    lines = [
        f"Measured by `asd study` on the profile `{profile}`, each when it was last executed:",
        "",
        "| Notebook | Minutes | At a time, on cores | Day |",
        "|---|---|---|---|",
    ]
    for name, told in notebooks.items():
        beside = f"{told['workers']} on {told['cores']}"
        minutes = f"{told['seconds'] / 60:.1f}"
        lines.append(f"| `{name}` | {minutes} | {beside} | {told['date']} |")
    return "\n".join(lines) + "\n"


def render(staged: Path, builder: str) -> Path:
    """Run jupyter-book on a staged book, warnings as errors; give the folder that it made."""
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(staged), "--builder", builder]
    log = staged / "build.log"
    with log.open("w", encoding="utf-8") as stream:
        code = subprocess.run(
            [*command, "--warningiserror", "--nitpick", "--keep-going"],
            stdout=stream,
            stderr=subprocess.STDOUT,
            check=False,
            env=os.environ | {"PYTHONWARNINGS": "ignore"},
        ).returncode
    if code:
        lines = _ANSI.sub("", log.read_text(encoding="utf-8")).splitlines()
        told = [line for line in lines if "WARNING" in line or "ERROR" in line] or lines[-5:]
        raise RunError(f"jupyter-book failed: {' | '.join(told[:5])}; the whole log is {log}")
    return staged / "_build" / builder


def _is_rendered(folder: Path) -> bool:
    """Whether a folder is empty or was made by Sphinx, and may be replaced."""
    return folder.is_dir() and ((folder / ".buildinfo").is_file() or not any(folder.iterdir()))


def _stage(executed: Path, target: Path) -> None:
    """Copy an executed notebook; the injected parameters, paths of a machine, are not shown."""
    notebook = json.loads(executed.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags", [])
        if "injected-parameters" in tags:
            cell["metadata"]["tags"] = [*tags, "remove-cell"]
    target.write_text(json.dumps(notebook, indent=1), encoding="utf-8")
