"""Exercises: the reference solution passes, wrong answers fail with a line that helps."""

import json
import re
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import torch
from grading import EXERCISES, check_answers, marks_to_json
from sklearn.metrics import roc_auc_score

from asdlib import auc, pauc
from asdlib.errors import ConfigError, RunError
from asdlib.method import supervised_contrastive_loss
from checks import CHECKS, WrongAnswerError, check, mahalanobis, supervised_contrast
from students import student_features, student_scores, student_seed, write_student_data

ROOT = Path(__file__).parents[2]
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


def test_an_exercise_is_empty_and_marked_as_nbgrader_marks() -> None:
    for exercise in NAMES:
        notebook = nbformat.read(EXERCISES / f"{exercise}.ipynb", as_version=4)
        nbformat.validate(notebook)
        assert notebook.metadata["asdlib"]["exercise"] == exercise
        marked = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
        ids = [cell.metadata["nbgrader"]["grade_id"] for cell in marked]
        assert len(ids) == len(set(ids))
        for cell in marked:
            grading = cell.metadata["nbgrader"]
            assert {"grade", "grade_id", "locked", "schema_version", "solution", "task"} <= set(
                grading
            )
            assert grading["schema_version"] == 3
            if grading["grade"]:
                assert grading["locked"]
                assert grading["points"] > 0
                name = grading["grade_id"].removeprefix("check-")
                assert cell.source == f'from checks import check\n\ncheck("{name}", globals())'
            if grading["solution"]:
                assert "your code here" in cell.source
        code = [cell for cell in notebook.cells if cell.cell_type == "code"]
        assert [c for c in code if c.outputs or c.execution_count is not None] == []
        assert all(len(cell.source.splitlines()) <= 15 for cell in code)
        assert sum("parameters" in c.metadata.get("tags", []) for c in code) == 1
        assert set(solution_cells(exercise)) == {
            c.metadata["nbgrader"]["grade_id"] for c in marked if c.metadata["nbgrader"]["solution"]
        }


def test_the_reference_solutions_are_right() -> None:
    namespace = solution_namespace()
    for seed in range(3):
        for name in CHECKS:
            check(name, namespace, seed=seed)


def test_the_loss_of_the_checks_is_that_of_the_library() -> None:
    rng = np.random.default_rng(3)
    z = rng.normal(size=(12, 5))
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    labels = rng.integers(0, 3, size=12)
    for temperature in (0.07, 1.0):
        told = supervised_contrastive_loss(torch.tensor(z), torch.tensor(labels), temperature)
        assert supervised_contrast(z, labels, temperature) == pytest.approx(float(told), rel=1e-6)


def naive_mix(x: Any, z: Any, ratio: float) -> Any:
    return np.log((1 - ratio) * np.exp(x) + ratio * np.exp(z))


def bare_area(y_true: Any, score: Any, max_fpr: float) -> float:
    least = max_fpr**2 / 2
    return (2 * pauc(y_true, score, max_fpr) - 1) * (max_fpr - least) + least


def wins(y_true: Any, score: Any) -> float:
    return float((score[y_true == 1][:, None] > score[y_true == 0][None, :]).mean())


def imports_inside(y_true: Any, score: Any, max_fpr: float) -> Any:
    from sklearn import metrics

    return metrics.roc_auc_score(y_true, score, max_fpr=max_fpr)


def of_all_pairs(z: Any, labels: Any, temperature: float) -> float:
    """Average over pairs: an anchor with many positives counts more."""
    similar = z @ z.T / temperature
    np.fill_diagonal(similar, -np.inf)
    log_share = similar - np.log(np.exp(similar).sum(axis=1, keepdims=True))
    positive = (labels[:, None] == labels) & ~np.eye(len(z), dtype=bool)
    return float(-log_share[positive].mean())


def power_sum(log_mel: Any) -> float:
    return float(10 * np.log10(np.sum(10 ** (log_mel / 10))))


