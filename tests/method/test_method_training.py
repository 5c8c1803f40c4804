"""Training: the batches, the loss of a step, and going on exactly where it stopped."""

import logging
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contrastive_rows import make_store, quick
from threadpoolctl import threadpool_limits

from asdlib.errors import RunError
from asdlib.features import Rows
from asdlib.method.augment import AugmentationParams, SpectrumAugmentation
from asdlib.method.contrastive import Network
from asdlib.method.crops import CropBatches
from asdlib.method.losses import nt_xent_loss, supervised_contrastive_loss
from asdlib.method.training import ContrastiveTraining, train_network


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    store = make_store(tmp_path_factory.mktemp("training") / "store")
    return store.rows(split="train")


@pytest.fixture(scope="module")
def two_domains(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    store = make_store(tmp_path_factory.mktemp("training") / "domains", domains=True)
    return store.rows(split="train")


def clips_of(batches: CropBatches) -> list[int]:
    return [int(clip) for *_, clips in batches for clip in clips]


def test_every_clip_once_an_epoch_and_each_in_another_order(rows: Rows) -> None:
    batches = CropBatches(rows, quick(), seed=3)
    orders = []
    for epoch in range(2):
        batches.epoch = lambda epoch=epoch: epoch
        orders.append(clips_of(batches))
        assert sorted(orders[-1]) == list(range(28))
        assert clips_of(batches) == orders[-1]
    assert orders[0] != orders[1]
    assert clips_of(CropBatches(rows, quick(), seed=4)) != orders[0]


@pytest.mark.parametrize(
    ("size", "lengths"), [(8, [7, 7, 7, 7]), (9, [7, 7, 7, 7]), (10, [10, 9, 9]), (40, [28])]
)
def test_batches_are_even(rows: Rows, size: int, lengths: list[int]) -> None:
    batches = CropBatches(rows, quick(batch_size=size), seed=0)
    assert [len(clips) for *_, clips in batches] == lengths
    assert len(batches) == len(lengths)


def test_crops_are_excerpts_of_their_clips(rows: Rows) -> None:
    whole = {
        int(position): clip
        for positions, log_mel in rows.batches(4)
        for position, clip in zip(positions, log_mel, strict=True)
    }
    starts = set()
    for crops, classes, domains, clips in CropBatches(rows, quick(), seed=1):
        assert crops.shape == (len(clips), 16, 8)
        assert crops.dtype == torch.float32
        for crop, clip in zip(crops.numpy(), clips.tolist(), strict=True):
            found = [
                start
                for start in range(whole[clip].shape[1] - 7)
                if np.array_equal(whole[clip][:, start : start + 8], crop)
            ]
            assert len(found) == 1
            starts.add((whole[clip].shape[1], found[0]))
        assert classes.tolist() == [int(batches_class(rows, c)) for c in clips.tolist()]
        assert set(domains.tolist()) == {0}
    assert len({start for _, start in starts}) > 5


def batches_class(rows: Rows, clip: int) -> int:
    row = rows.manifest.iloc[clip]
    return ["fan00", "fan02", "pump00", "pump02"].index(row["machine"] + row["section"])


def test_every_start_can_be_drawn_the_last_one_too(rows: Rows) -> None:
    batches = CropBatches(rows, quick(crop_frames=16), seed=0)
    drawn: dict[int, set[int]] = {20: set(), 18: set(), 17: set()}
    asked: list[tuple[np.ndarray, np.ndarray]] = []

    class Spy:
        frames = rows.frames

        def crops(self, positions: Any, starts: Any, n_frames: int) -> np.ndarray:
            asked.append((positions, starts))
            return rows.crops(positions, starts, n_frames)

    batches.rows = Spy()  # type: ignore[assignment]
    rng = np.random.default_rng(0)
    for _ in range(20):
        batches._crop(np.arange(28), 16, rng)
    for positions, starts in asked:
        for position, start in zip(positions, starts, strict=True):
            drawn[int(rows.frames[position])].add(int(start))
    assert drawn == {20: set(range(5)), 18: set(range(3)), 17: set(range(2))}


def test_two_crops_of_one_clip(rows: Rows) -> None:
    crops, _, _, clips = next(iter(CropBatches(rows, quick(crops="different"), seed=0)))
    assert crops.shape == (2, len(clips), 16, 8)
    same = [bool(torch.equal(a, b)) for a, b in zip(crops[0], crops[1], strict=True)]
    assert sum(same) < len(same)


def test_classes_are_sections_or_machines(rows: Rows) -> None:
    assert len(set(CropBatches(rows, quick(), 0).classes)) == 4
    machines = CropBatches(rows, quick(classes="machine"), 0).classes
    assert machines.tolist() == [0] * 14 + [1] * 14


def test_across_domains_the_target_is_drawn_as_often_as_the_source(two_domains: Rows) -> None:
    batches = CropBatches(two_domains, quick(cross_domain=True), seed=0)
    seen = []
    for epoch in range(3):
        batches.epoch = lambda epoch=epoch: epoch
        order = np.array(clips_of(batches))
        assert len(order) == 28
        for number in range(4):
            of_class = order[batches.classes[order] == number]
            assert len(of_class) == 7
            domains = np.bincount(batches.domains[of_class], minlength=2)
            assert sorted(domains) == [3, 4], "half of each, though two of seven are target"
            counts = np.bincount(of_class, minlength=28)
            # Nobody comes a third time before all of its group came twice.
            for domain in (0, 1):
                group = (batches.classes == number) & (batches.domains == domain)
                assert np.ptp(counts[group]) <= 1
        seen.append(set(order.tolist()))
    assert set.union(*seen) == set(range(28))
    plain = CropBatches(two_domains, quick(), seed=0)
    assert sorted(clips_of(plain)) == list(range(28))


def test_across_domains_a_class_of_one_domain_is_drawn_as_before(rows: Rows) -> None:
    batches = CropBatches(rows, quick(cross_domain=True), seed=0)
    assert sorted(clips_of(batches)) == list(range(28))


def module_of(rows: Rows, **changes: Any) -> ContrastiveTraining:
    params = quick(**changes)
    augmentation = SpectrumAugmentation(AugmentationParams(), mean=-40.0, std=7.0)
    return ContrastiveTraining(Network(params, 16), augmentation, params, 0, total_steps=8)


@pytest.mark.parametrize("cross_domain", [False, True])
def test_the_loss_of_a_step_is_that_of_the_labels(rows: Rows, cross_domain: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(8, 4, generator=generator), dim=1)
    classes, domains = torch.tensor([0, 0, 1, 1] * 2), torch.tensor([0, 1, 0, 1] * 2)
    clips = torch.tensor([3, 5, 7, 9] * 2)
    module = module_of(rows, cross_domain=cross_domain)
    expected = supervised_contrastive_loss(
        z, classes, 0.1, domains=domains, clips=clips, cross_domain=cross_domain
    )
    assert torch.equal(module.loss(z, classes, domains, clips), expected)
    other = module_of(rows, loss="nt_xent", temperature=0.5)
    assert torch.equal(other.loss(z, classes, domains, clips), nt_xent_loss(z, clips, 0.5))


def test_a_step_contrasts_both_views_of_every_clip(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = module_of(rows)
    batch = next(iter(CropBatches(rows, module.params, 0)))
    given: list[torch.Tensor] = []
    true_loss = module.loss
    monkeypatch.setattr(module, "loss", lambda *args: given.extend(args) or true_loss(*args))
    value = module.training_step(batch, 0)
    projections, *numbers = given
    assert projections.shape == (2 * len(batch[3]), 8)
    for number, original in zip(numbers, batch[1:], strict=True):
        assert torch.equal(number, torch.cat([original, original]))
    assert module.losses == [float(value.detach())]


def test_a_loss_that_is_not_finite_stops_the_training(rows: Rows) -> None:
    module = module_of(rows)
    module.loss = lambda *_: torch.tensor(float("nan"))  # type: ignore[method-assign]
    with pytest.raises(RunError, match=r"loss is nan in step 1; .* lower learning_rate \(0.001\)"):
        module.training_step(next(iter(CropBatches(rows, module.params, 0))), 0)


def trained(
    rows: Rows, workdir: Path | None = None, progress: Any = None, seed: int = 0, **changes: Any
) -> tuple[list[float], dict[str, torch.Tensor]]:
    params = quick(**({"epochs": 3} | changes))
    augmentation = SpectrumAugmentation(params.augmentation, mean=-40.0, std=7.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Network(params, 16)
    batches = CropBatches(rows, params, seed)
    losses = train_network(network, augmentation, batches, params, seed, workdir, progress)
    return losses, network.state_dict()


def assert_equal(a: Any, b: Any) -> None:
    assert a[0] == b[0]
    for name, tensor in a[1].items():
        assert torch.equal(tensor, b[1][name]), name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crops": "different", "augmentation": {"pre_norm_statistics": "running"}},
    ],
)
@pytest.mark.parametrize("stop_at", [2, 6, 8])
def test_a_stopped_training_ends_like_one_that_was_not(
    rows: Rows, tmp_path: Path, stop_at: int, changes: dict[str, Any]
) -> None:
    whole = trained(rows, **changes)
    assert len(whole[0]) == 12

    def stop(what: str, done: int, total: int) -> None:
        if done == stop_at:
            raise RuntimeError("killed")

    steps: list[int] = []
    with pytest.raises(RuntimeError, match="killed"):
        trained(rows, tmp_path, stop, **changes)
    assert (tmp_path / "epoch.ckpt").exists() == (stop_at > 4)
    resumed = trained(rows, tmp_path, lambda what, done, total: steps.append(done), **changes)
    assert steps == list(range(1 + 4 * ((stop_at - 1) // 4), 13)), "finished epochs are kept"
    assert_equal(resumed, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch.ckpt"]


def test_a_finished_training_is_not_done_again(rows: Rows, tmp_path: Path) -> None:
    whole = trained(rows, tmp_path)
    again = trained(rows, tmp_path, lambda *_: pytest.fail("trained again"))
    assert_equal(again, whole)


def test_ctrl_c_stays_ctrl_c(rows: Rows, tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGINT)

    def stop(what: str, done: int, total: int) -> None:
        if done == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        trained(rows, tmp_path, stop)
    assert signal.getsignal(signal.SIGINT) is before, "a second Ctrl-C is heard, too"
    assert_equal(trained(rows, tmp_path), trained(rows))


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_damaged_checkpoint_is_told(rows: Rows, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "epoch.ckpt"
    if content is None:
        trained(rows, tmp_path, epochs=1)
        content = file.read_bytes()[:3000]
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"checkpoint .*epoch\.ckpt' is damaged; delete it"):
        trained(rows, tmp_path)


@pytest.mark.parametrize(
    "changes", [{"seed": 1}, {"epochs": 4}, {"temperature": 0.2}, {"batch_size": 7}]
)
def test_a_checkpoint_of_another_training_is_refused(
    rows: Rows, tmp_path: Path, changes: dict[str, Any]
) -> None:
    trained(rows, tmp_path, epochs=1)
    with pytest.raises(RunError, match="of a training with other parameters, seed or clips"):
        trained(rows, tmp_path, **({"epochs": 1} | changes))


def test_training_changes_no_global_state(rows: Rows) -> None:
    torch.manual_seed(5)
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    levels = {n: logging.getLogger(n).level for n in ("lightning.pytorch", "lightning.fabric")}
    first = trained(rows, epochs=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert {name: logging.getLogger(name).level for name in levels} == levels
    torch.manual_seed(6)
    assert_equal(trained(rows, epochs=1), first)
