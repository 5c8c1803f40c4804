"""Batches of training: random crops of random clips, straight from the memory-mapped store.

Shapes: N clips, B batch, F mel bins, T frames.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from asdlib.features import Rows
from asdlib.method.parameters import ContrastiveParams
from asdlib.system import section_keys

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


class CropBatches:
    """One epoch of training batches after the other.

    Iterating gives ``(crops, classes, domains, clips)``: crops (B, F, T) — (2, B, F, T) if each
    view has a crop of its own —, and numbers of class, domain and clip, each (B,).

    Parameters
    ----------
    rows
        Normal training clips.
    params
        Parameters of the contrastive system.
    seed
        Seed of order and crops, together with the epoch.
    """

    def __init__(self, rows: Rows, params: ContrastiveParams, seed: int) -> None:
        self.rows = rows
        self.params = params
        self.seed = seed
        self.epoch: Callable[[], int] = lambda: 0
        manifest = rows.manifest
        names = section_keys(manifest) if params.classes == "section" else manifest["machine"]
        self.classes = np.unique(np.asarray(names, dtype=str), return_inverse=True)[1]
        self.domains = np.unique(manifest["domain"].to_numpy(dtype=str), return_inverse=True)[1]

    def __len__(self) -> int:
        """Batches in an epoch, of at most `batch_size` clips and as even as can be.

        A small last batch would hold few negatives and a loss near zero.
        """
        return max(1, -(-len(self.rows) // self.params.batch_size))

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the clips of an epoch, shape (N,).

        Every clip once; with cross-domain positives, the clips of a class that has two domains are
        drawn half from each, so the few target clips are over-sampled [O].
        """
        n = len(self.rows)
        if not self.params.cross_domain:
            return rng.permutation(n)
        drawn = []
        for number in np.unique(self.classes):
            of_class = np.flatnonzero(self.classes == number)
            groups = [
                of_class[self.domains[of_class] == d] for d in np.unique(self.domains[of_class])
            ]
            for i, group in enumerate(groups):
                share = len(of_class) // len(groups) + (i < len(of_class) % len(groups))
                repeats = -(-share // len(group))
                pool = np.concatenate([rng.permutation(group) for _ in range(repeats)])
                drawn.append(pool[:share])
        return rng.permutation(np.concatenate(drawn))

    def __iter__(self) -> Iterator[Batch]:
        """Give the batches of the current epoch."""
        rng = np.random.default_rng([self.seed, self.epoch()])
        lengths = self.params.crop_lengths
        for positions in np.array_split(self.order(rng), len(self)):
            n_frames = lengths[rng.integers(len(lengths))] if len(lengths) > 1 else lengths[0]
            crops = [self._crop(positions, n_frames, rng)]
            if self.params.crops == "different":
                crops.append(self._crop(positions, n_frames, rng))
            yield (
                torch.from_numpy(crops[0] if len(crops) == 1 else np.stack(crops)),
                torch.from_numpy(self.classes[positions]),
                torch.from_numpy(self.domains[positions]),
                torch.from_numpy(positions),
            )

    def _crop(self, positions: np.ndarray, n_frames: int, rng: np.random.Generator) -> np.ndarray:
        """Cut one random crop out of each clip, shape (B, F, T)."""
        starts = rng.integers(0, self.rows.frames[positions] - n_frames, endpoint=True)
        return self.rows.crops(positions, starts, n_frames)