def contrast(z: Any, labels: Any, temperature: float) -> float:
    return supervised_contrast(z, labels, temperature)


def at(row: Any, places: Any) -> Any:
    return np.interp(places, np.arange(len(row)), row)


def nearest(start: int, width: int, size: int) -> Any:
    return np.rint(np.linspace(start, start + width - 1, size)).astype(int)


def by_clip(views: Any, axis: tuple[int, ...]) -> Any:
    return (views - views.mean(axis, keepdims=True)) / views.std(axis, keepdims=True)


def share(difference: Any, chosen: Any) -> float:
    return float(difference[chosen].sum() / difference.sum())


def same(values: Any) -> Any:
    return values[:, None] == values


def eye(values: Any) -> Any:
    return np.eye(len(values), dtype=bool)


def steps(strides: Any) -> Any:
    return np.cumprod([1, *strides[:-1]])


def z_mean(normal: Any, test: Any) -> Any:
    return ((test - normal.mean(1, keepdims=True)) / normal.std(1, keepdims=True)).mean(0)


def ranks(score: Any) -> Any:
    """Ranks from 1, ties share their mean."""
    return (score[:, None] > score).sum(1) + ((score[:, None] == score).sum(1) + 1) / 2


WRONG: list[tuple[str, str, Any, str]] = [
    ("rates", "rates", lambda y, s, t: ((s >= t)[y == 1].mean(), (s >= t)[y == 0].mean()), "above"),
    ("rates", "rates", lambda y, s, t: ((s > t)[y == 0].mean(), (s > t)[y == 1].mean()), "order"),
    ("rates", "rates", lambda y, s, t: 0.5, r"gave shape \(\)"),
    ("area", "area", lambda y, s: auc(y, -s), "turned around"),
    ("area", "area", wins, "tie of a pair counts one half"),
    ("area", "area", lambda y, s: None, "gives nothing"),
    ("area", "area", lambda y, s: 1 / 0, "stopped with ZeroDivisionError"),
    ("area", "area", lambda y, s: np.nan, "gave nan, expected a finite number"),
    ("area", "area", "no function", "there is no function `area` yet"),
    ("partial_area", "partial_area", bare_area, "standardise"),
    ("partial_area", "partial_area", lambda y, s, m: bare_area(y, s, m) / m, "McClish maps"),
    ("threshold", "choose_threshold", lambda s, r: s.max(), "keeps it as well"),
    ("threshold", "choose_threshold", lambda s, r: s.min(), "at most"),
    ("frame_count", "frame_count", lambda n, h: n // h, "centred"),
    ("band_level", "band_level", lambda x, f, a, b: x[(f >= a) & (f < b)].mean(), "decibels"),
    ("distance", "distance", lambda a, b: ((b - a.mean(0)) ** 2).sum(1), "Euclidean"),
    ("own_auc", "own_auc", lambda a, b, y: 0.796, "clips that you have not seen"),
    ("own_auc", "own_auc", lambda a, b, y: auc(y, -mahalanobis(a, b)), "turned around"),
    ("own_auc", "own_auc", lambda a, b, y: auc(y, ((b - a.mean(0)) ** 2).sum(1)), "Euclidean"),
    ("own_auc", "own_auc", 0.796, "there is no function"),
    ("area", "area", roc_auc_score, "leaves the work to sklearn"),
    ("area", "area", lambda y, s: roc_auc_score(y, s), "leaves the work to sklearn"),
    ("partial_area", "partial_area", imports_inside, "leaves the work to sklearn"),
    ("standardise", "standardise", lambda x, m, s: (x - m) / s**2, "not by the variance"),
    ("mix", "mix", naive_mix, "overflow"),
    ("mix", "mix", lambda x, z, r: (1 - r) * x + r * z, "mixes logarithms"),
    ("contrastive_loss", "contrastive_loss", lambda z, y, t: 1.0, "got 1.0000"),
    ("contrastive_loss", "contrastive_loss", of_all_pairs, "positives of each anchor first"),
    ("frame_count", "frame_count", lambda n, h: 1 + (n - 1024) // h, "centred"),
    ("band_level", "band_level", lambda x, f, a, b: x[(f >= a) & (f <= b)].mean(), "decibels"),
    ("band_level", "band_level", lambda x, f, a, b: power_sum(x[(f >= a) & (f < b)]), "mean, not"),
    ("distance", "distance", lambda a, b: -mahalanobis(a, b), "turned around"),
    ("distance", "distance", lambda a, b: (b - a.mean(0)) ** 2, "gave shape"),
    ("standardise", "standardise", lambda x, m, s: (x + m) / s, "expected zero mean"),
    ("standardise", "standardise", lambda x, m, s: ((x - m) / s).ravel(), "gave shape"),
    ("mix", "mix", lambda x, z, r: np.logaddexp(x + np.log(r), z + np.log(1 - r)), "belongs to z"),
    ("mix", "mix", lambda x, z, r: x, "is not right"),
    ("contrastive_loss", "contrastive_loss", lambda z, y, t: contrast(z, y, 1.0), "temperature is"),
    ("contrastive_loss", "contrastive_loss", lambda z, y, t: -contrast(z, y, t), "sign is turned"),
    ("resize", "resize", lambda r, a, w, n: np.resize(r[a : a + w], n), "is not right"),
    ("resize", "resize", lambda r, a, w, n: at(r, np.linspace(0, w - 1, n)), "at `start`"),
    ("resize", "resize", lambda r, a, w, n: at(r, a + np.arange(n) * w / n), "stay the last"),
    ("resize", "resize", lambda r, a, w, n: r[nearest(a, w, n)], "interpolate between"),
    ("post_normalise", "post_normalise", lambda v: by_clip(v, (2, 3)), "not for each clip"),
    ("post_normalise", "post_normalise", lambda v: by_clip(v, (1, 2, 3)), "not for each view"),
    ("post_normalise", "post_normalise", lambda v: (v - v.mean()) / v.var(), "expected 0 and 1"),
    ("post_normalise", "post_normalise", lambda v: (v - v.mean()) / v.std(ddof=1), "n − 1"),
    ("high_share", "high_share", lambda a, b, f, c: share(abs(a - b), f > c), "at the cut-off"),
    ("high_share", "high_share", lambda a, b, f, c: share(abs(a - b), f < c), "below the cut-off"),
    ("high_share", "high_share", lambda a, b, f, c: share((a - b) ** 2, f >= c), "not squares"),
    ("high_share", "high_share", lambda a, b, f, c: share(a - b, f >= c), "of both signs"),
    ("positives", "positives", lambda y, d, c: same(y) & (~same(d) | same(c)), "of itself"),
    ("positives", "positives", lambda y, d, c: same(y) & ~eye(y), "domain is not used"),
    ("positives", "positives", lambda y, d, c: same(y) & ~same(d), "other view of the clip"),
    ("positives", "positives", lambda y, d, c: ~same(y), "negatives"),
    ("reach", "reach", lambda k, s: 1 + sum(k) - len(k), "all \\*later"),
    ("reach", "reach", lambda k, s: 1 + (np.array(k) - 1) @ np.cumprod(s), "after it only"),
    ("reach", "reach", lambda k, s: (np.array(k) - 1) @ steps(s), "the one cell"),
    ("reach", "reach", lambda k, s: np.prod(s), "total stride"),
    ("level_score", "level_score", lambda a, b: z_mean(a, b), "logarithms of the distances"),
    ("level_score", "level_score", lambda a, b: z_mean(np.log(b), np.log(b)), "must not set"),
    ("level_score", "level_score", lambda a, b: 3 * z_mean(np.log(a), np.log(b)), "do not add"),
    ("level_score", "level_score", lambda a, b: np.log(b).mean(0), "are wrong"),
]
"""Exercise, what it defines, a wrong answer, a part of its hint."""

RIGHT: list[tuple[str, str, Any]] = [
    ("area", "area", lambda y, s: (ranks(s)[y == 1].mean() - (sum(y) + 1) / 2) / sum(y == 0)),
    ("threshold", "choose_threshold", lambda s, r: np.sort(s)[::-1][int(r * len(s))]),
    ("frame_count", "frame_count", lambda n, h: len(range(0, n + 1, h))),
    ("distance", "distance", lambda a, b: np.sqrt(mahalanobis(a, b))),
    ("mix", "mix", lambda x, z, r: x + np.log1p(r * np.expm1(z - x))),
    ("resize", "resize", lambda r, a, w, n: at(r, np.linspace(a, a + w - 1, n))),
    ("high_share", "high_share", lambda a, b, f, c: share(abs(b - a), f >= c)),
    ("reach", "reach", lambda k, s: 1 + sum((np.array(k) - 1) * steps(s))),
    ("positives", "positives", lambda y, d, c: same(y) * (1 - same(d) * ~same(c)) - eye(y)),
    ("level_score", "level_score", lambda a, b: z_mean(np.log2(a), np.log2(b))),
]
"""Answers that are right without being the reference solution."""


def test_a_wrong_answer_gets_a_line_that_helps() -> None:
    right = solution_namespace()
    for name, variable, value, hint in WRONG:
        namespace = right | {variable: value, "roc_auc_score": roc_auc_score}
        if not callable(value):
            del namespace[variable]
        with pytest.raises(WrongAnswerError, match=hint) as caught:
            check(name, namespace)
        assert "\n" not in str(caught.value)


def test_another_right_answer_is_right() -> None:
    for name, variable, value in RIGHT:
        check(name, solution_namespace() | {variable: value})


def test_each_exercise_is_tried_in_eleven_ways() -> None:
    for exercise in NAMES:
        parts = solution_cells(exercise)
        assert sum(variable in parts or name in parts for name, variable, *_ in WRONG) >= 11


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
    with pytest.raises(ConfigError, match="unknown profile 'huge'"):
        write_student_data("Ada", tmp_path / "x", profile="huge")
    train, test, y_true = student_features("Ada", tmp_path / "own")
    assert train.shape[0] == 40
    assert train.shape[1:] == test.shape[1:]
    assert y_true.tolist().count(1) == y_true.tolist().count(0) == 15
    again = student_features("ada", tmp_path / "own")
    assert np.array_equal(train, again[0])


def write(path: Path, name: str, **changes: str) -> Path:
    """Write the solved notebook of an exercise, with changed cells."""
    notebook = solved(name)
    for cell in notebook.cells:
        grade_id = cell.metadata.get("nbgrader", {}).get("grade_id", "").replace("-", "_")
        cell.source = changes.get(grade_id, cell.source)
    nbformat.write(notebook, path)
    return path


@pytest.mark.slow
def test_solved_notebooks_get_all_points(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{name} of Ada.ipynb", name) for name in NAMES]
    for marks in map(check_answers, paths):
        assert marks
        assert [mark for mark in marks if mark.hint or mark.points != mark.of] == []
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.slow
def test_a_notebook_gains_nothing_by_changed_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "exercises"
    mine.mkdir()
    for folder in (tmp_path, mine):
        (folder / "checks.py").write_text("def check(*answers):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    tricks = (
        "import sys, types\nsys.modules['checks'] = types.ModuleType('checks')\n"
        f"sys.modules['checks'].check = lambda *a: None\nsys.path.insert(0, {str(mine)!r})\n"
        "def standardise(log_mel, mean, std):\n    raise NotImplementedError"
    )
    path = write(
        mine / "03_contrast.ipynb",
        "03_contrast",
        standardise=tricks,
        mix="def mix(x, z, ratio):\n    return x",
        check_mix="pass",
    )
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade_id") == "check-standardise":
            cell.metadata["tags"] = ["skip-execution"]
    # A cell of the student's own that claims points.
    claimed = {"grade": True, "grade_id": "mine", "locked": True, "points": 100}
    notebook.cells.append(nbformat.v4.new_code_cell("pass", metadata={"nbgrader": claimed}))
    nbformat.write(notebook, path)
    assert [tuple(mark.values()) for mark in json.loads(marks_to_json(check_answers(path)))] == [
        ("check-standardise", 0, 1, "`standardise` is not written yet"),
        ("check-mix", 0, 3, "the mixture of two random spectrograms is not right"),
        ("check-contrastive_loss", 5, 5, ""),
    ]
    # Metadata that lead to exercises of the student's own, whose checks pass.
    for name in (str(mine / "03_contrast"), "../exercises/03_contrast", "", 3, None):
        notebook.metadata["asdlib"]["exercise"] = name
        nbformat.write(notebook, tmp_path / "answers.ipynb")
        with pytest.raises(ConfigError, match=r"is no exercise of .*known: 01_metrics, 02_"):
            check_answers(tmp_path / "answers.ipynb")


def test_what_is_no_exercise_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no notebook"):
        check_answers(tmp_path / "none.ipynb")
    (tmp_path / "text.ipynb").write_text("{")
    with pytest.raises(ConfigError, match="is no notebook"):
        check_answers(tmp_path / "text.ipynb")
    path = write(tmp_path / "mine.ipynb", "03_contrast")
    with pytest.raises(ConfigError, match=r"is no exercise of .* \(known: none\)"):
        check_answers(path, tmp_path / "empty")
    notebook = nbformat.read(path, as_version=4)
    notebook.cells = [c for c in notebook.cells if "nbgrader" not in c.metadata]
    nbformat.write(notebook, path)
    with pytest.raises(ConfigError, match="has no cell 'standardise' any more"):
        check_answers(path)


NOT_NOTEBOOKS: list[Any] = [
    *([1, 2], None, {}, "text", 3),
    {"cells": []},
    *({"cells": cells} for cells in ({}, [1], [{}], [{"cell_type": "code"}], None)),
    *({"metadata": metadata} for metadata in ([], None, 1)),
    *({"nbformat": number} for number in (99, 3, "4", None)),
    {"nbformat_minor": []},
]


def test_what_is_no_notebook_is_refused_in_one_line(tmp_path: Path) -> None:
    whole = json.loads((EXERCISES / "01_metrics.ipynb").read_text())
    notebook = tmp_path / "01_metrics.ipynb"
    for damage in NOT_NOTEBOOKS:
        content = whole | damage if isinstance(damage, dict) and damage else damage
        notebook.write_text(json.dumps(content))
        with pytest.raises(ConfigError, match=r"is no notebook|has no cell .* any more"):
            check_answers(notebook)
    notebook.write_text("[" * 100_000)
    with pytest.raises(ConfigError, match="is no notebook"):
        check_answers(notebook)


def test_marks_of_another_form_do_not_count(tmp_path: Path) -> None:
    whole = json.loads((EXERCISES / "01_metrics.ipynb").read_text())
    notebook = tmp_path / "01_metrics.ipynb"
    for cell in whole["cells"]:
        cell["metadata"]["nbgrader"] = [1]
    notebook.write_text(json.dumps(whole))
    with pytest.raises(ConfigError, match="has no cell"):
        check_answers(notebook)
    for named in ([1], {"exercise": ["a"]}, {"exercise": "../01_metrics"}):
        whole["metadata"]["asdlib"] = named
        notebook.with_name("mine.ipynb").write_text(json.dumps(whole))
        with pytest.raises(ConfigError, match="is no exercise of"):
            check_answers(notebook.with_name("mine.ipynb"))


@pytest.mark.slow
def test_an_endless_answer_is_stopped(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.ipynb", "03_contrast", standardise="while True:\n    pass")
    with pytest.raises(RunError, match="took more than 3 s; look for a loop"):
        check_answers(path, timeout=3)
