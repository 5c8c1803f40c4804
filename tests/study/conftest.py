"""Fixtures of the study's room."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from study_stores import make_store
from threadpoolctl import threadpool_limits

from asdlib.features import FeatureStore


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Folder of interrupted trainings and locks, this test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("ASDLIB_CACHE", str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return make_store(tmp_path / "store")
