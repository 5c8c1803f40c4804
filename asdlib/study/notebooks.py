"""Run the notebooks of a folder through papermill, several at a time.

Executed copies lie in ``<workspace>/<profile>/notebooks``. A notebook runs again only if it, its
parameters, the library, the packages or the data changed; a failed one leaves its copy as
``*.failed.ipynb``. The first notebook of the folder makes the data and runs before the others,
which are independent; a notebook with the metadata ``{"asdlib": {"after": ["34_ablation"]}}`` waits
for that one instead.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import asdlib
from asdlib.errors import ConfigError, RunError
from asdlib.study.experiment import default_processes
from asdlib.study.provenance import PACKAGES
from asdlib.study.schedule import end_kernels, in_order
from asdlib.study.slots import shared_cores
from asdlib.study.study import Study

KERNEL_ARGUMENTS = [
    "--IPKernelApp.log_level=40",
    # A kernel is interrupted before it is shut down, and would report that as an error.
    "--IPKernelApp.exec_lines="
    "get_ipython().kernel.log.addFilter(lambda r: 'KeyboardInterrupt' not in r.getMessage())",
]
"""What every kernel is started with: no remarks, but errors that are some."""

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
        Time it took, beside the others that ran at the same time.
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
    jobs: int | None = None,
    on_start: Callable[[str, int, int], None] | None = None,
    on_done: Callable[[Outcome, int, int], None] | None = None,
) -> list[Outcome]:
    """Run all notebooks of a folder; go on after a failure.

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
    jobs
        Notebooks at a time; by default one a core, or one on a GPU; trainings share the cores.
    on_start
        Called with name, number in the folder, and count before each notebook that has to run.
    on_done
        Called with the outcome, the number of those that are done, and the count.

    Returns
    -------
    Outcomes in the order of the folder. ``<workspace>/<profile>/study.json`` keeps the
    times.

    Raises
    ------
    ConfigError
        If the profile lacks something, there is no notebook to run, or notebooks need each other.
    """
    Study(profile, workspace, store=store, data_root=data_root)
    if jobs is not None and jobs < 1:
        raise ConfigError(f"{jobs} notebooks at a time; give --jobs 1 or more")
    found = sorted(Path(notebooks).glob("*.ipynb"))
    sources = [p for p in found if not only or p.stem.startswith(tuple(only))]
    if not sources:
        wanted = f" that begins with {' or '.join(only)}" if only else ""
        raise ConfigError(f"no notebook{wanted} in '{notebooks}'; give --notebooks FOLDER")
    offered = {
        "profile": profile,
        "workspace": str(Path(workspace).absolute()),
        "store": str(Path(store).absolute()) if store else None,
        "data_root": str(Path(data_root).absolute()) if data_root else None,
    }
    parameters = {k: v for k, v in offered.items() if v is not None}
    folder = Path(workspace) / profile / "notebooks"
    stopping, counting, done = threading.Event(), threading.Lock(), 0

    def work(name: str) -> Outcome:
        nonlocal done
        i = next(i for i, path in enumerate(sources) if path.stem == name)
        target = folder / sources[i].name
        begin = partial(on_start, name, i + 1, len(sources)) if on_start else None
        outcome = run_notebook(
            sources[i], target, parameters, force=force, on_start=begin, stopping=stopping
        )
        with counting:
            done += 1
            if on_done:
                on_done(outcome, done, len(sources))
        return outcome

    def stop() -> None:
        stopping.set()
        # The kernels die because we end them: that is nothing to report.
        for name in ("papermill", "traitlets"):
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        end_kernels()

    cores = default_processes()
    workers = min(jobs or cores, len(sources))
    started = time.perf_counter()
    with shared_cores(workers, cores):
        outcomes = in_order(
            {path.stem: _needs(path, found) for path in sources},
            work,
            workers=workers,
            cost={path.stem: _told(folder / path.name, "seconds", 0.0) for path in sources},
            on_stop=stop,
        )
    _write_times(folder, list(outcomes.values()), time.perf_counter() - started, workers, cores)
    return list(outcomes.values())


def run_notebook(
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    *,
    force: bool = False,
    on_start: Callable[[], None] | None = None,
    stopping: threading.Event | None = None,
) -> Outcome:
    """Run one notebook, unless `target` is its unchanged outcome.

    Whatever is wrong with a notebook, even a kernel that dies, is a failed outcome and no error,
    except while the study is `stopping`. `on_start` is called if the notebook has to run.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    started = time.perf_counter()
    key = _notebook_key(source, parameters)
    unfinished = target.with_name(f".{target.stem}.partial.ipynb")
    failed = failed_copy(target)
    if not force and _told(target, "key", "") == key:
        failed.unlink(missing_ok=True)
        return Outcome(source.stem, "unchanged", 0.0, "", target)
    if on_start:
        on_start()
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        known = set(papermill.inspect_notebook(str(source)))
        given = {name: value for name, value in parameters.items() if name in known}
        papermill.execute_notebook(
            str(source),
            str(unfinished),
            given,
            kernel_name="python3",
            progress_bar=False,
            extra_arguments=KERNEL_ARGUMENTS,
        )
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise
    except Exception as error:
        if stopping is not None and stopping.is_set():
            unfinished.unlink(missing_ok=True)
            raise RunError(f"'{source.name}' was stopped; give the same command again") from None
        if not unfinished.exists():
            shutil.copyfile(source, unfinished)
        unfinished.replace(failed)
        told = error.traceback if isinstance(error, PapermillExecutionError) else [repr(error)]
        text = _ANSI.sub("", "\n".join(told))
        return Outcome(source.stem, "failed", time.perf_counter() - started, text, failed)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    seconds = time.perf_counter() - started
    notebook = json.loads(unfinished.read_text(encoding="utf-8"))
    notebook["metadata"]["asdlib"] = {"key": key, "seconds": round(seconds, 3)}
    unfinished.write_text(json.dumps(notebook, indent=1), encoding="utf-8")
    unfinished.replace(target)
    failed.unlink(missing_ok=True)
    return Outcome(source.stem, "executed", seconds, "", target)


