"""What the trained DCASE baselines share: one network a machine type, fed with windows of frames.

A subclass says how wide a window is, which network it trains, the loss of some windows and the
score of one. This module does the rest: reads each machine's clips, trains, scores in batches,
saves and loads. The anomaly score of a clip is the mean over its windows.

Shape legend: B batch, F mel bins, W frames of a window, N clips, C sections of a machine.
"""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from asdlib.baselines.frames import FrameBank, check_length, mean_over_windows
from asdlib.baselines.state import check_front_end, check_training_rows, load_state, save_state
from asdlib.baselines.threshold import gamma_threshold
from asdlib.baselines.training import (
    Checkpoint,
    History,
    TrainingParams,
    digest,
    generator_of,
    materialise,
    resolve_device,
    train,
)
from asdlib.errors import RunError
from asdlib.features import Rows
from asdlib.system import Progress, check_sections, reading_model, section_keys

P = TypeVar("P", bound=TrainingParams)


class WindowedBaseline(ABC, Generic[P]):
    """One network a machine type on windows of consecutive frames.

    Parameters
    ----------
    params
        Validated parameters of the subclass; defaults if not given.
    seed
        Decides the initial weights and the order of the windows. Each machine has its own
        generator, so its model does not depend on the other machines in training.

    Attributes
    ----------
    sections_ : tuple of str
        Sections seen in `fit`, "machine/section".
    networks_ : dict
        Trained network of each machine.
    history_ : dict
        Losses of each machine, one entry an epoch.
    training_scores_ : dict
        Scores of each machine's training clips (N,), for systems that have a threshold.
    """

    name: str
    Params: type[Any]
    has_threshold: ClassVar[bool] = False
    sort_by: ClassVar[tuple[str, ...]] = ("clip",)

    def __init__(self, params: P | None = None, *, seed: int = 0) -> None:
        self.params: P = params if params is not None else self.Params()
        self.seed = seed
        self.sections_: tuple[str, ...] = ()
        self.networks_: dict[str, nn.Module] = {}
        self.history_: dict[str, History] = {}
        self.training_scores_: dict[str, np.ndarray] = {}
        self._front_end: dict[str, Any] = {}

    @property
    @abstractmethod
    def width(self) -> int:
        """Frames of a window, W."""

    @property
    @abstractmethod
    def hops(self) -> tuple[int, int]:
        """Frames between the starts of two windows in training and at test."""

    @abstractmethod
    def build(self, n_mels: int, n_sections: int) -> nn.Module:
        """Make the network of one machine on the device "meta"."""

    @abstractmethod
    def loss(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Mean loss of `windows` (B, W, F) of the sections with the numbers `section` (B,)."""

    @abstractmethod
    def window_scores(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Anomaly scores (B,) of `windows` (B, W, F); higher is more anomalous."""

    def check_machine(self, machine: str, sections: list[str]) -> None:
        """Refuse a machine that this system cannot learn by a `RunError`; by default none."""

    def fit(
        self, rows: Rows, *, workdir: Path | None = None, progress: Progress | None = None
    ) -> Self:
        """Train one network for each machine type in `rows`.

        Parameters
        ----------
        rows
            Normal training clips.
        workdir
            Keeps a checkpoint a machine, rewritten after each epoch. A training that was killed
            goes on from it and ends with the very numbers of one that was not.
        progress
            Called after each epoch as ``progress("<system> <machine>", epoch, epochs)``.

        Raises
        ------
        RunError
            If the rows are empty, anomalous, too short or not finite, a machine cannot be
            learned, the loss diverges, or a checkpoint is of another training.
        """
        check_training_rows(rows)
        check_length(rows, self.width)
        keys = section_keys(rows.manifest)
        self.sections_ = tuple(sorted({str(key) for key in keys}))
        self._front_end = {**rows.store.front_end, "n_mels": rows.store.n_mels}
        self.networks_, self.history_, self.training_scores_ = {}, {}, {}
        machines = sorted({str(machine) for machine in rows.manifest["machine"]})
        for machine in machines:
            self.check_machine(machine, self._sections_of(machine))
        for machine in machines:
            of_machine = rows.select((rows.manifest["machine"] == machine).to_numpy())
            self._fit_machine(machine, of_machine, workdir, progress)
            if self.has_threshold:
                self.training_scores_[machine] = self._score_machine(
                    machine, of_machine, self.hops[0]
                )
        return self

    def score(self, rows: Rows) -> np.ndarray:
        """Mean score over the windows of each clip, (N,), float64.

        Raises
        ------
        RunError
            If a section was not in training, or the features are of another front end, too short
            or not finite.
        """
        check_sections(self.sections_, rows.manifest)
        check_front_end(self._front_end, rows)
        check_length(rows, self.width)
        scores = np.empty(len(rows))
        machine_of_row = rows.manifest["machine"].to_numpy()
        for machine in np.unique(machine_of_row.astype(str)):
            chosen = machine_of_row == machine
            scores[chosen] = self._score_machine(str(machine), rows.select(chosen), self.hops[1])
        return scores

    def thresholds(self, quantile: float = 0.9) -> dict[str, float]:
        """Decision threshold of each machine: a clip that scores above it is anomalous.

        The quantile of a gamma distribution fitted to the scores of the training clips, see
        `asdlib.baselines.threshold.gamma_threshold`.

        Raises
        ------
        RunError
            If the system has no threshold, or the scores allow no fit.
        """
        if not self.has_threshold:
            raise RunError(
                f"'{self.name}' keeps no scores of its training clips; score normal clips and use "
                "gamma_threshold"
            )
        return {
            machine: gamma_threshold(scores, quantile)
            for machine, scores in self.training_scores_.items()
        }

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``model.safetensors`` into `folder`."""
        tensors: dict[str, Tensor] = {}
        for machine, network in self.networks_.items():
            for name, tensor in network.state_dict().items():
                tensors[f"network/{machine}/{name}"] = tensor
        for machine, scores in self.training_scores_.items():
            tensors[f"training_scores/{machine}"] = torch.from_numpy(scores)
        facts = {
            "params": self.params.model_dump(mode="json"),
            "seed": self.seed,
            "sections": list(self.sections_),
            "front_end": self._front_end,
            "history": self.history_,
        }
        save_state(Path(folder), self.name, tensors, facts)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote.

        Raises
        ------
        RunError
            If the folder holds no such model or a damaged one.
        """
        with reading_model(Path(folder)):
            tensors, facts = load_state(Path(folder), cls.name)
            system = cls(cls.Params.model_validate(facts["params"]), seed=facts["seed"])
            system.sections_ = tuple(facts["sections"])
            system.history_ = facts["history"]
            system._front_end = facts["front_end"]
            for machine in system.history_:
                network = system._network(machine, None)
                prefix = f"network/{machine}/"
                weights = {
                    name.removeprefix(prefix): tensor
                    for name, tensor in tensors.items()
                    if name.startswith(prefix)
                }
                network.load_state_dict(weights)
                system.networks_[machine] = network
                if cls.has_threshold:
                    system.training_scores_[machine] = tensors[f"training_scores/{machine}"].numpy()
        return system

    def _sections_of(self, machine: str) -> list[str]:
        return [key for key in self.sections_ if key.startswith(f"{machine}/")]

    def _network(self, machine: str, generator: torch.Generator | None) -> nn.Module:
        with torch.device("meta"):
            network = self.build(self._front_end["n_mels"], len(self._sections_of(machine)))
        return materialise(network, generator)

    def _section_numbers(self, machine: str, rows: Rows) -> np.ndarray:
        return np.searchsorted(
            np.asarray(self._sections_of(machine)), section_keys(rows.manifest).astype(str)
        )

    def _fit_machine(
        self, machine: str, rows: Rows, workdir: Path | None, progress: Progress | None
    ) -> None:
        device = resolve_device(self.params.device)
        generator = generator_of(self.seed, machine)
        network = self._network(machine, generator).to(device)
        order = rows.manifest.sort_values(list(self.sort_by), kind="stable").index.to_numpy()
        bank = FrameBank.read(rows, order)
        section = torch.from_numpy(self._section_numbers(machine, rows)[order])
        start, clip = bank.starts(self.width, self.hops[0])
        checkpoint = None
        if workdir is not None:
            key = digest(
                self.name,
                self.params.model_dump_json(),
                str(self.seed),
                "\n".join(section_keys(rows.manifest)[order]),
                bank.count.tobytes(),
                bank.frames.numpy().data.cast("B"),
            )
            checkpoint = Checkpoint(Path(workdir) / f"{self.name}-{machine}.safetensors", key)
        bank = bank.to(device)

        def loss(model: nn.Module, examples: Tensor) -> Tensor:
            windows = bank.windows(start[examples], self.width)
            return self.loss(model, windows, section[clip[examples]].to(device))

        def on_epoch(done: int) -> None:
            if progress is not None:
                progress(f"{self.name} {machine}", done, self.params.epochs)

        self.history_[machine] = train(
            network,
            loss,
            len(start),
            self.params,
            generator=generator,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
        )
        self.networks_[machine] = network

    @torch.inference_mode()
    def _score_machine(self, machine: str, rows: Rows, hop: int) -> np.ndarray:
        device = resolve_device(self.params.device)
        network = self.networks_[machine].to(device).eval()
        section = torch.from_numpy(self._section_numbers(machine, rows)).to(device)

        def score(windows: Tensor, clip: Tensor) -> Tensor:
            return self.window_scores(network, windows, section[clip])

        scores = mean_over_windows(
            rows, score, self.width, hop, self.params.score_batch_size, device
        )
        if not np.isfinite(scores).all():
            raise RunError(
                f"the network of '{machine}' gives NaN or infinite scores, expected finite ones; "
                "train again with a lower learning_rate"
            )
        return scores
