"""The training loop: Keras conventions, resume, damage. The systems' own tests are elsewhere."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from baseline_stores import make_store
from torch import Tensor, nn

from asdlib.baselines import Autoencoder
from asdlib.baselines.training import (
    Checkpoint,
    History,
    TrainingParams,
    digest,
    generator_of,
    materialise,
    train,
)
from asdlib.errors import RunError
from asdlib.features import FeatureStore
from asdlib.system import choose_device

QUICK = dict(  # noqa: C408
    epochs=4, batch_size=32, hidden=16, bottleneck=4, device="cpu"
)


class Killed(BaseException):
    """Stands for a kill: no handler of errors may catch it."""


def kill_after(epoch: int) -> object:
    def progress(what: str, done: int, total: int) -> None:
        if done == epoch:
            raise Killed

    return progress


def state(system: Autoencoder) -> list[Tensor]:
    networks = system.networks_.values()
    return [tensor for network in networks for tensor in network.state_dict().values()]


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_killed_training_ends_as_an_uninterrupted_one(
    store: FeatureStore, tmp_path: Path, epoch: int
) -> None:
    train_rows = store.rows(split="train")
    whole = Autoencoder(**QUICK).fit(train_rows)
    with pytest.raises(Killed):
        Autoencoder(**QUICK).fit(train_rows, workdir=tmp_path, progress=kill_after(epoch))  # type: ignore[arg-type]
    calls: list[tuple[str, int, int]] = []
    resumed = Autoencoder(**QUICK).fit(
        train_rows, workdir=tmp_path, progress=lambda *call: calls.append(call)
    )
    assert calls[0] == ("autoencoder fan", epoch + 1, 4)
    assert calls[-1] == ("autoencoder pump", 4, 4)
    pd.testing.assert_frame_equal(resumed.history_, whole.history_)
    assert all(torch.equal(a, b) for a, b in zip(state(resumed), state(whole), strict=True))


def test_a_kill_while_writing_keeps_the_last_checkpoint(
    store: FeatureStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_rows = store.rows(split="train", machine="fan")
    whole = Autoencoder(**QUICK).fit(train_rows)
    replace = Path.replace
    count = iter(range(10))

    def replace_twice(self: Path, target: Path) -> Path:
        if next(count) == 2:
            raise Killed
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", replace_twice)
    with pytest.raises(Killed):
        Autoencoder(**QUICK).fit(train_rows, workdir=tmp_path)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.glob("*.safetensors")] == ["autoencoder-fan.safetensors"]
    assert not list(tmp_path.glob(".*.partial"))
    resumed = Autoencoder(**QUICK).fit(train_rows, workdir=tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(state(resumed), state(whole), strict=True))


def test_a_finished_training_is_not_done_again(store: FeatureStore, tmp_path: Path) -> None:
    train_rows = store.rows(split="train")
    first = Autoencoder(**QUICK).fit(train_rows, workdir=tmp_path)
    again = Autoencoder(**QUICK).fit(train_rows, workdir=tmp_path, progress=kill_after(4))  # type: ignore[arg-type]
    assert all(torch.equal(a, b) for a, b in zip(state(first), state(again), strict=True))


@pytest.mark.parametrize("change", ["params", "seed", "clips", "values"])
def test_a_checkpoint_of_another_training_is_refused(
    store: FeatureStore, tmp_path: Path, change: str
) -> None:
    rows = store.rows(split="train", machine="fan")
    Autoencoder(**QUICK).fit(rows, workdir=tmp_path / "work")
    params = QUICK | {"learning_rate": 2e-3} if change == "params" else QUICK
    if change == "clips":
        rows = rows.select(np.arange(len(rows) - 1))
    if change == "values":
        rows = make_store(tmp_path / "other", seed=9).rows(split="train", machine="fan")
    with pytest.raises(RunError, match="other parameters, seed or clips; use an empty working"):
        Autoencoder(**params, seed=int(change == "seed")).fit(rows, workdir=tmp_path / "work")


def test_a_damaged_checkpoint_is_refused(store: FeatureStore, tmp_path: Path) -> None:
    (tmp_path / "autoencoder-fan.safetensors").write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match=r"autoencoder-fan.safetensors' is damaged"):
        Autoencoder(**QUICK).fit(store.rows(split="train"), workdir=tmp_path)


def test_glorot_uniform_weights_and_zero_bias() -> None:
    with torch.device("meta"):
        network = nn.Sequential(
            nn.Linear(300, 200), nn.BatchNorm1d(200), nn.Conv2d(40, 40, 3, groups=40, bias=False)
        )
    materialise(network, torch.Generator().manual_seed(0))
    dense, norm, depthwise = network
    # Keras counts a depthwise kernel as 3 × 3 × 40 inputs and 3 × 3 × 1 outputs.
    for weight, fans in ((dense.weight, 500), (depthwise.weight, 9 * 40 + 9)):
        limit = (6 / fans) ** 0.5
        assert weight.abs().max() <= limit
        assert weight.abs().max() > 0.95 * limit
        assert weight.std().item() == pytest.approx(limit / 3**0.5, rel=0.06)
    assert not dense.bias.any()
    assert (norm.weight == 1).all()
    assert not norm.bias.any()
    assert not norm.running_mean.any()
    assert (norm.running_var == 1).all()
    assert norm.num_batches_tracked == 0


def one_weight() -> nn.Module:
    network = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(network.weight)
    return network


def run(n_examples: int, params: TrainingParams, seed: int = 0) -> tuple[list[list[int]], History]:
    """Train one weight; list the training batches in the order in which they came."""
    seen: list[list[int]] = []

    def loss(network: nn.Module, examples: Tensor) -> Tensor:
        if network.training:
            seen.append(examples.tolist())
        values: Tensor = network(examples[:, None].float())
        return (values - 1.0).square().mean()

    generator = torch.Generator().manual_seed(seed)
    return seen, train(one_weight(), loss, n_examples, params, generator=generator)


def test_batches_cover_the_first_nine_tenths_in_a_new_order_each_epoch() -> None:
    params = TrainingParams(epochs=2, batch_size=4)
    seen, history = run(20, params)
    assert [len(batch) for batch in seen] == [4, 4, 4, 4, 2] * 2
    epochs = [list(itertools.chain(*seen[:5])), list(itertools.chain(*seen[5:]))]
    assert [sorted(epoch) for epoch in epochs] == [list(range(18))] * 2
    assert epochs[0] != epochs[1]
    assert epochs[0] != list(range(18))
    assert len(history) == 2


def test_a_last_batch_of_one_is_left_out() -> None:
    seen, _ = run(9, TrainingParams(epochs=1, batch_size=4, validation_fraction=0.0))
    assert [len(batch) for batch in seen] == [4, 4]


def test_history_is_the_mean_over_examples() -> None:
    params = TrainingParams(epochs=1, batch_size=4, learning_rate=1e-12, score_batch_size=3)
    _, history = run(20, params)
    # The weight stays zero, so every example costs one.
    assert history == [{"loss": pytest.approx(1.0), "val_loss": pytest.approx(1.0)}]


def test_first_step_of_adam_is_the_learning_rate() -> None:
    network = one_weight()

    def loss(model: nn.Module, examples: Tensor) -> Tensor:
        return model(torch.ones(len(examples), 1)).sum() * 1e-7

    params = TrainingParams(
        epochs=1, batch_size=2, learning_rate=0.1, validation_fraction=0.0, adam_epsilon=1e-7
    )
    train(network, loss, 2, params, generator=torch.Generator())
    # Gradient 2e-7 against epsilon 1e-7: two thirds of a step.
    assert network.weight.item() == pytest.approx(-0.1 * 2 / 3, rel=1e-4)


def test_too_few_examples() -> None:
    with pytest.raises(RunError, match="1 training windows are too few"):
        run(2, TrainingParams(epochs=1, batch_size=2))


def test_generators_of_machines_and_seeds_differ() -> None:
    draws = {
        torch.rand(1, generator=generator_of(seed, machine)).item()
        for seed in (0, 1)
        for machine in ("fan", "pump", "ToyCar")
    }
    assert len(draws) == 6


def test_digest_separates_its_parts() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", b"b") == digest(b"a", "b")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(RunError, match="device 'cuda:1' is not available"):
        choose_device("cuda:1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto") == torch.device("cuda")


def test_checkpoint_holds_no_pickle(store: FeatureStore, tmp_path: Path) -> None:
    Autoencoder(**QUICK).fit(store.rows(split="train", machine="fan"), workdir=tmp_path)
    checkpoint = Checkpoint(tmp_path / "autoencoder-fan.safetensors", "")
    header = checkpoint.path.read_bytes()
    assert int.from_bytes(header[:8], "little") < len(header)
    assert header[8:9] == b"{"
