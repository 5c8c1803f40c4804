"""Run the notebooks through papermill, and render the executed copies as a book.

Executed copies lie in ``<workspace>/<profile>/notebooks``. A notebook runs again only if it, its
parameters, the library or the data changed; a failed one leaves its copy as ``*.failed.ipynb``.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asdlib
from asdlib.errors import ConfigError, RunError
from asdlib.study.study import Study

_ANSI = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Outcome:
    """What became of one notebook.

    Attributes
    ----------
    name
        File name without suffix.
    status
        ``executed``, ``unchanged`` or ``failed``.
    seconds
        Time it took.
    error
        Traceback of the failed cell, else empty.
    path
        Executed copy.
    """

    name: str
    status: str
    seconds: float
    error: str
    path: Path


def run_notebooks(
    profile: str,
    *,
    notebooks: str | Path = "notebooks",
    workspace: str | Path = "build/study",
    store: str | Path | None = None,
    data_root: str | Path | None = None,
    only: Sequence[str] | None = None,
    force: bool = False,
    on_start: Callable[[str, int, int], None] | None = None,
) -> list[Outcome]:
    """Run all notebooks of a folder in order; go on after a failure.

    Parameters
    ----------
    profile, workspace, store, data_root
        See `asdlib.study.study.Study`; notebooks get those that they declare.
    notebooks
        Folder of the notebooks.
    only
        Beginnings of the names of those to run; by default all.
    force
        Run also what did not change.
    on_start
        Called with name, number and count before each notebook.

    Raises
    ------
    ConfigError
        If the profile lacks something, or there is no notebook to run.
    """
    Study(profile, workspace, store=store, data_root=data_root)
    sources = sorted(Path(notebooks).glob("*.ipynb"))
    if only:
        sources = [path for path in sources if path.stem.startswith(tuple(only))]
    if not sources:
        wanted = f" that begins with {' or '.join(only)}" if only else ""
        raise ConfigError(f"no notebook{wanted} in '{notebooks}'; give --notebooks FOLDER")
    offered = {
        "profile": profile,
        "workspace": str(Path(workspace).absolute()),
        "store": str(Path(store).absolute()) if store else None,
        "data_root": str(Path(data_root).absolute()) if data_root else None,
    }
    outcomes = []
    for i, source in enumerate(sources, start=1):
        if on_start:
            on_start(source.stem, i, len(sources))
        parameters = {k: v for k, v in offered.items() if v is not None}
        target = Path(workspace) / profile / "notebooks" / source.name
        outcomes.append(run_notebook(source, target, parameters, force=force))
    return outcomes


def run_notebook(
    source: Path, target: Path, parameters: dict[str, Any], *, force: bool = False
) -> Outcome:
    """Run one notebook, unless `target` is its unchanged outcome.

    Whatever is wrong with a notebook, even a kernel that dies, is a failed outcome and no error.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    started = time.perf_counter()
    key = _notebook_key(source, parameters)
    partial = target.with_name(f".{target.stem}.partial.ipynb")
    failed = failed_copy(target)
    if not force and _finished_key(target) == key:
        failed.unlink(missing_ok=True)
        return Outcome(source.stem, "unchanged", 0.0, "", target)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        known = set(papermill.inspect_notebook(str(source)))
        given = {name: value for name, value in parameters.items() if name in known}
        papermill.execute_notebook(
            str(source),
            str(partial),
            given,
            kernel_name="python3",
            progress_bar=False,
            extra_arguments=["--IPKernelApp.log_level=40"],
        )
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    except Exception as error:
        if not partial.exists():
            shutil.copyfile(source, partial)
        partial.replace(failed)
        told = error.traceback if isinstance(error, PapermillExecutionError) else [repr(error)]
        text = _ANSI.sub("", "\n".join(told))
        return Outcome(source.stem, "failed", time.perf_counter() - started, text, failed)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    notebook = json.loads(partial.read_text(encoding="utf-8"))
    notebook["metadata"]["asdlib"] = {"key": key}
    partial.write_text(json.dumps(notebook, indent=1), encoding="utf-8")
    partial.replace(target)
    failed.unlink(missing_ok=True)
    return Outcome(source.stem, "executed", time.perf_counter() - started, "", target)


def failed_copy(target: Path) -> Path:
    """Name the copy that is left when the notebook behind `target` fails."""
    return target.with_suffix(".failed.ipynb")


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
    import yaml

    source = Path(source)
    if not (source / "_toc.yml").is_file() or not (source / "_config.yml").is_file():
        raise ConfigError(f"'{source}' has no _toc.yml and _config.yml; give --source PROJECT")
    html = Path(html) if html else source / "_build" / "html"
    if html.exists() and not _is_rendered(html):
        raise ConfigError(f"'{html}' exists and is no rendered book; choose another --html")
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
    start = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", start, "build", str(staged)]
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
    shutil.rmtree(html, ignore_errors=True)
    html.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(staged / "_build" / "html", html)
    return html / "index.html"


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


def _notebook_key(source: Path, parameters: dict[str, Any]) -> str:
    """Hash of the notebook, its parameters, and all sources of the library."""
    digest = hashlib.sha256(source.read_bytes())
    digest.update(json.dumps(parameters, sort_keys=True).encode())
    root = Path(asdlib.__file__).parent
    for path in sorted(root.rglob("*")):
        if path.suffix in (".py", ".csv"):
            digest.update(path.read_bytes())
    store = parameters.get("store")
    if store:
        from asdlib.features import FeatureStore

        digest.update(FeatureStore.open(store).fingerprint.encode())
    return digest.hexdigest()


def _finished_key(target: Path) -> str | None:
    try:
        key = json.loads(target.read_text(encoding="utf-8"))["metadata"]["asdlib"]["key"]
    except (OSError, ValueError, KeyError):
        return None
    return str(key)
