from pathlib import Path

import numpy as np
import pytest
import torch
from baseline_stores import make_store
from hypothesis import given
from hypothesis import strategies as st

from asdlib.baselines.frames import FrameBank, check_length, mean_over_windows
from asdlib.errors import RunError


def slow_windows(log_mel: np.ndarray, width: int, hop: int) -> np.ndarray:
    """Windows (M, W, F) of one clip (F, T), one at a time."""
    starts = range(0, log_mel.shape[1] - width + 1, hop)
    return np.stack([log_mel[:, s : s + width].T for s in starts])


@pytest.mark.parametrize(("width", "hop"), [(5, 1), (1, 1), (18, 1), (6, 4), (3, 7)])
def test_windows_equal_those_cut_one_by_one(tmp_path: Path, width: int, hop: int) -> None:
    store = make_store(tmp_path / "store", ragged=True)
    rows = store.rows(split="train")
    order = np.random.default_rng(1).permutation(len(rows))
    bank = FrameBank.read(rows, order)
    start, clip = bank.starts(width, hop)
    expected = [
        slow_windows(store.features[row, :, : store.frames[row]].astype(np.float32), width, hop)
        for row in rows.index[order]
    ]
    assert np.array_equal(bank.windows(start, width).numpy(), np.concatenate(expected))
    assert clip.tolist() == [i for i, part in enumerate(expected) for _ in part]
    assert bank.windows(start, width).dtype == torch.float32
    picked = torch.tensor([len(start) - 1, 0, 0])
    assert torch.equal(
        bank.windows(start[picked], width), bank.windows(start, width).index_select(0, picked)
    )


def test_frames_are_kept_once_and_in_half_precision(tmp_path: Path) -> None:
    rows = make_store(tmp_path / "store", ragged=True).rows()
    bank = FrameBank.read(rows, np.arange(len(rows)))
    assert bank.frames.dtype == torch.float16
    assert bank.frames.shape == (rows.frames.sum(), 8)


@pytest.mark.parametrize(("n_frames", "n_vectors"), [(313, 309), (344, 340)])
def test_number_of_vectors_of_the_official_clips(n_frames: int, n_vectors: int) -> None:
    bank = FrameBank.of_batch(np.zeros((2, 3, n_frames), np.float32))
    assert len(bank.starts(5, 1)[0]) == 2 * n_vectors


@given(
    counts=st.lists(st.integers(0, 12), min_size=1, max_size=5),
    width=st.integers(1, 8),
    hop=st.integers(1, 5),
)
def test_no_window_leaves_its_clip(counts: list[int], width: int, hop: int) -> None:
    count = np.array(counts)
    offset = np.cumsum(count) - count
    bank = FrameBank(torch.zeros((int(count.sum()), 1)), offset, count)
    start, clip = (part.numpy() for part in bank.starts(width, hop))
    assert (start >= offset[clip]).all()
    assert (start + width <= offset[clip] + count[clip]).all()
    assert len(start) == sum(len(range(0, n - width + 1, hop)) for n in counts)


def test_mean_over_windows(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", ragged=True)
    rows = store.rows(split="test").select([5, 0, 9, 3])
    seen = []

    def score(windows: torch.Tensor, position: torch.Tensor) -> torch.Tensor:
        seen.append(len(windows))
        return windows.mean(dim=(1, 2)) + 100.0 * position

    got = mean_over_windows(rows, score, 4, 2, 7, torch.device("cpu"))
    expected = [
        slow_windows(store.features[row, :, : store.frames[row]].astype(np.float64), 4, 2).mean()
        + 100.0 * position
        for position, row in enumerate(rows.index)
    ]
    assert got == pytest.approx(expected, rel=1e-6)
    assert max(seen) == 7


def test_a_clip_shorter_than_a_window(tmp_path: Path) -> None:
    rows = make_store(tmp_path / "store", ragged=True).rows()
    check_length(rows, 18)
    with pytest.raises(RunError, match=r"00000002.wav' has 18 frames, expected at least 19"):
        check_length(rows, 19)
