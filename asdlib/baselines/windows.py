"""What the trained DCASE baselines share: one network per machine type, fed with windows of frames.

Storing all overlapping windows is what makes the official baselines need 5 to 13 GB per machine.
Here the frames of all clips lie one after another in one float16 array, the precision of the store,
and windows are cut at batch time.

Training is that of Keras: Glorot-uniform weights and zero biases; the last share of the windows, in
their given order, is for validation; the last epoch is kept; batches are shuffled anew each epoch
and the last, smaller batch counts, unless it is a single window, which has no variance. Two
differences of the libraries remain: Adam's epsilon acts after the bias correction here and before
it in Keras, and the running variance of dense layers is the unbiased one here.

Shapes: B batch, F mel bins, W frames of a window, L frames of all clips, M windows, N clips.
"""

import mmap
from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from asdlib.errors import RunError
from asdlib.features import Rows
from asdlib.method.training import Training, train
from asdlib.system import (
    MOST,
    Count,
    Parameters,
    Progress,
    System,
    by_section,
    per_clip,
    section_keys,
    silence,
    with_prefix,
)

_CLIPS_PER_READ = 64
_CLIPS_PER_SCORING = 16


class WindowParams(Parameters):
    """Parameters that all trained baselines share."""

    n_frames: Count = Field(default=5, description="consecutive frames of a window")
    epochs: Count = Field(default=100, description="passes over the training windows")
    batch_size: int = Field(default=512, ge=2, le=MOST, description="windows of a training step")
    learning_rate: float = Field(default=1e-3, gt=0.0, description="step size of Adam")
    adam_epsilon: float = Field(default=1e-7, gt=0.0, description="epsilon of Adam, as in Keras")
    validation_fraction: float = Field(
        default=0.1,
        ge=0.0,
        lt=1.0,
        description="share of the windows, the last in order, that is not trained on",
    )
    score_batch_size: Count = Field(default=4096, description="windows scored at once")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto (a GPU if there is one), cpu, cuda or cuda:N",
    )


P = TypeVar("P", bound=WindowParams)


