"""The contrastive system: one encoder for all machines, one back-end for each section.

Training shows the encoder two augmented views of random crops and asks it to bring clips of the
same class together and to push all others away. Scoring embeds whole clips and asks, section by
section, how far a clip lies from the normal training clips.

Shapes: B batch, V views (2), F mel bins, T frames, D embedding size, N clips.

What of this the paper states, what is inferred and what is open stands with each parameter, see
`asdlib.method.parameters`.
"""

from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from asdlib.errors import RunError
from asdlib.features import Rows
from asdlib.method.augment import SpectrumAugmentation
from asdlib.method.backends import backend_from_state, build_backend
from asdlib.method.crops import CropBatches
from asdlib.method.network import Network, class_names, measure_batch_norm
from asdlib.method.parameters import ContrastiveParams
from asdlib.method.pretrained import check_front_end, describe_encoder, resolve
from asdlib.method.training import train_network
from asdlib.system import Progress, System, finite_batches, section_keys, with_prefix


class Contrastive(System[ContrastiveParams]):
    """Supervised contrast on two spectrum-augmented views; a distance per section as score.

    Parameters
    ----------
    seed
        Decides initial weights, batches, crops and augmentation.
    **params
        See `ContrastiveParams`.

    Attributes
    ----------
    network_ : Network
        Trained encoder and head.
    augmentation_ : SpectrumAugmentation
        Holds the training-set mean and standard deviation.
    backend_ : object
        Fitted back-end.
    history_ : pd.DataFrame
        Columns ``step`` and ``loss``; None for a loaded or an untrained system.

    References
    ----------
    X. Meng et al., "Contrastive Learning with Spectrum Information Augmentation in Abnormal Sound
    Detection", 2024 (arXiv 2509.15570); P. Khosla et al., "Supervised Contrastive Learning", 2020.
    """

    name = "contrastive"
    Params = ContrastiveParams

    network_: Network
    augmentation_: SpectrumAugmentation
    backend_: Any
    mel_frequencies_: np.ndarray

    def __init__(self, /, *, seed: int = 0, **params: Any) -> None:
        super().__init__(seed=seed, **params)
        if self.params.pretrained and self.params.pretrained.sha256 is None:
            # A run is known by the weights that it starts from, not by the name of a folder.
            found = resolve(self.params.pretrained)
            self.params = self.params.model_copy(update={"pretrained": found})

    def _fit(self, rows: Rows, workdir: Path | None, progress: Progress) -> None:
        """Train the encoder on normal clips and fit the back-end on their embeddings."""
        if len(rows) < 2:
            raise RunError(f"{len(rows)} training clips; the contrastive system needs at least 2")
        shortest = int(rows.frames.min())
        longest = max(self.params.crop_lengths)
        if longest > shortest:
            raise RunError(
                f"crop_frames={longest} is longer than the shortest training clip "
                f"({shortest} frames); set crop_frames to at most {shortest}"
            )
        resolve(self.params.pretrained)
        check_front_end(self.params.encoder, self.params.pretrained, rows.store)
        mean, std = mean_and_deviation(rows)
        self._build(rows.store.n_mels, mean, std, rows.store.mel_frequencies())
        if self.params.epochs:
            batches = CropBatches(rows, self.params, self.seed)
            losses = train_network(
                self.network_,
                self.augmentation_,
                batches,
                self.params,
                self.seed,
                workdir,
                progress,
            )
            self.history_ = pd.DataFrame({"step": range(1, len(losses) + 1), "loss": losses})
        if self.params.batch_norm == "clean":
            measure_batch_norm(
                self.network_.to(self.device).encoder,
                self.augmentation_.to(self.device).eval().pre_normalise,
                rows,
                seed=self.seed,
            )
        self.fit_backend(rows, progress=progress)

    def fit_backend(self, rows: Rows, *, progress: Progress | None = None) -> Self:
        """Fit the back-end alone on normal clips, with the network as it is."""
        of_backend: dict[str, Any] = {}
        if self.params.backend == "level_sum":
            levels = self.network_.levels(self.params.embedding)
            of_backend = {"levels": tuple(levels), "sizes": tuple(levels.values())}
        self.backend_ = build_backend(self.params.backend, **of_backend).fit(
            self.embed(rows, progress=progress),
            section_keys(rows.manifest),
            rows.manifest["domain"],
        )
        return self

    def embed(self, rows: Rows, *, progress: Progress | None = None) -> np.ndarray:
        """Embed clips, shape (N, D), float32, with the trained encoder."""
        device = self.device
        network = self.network_.to(device).eval()
        augmentation = self.augmentation_.to(device).eval()
        out: np.ndarray | None = None
        done = 0
        with torch.inference_mode():
            for positions, log_mel in finite_batches(rows, self.params.score_batch_size):
                x = augmentation.pre_normalise(torch.from_numpy(log_mel).to(device))
                values = self._embed_batch(network, x).float().cpu().numpy()
                if out is None:
                    out = np.empty((len(rows), values.shape[1]), np.float32)
                out[positions] = values
                done += len(positions)
                if progress:
                    progress("embedding", done, len(rows))
        if out is None:
            raise RunError("no clips to embed; choose rows that exist in the store")
        return out

    def _embed_batch(self, network: Network, x: Tensor) -> Tensor:
        """Embed (B, F, T) as (B, D): the whole clip, or the mean over half-overlapping windows."""
        window = max(self.params.crop_lengths)
        if self.params.segment == "clip" or x.shape[-1] <= window:
            return network.embed(x, self.params.embedding)
        windows = x.unfold(-1, window, window // 2)  # (B, F, W, window)
        n_windows = windows.shape[2]
        flat = windows.transpose(1, 2).flatten(0, 1)
        values = network.embed(flat, self.params.embedding)
        return values.reshape(len(x), n_windows, -1).mean(dim=1)

    def _score(self, rows: Rows) -> np.ndarray:
        scores: np.ndarray = self.backend_.score(self.embed(rows), section_keys(rows.manifest))
        return scores

    def _state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        tensors = {f"network.{k}": v for k, v in self.network_.state_dict().items()}
        backend = {
            f"backend.{k}": torch.from_numpy(np.array(v)) for k, v in self.backend_.state().items()
        }
        return tensors | backend, {
            "mean": float(self.augmentation_.pre_norm.mean),
            "std": float(self.augmentation_.pre_norm.std),
            "mel_frequencies": self.mel_frequencies_.tolist(),
            "encoder": describe_encoder(self.network_.encoder),
        }

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        frequencies = np.asarray(facts["mel_frequencies"])
        # Version 0.1 did not keep the front end.
        self.front_end_ = self.front_end_ or {"n_mels": len(frequencies)}
        description = facts.get("encoder", {})
        self._build(len(frequencies), facts["mean"], facts["std"], frequencies, description)
        self.network_.load_state_dict(with_prefix(tensors, "network."))
        backend = {k: v.numpy() for k, v in with_prefix(tensors, "backend.").items()}
        self.backend_ = backend_from_state(backend)

    def _build(
        self,
        n_mels: int,
        mean: float,
        std: float,
        mel_frequencies: np.ndarray,
        description: dict[str, Any] | None = None,
    ) -> None:
        """Make the augmentation and a network with the seed's initial weights."""
        self.augmentation_ = SpectrumAugmentation(
            self.params.augmentation,
            mean=mean,
            std=std,
            mel_frequencies=mel_frequencies,
            crop_lengths=self.params.crop_lengths,
        )
        self.mel_frequencies_ = mel_frequencies
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            n_classes = len(class_names(self.sections_, self.params.classes))
            self.network_ = Network(self.params, n_mels, description, n_classes=n_classes)


def mean_and_deviation(rows: Rows, batch_size: int = 256) -> tuple[float, float]:
    """Scalar mean and standard deviation of all log-mel values of some clips.

    Raises
    ------
    RunError
        If all values are equal: such clips cannot be standardised.
    """
    count, total, squares = 0, 0.0, 0.0
    for _, log_mel in finite_batches(rows, batch_size):
        values = log_mel.astype(np.float64)
        count += values.size
        total += float(values.sum())
        squares += float(np.square(values).sum())
    mean = total / count
    variance = squares / count - mean**2
    if variance <= 1e-12 * max(1.0, mean**2):
        raise RunError(f"all log-mel values equal {mean:g}: silent clips cannot be trained on")
    return mean, float(np.sqrt(variance))
