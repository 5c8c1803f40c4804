"""Fixtures of the exercises."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep locks in a folder of this test's own, beside the place where a test writes."""
    monkeypatch.setenv("ASDLIB_CACHE", str(tmp_path.with_name(f"{tmp_path.name}-cache")))
