"""Fixtures of the study's room."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from study_stores import QUICK, make_store
from threadpoolctl import threadpool_limits

from asdlib.features import FeatureStore
from asdlib.study import RunResult, run


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


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A small store; tests only read it."""
    return make_store(tmp_path_factory.mktemp("runs") / "store")


@pytest.fixture(scope="session")
def runs(store: FeatureStore) -> dict[str, RunResult]:
    """Finished runs by name, beside their store; tests may add held-out scores, nothing else."""
    folder = store.path.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDLIB_CACHE", str(folder / "cache"))
        made = {"statistics": run("statistics", store.path, store.path, folder / "statistics")}
        for seed in (0, 1, 2):
            out, params = folder / f"c{seed}", QUICK["contrastive"]
            made[out.name] = run(
                "contrastive", store.path, store.path, out, params=params, seed=seed
            )
    return made
