"""The autoencoders of the DCASE 2020 and 2022 Task 2 baselines.

One network a machine type learns to give back five consecutive frames through a bottleneck of
eight units. It sees no section; sections are told apart at test time only. What it gives back
badly is anomalous.

Sources: y-kawagu/dcase2020_task2_baseline (commit ebfcc2a, MIT) and
Kota-Dohi/dcase2022_task2_baseline_ae (commit 8ab52e1, MIT). Kept: input, network, initial
weights, optimiser, loss, split, score. Not repeated: an array of all stacked frames in double
precision (5 to 6.5 GiB a machine; here the frames are stacked at batch time), one clip at a time
at test, and a score of zero for a broken file without a word. The official runs themselves spread
by one to two points of AUC.

Shape legend: B batch, F mel bins, W frames of a window.
"""

from itertools import pairwise

from pydantic import Field
from torch import Tensor, nn

from asdlib.baselines.training import TrainingParams
from asdlib.baselines.windowed import WindowedBaseline


class AutoencoderParams(TrainingParams):
    """Parameters of `Autoencoder`; the defaults are the official ones."""

    n_frames: int = Field(default=5, ge=1, description="consecutive frames of a window")
    hidden: int = Field(default=128, ge=1, description="units of a hidden layer")
    bottleneck: int = Field(default=8, ge=1, description="units of the narrowest layer")


class AutoencoderNetwork(nn.Sequential):
    """Nine hidden layers, each with batch normalisation and ReLU, and a linear output.

    640 → 128 ×4 → 8 → 128 ×4 → 640 has 267,928 trainable parameters. Batch normalisation is that
    of Keras: momentum 0.99 (0.01 in PyTorch's way of counting), epsilon 1e-3.

    Parameters
    ----------
    n_inputs
        Values of a window, W * F.
    hidden, bottleneck
        Units of the layers.
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
    for features in dB. The official features are those of the preset "dcase2020"; they are not
    scaled. The windows are sorted by file name and the last tenth of them is not trained on.

    Parameters and attributes are those of
    `asdlib.baselines.windowed.WindowedBaseline` and `AutoencoderParams`.
    """

    name = "autoencoder"
    Params = AutoencoderParams

    @property
    def width(self) -> int:
        """Frames of a window, W."""
        return self.params.n_frames

    @property
    def hops(self) -> tuple[int, int]:
        """Every window counts, in training and at test."""
        return 1, 1

    def build(self, n_mels: int, n_sections: int) -> nn.Module:
        """Make the network of one machine; the number of sections does not matter."""
        return AutoencoderNetwork(self.width * n_mels, self.params.hidden, self.params.bottleneck)

    def loss(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Mean squared error over `windows` (B, W, F); `section` does not matter."""
        vectors = windows.flatten(1)
        return nn.functional.mse_loss(network(vectors), vectors)

    def window_scores(self, network: nn.Module, windows: Tensor, section: Tensor) -> Tensor:
        """Mean squared error (B,) of each of `windows` (B, W, F)."""
        vectors = windows.flatten(1)
        error: Tensor = network(vectors) - vectors
        return error.square().mean(dim=1)


class Autoencoder2022(Autoencoder):
    """The DCASE 2022 Task 2 autoencoder baseline.

    The network, its training and its score are those of 2020. Two things differ. The official
    features are those of the preset "dcase2022" (zero padding, ``log10(max(mel, eps))``), so build
    the store with it. And there is a threshold: the 0.9 quantile of a gamma distribution fitted to
    the scores of the training clips, see `WindowedBaseline.thresholds`.
    """

    name = "autoencoder2022"
    has_threshold = True
