"""Notebooks through papermill: once, several at a time, and stopped without a trace."""

import json
import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import papermill
import psutil
import pytest

from asdlib.errors import ConfigError
from asdlib.study.run import PROCESSES, SLOTS, core_slot
from book.tools import execute
from book.tools.execute import Outcome, run_notebook, run_notebooks, shared_cores


def write_notebook(path: Path, *cells: str, parameters: str = "profile = 'none'") -> Path:
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, cells)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata["language_info"] = {"name": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def outputs(path: Path) -> str:
    return "".join(
        "".join(output.get("text", []))
        for cell in json.loads(path.read_text())["cells"]
        for output in cell.get("outputs", [])
    )


def listing(folder: Path) -> list[str]:
    """Name everything in a folder, hidden files too."""
    return sorted(path.name for path in folder.iterdir())


def test_a_notebook_is_executed_once_and_its_kernel_reports_only_errors(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = "get_ipython().kernel.log"
    source = write_notebook(
        tmp_path / "a.ipynb",
        "print(profile, 6 * 7)",
        f"{log}.error('KeyboardInterrupt caught in kernel.')\n{log}.error('real trouble')\n"
        f"{log}.warning('a remark')",
    )
    target = tmp_path / "out" / "a.ipynb"
    given = {"profile": "smoke", "unknown": "not declared"}
    first = run_notebook(source, target, given)
    assert (first.name, first.status, first.error, first.path) == ("a", "executed", "", target)
    assert first.seconds > 0
    assert outputs(target).startswith("smoke 42\n")
    assert listing(target.parent) == ["a.ipynb"]
    (injected,) = (
        "".join(cell["source"])
        for cell in json.loads(target.read_text())["cells"]
        if "injected-parameters" in cell["metadata"].get("tags", [])
    )
    assert "unknown" not in injected
    printed = capfd.readouterr().err
    assert "real trouble" in printed
    assert "KeyboardInterrupt" not in printed
    assert "a remark" not in printed

    before = target.read_bytes()
    execute.failed_copy(target).write_text("of an earlier try")
    assert run_notebook(source, target, given) == Outcome("a", "unchanged", 0.0, "", target)
    assert target.read_bytes() == before
    assert listing(target.parent) == ["a.ipynb"]

    def executed_again(*args: Any, **options: Any) -> None:
        raise RuntimeError

    monkeypatch.setattr(papermill, "execute_notebook", executed_again)
    assert run_notebook(source, target, given, force=True).status == "failed"


def test_the_key_follows_notebook_parameters_library_and_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_notebook(tmp_path / "a.ipynb", "1")
    recordings = tmp_path / "recordings"
    recordings.mkdir()
    data = {"profile": "a", "data_root": str(recordings)}
    keys = [execute._notebook_key(source, {"profile": name}) for name in ("a", "b")]
    keys.append(execute._notebook_key(source, data))
    (recordings / "x.wav").touch()
    keys.append(execute._notebook_key(source, data))
    write_notebook(source, "2")
    keys.append(execute._notebook_key(source, {"profile": "a"}))
    copy = tmp_path / "asdlib"
    copy.mkdir()
    (copy / "__init__.py").write_text("")
    monkeypatch.setattr(execute.asdlib, "__file__", str(copy / "__init__.py"))
    keys.append(execute._notebook_key(source, {"profile": "a"}))
    (copy / "report.py").write_text("VALUE = 1")
    keys.append(execute._notebook_key(source, {"profile": "a"}))
    assert len(set(keys)) == 7
    assert execute._notebook_key(source, {"profile": "a"}) == keys[-1]


def test_failures_stop_nobody_and_independent_notebooks_run_at_the_same_time(
    tmp_path: Path,
) -> None:
    folder, met = tmp_path / "notebooks", tmp_path / "met"
    met.mkdir()
    meet = (
        "import time\nfrom pathlib import Path\nmet = Path({met!r})\n(met / {name!r}).touch()\n"
        "for _ in range(3000):\n    time.sleep(0.1)\n"
        "    if len(list(met.iterdir())) == 2:\n        break\nelse:\n    raise TimeoutError"
    )
    for name in ("04_a", "05_b"):
        cell = meet.format(met=str(met), name=name)
        write_notebook(folder / f"{name}.ipynb", cell, "print(profile)")
    write_notebook(folder / "01_bad.ipynb", "print('before')", "raise ValueError('no such thing')")
    (folder / "02_broken.ipynb").write_text("{")
    write_notebook(folder / "03_dead.ipynb", "import os; os._exit(3)")
    lines: list[str] = []
    outcomes = run_notebooks(
        "smoke", notebooks=folder, workspace=tmp_path / "out", jobs=2, say=lines.append
    )
    assert [o.status for o in outcomes] == ["failed"] * 3 + ["executed"] * 2, outcomes
    assert "ValueError: no such thing" in outcomes[0].error
    assert "\x1b" not in outcomes[0].error
    assert outputs(outcomes[0].path).startswith("before")
    assert all(outcome.error for outcome in outcomes[:3])
    assert outputs(outcomes[4].path) == "smoke\n"
    assert listing(tmp_path / "out" / "smoke" / "notebooks") == [
        "01_bad.failed.ipynb",
        "02_broken.failed.ipynb",
        "03_dead.failed.ipynb",
        "04_a.ipynb",
        "05_b.ipynb",
    ]
    # Those that never ran begin from the back.
    assert set(lines[:2]) == {"05_b …", "04_a …"}
    assert sum("5 of 5 done" in line for line in lines) == 1
    times = json.loads((tmp_path / "out" / "smoke" / "study.json").read_text())["notebooks"]
    assert list(times) == ["04_a", "05_b"]
    assert all(spent["seconds"] > 0 and spent["workers"] == 2 for spent in times.values())


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_what_is_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    def interrupt(source: str, target: str, *args: Any, **options: Any) -> None:
        shutil.copyfile(source, target)
        raise stop

    monkeypatch.setattr(papermill, "execute_notebook", interrupt)
    source = write_notebook(tmp_path / "a.ipynb", "1")
    with pytest.raises(stop):
        run_notebook(source, tmp_path / "out" / "a.ipynb", {})
    assert listing(tmp_path / "out") == []


def test_a_study_that_is_stopped_ends_its_kernels_and_starts_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        begun = f"open('{tmp_path}/{name}-begun', 'w').close()\nimport time; time.sleep(6000)"
        write_notebook(tmp_path / f"{name}.ipynb", begun)

    class Stopped(BaseException):
        """What Ctrl-C is, without the signal."""

    def stopped(futures: Any) -> Any:
        while not list(tmp_path.glob("*-begun")):
            time.sleep(0.1)
        raise Stopped

    monkeypatch.setattr(execute, "as_completed", stopped)
    with pytest.raises(Stopped):
        run_notebooks("smoke", notebooks=tmp_path, workspace=tmp_path / "out", jobs=2)
    children = psutil.Process().children(recursive=True)
    assert not [c for c in children if "ipykernel" in " ".join(c.cmdline())]
    assert listing(tmp_path / "out" / "smoke" / "notebooks") == []
    assert not (tmp_path / "a-begun").exists()


def test_the_longest_begin_first_and_only_those_that_are_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("01_a", "02_b", "02_c", "10_d"):
        write_notebook(tmp_path / f"{name}.ipynb")
    begun: list[str] = []

    def note(source: Path, target: Path, *args: Any, **options: Any) -> Outcome:
        begun.append(source.stem)
        target.parent.mkdir(parents=True, exist_ok=True)
        seconds = {"02_b": 9.0}.get(source.stem, 1.0)
        target.write_text(json.dumps({"metadata": {"asdlib": {"seconds": seconds}}}))
        return Outcome(source.stem, "executed", seconds, "", target)

    monkeypatch.setattr(execute, "run_notebook", note)
    where: dict[str, Any] = {"notebooks": tmp_path, "workspace": tmp_path / "out", "jobs": 1}
    done = run_notebooks("smoke", only=["02", "10_d"], **where)
    assert [outcome.name for outcome in done] == ["02_b", "02_c", "10_d"]
    run_notebooks("smoke", **where)
    assert begun == ["10_d", "02_c", "02_b", "02_b", "10_d", "02_c", "01_a"]


def test_a_study_that_cannot_run_is_refused(tmp_path: Path) -> None:
    for profile, options, message in [
        ("huge", {}, "unknown profile 'huge'"),
        ("toycar", {}, "needs real recordings: give store=PATH"),
        ("smoke", {}, "no notebook in '.*'; give --notebooks FOLDER"),
        ("smoke", {"only": ["03", "x"]}, "no notebook that begins with 03 or x in"),
        ("smoke", {"jobs": 0}, "0 notebooks at a time; give --jobs 1 or more"),
    ]:
        with pytest.raises(ConfigError, match=message):
            run_notebooks(profile, notebooks=tmp_path, workspace=tmp_path / "out", **options)


def test_cores_are_shared_by_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    for name in (SLOTS, PROCESSES, "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    now, most, lock, both = 0, 0, threading.Lock(), threading.Event()

    def work(patience: float) -> None:
        nonlocal now, most
        with core_slot():
            with lock:
                now += 1
                most = max(most, now)
                if now == 2:
                    both.set()
            both.wait(patience)
            time.sleep(0.05)
            with lock:
                now -= 1

    with shared_cores(1, 2):
        assert SLOTS not in os.environ
        work(0)
    with shared_cores(4, 2):
        folder = Path(os.environ[SLOTS])
        assert len(list(folder.glob("*.slot"))) == 2
        assert os.environ[PROCESSES] == "2"
        assert os.environ["OMP_NUM_THREADS"] == "7"
        assert os.environ["MKL_NUM_THREADS"] == "1"
        with ThreadPoolExecutor(6) as pool:
            for future in [pool.submit(work, 600) for _ in range(6)]:
                future.result()
    assert most == 2
    assert not folder.exists()
    assert SLOTS not in os.environ
    assert "MKL_NUM_THREADS" not in os.environ
    assert os.environ["OMP_NUM_THREADS"] == "7"
