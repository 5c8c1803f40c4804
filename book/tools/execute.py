"""Run the notebooks of a folder through papermill, several at a time.

Executed copies lie in ``<workspace>/<profile>/notebooks``. A notebook runs again only if it, its
parameters, the library, the packages or the data changed; a failed one leaves its copy as
``*.failed.ipynb``. Notebooks do not depend on each other: what two of them need is made once, by
the one that comes first, under a lock. Those that took longest last time begin first.
"""

import hashlib
import json
import logging
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asdlib
from asdlib.errors import ConfigError, RunError
from asdlib.files import write_text
from asdlib.study import Study
from asdlib.study.experiment import default_processes
from asdlib.study.result import describe_environment
from asdlib.study.run import PROCESSES, SLOTS

KERNEL_ARGUMENTS = [
    "--IPKernelApp.log_level=40",
    # A kernel is interrupted before it is shut down, and would report that as an error.
    "--IPKernelApp.exec_lines="
    "get_ipython().kernel.log.addFilter(lambda r: 'KeyboardInterrupt' not in r.getMessage())",
]
"""Arguments of every kernel: it prints errors, and no remarks."""

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
_MOST_PROCESSES = 16  # of one notebook: each one takes some 400 MB


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
    notebooks: Path,
    workspace: Path,
    store: Path | None = None,
    data_root: Path | None = None,
    only: Sequence[str] | None = None,
    force: bool = False,
    jobs: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Outcome]:
    """Run all notebooks of a folder; go on after a failure.

    Parameters
    ----------
    profile, workspace, store, data_root
        See `asdlib.study.Study`; a notebook gets those that it declares.
    notebooks
        Folder of the notebooks.
    only
        Beginnings of the names of those to run; by default all.
    force
        Run also what did not change.
    jobs
        Notebooks at a time; by default one a core, or one on a GPU. Trainings share the cores.
    say
        Called with a line when a notebook begins and when it is done.

    Returns
    -------
    Outcomes in the order of the folder. ``<workspace>/<profile>/study.json`` keeps the times.

    Raises
    ------
    ConfigError
        If the profile lacks something, or there is no notebook to run.
    """
    Study(profile, workspace, store=store, data_root=data_root)
    if jobs is not None and jobs < 1:
        raise ConfigError(f"{jobs} notebooks at a time; give --jobs 1 or more")
    sources = [
        path
        for path in sorted(notebooks.glob("*.ipynb"))
        if not only or path.stem.startswith(tuple(only))
    ]
    if not sources:
        wanted = f" that begins with {' or '.join(only)}" if only else ""
        raise ConfigError(f"no notebook{wanted} in '{notebooks}'; give --notebooks FOLDER")
    offered = {"workspace": workspace, "store": store, "data_root": data_root}
    parameters = {"profile": profile} | {k: str(v.absolute()) for k, v in offered.items() if v}
    folder = workspace / profile / "notebooks"
    stopping, counting, done = threading.Event(), threading.Lock(), 0

    def work(source: Path) -> Outcome:
        nonlocal done
        outcome = run_notebook(
            source, folder / source.name, parameters, force=force, say=say, stopping=stopping
        )
        with counting:
            done += 1
            seconds = f"{outcome.seconds:.1f} s"
            say(f"{done} of {len(sources)} done: {outcome.name} {outcome.status}, {seconds}")
        return outcome

    # Of those that never ran, the last chapters begin: they hold the longest computations.
    costs = {path: (_kept(folder / path.name, "seconds", 0.0), path.name) for path in sources}
    order = sorted(sources, key=lambda path: costs[path], reverse=True)
    cores = default_processes()
    workers = min(jobs or cores, len(sources))
    started = time.perf_counter()
    with shared_cores(workers, cores):
        pool = ThreadPoolExecutor(workers)
        futures: dict[Path, Future[Outcome]] = {path: pool.submit(work, path) for path in order}
        try:
            for future in as_completed(futures.values()):
                future.result()
        finally:
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            begun = [future for future in futures.values() if not future.cancelled()]
            while wait(begun, timeout=0.2).not_done:
                end_kernels()
    outcomes = [futures[path].result() for path in sources]
    _write_times(folder, outcomes, time.perf_counter() - started, workers, cores)
    return outcomes


