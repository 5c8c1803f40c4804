"""An encoder of one's own: a linear layer on the time mean of each mel bin."""

from torch import nn

from asdlib.method.encoders import ENCODERS, Encoder


class MelMean(Encoder):
    """Embed the mean spectrum: no convolution at all."""

    def __init__(self, n_mels: int = 128, *, embedding_size: int = 64) -> None:
        super().__init__()
        self.n_mels = n_mels
        self.embedding_size = embedding_size
        self.body = nn.Identity()  # (B, 1, F, T) stays; the base class averages over T
        self.last = nn.Linear(n_mels, embedding_size)


ENCODERS["mel_mean"] = MelMean
