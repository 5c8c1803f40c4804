"""The commands of the project: its book, and lessons with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from asd_process import Outcome

from students import student_seed

Asd = Callable[..., Outcome]
ROOT = Path(__file__).parents[2]
EXERCISES = ROOT / "teaching" / "exercises"


def test_each_student_has_recordings_of_a_seed(asd: Asd, tmp_path: Path) -> None:
    told = asd("student-data", "Ada", tmp_path / "a", "--jobs", "1").success
    assert told.out.startswith("88 clips of seed ")
    assert str(student_seed(" ADA ")) in told.out
    assert len(list((tmp_path / "a").rglob("*.wav"))) == 88
    assert "has no letter or digit" in asd("student-data", "--", "-", tmp_path / "c").error
    assert "unknown profile 'x'" in asd("student-data", "A", tmp_path, "--profile", "x").error


def test_an_empty_exercise_gets_no_points_and_says_why(asd: Asd, tmp_path: Path) -> None:
    mine = tmp_path / "mine.ipynb"
    shutil.copy(EXERCISES / "03_contrast.ipynb", mine)
    before = mine.read_bytes()
    told = asd("check-answers", mine, "--json")
    assert told.code == 1
    marks = json.loads(told.out)
    assert [mark["points"] for mark in marks] == [0, 0, 0]
    assert "3 of 3 answers are not right yet: `standardise` is not written yet" in told.error
    assert mine.read_bytes() == before
    assert "there is no notebook" in asd("check-answers", tmp_path / "none.ipynb").error


def test_outside_of_a_checkout_there_is_nothing_to_render(
    asd: Asd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments in [
        ("study", "--profile", "smoke"),
        ("book",),
        ("slides", "s.html"),
        ("student-data", "Ada", "ada"),
        ("check-answers", "mine.ipynb"),
    ]:
        monkeypatch.chdir(tmp_path)
        assert (
            "lies in no checkout of the project (no _toc.yml here or above)"
            in asd(*arguments).error
        )
        assert not (tmp_path / "s.html").exists()
        assert not (tmp_path / "ada").exists()


def test_the_project_is_found_from_any_folder_inside(
    asd: Asd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(EXERCISES)
    assert "unknown profile 'huge' (known: smoke" in asd("study", "--profile", "huge").error
    assert "needs real recordings: give store=PATH" in asd("study", "--profile", "toycar").error
    told = asd("study", "--profile", "smoke", "--notebooks", tmp_path, "--out", tmp_path / "out")
    assert "no notebook in" in told.error
    for profile in (".", "..", ""):
        told = asd("book", "--profile", profile, "--out", ROOT)
        assert f"unknown profile '{profile}'" in told.error
    assert (ROOT / "book" / "intro.md").exists()
    told = asd("slides", tmp_path / "s.html", "--study", tmp_path)
    assert "is not executed on 'classroom'; run asd study" in told.error