def run_notebook(
    source: Path,
    target: Path,
    parameters: dict[str, Any],
    *,
    force: bool = False,
    say: Callable[[str], None] = lambda line: None,
    stopping: threading.Event | None = None,
) -> Outcome:
    """Run one notebook, unless `target` is its unchanged outcome.

    Whatever is wrong with a notebook, even a kernel that dies, is a failed outcome and no error,
    except while the study is `stopping`.
    """
    import papermill
    from papermill.exceptions import PapermillExecutionError

    started = time.perf_counter()
    key = _notebook_key(source, parameters)
    unfinished = target.with_name(f".{target.stem}.partial.ipynb")
    failed = failed_copy(target)
    if not force and _kept(target, "key", "") == key:
        failed.unlink(missing_ok=True)
        return Outcome(source.stem, "unchanged", 0.0, "", target)
    say(f"{source.stem} …")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        known = set(papermill.inspect_notebook(str(source)))
        papermill.execute_notebook(
            str(source),
            str(unfinished),
            {name: value for name, value in parameters.items() if name in known},
            kernel_name="python3",
            progress_bar=False,
            start_timeout=600,
            extra_arguments=KERNEL_ARGUMENTS,
        )
        seconds = time.perf_counter() - started
        notebook = json.loads(unfinished.read_text(encoding="utf-8"))
        notebook["metadata"]["asdlib"] = {"key": key, "seconds": round(seconds, 3)}
        unfinished.write_text(json.dumps(notebook, indent=1), encoding="utf-8")
        unfinished.replace(target)
        failed.unlink(missing_ok=True)
        return Outcome(source.stem, "executed", seconds, "", target)
    except OSError:
        raise
    except Exception as error:
        if stopping is not None and stopping.is_set():
            raise RunError(f"'{source.name}' was stopped; give the same command again") from None
        if not unfinished.exists():
            shutil.copyfile(source, unfinished)
        unfinished.replace(failed)
        lines = error.traceback if isinstance(error, PapermillExecutionError) else [repr(error)]
        text = _ANSI.sub("", "\n".join(lines))
        return Outcome(source.stem, "failed", time.perf_counter() - started, text, failed)
    finally:
        unfinished.unlink(missing_ok=True)


def failed_copy(target: Path) -> Path:
    """Return the name of the copy that is left when the notebook behind `target` fails."""
    return target.with_suffix(".failed.ipynb")


@contextmanager
def shared_cores(workers: int, cores: int) -> Iterator[None]:
    """Let the kernels that are started meanwhile, `workers` at a time, compute on `cores` together.

    Each gets its share of threads, unless the user's environment says how many, and as many
    processes as there are cores, of which only those compute that hold a slot, see
    `asdlib.study.run.core_slot`.
    """
    if workers == 1:
        yield
        return
    before = {name: os.environ.get(name) for name in (SLOTS, PROCESSES, *_THREADS)}
    with tempfile.TemporaryDirectory(prefix="asdlib-slots-") as folder:
        for i in range(cores):
            (Path(folder) / f"{i:03d}.slot").touch()
        os.environ[SLOTS] = folder
        os.environ.setdefault(PROCESSES, str(min(cores, _MOST_PROCESSES)))
        for name in _THREADS:
            os.environ.setdefault(name, str(max(1, cores // workers)))
        try:
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def end_kernels() -> None:
    """End the Jupyter kernels that this process has started, with all their processes."""
    import psutil

    # The kernels die because we end them: that is nothing to report.
    for name in ("papermill", "traitlets"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    for child in psutil.Process().children():
        try:
            if any("ipykernel" in word for word in child.cmdline()):
                os.killpg(os.getpgid(child.pid), signal.SIGKILL)
        except (psutil.Error, ProcessLookupError):
            continue


def _notebook_key(source: Path, parameters: dict[str, Any]) -> str:
    """Hash of the notebook, its parameters, the library that it can see, packages and data."""
    digest = hashlib.sha256(source.read_bytes())
    digest.update(json.dumps(parameters, sort_keys=True).encode())
    root = Path(asdlib.__file__).parent
    for path in sorted(root.rglob("*")):
        # No notebook imports the command line.
        if path.suffix in (".py", ".csv") and path.relative_to(root).parts[0] != "cli":
            digest.update(path.read_bytes())
    digest.update(json.dumps(describe_environment()["packages"]).encode())
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


def _kept(target: Path, name: str, default: Any) -> Any:
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
            spent = {"seconds": round(outcome.seconds, 1), "workers": workers, "cores": cores}
            times[outcome.name] = spent | {"date": now}
    record = {"seconds": round(seconds, 1), "notebooks": dict(sorted(times.items()))}
    write_text(path, json.dumps(record, indent=2) + "\n")
