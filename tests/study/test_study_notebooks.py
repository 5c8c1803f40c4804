"""Notebooks through papermill, and the book of their executed copies."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest
from study_stores import listing

from asdlib.errors import ConfigError, RunError
from asdlib.features import FeatureStore
from asdlib.study import notebooks as module
from asdlib.study import schedule
from asdlib.study.book import build_book, times_table
from asdlib.study.notebooks import Outcome, run_notebook, run_notebooks


def write_notebook(path: Path, *cells: str, parameters: str = "profile = 'none'") -> Path:
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, cells)])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    notebook.metadata["language_info"] = {"name": "python"}
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def outputs(path: Path) -> str:
    notebook = json.loads(path.read_text())
    return "".join(
        "".join(output.get("text", []))
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
    )


def test_a_notebook_is_executed_once(
    tmp_path: Path, store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_notebook(tmp_path / "01_a.ipynb", "print(profile, 6 * 7)")
    target = tmp_path / "out" / "01_a.ipynb"
    given = {"profile": "smoke", "store": str(store.path), "unknown": "not declared"}
    first = run_notebook(source, target, given)
    assert (first.name, first.status, first.error) == ("01_a", "executed", "")
    assert first.seconds > 0
    assert first.path == target
    assert outputs(target) == "smoke 42\n"
    assert listing(target.parent) == ["01_a.ipynb"]
    injected = [
        "".join(cell["source"])
        for cell in json.loads(target.read_text())["cells"]
        if "injected-parameters" in cell["metadata"].get("tags", [])
    ]
    assert len(injected) == 1
    assert "unknown" not in injected[0]

    before = target.read_bytes()
    (tmp_path / "out" / "01_a.failed.ipynb").write_text("of an earlier try")
    assert run_notebook(source, target, given) == Outcome("01_a", "unchanged", 0.0, "", target)
    assert target.read_bytes() == before
    assert listing(target.parent) == ["01_a.ipynb"]

    import papermill

    def remember(*args: Any, **told: Any) -> None:
        raise RuntimeError("executed again")

    monkeypatch.setattr(papermill, "execute_notebook", remember)
    assert run_notebook(source, target, given, force=True).status == "failed"
    assert run_notebook(source, target, given | {"profile": "classroom"}).status == "failed"
    (store.path / "feature.json").write_text((store.path / "feature.json").read_text() + "\n")
    assert run_notebook(source, target, given).status == "failed"


def test_the_key_follows_notebook_parameters_and_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_notebook(tmp_path / "a.ipynb", "1")
    keys = [module._notebook_key(source, {"profile": name}) for name in ("a", "b")]
    write_notebook(source, "2")
    keys.append(module._notebook_key(source, {"profile": "a"}))
    copy = tmp_path / "asdlib"
    copy.mkdir()
    (copy / "__init__.py").write_text("")
    monkeypatch.setattr(module.asdlib, "__file__", str(copy / "__init__.py"))
    keys.append(module._notebook_key(source, {"profile": "a"}))
    (copy / "report.py").write_text("VALUE = 1")
    keys.append(module._notebook_key(source, {"profile": "a"}))
    assert len(set(keys)) == 5
    assert module._notebook_key(source, {"profile": "a"}) == keys[-1]


def test_failures_do_not_stop_the_others(tmp_path: Path) -> None:
    folder, workspace = tmp_path / "notebooks", tmp_path / "workspace"
    write_notebook(folder / "01_bad.ipynb", "print('before')", "raise ValueError('no such thing')")
    (folder / "02_broken.ipynb").write_text("{")
    write_notebook(folder / "03_dead.ipynb", "import os; os._exit(3)")
    write_notebook(folder / "04_good.ipynb", "print(profile)")
    started: list[tuple[str, int, int]] = []
    outcomes = run_notebooks(
        "smoke",
        notebooks=folder,
        workspace=workspace,
        on_start=lambda *args: started.append(args),
    )
    assert [outcome.status for outcome in outcomes] == ["failed", "failed", "failed", "executed"]
    # The broken one fails at once, so that the last may begin before the thread of the third does.
    assert started[0] == ("01_bad", 1, 4)
    assert set(started[1:]) == {("02_broken", 2, 4), ("03_dead", 3, 4), ("04_good", 4, 4)}
    assert "ValueError: no such thing" in outcomes[0].error
    assert "\x1b" not in outcomes[0].error
    assert outputs(outcomes[0].path).startswith("before")
    assert all(outcome.error for outcome in outcomes[:3])
    assert listing(workspace / "smoke" / "notebooks") == [
        "01_bad.failed.ipynb",
        "02_broken.failed.ipynb",
        "03_dead.failed.ipynb",
        "04_good.ipynb",
    ]
    assert outputs(outcomes[3].path) == "smoke\n"


@pytest.mark.parametrize("stop", [KeyboardInterrupt, OSError])
def test_what_is_stopped_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: type[BaseException]
) -> None:
    import papermill

    def interrupt(source: str, target: str, *args: Any, **told: Any) -> None:
        shutil.copyfile(source, target)
        raise stop

    monkeypatch.setattr(papermill, "execute_notebook", interrupt)
    source = write_notebook(tmp_path / "a.ipynb", "1")
    with pytest.raises(stop):
        run_notebook(source, tmp_path / "out" / "a.ipynb", {})
    assert listing(tmp_path / "out") == []


def test_independent_notebooks_run_at_the_same_time_after_the_first(tmp_path: Path) -> None:
    folder, met = tmp_path / "notebooks", tmp_path / "met"
    here = f"from pathlib import Path\nmet = Path({str(met)!r})\n"
    write_notebook(folder / "01_data.ipynb", f"{here}met.mkdir()")
    meet = (
        "import time\nfor _ in range(300):\n    time.sleep(0.1)\n"
        "    if len(list(met.iterdir())) == 2:\n        break\nelse:\n    raise TimeoutError"
    )
    for name in ("02_a", "03_b"):
        write_notebook(folder / f"{name}.ipynb", f"{here}(met / '{name}').touch()\n{meet}")
    last = write_notebook(
        folder / "00_last.ipynb", f"{here}print(sorted(p.name for p in met.iterdir()))"
    )
    notebook = nbformat.read(last, as_version=4)
    notebook.metadata["asdlib"] = {"after": ["02_a", "03_b", "not chosen"]}
    nbformat.write(notebook, folder / "04_last.ipynb")
    last.unlink()
    ended: list[tuple[str, int, int]] = []
    outcomes = run_notebooks(
        "smoke",
        notebooks=folder,
        workspace=tmp_path,
        jobs=2,
        on_done=lambda outcome, done, count: ended.append((outcome.name, done, count)),
    )
    assert [o.status for o in outcomes] == ["executed"] * 4, [o.error for o in outcomes]
    assert outputs(outcomes[3].path) == "['02_a', '03_b']\n"
    assert ended[0] == ("01_data", 1, 4)
    assert ended[3] == ("04_last", 4, 4)
    times = json.loads((tmp_path / "smoke" / "study.json").read_text())
    assert list(times["notebooks"]) == ["01_data", "02_a", "03_b", "04_last"]
    assert all(t["seconds"] > 0 and t["workers"] == 2 for t in times["notebooks"].values())
    with pytest.raises(ConfigError, match="0 notebooks at a time; give --jobs 1 or more"):
        run_notebooks("smoke", notebooks=folder, workspace=tmp_path, jobs=0)


def test_a_study_that_is_stopped_ends_its_kernels(tmp_path: Path) -> None:
    for name in ("01_a", "02_b"):
        sleep = f"print('begun', flush=True)\nopen('{tmp_path}/{name}', 'w').close()\n"
        write_notebook(tmp_path / f"{name}.ipynb", f"{sleep}import time; time.sleep(600)")

    class Stopped(BaseException):
        """What Ctrl-C is, without the signal."""

    def interrupt(work: Any) -> Any:
        def waiting(futures: Any, **told: Any) -> Any:
            if "return_when" in told:
                for _ in range(600):
                    time.sleep(0.1)
                    if (tmp_path / "01_a").exists():
                        raise Stopped
            return work(futures, **told)

        return waiting

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(schedule, "wait", interrupt(schedule.wait))
        with pytest.raises(Stopped):
            run_notebooks("smoke", notebooks=tmp_path, workspace=tmp_path / "out", jobs=2)
    children = psutil.Process().children(recursive=True)
    assert not [c for c in children if "ipykernel" in " ".join(c.cmdline())]
    assert listing(tmp_path / "out" / "smoke" / "notebooks") == []


def test_only_some_notebooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("01_a", "02_b", "10_c"):
        write_notebook(tmp_path / f"{name}.ipynb")
    monkeypatch.setattr(
        module, "run_notebook", lambda s, t, p, **told: Outcome(s.stem, "executed", 0.0, "", t)
    )
    done = run_notebooks("smoke", notebooks=tmp_path, workspace=tmp_path, only=["02", "10_c"])
    assert [outcome.name for outcome in done] == ["02_b", "10_c"]
    with pytest.raises(ConfigError, match=r"no notebook that begins with 03 or x in"):
        run_notebooks("smoke", notebooks=tmp_path, workspace=tmp_path, only=["03", "x"])
    with pytest.raises(ConfigError, match="unknown profile"):
        run_notebooks("huge", notebooks=tmp_path, workspace=tmp_path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A book of one notebook, executed on profile smoke."""
    root = tmp_path / "project"
    write_notebook(root / "notebooks" / "01_a.ipynb", "1")
    (root / "book").mkdir()
    (root / "book" / "intro.md").write_text("# Introduction\n")
    (root / "_toc.yml").write_text(
        "format: jb-book\nroot: book/intro\nchapters:\n- file: notebooks/01_a\n"
    )
    (root / "_config.yml").write_text("title: A book\nonly_build_toc_files: true\n")
    executed = tmp_path / "workspace" / "smoke" / "notebooks"
    executed.mkdir(parents=True)
    shutil.copy(root / "notebooks" / "01_a.ipynb", executed)
    return root


