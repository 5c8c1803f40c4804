"""The contrastive system: one encoder for all machines, one back-end for each section.

Training shows the encoder two augmented views of random crops and asks it to bring clips of the
same class together and to push all others away. Scoring embeds whole clips and asks, section by
section, how far a clip lies from the normal training clips.

Shapes: B batch, V views (2), F mel bins, T frames, D embedding size, N clips.

What of this the paper states, what is inferred and what is open stands with each parameter, see
`asdlib.method.parameters`.
"""

import json
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load, save
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
from asdlib.system import Progress, check_sections, reading_model, section_keys


class Contrastive:
    """Supervised contrast on two spectrum-augmented views; a distance per section as score.

    Parameters
    ----------
    params
        See `ContrastiveParams`.
    seed
        Decides initial weights, batches, crops and augmentation.

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

    name: ClassVar[str] = "contrastive"
    Params: ClassVar[type[ContrastiveParams]] = ContrastiveParams

    network_: Network
    augmentation_: SpectrumAugmentation
    backend_: Any
    known_: list[str]
    mel_frequencies_: np.ndarray
    history_: pd.DataFrame | None = None

    def __init__(self, params: ContrastiveParams | None = None, *, seed: int = 0) -> None:
        self.params = params or ContrastiveParams()
        if self.params.pretrained and self.params.pretrained.sha256 is None:
            # A run is known by the weights that it starts from, not by the name of a folder.
            found = resolve(self.params.pretrained)
            self.params = self.params.model_copy(update={"pretrained": found})
        self.seed = seed

    def fit(
        self, rows: Rows, *, workdir: Path | None = None, progress: Progress | None = None
    ) -> Self:
        """Train the encoder on normal clips and fit the back-end on their embeddings.

        Raises
        ------
        RunError
            If there are no clips, or the crop is longer than the shortest clip.
        """
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
        self.known_ = sorted(set(section_keys(rows.manifest)))
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
                self.network_.to(best_device()).encoder,
                self.augmentation_.to(best_device()).eval().normalise,
                rows,
                seed=self.seed,
            )
        return self.fit_backend(rows, progress=progress)

    def fit_backend(self, rows: Rows, *, progress: Progress | None = None) -> Self:
        """Fit the back-end alone on normal clips, with the network as it is."""
        of_backend: dict[str, Any] = {}
        if self.params.backend == "level_sum":
            levels = self.network_.levels(self.params.embedding)
            of_backend = {"levels": tuple(levels), "sizes": tuple(levels.values())}
        self.backend_ = build_backend(self.params.backend, **of_backend).fit(
            self.embed(rows, progress=progress), section_keys(rows.manifest), domains_of(rows)
        )
        return self

    def embed(self, rows: Rows, *, progress: Progress | None = None) -> np.ndarray:
        """Embed clips, shape (N, D), float32, with the trained encoder."""
        device = best_device()
        network = self.network_.to(device).eval()
        augmentation = self.augmentation_.to(device).eval()
        out: np.ndarray | None = None
        done = 0
        with torch.inference_mode():
            for positions, log_mel in rows.batches(self.params.score_batch_size):
                x = augmentation.normalise(torch.from_numpy(log_mel).to(device))
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

    def score(self, rows: Rows) -> np.ndarray:
        """Give anomaly scores, shape (N,); see `asdlib.system.AnomalyDetector`."""
        check_sections(self.known_, rows.manifest)
        scores: np.ndarray = self.backend_.score(self.embed(rows), section_keys(rows.manifest))
        return scores

    def save(self, folder: Path) -> None:
        """Write ``model.json`` and ``model.safetensors`` into `folder`."""
        tensors = {f"network.{k}": v for k, v in self.network_.state_dict().items()}
        backend = {
            f"backend.{k}": torch.from_numpy(np.array(v)) for k, v in self.backend_.state().items()
        }
        tensors = {k: v.cpu().contiguous() for k, v in (tensors | backend).items()}
        model = {
            "system": self.name,
            "params": self.params.model_dump(mode="json"),
            "seed": self.seed,
            "sections": self.known_,
            "mean": float(self.augmentation_.mean),
            "std": float(self.augmentation_.std),
            "mel_frequencies": self.mel_frequencies_.tolist(),
            "encoder": describe_encoder(self.network_.encoder),
        }
        folder.mkdir(parents=True, exist_ok=True)
        # As bytes: a full disk is then an OSError like everywhere else.
        (folder / "model.safetensors").write_bytes(save(tensors))
        (folder / "model.json").write_text(json.dumps(model, indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read back what `save` wrote.

        Raises
        ------
        RunError
            If the folder holds no such model or a damaged one.
        """
        folder = Path(folder)
        with reading_model(folder):
            model = json.loads((folder / "model.json").read_text(encoding="utf-8"))
            if model["system"] != cls.name:
                raise RunError(
                    f"'{folder}' holds system '{model['system']}', expected '{cls.name}'; load it "
                    "with its own class"
                )
            tensors = load((folder / "model.safetensors").read_bytes())
            system = cls(ContrastiveParams.model_validate(model["params"]), seed=model["seed"])
            frequencies = np.asarray(model["mel_frequencies"])
            system.known_ = model["sections"]
            description = model.get("encoder", {})
            system._build(len(frequencies), model["mean"], model["std"], frequencies, description)
            system.network_.load_state_dict(_with_prefix(tensors, "network."))
            backend = {k: v.numpy() for k, v in _with_prefix(tensors, "backend.").items()}
            system.backend_ = backend_from_state(system.params.backend, backend)
        return system

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
            n_classes = len(class_names(self.known_, self.params.classes))
            self.network_ = Network(self.params, n_mels, description, n_classes=n_classes)


def mean_and_deviation(rows: Rows, batch_size: int = 256) -> tuple[float, float]:
    """Scalar mean and standard deviation of all log-mel values of some clips.

    Raises
    ------
    RunError
        If all values are equal: such clips cannot be standardised.
    """
    count, total, squares = 0, 0.0, 0.0
    for _, log_mel in rows.batches(batch_size):
        values = log_mel.astype(np.float64)
        count += values.size
        total += float(values.sum())
        squares += float(np.square(values).sum())
    mean = total / count
    variance = squares / count - mean**2
    if variance <= 1e-12 * max(1.0, mean**2):
        raise RunError(f"all log-mel values equal {mean:g}: silent clips cannot be trained on")
    return mean, float(np.sqrt(variance))


def domains_of(rows: Rows) -> np.ndarray:
    """Domain of every clip, shape (N,), text."""
    domains: np.ndarray = rows.manifest["domain"].to_numpy(dtype=object)
    return domains


def best_device() -> torch.device:
    """Device to embed on: a GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
