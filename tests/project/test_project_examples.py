"""The examples that the book prints are run as they stand."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from asdlib.data.synthetic import SPECS, write_corpus
from asdlib.features import FeatureStore
from asdlib.features.build import build_store
from asdlib.method import backends, encoders
from asdlib.study import config, run

EXAMPLES = Path(__file__).resolve().parents[2] / "book" / "examples"


def load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Import an example."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Forget after each test what an example has registered."""
    kept = [dict(r) for r in (encoders.ENCODERS, backends.BACKENDS, config.SYSTEMS)]
    yield
    for registry, before in zip(
        (encoders.ENCODERS, backends.BACKENDS, config.SYSTEMS), kept, strict=True
    ):
        registry.clear()
        registry.update(before)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> FeatureStore:
    """A few synthetic valves, heard badly or well."""
    folder = tmp_path_factory.mktemp("examples")
    spec = SPECS["smoke"].model_copy(update={"machines": ("valve",)})
    write_corpus(spec, folder / "wav", jobs=1)
    return build_store(folder / "wav", folder / "store", preset="dcase2020", jobs=1)


def test_every_example_is_printed_in_the_book() -> None:
    book = EXAMPLES.parent
    printed = "".join(path.read_text(encoding="utf-8") for path in book.glob("*.md"))
    for example in EXAMPLES.glob("*.py"):
        assert f"{{literalinclude}} examples/{example.name}" in printed


def test_own_system_and_threshold(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = load("own_system", monkeypatch)
    result = run("level", store.path, store.path, tmp_path / "run", params={"quantile": 0.9})
    assert 0.0 <= result.auc <= 1.0
    again = example.Level.load(result.path / "model")
    rows = store.rows(split="test")
    fitted = example.Level(quantile=0.9).fit(store.rows(split="train"))
    np.testing.assert_allclose(again.score(rows), fitted.score(rows))
    own = load("own_threshold", monkeypatch)
    found = own.thresholds(result.path, "valve", "00", 0.2)
    assert set(found) == {"quantile", "gamma"}
    assert all(np.isfinite(list(found.values())))


def test_own_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    load("own_encoder", monkeypatch)
    encoder = encoders.build_encoder("mel_mean", n_mels=32)
    x = torch.randn(3, 32, 20)
    assert encoder(x).shape == (3, 64)
    torch.testing.assert_close(encoder.time_mean(x), x.mean(dim=2))
    config.make_system("contrastive", {"encoder": "mel_mean"})


def test_own_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    load("own_backend", monkeypatch)
    rng = np.random.default_rng(0)
    embeddings, sections = rng.normal(size=(40, 5)), np.repeat(["a/00", "b/00"], 20)
    backend = backends.build_backend("median").fit(embeddings, sections)
    near = backend.score(embeddings, sections)
    far = backend.score(embeddings + 10, sections)
    assert (far > near.max()).all()
    again = backends.backend_from_state(backend.state())
    np.testing.assert_array_equal(again.score(embeddings, sections), near)
    config.make_system("contrastive", {"backend": "median"})