class WindowedBaseline(System[P]):
    """One network per machine type on windows of consecutive frames.

    Parameters
    ----------
    seed
        Decides the initial weights and the order of the windows, separately for each machine.
    **params
        See `Params` of the subclass.

    Attributes
    ----------
    networks_ : dict
        Trained network of each machine.
    history_ : pd.DataFrame
        Columns ``machine``, ``epoch``, ``loss`` and, with validation windows, ``val_loss``.
    """

    sort_by: ClassVar[tuple[str, ...]] = ("clip",)

    networks_: dict[str, nn.Module]

    @property
    def hops(self) -> tuple[int, int]:
        """Frames between the starts of two windows in training and at test."""
        return 1, 1

    @abstractmethod
    def build(self, n_mels: int, n_sections: int) -> nn.Module:
        """Return the network of one machine."""

    @abstractmethod
    def loss(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Compute the mean loss of `windows` (B, W, F) of sections with the numbers (B,)."""

    @abstractmethod
    def window_scores(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Compute anomaly scores (B,) of `windows` (B, W, F); higher is more anomalous."""

    def _fit(self, rows: Rows, workdir: Path | None, progress: Progress) -> None:
        self._check_length(rows)
        self.networks_, histories = {}, []
        for machine, own in by_section(rows.manifest["machine"].to_numpy()).items():
            histories.append(self._fit_machine(machine, rows.select(own), workdir, progress))
        self.history_ = pd.concat(histories, ignore_index=True)

    def _fit_machine(
        self, machine: str, rows: Rows, workdir: Path | None, progress: Progress
    ) -> pd.DataFrame:
        order = rows.manifest.sort_values(list(self.sort_by), kind="stable").index.to_numpy()
        training = _WindowTraining(self, machine, rows.select(order))
        if training.frames.min() == training.frames.max():
            raise silence(machine)
        train(
            training,
            training.batches,
            epochs=self.params.epochs,
            device=self.device,
            what=f"{self.name} {machine}",
            checkpoint=workdir / f"{machine}.ckpt" if workdir else None,
            progress=progress,
        )
        self.networks_[machine] = training.network
        history = pd.DataFrame(training.history)
        history.insert(0, "machine", machine)
        history.insert(1, "epoch", range(1, len(history) + 1))
        return history

    def _score(self, rows: Rows) -> np.ndarray:
        self._check_length(rows)
        scores = np.empty(len(rows))
        for machine, own in by_section(rows.manifest["machine"].to_numpy()).items():
            scores[own] = self._score_machine(machine, rows.select(own))
        return scores

    @torch.inference_mode()
    def _score_machine(self, machine: str, rows: Rows) -> np.ndarray:
        """Average the scores of the windows of each clip, (N,)."""
        device, width, batch = self.device, self.params.n_frames, self.params.score_batch_size
        network = self.networks_[machine].to(device).eval()
        section = torch.from_numpy(self._section_numbers(machine, rows)).to(device)

        def compute(log_mel: np.ndarray, positions: np.ndarray) -> np.ndarray:
            n_clips, n_mels, n_frames = log_mel.shape
            flat = np.ascontiguousarray(log_mel.transpose(0, 2, 1)).reshape(-1, n_mels)
            frames = torch.from_numpy(flat).to(device)
            start, clip = window_starts(np.full(n_clips, n_frames), width, self.hops[1])
            of_window = section[torch.from_numpy(positions)[clip].to(device)]
            split = zip(torch.split(start, batch), torch.split(of_window, batch), strict=True)
            parts = [
                self.window_scores(network, gather_windows(frames, some, width), numbers)
                for some, numbers in split
            ]
            return torch.cat(parts).double().reshape(n_clips, -1).mean(dim=1).cpu().numpy()

        return per_clip(rows, _CLIPS_PER_SCORING, compute)

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return {
            f"network/{machine}/{name}": tensor
            for machine, network in self.networks_.items()
            for name, tensor in network.state_dict().items()
        }, {}

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        machines = sorted({key.split("/")[0] for key in self.sections_})
        if {key.split("/")[1] for key in tensors} != set(machines):
            raise ValueError("its sections and its networks are of different machines")
        self.networks_ = {}
        for machine in machines:
            network = self._network(machine, torch.Generator())
            network.load_state_dict(with_prefix(tensors, f"network/{machine}/"))
            self.networks_[machine] = network

    def _network(self, machine: str, generator: torch.Generator) -> nn.Module:
        # Building on "meta" leaves the global random state alone.
        with torch.device("meta"):
            network = self.build(self.front_end_["n_mels"], len(self._sections_of(machine)))
        return initialise(network.to_empty(device="cpu"), generator)

    def _sections_of(self, machine: str) -> list[str]:
        return [key for key in self.sections_ if key.startswith(f"{machine}/")]

    def _section_numbers(self, machine: str, rows: Rows) -> np.ndarray:
        return np.searchsorted(self._sections_of(machine), section_keys(rows.manifest).astype(str))

    def _check_length(self, rows: Rows) -> None:
        """Refuse clips that are shorter than one window."""
        short = rows.frames < self.params.n_frames
        if short.any():
            row = int(np.argmax(short))
            raise RunError(
                f"clip '{rows.manifest['clip'].iloc[row]}' has {rows.frames[row]} frames, expected "
                f"at least {self.params.n_frames}; leave it out or set fewer n_frames"
            )


class _WindowTraining(Training):
    """The training of one machine's network, as Keras does it; the last `rows` are validated on."""

    params: WindowParams
    unit = "epoch"

    def __init__(self, system: WindowedBaseline[Any], machine: str, rows: Rows) -> None:
        generator = generator_of(system.seed, machine)
        super().__init__(system._network(machine, generator), system.params, system.seed, rows)
        self.generator = generator
        self.system = system
        self.frames = read_frames(rows).to(system.device)
        start, clip = window_starts(rows.frames, self.params.n_frames, system.hops[0])
        section = torch.from_numpy(system._section_numbers(machine, rows))[clip]
        self.start, self.section = start.to(system.device), section.to(system.device)
        self.n_train = int(len(self.start) * (1.0 - self.params.validation_fraction))
        if self.n_train < 2:
            raise RunError(
                f"{self.n_train} training windows are too few, expected at least 2; "
                "add clips or lower validation_fraction"
            )
        self.batches = _Shuffled(self.n_train, self.params.batch_size, generator)

    def mean_loss(self, numbers: Tensor) -> Tensor:
        """Compute the mean loss of the windows with the given numbers (B,)."""
        windows = gather_windows(self.frames, self.start[numbers], self.params.n_frames)
        return self.system.loss(self.network, windows, self.section[numbers])

    def on_train_epoch_start(self) -> None:
        """Begin a new sum of losses."""
        self.network.train()
        self.total = torch.zeros((), dtype=torch.float64, device=self.frames.device)
        self.n_seen = 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """Compute the mean loss of one batch."""
        loss = self.mean_loss(batch)
        self.total += loss.detach() * len(batch)
        self.n_seen += len(batch)
        return loss

    @torch.inference_mode()
    def end_epoch(self) -> None:
        """Record the mean losses over the windows of training and validation."""
        entry = {"loss": float(self.total) / self.n_seen}
        validation = torch.arange(self.n_train, len(self.start), device=self.start.device)
        if len(validation):
            self.network.eval()
            parts = torch.split(validation, self.params.score_batch_size)
            total = sum(self.mean_loss(part).item() * len(part) for part in parts)
            entry["val_loss"] = total / len(validation)
        self.record(**entry)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam with the epsilon of Keras."""
        return torch.optim.Adam(
            self.network.parameters(),
            lr=self.params.learning_rate,
            eps=self.params.adam_epsilon,
            fused=True,
        )


class _Shuffled:
    """Numbers 0 to n - 1 in batches, in a new order each time; a last batch of one is left out."""

    def __init__(self, n: int, batch_size: int, generator: torch.Generator) -> None:
        self.n, self.batch_size, self.generator = n, batch_size, generator

    def __len__(self) -> int:
        return self.n // self.batch_size + (self.n % self.batch_size > 1)

    def __iter__(self) -> Iterator[Tensor]:
        # Drawn with the first batch, not with the iterator: Lightning makes one to look at it.
        shuffled = torch.randperm(self.n, generator=self.generator)
        yield from torch.split(shuffled, self.batch_size)[: len(self)]


def read_frames(rows: Rows) -> Tensor:
    """Read the frames of all clips, one clip after another, (L, F) as float16, all finite."""
    offset = np.cumsum(rows.frames) - rows.frames
    frames = np.empty((int(rows.frames.sum()), rows.store.n_mels), dtype=np.float16)
    mapped = rows.store.features.base
    for positions, log_mel in rows.batches(_CLIPS_PER_READ):
        frames[offset[positions][:, None] + np.arange(log_mel.shape[2])] = log_mel.transpose(
            0, 2, 1
        )
        # Pages of the memory map that were read would double the peak; the system keeps a copy.
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)
    return torch.from_numpy(frames)


def window_starts(count: np.ndarray, width: int, hop: int) -> tuple[Tensor, Tensor]:
    """List all windows, `hop` frames apart, of clips of `count` (N,) frames one after another.

    Returns the first frame of each window (M,) and the clip that it lies in (M,), int64. A clip
    with fewer than `width` frames has no window.
    """
    offset = np.cumsum(count) - count
    per_clip = np.maximum(0, (count - width) // hop + 1)
    clip = np.repeat(np.arange(len(count), dtype=np.int64), per_clip)
    within = np.arange(len(clip), dtype=np.int64) - (np.cumsum(per_clip) - per_clip)[clip]
    return torch.from_numpy(offset[clip] + hop * within), torch.from_numpy(clip)


def gather_windows(frames: Tensor, start: Tensor, width: int) -> Tensor:
    """Gather windows (B, W, F), float32, from `frames` (L, F) at their first frames (B,)."""
    n_frames, n_mels = frames.shape
    every = frames.as_strided((n_frames - width + 1, width * n_mels), (n_mels, 1))
    picked = every.index_select(0, start.to(frames.device))
    return picked.float().reshape(len(start), width, n_mels)


def generator_of(seed: int, machine: str) -> torch.Generator:
    """Return the random numbers of one machine, which do not depend on the other machines."""
    entropy = np.random.SeedSequence([seed, *machine.encode()]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(entropy[0] >> 1))


def initialise(network: nn.Module, generator: torch.Generator) -> nn.Module:
    """Set weights as Keras does: Glorot-uniform, biases zero, batch normalisation neutral."""
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()
    return network
