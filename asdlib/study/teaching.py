"""Exercises: data for each student, and the answers of a notebook checked.

Exercise notebooks carry the cell metadata of nbgrader: answers stand in cells marked ``solution``,
checks in locked cells marked ``grade``. Checking restores the locked cells from the original, so
that a notebook whose checks were changed gains nothing, and runs it in a kernel of its own. It does
not guard against malice: answers of strangers belong into a container.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from asdlib.errors import ConfigError, RunError
from asdlib.study.notebooks import KERNEL_ARGUMENTS

EXERCISES = Path("teaching/exercises")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


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


def student_seed(name: str) -> int:
    """Seed of a student: the same for a name however it is written, hardly ever shared.

    Raises
    ------
    ConfigError
        If the name has no letter or digit.
    """
    plain = unicodedata.normalize("NFKD", name).casefold()
    plain = "".join(letter for letter in plain if letter.isalnum())
    if not plain:
        raise ConfigError(f"name {name!r} has no letter or digit; give a name or a number")
    return int.from_bytes(hashlib.sha256(plain.encode()).digest()[:4]) >> 1


def write_student_data(
    name: str, out: str | Path, *, profile: str = "classroom", jobs: int | None = None
) -> pd.DataFrame:
    """Write synthetic recordings of a student's own: the same machines, other clips.

    Parameters
    ----------
    name
        Whose they are, see `student_seed`.
    out
        Folder to make.
    profile
        Size, a key of `asdlib.data.synthetic.SPECS`.
    jobs
        Processes.

    Returns
    -------
    The clip table.
    """
    from asdlib.data.synthetic import SPECS, write_corpus

    if profile not in SPECS:
        known = ", ".join(SPECS)
        raise ConfigError(f"unknown profile '{profile}' of synthetic data (known: {known})")
    spec = SPECS[profile].model_copy(update={"seed": student_seed(name)})
    return write_corpus(spec, out, jobs=jobs)


def student_scores(name: str, n: int = 300) -> tuple[Any, Any]:
    """Labels (n,) and anomaly scores (n,) of an imagined detector, a student's own."""
    rng = np.random.default_rng(student_seed(name))
    y_true = np.tile([0, 0, 1], n // 3 + 1)[:n]
    return y_true, np.round(rng.gamma(3.0, size=n) + rng.uniform(1, 2) * y_true, 2)


def student_features(name: str, out: str | Path = "build/exercises") -> tuple[Any, Any, Any]:
    """Give log-mel features of a student's own fan recordings; they are made on first use.

    Returns
    -------
    Training clips (B, F, T) in dB, test clips (B, F, T) in dB, labels of the test clips (B,).
    """
    from asdlib.data.synthetic import SPECS, write_corpus
    from asdlib.features.build import build_store

    seed = student_seed(name)
    root = Path(out) / str(seed)
    size = {"machines": ("fan",), "n_sections": 1, "n_train": 40, "seed": seed}
    spec = SPECS["smoke"].model_copy(update={**size, "n_test_normal": 15, "n_test_anomaly": 15})
    write_corpus(spec, root / "recordings", jobs=1)
    store = build_store(root / "recordings", root / "store", preset="dcase2020", jobs=1)
    parts = []
    for split in ("train", "test"):
        rows = store.rows(split=split)
        parts.append(np.asarray(store.features[rows.index], dtype=np.float32))
    truth = (store.rows(split="test").manifest["label"] == "anomaly").to_numpy(dtype=int)
    return parts[0], parts[1], truth


def check_answers(
    notebook: str | Path, originals: str | Path = EXERCISES, *, timeout: int = 120
) -> list[Mark]:
    """Run a filled exercise notebook and check each answer.

    Parameters
    ----------
    notebook
        The filled notebook; it is not changed.
    originals
        Folder of the exercise notebooks as they were handed out.
    timeout
        Seconds that one cell may take.

    Raises
    ------
    ConfigError
        If the notebook is no exercise, or cells of the original are missing.
    RunError
        If it cannot be run at all.
    """
    from nbclient import NotebookClient
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    path = Path(notebook)
    filled = _read(path)
    name = filled.metadata.get("asdlib", {}).get("exercise", path.stem)
    source = Path(originals) / f"{name}.ipynb"
    if not source.is_file():
        known = ", ".join(sorted(p.stem for p in Path(originals).glob("*.ipynb"))) or "none"
        raise ConfigError(
            f"'{path}' is no exercise of '{originals}' (known: {known}); give --originals FOLDER"
        )
    _restore(filled, _read(source), path)
    filled.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    client = NotebookClient(
        filled, timeout=timeout, allow_errors=True, extra_arguments=KERNEL_ARGUMENTS
    )
    try:
        done = client.execute()
    except CellTimeoutError:
        raise RunError(f"a cell of '{path}' took more than {timeout} s; look for a loop") from None
    except DeadKernelError:
        raise RunError(
            f"the kernel died while it ran '{path}'; look for too large arrays"
        ) from None
    return [_mark(cell) for cell in done.cells if _graded(cell)]


def _read(path: Path) -> Any:
    import nbformat

    try:
        return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    except FileNotFoundError:
        raise ConfigError(f"there is no notebook '{path}'") from None
    except (ValueError, KeyError, nbformat.ValidationError):
        raise ConfigError(f"'{path}' is no notebook; save it from Jupyter once more") from None


def _grading(cell: Mapping[str, Any]) -> dict[str, Any]:
    return dict(cell["metadata"].get("nbgrader", {}))


def _graded(cell: Mapping[str, Any]) -> bool:
    return cell["cell_type"] == "code" and bool(_grading(cell).get("grade"))


def _restore(filled: Any, original: Any, path: Path) -> None:
    """Put the locked cells of the original in the place of the student's."""
    mine = {_grading(cell).get("grade_id"): cell for cell in filled.cells}
    for cell in original.cells:
        told = _grading(cell)
        if not told:
            continue
        if told["grade_id"] not in mine:
            raise ConfigError(
                f"'{path}' has no cell '{told['grade_id']}' any more; copy your answers into a "
                "fresh copy of the exercise"
            )
        if told.get("locked"):
            own = mine[told["grade_id"]]
            own["source"], own["cell_type"] = cell["source"], cell["cell_type"]
            own["metadata"]["nbgrader"] = told


def _mark(cell: Any) -> Mark:
    told = _grading(cell)
    of = float(told.get("points", 1))
    errors = [output for output in cell.get("outputs", []) if output["output_type"] == "error"]
    if not errors:
        return Mark(told["grade_id"], of, of, "")
    value = " ".join(_ANSI.sub("", errors[0]["evalue"]).split())
    wrong = errors[0]["ename"] == "WrongAnswerError"
    return Mark(told["grade_id"], 0.0, of, value if wrong else f"{errors[0]['ename']}: {value}")


def marks_to_json(marks: list[Mark]) -> str:
    """Give marks as JSON, for a gradebook."""
    return json.dumps([mark.__dict__ for mark in marks], indent=2, ensure_ascii=False)