def test_no_book(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no _toc\.yml and _config\.yml; give --source"):
        build_book("smoke", source=tmp_path, workspace=tmp_path)


def test_a_book_needs_executed_notebooks(project: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"'01_a\.ipynb' is not executed on profile 'classroom'"):
        build_book("classroom", source=project, workspace=tmp_path / "workspace")
    (tmp_path / "workspace" / "smoke" / "notebooks" / "01_a.failed.ipynb").write_text("{}")
    with pytest.raises(RunError, match=r"'01_a\.ipynb' failed when it was last run"):
        build_book("smoke", source=project, workspace=tmp_path / "workspace")
    assert not (project / "_build").exists()


def test_times_of_a_study_become_a_table(tmp_path: Path) -> None:
    assert times_table(tmp_path / "none.json", "smoke") == ""
    told = {"seconds": 90.0, "workers": 2, "cores": 4, "date": "2026-11-22"}
    (tmp_path / "study.json").write_text(json.dumps({"notebooks": {"01_data": told}}))
    table = times_table(tmp_path / "study.json", "smoke")
    assert "on the profile `smoke`" in table
    assert "| `01_data` | 1.5 | 2 on 4 | 2026-11-22 |" in table


def test_kernels_do_not_report_their_interruption_but_errors(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    log = "get_ipython().kernel.log"
    source = write_notebook(
        tmp_path / "01_a.ipynb",
        f"{log}.error('KeyboardInterrupt caught in kernel.')\n{log}.error('real trouble')\n"
        f"{log}.warning('a remark')",
    )
    assert run_notebook(source, tmp_path / "out" / "01_a.ipynb", {}).status == "executed"
    told = capfd.readouterr().err
    assert "real trouble" in told
    assert "KeyboardInterrupt" not in told
    assert "a remark" not in told


def test_a_foreign_folder_is_not_replaced_by_a_book(project: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match="exists and is no rendered book"):
        build_book("smoke", source=project, workspace=tmp_path / "workspace", html=mine)
    assert listing(mine) == ["thesis.txt"]


def test_warnings_of_the_book_are_errors(project: Path, tmp_path: Path) -> None:
    (project / "book" / "intro.md").write_text("# Introduction\n\n[](nowhere.md)\n")
    with pytest.raises(RunError) as caught:
        build_book("smoke", source=project, workspace=tmp_path / "workspace")
    assert str(caught.value).startswith("jupyter-book failed: ")
    assert "nowhere" in str(caught.value)
    assert "build.log" in str(caught.value)
    assert not (project / "_build").exists()
