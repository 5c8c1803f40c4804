"""The commands for lessons, as a teacher types them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from asd_process import Outcome

Asd = Callable[..., Outcome]
EXERCISES = Path(__file__).parents[2] / "teaching" / "exercises"


def test_each_student_has_recordings_of_a_seed(asd: Asd, tmp_path: Path) -> None:
    told = asd("student-data", "Ada", tmp_path / "a", "--jobs", "1").success
    assert told.out.startswith("88 clips of seed ")
    again = asd("student-data", " ADA ", tmp_path / "b", "--jobs", "1").success
    assert again.out.split(" in ")[0] == told.out.split(" in ")[0]
    one, two = (sorted((tmp_path / name).rglob("*.wav")) for name in "ab")
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert "has no letter or digit" in asd("student-data", "--", "-", tmp_path / "c").error
    assert "unknown profile 'x'" in asd("student-data", "A", tmp_path, "--profile", "x").error


def test_an_empty_exercise_gets_no_points_and_says_why(asd: Asd, tmp_path: Path) -> None:
    mine = tmp_path / "mine.ipynb"
    shutil.copy(EXERCISES / "03_contrast.ipynb", mine)
    before = mine.read_bytes()
    told = asd("check-answers", mine, "--originals", EXERCISES, "--json")
    assert told.code == 1
    marks = json.loads(told.out)
    assert [mark["points"] for mark in marks] == [0, 0, 0]
    assert "3 of 3 answers are not right yet: `standardise` is not written yet" in told.error
    assert mine.read_bytes() == before
    assert "there is no notebook" in asd("check-answers", tmp_path / "none.ipynb").error


def test_slides_need_a_study(asd: Asd, tmp_path: Path) -> None:
    told = asd("slides", tmp_path / "s.html", "--study", tmp_path, "--source", tmp_path)
    assert "has no _toc.yml; give --source" in told.error
    assert not (tmp_path / "s.html").exists()
