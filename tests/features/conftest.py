"""Fixtures of the feature room."""

import os
from pathlib import Path

import pytest
from small_stores import make_store

from asdlib.features import FeatureStore


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path / "store")


@pytest.fixture
def real_data() -> Path:
    """The folder of real recordings, which are not part of this repository."""
    folder = os.environ.get("ASDLIB_REAL_DATA")
    if not folder:
        pytest.skip("ASDLIB_REAL_DATA is not set")
    return Path(folder)
