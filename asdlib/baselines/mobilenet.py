"""The MobileNetV2 of the DCASE 2022 Task 2 baselines.

One network a machine type learns to tell the machine's sections apart. A clip that does not sound
like its own section is anomalous.

Source: Kota-Dohi/dcase2022_task2_baseline_mobile_net_v2 (commit aaf3932, MIT). Kept: input,
network, initial weights, optimiser, loss, split, score. Faults of the original, not repeated:

- Its threshold is fitted to another score than the one tested: a misplaced parenthesis takes the
  logarithm of a difference. Here both are the same function. (AUC is not affected.)
- A section that was not in training gets NaN as score. Here it is an error.
- It finds a clip's domain by looking for "source" anywhere in the path. Here the domain is a
  column of the clip table.
- It keeps all windows in double precision, about 13 GB a machine. Here windows are cut at batch
  time.

Kept although it looks odd: the windows are sorted by section, and the last tenth is for
validation, so all of it comes from the last section or two, which have the fewer windows to train
on. Set ``validation_fraction`` to 0 to train on all.

Shape legend: B batch, F mel bins, W frames of a window, C sections of a machine.
"""

import sys

import torch
from pydantic import Field
from torch import Tensor, nn

from asdlib.baselines.mobilenet_network import MobileNetV2Network
from asdlib.baselines.training import TrainingParams
from asdlib.baselines.windowed import WindowedBaseline
from asdlib.errors import RunError


class MobileNetV2Params(TrainingParams):
    """Parameters of `MobileNetV2`; the defaults are the official ones."""

    epochs: int = Field(default=20, ge=1, description="passes over the training windows")
    batch_size: int = Field(default=32, ge=2, description="windows of a training step")
    learning_rate: float = Field(default=1e-5, gt=0.0, description="step size of Adam")
    score_batch_size: int = Field(default=128, ge=1, description="windows scored at once")
    n_frames: int = Field(default=64, ge=32, description="frames of a window")
    train_hop_frames: int = Field(
        default=8, ge=1, description="frames from one window to the next in training"
    )
    test_hop_frames: int = Field(
        default=1, ge=1, description="frames from one window to the next at test"
    )
    alpha: float = Field(default=0.5, gt=0.0, description="factor of the network's widths")
    batch_norm_momentum: float = Field(
        default=0.001,
        gt=0.0,
        le=1.0,
        description="share of a batch in the running statistics; the official value needs some "
        "thousand steps to settle, so raise it for small data",
    )


def section_score(probability: Tensor) -> Tensor:
    """Anomaly score of windows whose own section has a given probability.

    ``log(max(1 - p, eps)) - log(max(p, eps))`` with the epsilon of double precision, computed in
    the precision of `probability` as the original does: in single precision the score falls to
    log(eps) = -36 as soon as p rounds to 1.

    Parameters
    ----------
    probability
        Softmax probability p of the own section (B,).

    Returns
    -------
    Tensor
        Scores (B,), natural logarithm of the odds against the own section.
    """
    eps = sys.float_info.epsilon
    return (1.0 - probability).clamp_min(eps).log() - probability.clamp_min(eps).log()


class MobileNetV2(WindowedBaseline[MobileNetV2Params]):
    """The DCASE 2022 Task 2 MobileNetV2 baseline: a clip should sound like its own section.

    The score of a clip is the mean of `section_score` over its windows. Thresholds are fitted to
    the training clips' scores over the windows of the training (every eighth), as in the original;
    at test every window counts. The official features are those of the preset "dcase2022".

    Parameters and attributes are those of
    `asdlib.baselines.windowed.WindowedBaseline` and `MobileNetV2Params`.
    """

    name = "mobilenetv2"
    Params = MobileNetV2Params
    has_threshold = True
    sort_by = ("section", "clip")

    @property
    def width(self) -> int:
        """Frames of a window, W."""
        return self.params.n_frames

    @property
    def hops(self) -> tuple[int, int]:
        """Frames between the starts of two windows in training and at test."""
        return self.params.train_hop_frames, self.params.test_hop_frames

    def check_machine(self, machine: str, sections: list[str]) -> None:
        """Refuse a machine with one section, of which nothing can be told apart.

        Raises
        ------
        RunError
            Naming the machine and the way out.
        """
        if len(sections) < 2:
            raise RunError(
                f"machine '{machine}' has the one section '{sections[0].split('/')[1]}', expected "
                "at least 2 to tell apart; add sections or use 'autoencoder2022'"
            )

    def build(self, n_mels: int, n_sections: int) -> nn.Module:
        """Make the network of one machine."""
        return MobileNetV2Network(n_sections, self.params.alpha, self.params.batch_norm_momentum)

    def loss(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Cross-entropy of the sections with the numbers `section` (B,)."""
        return nn.functional.cross_entropy(network(windows), section)

    def window_scores(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Scores (B,) of `windows` (B, W, F) against their own `section` (B,)."""
        probability = torch.softmax(network(windows), dim=1)
        return section_score(probability.gather(1, section[:, None]).squeeze(1))
