"""Windows of frames, and training as Keras does it; what is special to a system is elsewhere."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from baseline_stores import make_store
from torch import Tensor, nn

from asdlib.baselines.windows import (
    WindowedBaseline,
    WindowParams,
    gather_windows,
    generator_of,
    initialise,
    read_frames,
    window_starts,
)
from asdlib.errors import RunError
from asdlib.features import FeatureStore, Rows


def slow_windows(log_mel: np.ndarray, width: int, hop: int) -> np.ndarray:
    """Windows (M, W, F) of one clip (F, T), one at a time."""
    starts = range(0, log_mel.shape[1] - width + 1, hop)
    return np.array([log_mel[:, s : s + width].T for s in starts]).reshape(-1, width, len(log_mel))


def test_windows_equal_those_cut_one_by_one(tmp_path: Path) -> None:
    for number, (width, hop) in enumerate([(5, 1), (1, 1), (18, 1), (20, 3), (6, 4), (3, 7)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        store = make_store(folder / "store", ragged=True)  # 18 to 20 frames
        rows = store.rows(split="train")
        rows = rows.select(np.random.default_rng(1).permutation(len(rows)))
        frames = read_frames(rows)
        assert (frames.dtype, frames.shape) == (torch.float16, (rows.frames.sum(), 8))
        start, clip = window_starts(rows.frames, width, hop)
        clips = [
            store.features[row, :, : store.frames[row]].astype(np.float32) for row in rows.index
        ]
        expected = [slow_windows(log_mel, width, hop) for log_mel in clips]
        windows = gather_windows(frames, start, width)
        assert windows.dtype == torch.float32
        assert np.array_equal(windows.numpy(), np.concatenate(expected))
        assert clip.tolist() == [i for i, part in enumerate(expected) for _ in part]
        picked = torch.tensor([len(start) - 1, 0, 0])
        assert torch.equal(gather_windows(frames, start[picked], width), windows[picked])


def test_number_of_vectors_of_the_official_clips() -> None:
    for n_frames, n_vectors in [(313, 309), (344, 340)]:
        assert len(window_starts(np.array([n_frames, n_frames]), 5, 1)[0]) == 2 * n_vectors


def test_glorot_uniform_weights_and_zero_bias() -> None:
    network = nn.Sequential(
        nn.Linear(300, 200), nn.BatchNorm1d(200), nn.Conv2d(40, 40, 3, groups=40, bias=False)
    )
    nn.init.constant_(network[1].running_mean, 7.0)
    dense, norm, depthwise = initialise(network, torch.Generator().manual_seed(0))
    # Keras counts a depthwise kernel as 3 × 3 × 40 inputs and 3 × 3 × 1 outputs.
    for weight, fans in ((dense.weight, 500), (depthwise.weight, 9 * 40 + 9)):
        limit = (6 / fans) ** 0.5
        assert 0.95 * limit < weight.abs().max() <= limit
        assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.06)
    assert not dense.bias.any()
    assert (norm.weight == 1).all()
    assert not norm.bias.any()
    assert not norm.running_mean.any()
    assert (norm.running_var == 1).all()


def test_generators_of_machines_and_seeds_differ() -> None:
    draws = {
        torch.rand(1, generator=generator_of(seed, machine)).item()
        for seed in (0, 1)
        for machine in ("fan", "pump", "ToyCar")
    }
    assert len(draws) == 6


class OneWeight(WindowedBaseline[WindowParams]):
    """One weight, which the loss pulls from 0 to 1; it lists the windows of each batch."""

    name = "one weight"
    Params = WindowParams

    def __init__(self, /, **params: Any) -> None:
        super().__init__(**params)
        self.seen: list[list[float]] = []

    def build(self, n_mels: int, n_sections: int) -> nn.Module:
        return nn.Linear(1, 1, bias=False)

    def _network(self, machine: str, generator: torch.Generator) -> nn.Module:
        network = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(network.weight)
        return network

    def loss(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        if network.training:
            self.seen.append(windows[:, 0, 0].tolist())
        return (network(torch.ones(len(windows), 1)) - 1.0).square().mean()

    def window_scores(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        return windows.mean(dim=(1, 2)) + 100.0 * section


def numbered(path: Path, n_clips: int) -> Rows:
    """Clips of one window each, whose value is their number."""
    store = make_store(
        path, machines=("fan",), sections=("00",), n_train=n_clips, n_test=0, n_frames=2
    )
    array = np.lib.format.open_memmap(store.path / "logmel.npy", "r+")
    array[:] = np.arange(n_clips)[:, None, None]
    array.flush()
    return FeatureStore.open(path).rows()


def test_batches_cover_the_first_nine_tenths_in_a_new_order_each_epoch(tmp_path: Path) -> None:
    system = OneWeight(n_frames=2, epochs=2, batch_size=4)
    system.fit(numbered(tmp_path / "store", 20))
    assert [len(batch) for batch in system.seen] == [4, 4, 4, 4, 2] * 2
    epochs = [list(itertools.chain(*system.seen[i : i + 5])) for i in (0, 5)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(18))] * 2
    assert epochs[0] != epochs[1]
    assert epochs[0] != list(range(18))


def test_a_last_batch_of_one_is_left_out(tmp_path: Path) -> None:
    system = OneWeight(n_frames=2, epochs=1, batch_size=4, validation_fraction=0.0)
    system.fit(numbered(tmp_path / "store", 9))
    assert [len(batch) for batch in system.seen] == [4, 4]


def test_history_is_the_mean_over_windows(tmp_path: Path) -> None:
    params = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-12, "score_batch_size": 3}
    history = OneWeight(n_frames=2, **params).fit(numbered(tmp_path / "store", 20)).history_
    # The weight stays zero, so every window costs one.
    assert history is not None
    assert history.to_dict("records") == [
        {
            "machine": "fan",
            "epoch": 1,
            "loss": pytest.approx(1.0),
            "val_loss": pytest.approx(1.0),
        }
    ]


def test_first_step_of_adam_is_the_learning_rate(tmp_path: Path) -> None:
    params = {"learning_rate": 0.1, "validation_fraction": 0.0, "adam_epsilon": 1.0}
    system = OneWeight(n_frames=2, epochs=1, batch_size=2, **params)
    system.fit(numbered(tmp_path / "store", 2))
    # Gradient -2 against epsilon 1: two thirds of a step.
    assert system.networks_["fan"].weight.item() == pytest.approx(0.1 * 2 / 3, rel=1e-4)


def test_too_few_windows(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="1 training windows are too few"):
        OneWeight(n_frames=2).fit(numbered(tmp_path / "store", 2))


def test_scores_are_means_over_windows(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", ragged=True)
    system = OneWeight(n_frames=4, epochs=1, score_batch_size=7).fit(store.rows(split="train"))
    rows = store.rows(split="test").select([5, 0, 9, 3])
    assert system.score(rows) == pytest.approx(
        [
            slow_windows(store.features[i, :, : store.frames[i]].astype(float), 4, 1).mean()
            + 100.0 * (store.manifest["section"][i] == "02")
            for i in rows.index
        ],
        rel=1e-6,
    )


def test_clips_shorter_than_a_window_are_refused(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", ragged=True)
    message = r"00000002.wav' has 18 frames, expected at least 19"
    with pytest.raises(RunError, match=message):
        OneWeight(n_frames=19).fit(store.rows(split="train"))
    system = OneWeight(n_frames=19, epochs=1).fit(store.rows(store.frames == 20).select([0, 1]))
    with pytest.raises(RunError, match=message):
        system.score(store.rows(split="train", machine="fan", section="00"))
