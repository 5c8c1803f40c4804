"""The same seeds give the same scores as ever: recordings, features, every system.

The golden scores come from `make_scores`, by the command line alone: a test fails whenever a change
inside the library changes scores that a user has computed before.

Another processor rounds differently. The statistics then differ in the sixth digit; training makes
more of it, above all the first steps of Adam, which are as long for a tiny gradient as for a large.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from make_scores import LAYOUTS, OUT, SETTINGS, arithmetic, scores_of, write_corpus
from threadpoolctl import threadpool_limits

pytestmark = pytest.mark.slow

GOLDEN = json.loads(OUT.read_text())
SAME_ARITHMETIC = arithmetic() == GOLDEN["arithmetic"]
TOLERANCE = {"statistics": 1e-6, "network": 1e-3}
"""Relative to each score, with the arithmetic of the golden scores."""
ELSEWHERE = {"statistics": 1e-4, "network": 0.1}
"""Relative to the standard deviation of all scores, with another arithmetic."""

Corpus = dict[str, dict[str, str]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1), pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASDLIB_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("golden")


@pytest.fixture(scope="module")
def corpus(folder: Path) -> Corpus:
    return {layout: write_corpus(folder, layout) for layout in LAYOUTS}


def test_recordings_and_features_are_the_same_to_the_last_bit(corpus: Corpus) -> None:
    for layout, digests in GOLDEN["corpus"].items():
        assert corpus[layout]["wav"] == digests["wav"], layout
        if SAME_ARITHMETIC:
            assert corpus[layout]["features"] == digests["features"], layout


@pytest.mark.usefixtures("corpus")
@pytest.mark.parametrize("setting", SETTINGS)
def test_scores_are_those_of_before(folder: Path, setting: str) -> None:
    found, expected = scores_of(folder, setting), GOLDEN["scores"][setting]
    assert list(found) == list(expected)
    kind = "statistics" if setting.startswith("statistics") else "network"
    x, y = (np.concatenate(list(scores.values())) for scores in (found, expected))
    rtol, atol = TOLERANCE[kind], 0.01 * TOLERANCE[kind]
    if not SAME_ARITHMETIC:
        rtol, atol = 0.0, ELSEWHERE[kind] * y.std()
    np.testing.assert_allclose(x, y, rtol=rtol, atol=atol)
