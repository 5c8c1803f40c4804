"""Exercises: the reference solution passes, wrong answers fail with a line that helps."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest

from asdlib.errors import ConfigError, RunError
from asdlib.evaluation import auc
from asdlib.study.answers import WrongAnswerError
from asdlib.study.checks import CHECKS, check
from asdlib.study.teaching import (
    check_answers,
    marks_to_json,
    student_features,
    student_scores,
    student_seed,
    write_student_data,
)

ROOT = Path(__file__).parents[2]
EXERCISES = ROOT / "teaching" / "exercises"
NAMES = sorted(path.stem for path in EXERCISES.glob("*.ipynb"))


def solution_cells(name: str) -> dict[str, str]:
    text = (ROOT / "teaching" / "solutions" / f"{name}.py").read_text(encoding="utf-8")
    parts = re.split(r"^# %% (\w+)\n", text, flags=re.MULTILINE)[1:]
    return dict(zip(parts[::2], parts[1::2], strict=True))


def solved(name: str) -> Any:
    notebook = nbformat.read(EXERCISES / f"{name}.ipynb", as_version=4)
    cells = solution_cells(name)
    for cell in notebook.cells:
        grading = cell.metadata.get("nbgrader", {})
        if grading.get("solution"):
            cell.source = cells.pop(grading["grade_id"])
    assert cells == {}
    return notebook


def solution_namespace() -> dict[str, Any]:
    namespace: dict[str, Any] = {"np": np, "auc": auc}
    rng = np.random.default_rng(5)
    namespace |= {"train": rng.normal(size=(40, 16)), "test": rng.normal(size=(30, 16)) * 1.5}
    namespace["y_true"] = np.tile([0, 1], 15)
    for name in NAMES:
        for source in solution_cells(name).values():
            exec(source, namespace)
    return namespace


@pytest.mark.parametrize("name", NAMES)
def test_an_exercise_is_empty_thin_and_marked_as_nbgrader_marks(name: str) -> None:
    notebook = nbformat.read(EXERCISES / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert notebook.metadata["asdlib"]["exercise"] == name
    marked = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
    ids = [cell.metadata["nbgrader"]["grade_id"] for cell in marked]
    assert len(ids) == len(set(ids))
    for cell in marked:
        told = cell.metadata["nbgrader"]
        assert {"grade", "grade_id", "locked", "schema_version", "solution", "task"} <= set(told)
        assert told["schema_version"] == 3
        if told["grade"]:
            assert told["locked"]
            assert told["points"] > 0
            assert f'check("{told["grade_id"].removeprefix("check-")}", globals())' in cell.source
        if told["solution"]:
            assert "your code here" in cell.source
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [c for c in code if c.outputs or c.execution_count is not None] == []
    assert all(len(cell.source.splitlines()) <= 15 for cell in code)
    assert sum("parameters" in c.metadata.get("tags", []) for c in code) == 1
    assert set(solution_cells(name)) == {
        c.metadata["nbgrader"]["grade_id"] for c in marked if c.metadata["nbgrader"]["solution"]
    }


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_reference_solutions_are_right(seed: int) -> None:
    namespace = solution_namespace()
    for name in CHECKS:
        check(name, namespace, seed=seed)


def naive_mix(x: Any, z: Any, ratio: float) -> Any:
    return np.log((1 - ratio) * np.exp(x) + ratio * np.exp(z))


def bare_area(y_true: Any, score: Any, max_fpr: float) -> float:
    from asdlib.evaluation import pauc

    least = max_fpr**2 / 2
    return (2 * pauc(y_true, score, max_fpr) - 1) * (max_fpr - least) + least


def wins(y_true: Any, score: Any) -> float:
    return float((score[y_true == 1][:, None] > score[y_true == 0][None, :]).mean())


WRONG: list[tuple[str, str, Any, str]] = [
    ("rates", "rates", lambda y, s, t: ((s >= t)[y == 1].mean(), (s >= t)[y == 0].mean()), "above"),
    ("rates", "rates", lambda y, s, t: ((s > t)[y == 0].mean(), (s > t)[y == 1].mean()), "order"),
    ("rates", "rates", lambda y, s, t: 0.5, r"gave shape \(\)"),
    ("area", "area", lambda y, s: auc(y, -s), "turned around"),
    ("area", "area", wins, "tie of a pair counts one half"),
    ("area", "area", lambda y, s: None, "gives nothing"),
    ("area", "area", lambda y, s: 1 / 0, "stopped with ZeroDivisionError"),
    ("area", "area", "no function", "there is no function `area` yet"),
    ("partial_area", "partial_area", bare_area, "standardise"),
    ("partial_area", "partial_area", lambda y, s, m: bare_area(y, s, m) / m, "McClish maps"),
    ("threshold", "choose_threshold", lambda s, r: s.max(), "keeps it as well"),
    ("threshold", "choose_threshold", lambda s, r: s.min(), "at most"),
    ("frame_count", "frame_count", lambda n, h: n // h, "centred"),
    ("band_level", "band_level", lambda x, f, a, b: x[(f >= a) & (f < b)].mean(), "decibels"),
    ("distance", "distance", lambda a, b: ((b - a.mean(0)) ** 2).sum(1), "Euclidean"),
    ("own_auc", "own_auc", 0.123, "your recordings give"),
    ("own_auc", "own_auc", None, "gives nothing"),
    ("standardise", "standardise", lambda x, m, s: (x - m) / s**2, "not by the variance"),
    ("mix", "mix", naive_mix, "overflow"),
    ("mix", "mix", lambda x, z, r: (1 - r) * x + r * z, "mixes logarithms"),
    ("contrastive_loss", "contrastive_loss", lambda z, y, t: 1.0, "got 1.0000"),
]


@pytest.mark.parametrize(("name", "variable", "value", "hint"), WRONG)
def test_a_wrong_answer_gets_a_line_that_helps(
    name: str, variable: str, value: Any, hint: str
) -> None:
    namespace = solution_namespace()
    if not (callable(value) or variable == "own_auc"):
        del namespace[variable]
    else:
        namespace[variable] = value
    with pytest.raises(WrongAnswerError, match=hint) as caught:
        check(name, namespace)
    assert "\n" not in str(caught.value)


def test_an_unknown_exercise_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown exercise 'x' \(known: rates, area,"):
        check("x", {})


def test_the_seed_of_a_student_follows_the_name_however_it_is_written() -> None:
    assert student_seed("Zoë Müller") == student_seed("  zoe-muller ") != student_seed("Zoe Miller")
    assert 0 <= student_seed("7") < 2**31
    with pytest.raises(ConfigError, match="has no letter or digit"):
        student_seed(" - ")
    mine, yours = student_scores("Ada"), student_scores("Grace")
    assert len(mine[0]) == len(mine[1]) == 300
    assert not np.array_equal(mine[1], yours[1])
    assert auc(*mine) > 0.6


def test_each_student_has_recordings_and_features_of_their_own(tmp_path: Path) -> None:
    table = write_student_data("Ada", tmp_path / "ada", profile="smoke", jobs=1)
    assert len(table) == 88
    with pytest.raises(ConfigError, match="unknown profile 'huge'"):
        write_student_data("Ada", tmp_path / "x", profile="huge")
    train, test, y_true = student_features("Ada", tmp_path / "own")
    assert train.shape[0] == 40
    assert train.shape[1:] == test.shape[1:]
    assert y_true.tolist().count(1) == y_true.tolist().count(0) == 15
    again = student_features("ada", tmp_path / "own")
    assert np.array_equal(train, again[0])


@pytest.fixture
def filled(tmp_path: Path) -> Callable[..., Path]:
    """Write the solved notebook of exercise 3, with changed cells."""

    def write(**changes: str) -> Path:
        notebook = solved("03_contrast")
        for cell in notebook.cells:
            grade_id = cell.metadata.get("nbgrader", {}).get("grade_id", "").replace("-", "_")
            cell.source = changes.get(grade_id, cell.source)
        path = tmp_path / "mine.ipynb"
        nbformat.write(notebook, path)
        return path

    return write


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_solved_notebooks_get_all_points(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    nbformat.write(solved(name), tmp_path / "filled.ipynb")
    marks = check_answers(tmp_path / "filled.ipynb", EXERCISES)
    assert marks
    assert [mark for mark in marks if mark.hint or mark.points != mark.of] == []


@pytest.mark.slow
def test_a_notebook_whose_checks_were_changed_gains_nothing(filled: Callable[..., Path]) -> None:
    path = filled(
        mix="def mix(x, z, ratio):\n    return x",
        check_mix="pass",
        standardise="def standardise(log_mel, mean, std):\n    raise NotImplementedError",
    )
    marks = {mark.exercise: mark for mark in check_answers(path, EXERCISES)}
    assert marks["check-mix"].points == 0
    assert "not right" in marks["check-mix"].hint
    assert marks["check-standardise"].hint == "`standardise` is not written yet"
    assert marks["check-contrastive_loss"].points == 5
    told = json.loads(marks_to_json(list(marks.values())))
    assert told[0]["exercise"] == "check-standardise"


def test_what_is_no_exercise_is_refused(filled: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no notebook"):
        check_answers(tmp_path / "none.ipynb", EXERCISES)
    (tmp_path / "text.ipynb").write_text("{")
    with pytest.raises(ConfigError, match="is no notebook"):
        check_answers(tmp_path / "text.ipynb", EXERCISES)
    path = filled()
    with pytest.raises(ConfigError, match=r"is no exercise of .* \(known: none\)"):
        check_answers(path, tmp_path / "empty")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [c for c in notebook.cells if "nbgrader" not in c.metadata]
    nbformat.write(notebook, path)
    with pytest.raises(ConfigError, match="has no cell 'standardise' any more"):
        check_answers(path, EXERCISES)


@pytest.mark.slow
def test_an_endless_answer_is_stopped(filled: Callable[..., Path]) -> None:
    path = filled(standardise="while True:\n    pass")
    with pytest.raises(RunError, match="took more than 3 s; look for a loop"):
        check_answers(path, EXERCISES, timeout=3)
