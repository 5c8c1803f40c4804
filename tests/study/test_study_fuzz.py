"""Whatever lies in the files of a run, whoever reads it ends with one clear line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from asdlib.errors import AsdError
from asdlib.study import RunResult, load_run
from asdlib.study.comparison import read_entry
from asdlib.study.config import SYSTEMS, describe_parameters, make_system, parse_overrides
from asdlib.study.held_out import decide_run, held_out

pytestmark = pytest.mark.slow

QUIET = settings(max_examples=60)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
ODD = JSON | st.sampled_from(["../../etc", "/", "\0", "x" * 5000, 10**400, -1, "０１", "\ud800"])


def places(value: Any, at: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    below = value.items() if isinstance(value, dict) else ()
    return [at, *(place for key, inner in below for place in places(inner, (*at, key)))]


def replaced(value: Any, at: tuple[str, ...], new: Any) -> Any:
    if not at:
        return new
    return {**value, at[0]: replaced(value[at[0]], at[1:], new)}


@pytest.fixture(scope="module")
def run(runs: dict[str, RunResult], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with held-out scores, to damage."""
    path = tmp_path_factory.mktemp("fuzz") / "run"
    shutil.copytree(runs["statistics"].path, path)
    held_out(load_run(path), runs["statistics"].path.parent / "store", folds=3)
    return path


def read_all(path: Path) -> None:
    for read in (load_run, lambda where: read_entry(str(where)), decide_run):
        try:
            read(path)
        except AsdError as error:
            assert "\n" not in str(error)  # noqa: PT017


@given(data=st.data())
@QUIET
def test_run_records(run: Path, data: st.DataObject) -> None:
    file = run / "run.json"
    whole = file.read_bytes()
    content = json.loads(whole)
    at = data.draw(st.sampled_from([p for p in places(content) if p[:1] != ("environment",)]))
    try:
        file.write_text(json.dumps(replaced(content, at, data.draw(ODD))))
        read_all(run)
    finally:
        file.write_bytes(whole)


@given(name=st.sampled_from(["run.json", "metrics.csv", "held_out.csv", "held_out.json"]),
       content=st.binary(max_size=200), start=st.integers(0, 300))  # fmt: skip
@QUIET
def test_bytes_of_any_file(run: Path, name: str, content: bytes, start: int) -> None:
    file = run / name
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[:start] + content)
        read_all(run)
    finally:
        file.write_bytes(whole)


@given(data=st.data(), system=st.sampled_from(sorted(SYSTEMS)))
@QUIET
def test_configurations(data: st.DataObject, system: str) -> None:
    names = [name for name, _ in describe_parameters(system)]
    name = data.draw(st.sampled_from(names) | st.text(max_size=12))
    value = data.draw(ODD | st.text(alphabet='[]{},:"0123456789.eE-', max_size=30))
    text = value if isinstance(value, str) else json.dumps(value)
    try:
        make_system(system, parse_overrides([f"{name}={text}"]))
    except AsdError as error:
        assert "\n" not in str(error)  # noqa: PT017
