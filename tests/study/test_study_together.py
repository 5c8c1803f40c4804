"""Notebooks at the same time: one builds what both need, the other waits."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from study_stores import write_recordings

from asdlib.features import build
from asdlib.study import Study


def test_two_notebooks_build_one_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_recordings(tmp_path / "wav")
    monkeypatch.setattr(Study, "recordings", lambda self, year=None: root)
    slowly = build._build

    def build_slowly(*args: Any) -> None:
        time.sleep(0.5)
        slowly(*args)

    monkeypatch.setattr(build, "_build", build_slowly)
    studies = [Study("smoke", tmp_path / "workspace", processes=1) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        stores = list(pool.map(lambda study: study.store(2020), studies))
    assert stores[0].fingerprint == stores[1].fingerprint
