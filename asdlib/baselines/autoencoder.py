"""The autoencoders of the DCASE 2020 and 2022 Task 2 baselines.

One network per machine type learns to reconstruct five consecutive frames through a bottleneck of
eight units. It sees no section; sections are distinguished at test time only. What it reconstructs
badly is anomalous.

Sources: y-kawagu/dcase2020_task2_baseline (commit ebfcc2a, MIT) and
Kota-Dohi/dcase2022_task2_baseline_ae (commit 8ab52e1, MIT). Kept: input, network, initial weights,
optimiser, loss, split, score; not repeated: a silent score of zero for a broken file. The official
runs themselves spread by one to two points of AUC.

Shapes: B batch, F mel bins, W frames of a window.
"""

from itertools import pairwise

import numpy as np
from pydantic import Field
from scipy import stats
from torch import Tensor, nn

from asdlib.baselines.windows import WindowedBaseline, WindowParams
from asdlib.errors import RunError


class AutoencoderParams(WindowParams):
    """Parameters of `Autoencoder`; the defaults are the official ones."""

    hidden: int = Field(default=128, ge=1, le=8192, description="units of a hidden layer")
    bottleneck: int = Field(default=8, ge=1, le=8192, description="units of the narrowest layer")


class AutoencoderNetwork(nn.Sequential):
    """Nine hidden layers, each with batch normalisation and ReLU, and a linear output.

    640 → 128 ×4 → 8 → 128 ×4 → 640 has 267,928 trainable parameters. Batch normalisation is that
    of Keras: momentum 0.99 (0.01 in PyTorch's way of counting), epsilon 1e-3.
    """

    def __init__(self, n_inputs: int, hidden: int = 128, bottleneck: int = 8) -> None:
        sizes = [n_inputs, *[hidden] * 4, bottleneck, *[hidden] * 4]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(sizes):
            layers += [
                nn.Linear(n_in, n_out),
                nn.BatchNorm1d(n_out, eps=1e-3, momentum=0.01),
                nn.ReLU(inplace=True),
            ]
        super().__init__(*layers, nn.Linear(sizes[-1], n_inputs))


class Autoencoder(WindowedBaseline[AutoencoderParams]):
    """The DCASE 2020 Task 2 baseline: reconstruction error of stacked frames.

    The score of a clip is the mean squared error over its windows and their dimensions, in dB²
    for features in dB, which are not scaled; the official ones have the preset "dcase2020". See
    `AutoencoderParams` and `asdlib.baselines.windows.WindowedBaseline`.
    """

    name = "autoencoder"
    Params = AutoencoderParams

    def build(self, n_mels: int, n_sections: int) -> nn.Module:
        """Return the network of one machine."""
        n_inputs = self.params.n_frames * n_mels
        return AutoencoderNetwork(n_inputs, self.params.hidden, self.params.bottleneck)

    def loss(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Compute the mean squared error over `windows` (B, W, F)."""
        vectors = windows.flatten(1)
        return nn.functional.mse_loss(network(vectors), vectors)

    def window_scores(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Compute the mean squared error (B,) of each of `windows` (B, W, F)."""
        vectors = windows.flatten(1)
        error: Tensor = network(vectors) - vectors
        return error.square().mean(dim=1)


class Autoencoder2022(Autoencoder):
    """The DCASE 2022 Task 2 autoencoder baseline: that of 2020, with two differences.

    The official features have the preset "dcase2022" (zero padding, ``log10(max(mel, eps))``). And
    there is a decision threshold: `gamma_threshold` of the scores of a machine's training clips.
    """

    name = "autoencoder2022"


def gamma_threshold(anomaly_score: np.ndarray, quantile: float = 0.9) -> float:
    """Compute a threshold: the quantile of a gamma distribution fitted to scores of normal clips.

    The fit has shape, location and scale free, as in the DCASE 2022 Task 2 baselines
    (Kota-Dohi/dcase2022_task2_baseline_ae, commit 8ab52e1). They fit it to training clips; held-out
    normal clips give a threshold that holds better on new clips.

    Parameters
    ----------
    anomaly_score
        Scores of normal clips (N,).
    quantile
        Share of normal clips to lie below the threshold, between 0 and 1.

    Raises
    ------
    RunError
        If there are fewer than three different scores, or `quantile` is not between 0 and 1.
    """
    if not 0.0 < quantile < 1.0:
        raise RunError(f"quantile {quantile} is not allowed, expected a number between 0 and 1")
    scores = np.asarray(anomaly_score, dtype=np.float64)
    n_different = len(np.unique(scores))
    if n_different < 3:
        raise RunError(
            f"{n_different} different scores are too few for a gamma distribution, expected at "
            "least 3; add scores of more normal clips"
        )
    return float(stats.gamma.ppf(quantile, *stats.gamma.fit(scores)))