def failed_copy(target: Path) -> Path:
    """Name the copy that is left when the notebook behind `target` fails."""
    return target.with_suffix(".failed.ipynb")


def _needs(source: Path, found: Sequence[Path]) -> list[str]:
    """Names of the notebooks that run before this one."""
    try:
        metadata = json.loads(source.read_text(encoding="utf-8"))["metadata"]
        return [str(name) for name in metadata["asdlib"]["after"]]
    except (OSError, ValueError, KeyError, TypeError):
        return [found[0].stem] if source != found[0] else []


def _notebook_key(source: Path, parameters: dict[str, Any]) -> str:
    """Hash of the notebook, its parameters, the library that it can see, packages and data."""
    digest = hashlib.sha256(source.read_bytes())
    digest.update(json.dumps(parameters, sort_keys=True).encode())
    root = Path(asdlib.__file__).parent
    for path in sorted(root.rglob("*")):
        # No notebook imports the command line.
        if path.suffix in (".py", ".csv") and path.relative_to(root).parts[0] != "cli":
            digest.update(path.read_bytes())
    digest.update(json.dumps([_version(name) for name in PACKAGES]).encode())
    if parameters.get("store"):
        from asdlib.features import FeatureStore

        digest.update(FeatureStore.open(parameters["store"]).fingerprint.encode())
    if parameters.get("data_root"):
        listing = sorted(
            (str(path), path.stat().st_size, path.stat().st_mtime_ns)
            for path in Path(parameters["data_root"]).rglob("*.wav")
        )
        digest.update(json.dumps(listing).encode())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _told(target: Path, name: str, default: Any) -> Any:
    """Read what an earlier run left in the metadata of an executed copy."""
    try:
        value = json.loads(target.read_text(encoding="utf-8"))["metadata"]["asdlib"][name]
    except (OSError, ValueError, KeyError, TypeError):
        return default
    return value if isinstance(value, type(default)) else default


def _write_times(
    folder: Path, outcomes: Sequence[Outcome], seconds: float, workers: int, cores: int
) -> None:
    """Keep how long each notebook took when it last ran; guides and tables read it."""
    path = folder.parent / "study.json"
    try:
        times = dict(json.loads(path.read_text(encoding="utf-8"))["notebooks"])
    except (OSError, ValueError, KeyError):
        times = {}
    now = time.strftime("%Y-%m-%d", time.gmtime())
    for outcome in outcomes:
        if outcome.status == "executed":
            told = {"seconds": round(outcome.seconds, 1), "workers": workers, "cores": cores}
            times[outcome.name] = told | {"date": now}
    record = {"seconds": round(seconds, 1), "notebooks": dict(sorted(times.items()))}
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    temporary.replace(path)
