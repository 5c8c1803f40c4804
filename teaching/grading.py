"""Grade a filled exercise notebook: run it in a kernel of its own, and collect its points.

Exercise notebooks carry the cell metadata of nbgrader: answers stand in cells marked ``solution``,
checks in locked cells marked ``grade``. What is locked, what is graded and how comes from the
exercise as it was handed out and from the ``checks.py`` beside it; of the student's notebook only
the other cells count. This does not guard against malice: a cell may do what any program may, so
that notebooks of strangers belong into a container.
"""

import json
import os
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellTimeoutError, DeadKernelError

from asdlib.errors import ConfigError, RunError

EXERCISES = Path(__file__).parent / "exercises"
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
# Stands before each locked cell: its imports are those of the exercise, whatever ran before.
_FRESH = """import sys
sys.path.insert(0, {folder!r})
for module in {modules!r}:
    sys.modules.pop(module, None)
"""


@dataclass(frozen=True)
class Mark:
    """What became of one answer.

    Attributes
    ----------
    exercise
        Its ``grade_id``.
    points
        Points that it got.
    of
        Points that it can get.
    hint
        What is wrong, in one line; empty if it is right.
    """

    exercise: str
    points: float
    of: float
    hint: str

    def as_row(self) -> dict[str, str]:
        """Return what a table shows."""
        return {
            "exercise": self.exercise.removeprefix("check-"),
            "points": f"{self.points:g} of {self.of:g}",
            "answer": self.hint or "right",
        }


def check_answers(notebook: Path, originals: Path = EXERCISES, *, timeout: int = 120) -> list[Mark]:
    """Run a filled exercise notebook and check each answer.

    Parameters
    ----------
    notebook
        The filled notebook; it is not changed. Its metadata name the exercise, else its file name.
    originals
        Folder of the exercise notebooks as they were handed out, and of their checks.
    timeout
        Seconds that one cell may take.

    Raises
    ------
    ConfigError
        If the notebook is no exercise of this folder, or cells of the original are missing.
    RunError
        If it cannot be run at all.
    """
    filled = _read(notebook)
    named = filled.metadata.get("asdlib")
    name = str(named.get("exercise", notebook.stem)) if isinstance(named, dict) else notebook.stem
    known = {path.stem: path for path in sorted(originals.glob("*.ipynb"))}
    if name not in known:
        raise ConfigError(
            f"'{notebook}' is no exercise of '{originals}' (known: {', '.join(known) or 'none'}); "
            "give --originals FOLDER"
        )
    graded = _restore(filled, _read(known[name]), notebook, originals)
    filled.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    search = os.pathsep.join([str(originals.resolve()), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory(prefix="asdlib-exercise-") as folder:
        client = NotebookClient(
            filled,
            timeout=timeout,
            startup_timeout=600,
            allow_errors=True,
            extra_arguments=["--IPKernelApp.log_level=50"],
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute(env=os.environ | {"PYTHONPATH": search.rstrip(os.pathsep)})
        except CellTimeoutError:
            raise RunError(
                f"a cell of '{notebook}' took more than {timeout} s; look for a loop"
            ) from None
        except DeadKernelError:
            raise RunError(
                f"the kernel died while it ran '{notebook}'; look for too large arrays"
            ) from None
    return [_mark(cell, grading) for cell, grading in graded]


def marks_to_json(marks: list[Mark]) -> str:
    """Write marks as JSON, for a gradebook."""
    return json.dumps([asdict(mark) for mark in marks], indent=2, ensure_ascii=False)


def _read(path: Path) -> Any:
    try:
        notebook = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
        nbformat.validate(notebook)
        return notebook
    except FileNotFoundError:
        raise ConfigError(f"there is no notebook '{path}'") from None
    except OSError:
        raise
    except Exception:  # what is no notebook fails in nbformat in every thinkable way
        raise ConfigError(f"'{path}' is no notebook; save it from Jupyter once more") from None


def _restore(
    filled: Any, original: Any, path: Path, originals: Path
) -> list[tuple[Any, dict[str, Any]]]:
    """Put the locked cells of the original in place; return the graded ones and their grading."""
    marks = [cell.metadata.pop("nbgrader", None) for cell in filled.cells]
    own = {
        str(mark["grade_id"]): cell
        for mark, cell in zip(marks, filled.cells, strict=True)
        if isinstance(mark, dict) and "grade_id" in mark
    }
    modules = [module.stem for module in originals.glob("*.py")]
    fresh = _FRESH.format(folder=str(originals.resolve()), modules=modules)
    graded = []
    for cell in original.cells:
        grading = cell.metadata.get("nbgrader")
        if not grading:
            continue
        mine = own.get(grading["grade_id"])
        if mine is None:
            raise ConfigError(
                f"'{path}' has no cell '{grading['grade_id']}' any more; copy your answers into a "
                "fresh copy of the exercise"
            )
        if grading["locked"]:
            mine["cell_type"] = cell["cell_type"]
            mine["source"] = fresh + cell["source"] if grading["grade"] else cell["source"]
            mine["outputs"], mine["execution_count"] = [], None
        if grading["grade"]:
            mine.metadata["tags"] = []
            graded.append((mine, grading))
    return graded


def _mark(cell: Any, grading: dict[str, Any]) -> Mark:
    of = float(grading["points"])
    errors = [output for output in cell.outputs if output["output_type"] == "error"]
    if not errors and cell.execution_count is not None:
        return Mark(grading["grade_id"], of, of, "")
    if not errors:
        return Mark(grading["grade_id"], 0.0, of, "the check did not run")
    hint = " ".join(_ANSI.sub("", errors[0]["evalue"]).split())
    if errors[0]["ename"] != "WrongAnswerError":
        hint = f"{errors[0]['ename']}: {hint}"
    return Mark(grading["grade_id"], 0.0, of, hint)
