"""Training: the batches, the loss of a step, and going on exactly where it stopped."""

import logging
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contrastive_rows import make_store, quick, quick_system
from hypothesis import given, settings, strategies as st
from threadpoolctl import threadpool_limits

from asdlib.errors import RunError
from asdlib.features import Rows
from asdlib.method import supervised_contrastive_loss
from asdlib.method.contrastive import ContrastiveTraining, CropBatches
from asdlib.method.training import give_back_memory, keep_freed_memory
from asdlib.system import section_keys


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


def test_batches_are_even(rows: Rows) -> None:
    for size, lengths in [(8, [7, 7, 7, 7]), (9, [7, 7, 7, 7]), (10, [10, 9, 9]), (40, [28])]:
        batches = CropBatches(rows, quick(batch_size=size), seed=0)
        assert [len(clips) for *_, clips in batches] == lengths
        assert len(batches) == len(lengths)


def test_crops_are_excerpts_of_their_clips(rows: Rows) -> None:
    whole = {
        int(position): clip
        for positions, log_mel in rows.batches(4)
        for position, clip in zip(positions, log_mel, strict=True)
    }
    starts, whole_keys = set(), set(section_keys(rows.manifest))
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
        keys = section_keys(rows.manifest)[clips.numpy()]
        assert classes.tolist() == [sorted(whole_keys).index(key) for key in keys]
        assert set(domains.tolist()) == {0}
    assert len({start for _, start in starts}) > 5


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
        batches._crop(batches.rows, np.arange(28), rng)
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


def training_of(rows: Rows, **changes: Any) -> ContrastiveTraining:
    system = quick_system(epochs=0, batch_norm="training", **changes).fit(rows)
    params = quick(epochs=2, **changes)
    return ContrastiveTraining(system.network_, system.augmentation_, rows, params, 0)


