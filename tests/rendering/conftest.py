"""Fixtures of the tools that make the book."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep locks in a folder of this test's own."""
    monkeypatch.setenv("ASDLIB_CACHE", str(tmp_path / "cache"))
