"""What the trained DCASE baselines share: one network a machine type, fed with windows of frames.

A subclass says how wide a window is, which network it trains, the loss of some windows and the
score of one. This module does the rest: reads each machine's clips, trains, scores in batches,
saves and loads. The anomaly score of a clip is the mean over its windows.

Shape legend: B batch, F mel bins, W frames of a window, N clips, C sections of a machine.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from asdlib.baselines.frames import FrameBank, check_length, mean_over_windows
from asdlib.baselines.threshold import gamma_threshold
from asdlib.baselines.training import (
    Checkpoint,
    TrainingParams,
    digest,
    generator_of,
    materialise,
    train,
)
from asdlib.errors import RunError
from asdlib.features import Rows
from asdlib.system import Progress, System, section_keys, with_prefix

P = TypeVar("P", bound=TrainingParams)


class WindowedBaseline(System[P]):
    """One network a machine type on windows of consecutive frames.

    Parameters
    ----------
    seed
        Decides the initial weights and the order of the windows. Each machine has its own
        generator, so its model does not depend on the other machines in training.
    **params
        See `Params` of the subclass.

    Attributes
    ----------
    networks_ : dict
        Trained network of each machine.
    history_ : pd.DataFrame
        Columns ``machine``, ``epoch``, ``loss`` and, with validation windows, ``val_loss``.
    training_scores_ : dict
        Scores of each machine's training clips (N,), for systems that have a threshold.
    """

    has_threshold: ClassVar[bool] = False
    sort_by: ClassVar[tuple[str, ...]] = ("clip",)

    def __init__(self, /, *, seed: int = 0, **params: Any) -> None:
        super().__init__(seed=seed, **params)
        self.networks_: dict[str, nn.Module] = {}
        self.training_scores_: dict[str, np.ndarray] = {}

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

    def _fit(self, rows: Rows, workdir: Path | None, progress: Progress) -> None:
        """Train one network for each machine type in `rows`.

        The checkpoint of a machine is rewritten after each epoch. `progress` is called after each
        epoch as ``progress("<system> <machine>", epoch, epochs)``.
        """
        check_length(rows, self.width)
        self.networks_, self.training_scores_ = {}, {}
        histories = []
        machines = sorted({str(machine) for machine in rows.manifest["machine"]})
        for machine in machines:
            self.check_machine(machine, self._sections_of(machine))
        for machine in machines:
            of_machine = rows.select((rows.manifest["machine"] == machine).to_numpy())
            history = self._fit_machine(machine, of_machine, workdir, progress)
            histories.append(history.assign(machine=machine))
            if self.has_threshold:
                self.training_scores_[machine] = self._score_machine(
                    machine, of_machine, self.hops[0]
                )
        history = pd.concat(histories, ignore_index=True)
        self.history_ = history[["machine", *history.columns.drop("machine")]]

    def _score(self, rows: Rows) -> np.ndarray:
        """Compute the mean score over the windows of each clip, (N,), float64."""
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

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors: dict[str, Tensor] = {}
        for machine, network in self.networks_.items():
            for name, tensor in network.state_dict().items():
                tensors[f"network/{machine}/{name}"] = tensor
        for machine, scores in self.training_scores_.items():
            tensors[f"training_scores/{machine}"] = torch.from_numpy(scores)
        return tensors, {}

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        for machine in sorted({key.split("/")[0] for key in self.sections_}):
            network = self._network(machine, None)
            network.load_state_dict(with_prefix(tensors, f"network/{machine}/"))
            self.networks_[machine] = network
        scores = with_prefix(tensors, "training_scores/")
        self.training_scores_ = {machine: scores[machine].numpy() for machine in scores}

    def _sections_of(self, machine: str) -> list[str]:
        return [key for key in self.sections_ if key.startswith(f"{machine}/")]

    def _network(self, machine: str, generator: torch.Generator | None) -> nn.Module:
        with torch.device("meta"):
            network = self.build(self.front_end_["n_mels"], len(self._sections_of(machine)))
        return materialise(network, generator)

    def _section_numbers(self, machine: str, rows: Rows) -> np.ndarray:
        return np.searchsorted(
            np.asarray(self._sections_of(machine)), section_keys(rows.manifest).astype(str)
        )

    def _fit_machine(
        self, machine: str, rows: Rows, workdir: Path | None, progress: Progress
    ) -> pd.DataFrame:
        device = self.device
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
            progress(f"{self.name} {machine}", done, self.params.epochs)

        history = train(
            network,
            loss,
            len(start),
            self.params,
            generator=generator,
            checkpoint=checkpoint,
            on_epoch=on_epoch,
        )
        self.networks_[machine] = network
        return pd.DataFrame(
            history, index=pd.RangeIndex(1, len(history) + 1, name="epoch")
        ).reset_index()

    @torch.inference_mode()
    def _score_machine(self, machine: str, rows: Rows, hop: int) -> np.ndarray:
        device = self.device
        network = self.networks_[machine].to(device).eval()
        section = torch.from_numpy(self._section_numbers(machine, rows)).to(device)

        def score(windows: Tensor, clip: Tensor) -> Tensor:
            return self.window_scores(network, windows, section[clip])

        return mean_over_windows(rows, score, self.width, hop, self.params.score_batch_size, device)
