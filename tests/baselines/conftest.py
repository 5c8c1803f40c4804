"""Fixtures of the baselines' room."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from baseline_stores import make_store

from asdlib.features import FeatureStore


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path / "store")


@pytest.fixture
def toycar() -> FeatureStore:
    """Real recordings, which are not part of this repository."""
    folder = os.environ.get("ASDLIB_REAL_DATA")
    if not folder:
        pytest.skip("ASDLIB_REAL_DATA is not set")
    return FeatureStore.open(Path(folder) / "toycar")