@pytest.mark.parametrize("cross_domain", [False, True])
def test_the_loss_of_a_step_is_that_of_the_labels(rows: Rows, cross_domain: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.nn.functional.normalize(torch.randn(8, 4, generator=generator), dim=1)
    classes, domains = torch.tensor([0, 0, 1, 1] * 2), torch.tensor([0, 1, 0, 1] * 2)
    clips = torch.tensor([3, 5, 7, 9] * 2)
    training = training_of(rows, cross_domain=cross_domain)
    expected = supervised_contrastive_loss(
        z, classes, 0.1, domains=domains, clips=clips, cross_domain=cross_domain
    )
    assert torch.equal(training.contrast(z, classes, domains, clips), expected)
    other = training_of(rows, loss="nt_xent", temperature=0.5)
    expected = supervised_contrastive_loss(z, clips, 0.5)
    assert torch.equal(other.contrast(z, classes, domains, clips), expected)


@pytest.mark.parametrize("kind", ["none", "arcface"])
def test_a_step_contrasts_both_views_of_every_clip_and_adds_the_classification(
    rows: Rows, kind: str
) -> None:
    training = training_of(rows, classifier=kind, classifier_weight=0.5, contrast_weight=2.0)
    batch = next(iter(training.batches))
    # In evaluation mode nothing but the generator changes between two passes.
    network, augmentation = training.network.eval(), training.augmentation.eval()
    training.generator.manual_seed(1)
    given = training.training_step(batch, 0)
    views = augmentation(batch[0], torch.Generator().manual_seed(1))
    assert views.shape[:2] == (2, len(batch[3]))
    embeddings = network.encoder(views.flatten(0, 1))
    numbers = [torch.cat([number, number]) for number in batch[1:]]
    expected = 2.0 * training.contrast(network.head(embeddings), *numbers)
    if kind != "none":
        expected = expected + 0.5 * network.classifier(embeddings, numbers[0])
    torch.testing.assert_close(given, expected)
    training.end_epoch()
    assert training.history == [{"loss": float(given.detach())}]


def test_a_loss_that_is_not_finite_stops_the_training(rows: Rows) -> None:
    training = training_of(rows)
    training.contrast = lambda *_: torch.tensor(float("nan"))  # type: ignore[method-assign]
    training.training_step(next(iter(training.batches)), 0)
    with pytest.raises(RunError, match=r"loss is nan in step 1, .* lower learning_rate"):
        training.end_epoch()


def trained(
    rows: Rows, workdir: Path | None = None, progress: Any = None, seed: int = 0, **changes: Any
) -> tuple[list[float], dict[str, torch.Tensor]]:
    system = quick_system(seed, **({"epochs": 3} | changes))
    system.fit_network(rows, workdir, progress)
    assert system.history_ is not None
    assert system.history_["step"].tolist() == list(range(1, len(system.history_) + 1))
    return system.history_["loss"].tolist(), system.network_.state_dict()


def assert_equal(a: Any, b: Any) -> None:
    assert a[0] == b[0]
    for name, tensor in a[1].items():
        assert torch.equal(tensor, b[1][name]), name


def stop_at(step: int, how: Any) -> Any:
    def progress(what: str, done: int, total: int) -> None:
        assert (what, total) == ("training", 12)
        if done == step:
            how()

    return progress


def kill() -> None:
    raise RuntimeError("killed")


@pytest.fixture(scope="module")
def straight(rows: Rows) -> Any:
    """Result of a training that nothing stops."""
    return trained(rows)


@pytest.mark.parametrize(
    ("step", "changes"),
    [
        (2, {}),
        (6, {"crops": "different"}),
        (8, {}),
    ],
)
def test_a_stopped_training_ends_like_one_that_was_not(
    rows: Rows, straight: Any, tmp_path: Path, step: int, changes: dict[str, Any]
) -> None:
    whole = trained(rows, **changes) if changes else straight
    steps: list[int] = []
    with pytest.raises(RuntimeError, match="killed"):
        trained(rows, tmp_path, stop_at(step, kill), **changes)
    assert (tmp_path / "epoch.ckpt").exists() == (step > 4)
    resumed = trained(rows, tmp_path, lambda what, done, total: steps.append(done), **changes)
    assert steps == list(range(1 + 4 * ((step - 1) // 4), 13)), "finished epochs are kept"
    assert_equal(resumed, whole)
    assert [path.name for path in tmp_path.iterdir()] == ["epoch.ckpt"]
    again = trained(rows, tmp_path, lambda *_: pytest.fail("trained again"), **changes)
    assert_equal(again, whole)


def test_a_kill_while_writing_keeps_the_last_checkpoint(
    rows: Rows, straight: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, count = Path.replace, iter(range(10))

    def replace_once(self: Path, target: Path) -> Path:
        return replace(self, target) if next(count) < 1 else kill()  # type: ignore[func-returns-value]

    monkeypatch.setattr(Path, "replace", replace_once)
    with pytest.raises(RuntimeError, match="killed"):
        trained(rows, tmp_path)
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["epoch.ckpt"]
    assert_equal(trained(rows, tmp_path), straight)


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)]
)
@pytest.mark.parametrize("step", [6, 12])
def test_signals_end_a_training(
    rows: Rows, straight: Any, tmp_path: Path, number: signal.Signals, raised: Any, step: int
) -> None:
    before = signal.getsignal(number)
    with pytest.raises(raised) as stopped:
        trained(rows, tmp_path, stop_at(step, lambda: signal.raise_signal(number)))
    if number == signal.SIGTERM:
        assert stopped.value.code == 143
    assert signal.getsignal(number) is before, "a second one is heard, too"
    assert_equal(trained(rows, tmp_path), straight)


@pytest.fixture(scope="module")
def whole(rows: Rows, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Checkpoint of a whole training, and its result."""
    folder = tmp_path_factory.mktemp("whole")
    result = trained(rows, folder, epochs=1)
    return (folder / "epoch.ckpt").read_bytes(), result


@pytest.mark.parametrize("content", [b"", b"garbage", None])
def test_a_damaged_checkpoint_is_refused(rows: Rows, tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "epoch.ckpt"
    if content is None:
        trained(rows, tmp_path, epochs=1)
        content = file.read_bytes()[:3000]
    file.write_bytes(content)
    with pytest.raises(RunError, match=r"checkpoint .*epoch\.ckpt' is damaged; delete it"):
        trained(rows, tmp_path)


@given(position=st.integers(0, 10**9), mask=st.integers(1, 255))
@settings(max_examples=40)
def test_any_changed_byte_of_a_checkpoint_is_noticed_or_changes_nothing(
    rows: Rows, whole: Any, position: int, mask: int
) -> None:
    content, result = whole
    changed = bytearray(content)
    changed[position % len(changed)] ^= mask
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "epoch.ckpt").write_bytes(changed)
        try:
            assert_equal(trained(rows, Path(folder), epochs=1), result)
        except RunError as error:
            told = str(error)
        else:
            told = "delete it"
    assert "delete it" in told


def test_a_checkpoint_of_something_else_is_refused(rows: Rows, tmp_path: Path) -> None:
    for content in [[], {}, {"training": 1}, "text", 7, None]:
        torch.save(content, tmp_path / "epoch.ckpt")
        with pytest.raises(RunError, match="delete it to train from the start"):
            trained(rows, tmp_path)


def test_a_checkpoint_that_lacks_parts_is_refused(rows: Rows, whole: Any, tmp_path: Path) -> None:
    file = tmp_path / "epoch.ckpt"
    file.write_bytes(whole[0])
    content = torch.load(file, weights_only=True)
    for key in content:
        torch.save({k: v for k, v in content.items() if k != key}, file)
        with suppress(RunError):  # what Lightning does not need may be missing
            assert_equal(trained(rows, tmp_path, epochs=1), whole[1])


def test_a_checkpoint_of_another_training_is_refused(
    rows: Rows, two_domains: Rows, tmp_path: Path
) -> None:
    trained(rows, tmp_path, epochs=1)
    turned = rows.select(np.arange(len(rows))[::-1])
    for other, changes in (
        (rows, {"seed": 1}),
        (rows, {"epochs": 4}),
        (rows, {"temperature": 0.2}),
        (rows.select(np.arange(27)), {}),
        (turned, {}),
        (two_domains, {}),
    ):
        with pytest.raises(RunError, match="of a training with other parameters, seed or clips"):
            trained(other, tmp_path, **({"epochs": 1} | changes))


def test_training_changes_no_global_state(rows: Rows) -> None:
    state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    levels = {n: logging.getLogger(n).level for n in ("lightning.pytorch", "lightning.fabric")}
    trained(rows, epochs=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert {name: logging.getLogger(name).level for name in levels} == levels


def private_memory() -> int:
    """Memory of this process in MB that no file backs."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in status if line.startswith("RssAnon"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_what_a_training_left_behind_is_given_back() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me, self.memory = self, [torch.ones(1_000_000) for _ in range(50)]

    keep_freed_memory()
    give_back_memory()
    before = private_memory()
    Cycle()
    assert private_memory() > before + 150
    give_back_memory()
    assert private_memory() < before + 30
