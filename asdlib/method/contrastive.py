"""The contrastive system: one encoder for all machines, one back-end for each section.

Training brings augmented views of clips of one class together and pushes all others away; scoring
computes how far a clip lies from the normal training clips of its section. Of the parameters [P]
are stated by the paper, [I] inferred from prior work, [O] open, our choice.

Shapes: B batch, V views (2), F mel bins, T frames, D embedding size, N clips.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import pandas as pd
import torch
from pydantic import Field, ValidationInfo, field_validator, model_validator
from torch import Tensor, nn

from asdlib.errors import ConfigError, RunError
from asdlib.features import Rows
from asdlib.method.augment import AugmentationParams, SpectrumAugmentation
from asdlib.method.backends import BACKENDS, backend_from_state, build_backend
from asdlib.method.classes import Classes, class_names, supplemental
from asdlib.method.encoders import ENCODERS, Network, ProjectionHead, measure_batch_norm
from asdlib.method.losses import ArcFaceHead, supervised_contrastive_loss
from asdlib.method.pretrained import PUBLIC, check_front_end, make_encoder
from asdlib.method.training import Training, train
from asdlib.method.weights import PretrainedParams
from asdlib.system import (
    MOST,
    Count,
    Parameters,
    Progress,
    System,
    per_clip,
    section_keys,
    silence,
    with_prefix,
)

SHORTEST_CROP = 8


class ContrastiveParams(Parameters):
    """Parameters of the contrastive system."""

    retired = (("subclusters", 16), ("pooling", "patches"))

    augmentation: AugmentationParams = Field(
        AugmentationParams(), description="the four steps that make two views [I]"
    )
    encoder: str = Field("small_cnn", description="name of the encoder [O]")
    pretrained: PretrainedParams | None = Field(
        None, description="weights to start from, or their folder alone; by default random ones [O]"
    )
    projection_size: int = Field(128, ge=2, le=8192, description="size of the projection [O]")
    loss: Literal["supervised_contrastive", "nt_xent"] = Field(
        "supervised_contrastive", description="supervised contrast [I]; nt_xent: views only"
    )
    temperature: float = Field(0.1, gt=0, description="of the loss [O]; as in Khosla et al., 2020")
    contrast_weight: float = Field(1.0, ge=0, description="its weight; 0: classify only")
    classifier: Literal["none", "arcface"] = Field(
        "none", description="extension, not in the paper: a classification loss beside the contrast"
    )
    classifier_weight: float = Field(1.0, gt=0, description="weight of the classification loss")
    arcface_margin: float = Field(0.0, ge=0, lt=1.57, description="ArcFace: angle in radians")
    arcface_scale: float = Field(
        3.3, gt=0, description="ArcFace: factor of the cosines, the inverse of a temperature"
    )
    classes: Classes = Field(
        "section",
        description="a class is a machine type and its section, the type alone, or the section and "
        "what the file name says of the attributes, clusters where it says nothing [O]",
    )
    cross_domain: bool = Field(
        False, description="positives come from the other domain of the class where it has two [P]"
    )
    balanced_domains: bool = Field(
        False, description="batches hold as many clips of each domain of a section, repeated [O]"
    )
    supplemental_noise: bool = Field(
        False, description="supplemental clips of noise are partners of mixing, as past inputs [O]"
    )
    supplemental_clean: bool = Field(
        False, description="supplemental clips without noise train the network too [O]"
    )
    crop_frames: int = Field(64, ge=SHORTEST_CROP, le=MOST, description="frames of a crop [O]")
    crops: Literal["same", "different"] = Field(
        "same", description="both views from one crop of the clip, or each from its own [O]"
    )
    batch_size: int = Field(64, ge=2, le=MOST, description="clips, each with two views [O]")
    epochs: int = Field(48, ge=0, le=MOST, description="passes over the training clips, fixed [O]")
    learning_rate: float = Field(1e-3, gt=0, description="peak of AdamW's cosine schedule [O]")
    weight_decay: float = Field(1e-2, ge=0, description="weight decay of AdamW [O]")
    batch_norm: Literal["clean", "training"] = Field(
        "clean",
        description="statistics of batch normalisation at test: measured anew on whole training "
        "clips, or those left from the augmented crops; a frozen encoder keeps its own [O]",
    )
    embedding: Literal[
        "encoder", "projection", "feature_map", "spectrum", "deviation", "levels"
    ] = Field(
        "levels",
        description="what is scored: the encoder's output, that of the head, the last feature map "
        "or the input averaged over time, the input's deviation over time, or all levels of the "
        "encoder side by side [O]",
    )
    backend: str = Field("level_sum", description="embedding → anomaly score, per section [O]")
    backend_params: dict[str, Any] = Field(
        {}, description="parameters of the back-end, for example k and metric of knn [O]"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="arithmetic of the network in training; bfloat16 (autocast) is for GPUs [O]",
    )
    compile: bool = Field(
        False, description="translate the encoder by torch.compile, for long trainings on a GPU"
    )
    segment: Literal["clip", "sliding"] = Field(
        "clip",
        description="at test: the whole clip, or the mean over windows as long as a crop [O]",
    )
    score_batch_size: Count = Field(32, description="clips embedded at a time")

    @field_validator("encoder", "backend")
    @classmethod
    def _is_known(cls, name: str, info: ValidationInfo) -> str:
        known = {*ENCODERS, *PUBLIC} if info.field_name == "encoder" else {*BACKENDS}
        if name not in known:
            raise ValueError(f"not known (known: {', '.join(sorted(known))})")
        return name

    @field_validator("backend_params")
    @classmethod
    def _fit_the_backend(cls, params: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        name = info.data.get("backend")
        if params and name == "level_sum":
            raise ValueError("the levels of level_sum come from embedding, expected no parameters")
        if params and name:
            try:
                build_backend(name, **params)
            except ConfigError as error:
                raise ValueError(str(error)) from None
        return params

    @field_validator("pretrained", mode="before")
    @classmethod
    def _of_source(cls, given: Any) -> Any:
        return {"source": given} if isinstance(given, str) else given

    @property
    def frozen(self) -> bool:
        """Whether the encoder stays as it is."""
        return self.pretrained is not None and self.pretrained.mode == "frozen"

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.classifier == "none" and self.contrast_weight == 0:
            raise ValueError("contrast_weight=0 leaves no loss; set classifier, e.g. to arcface")
        if self.encoder in PUBLIC and self.pretrained is None:
            raise ValueError(f"encoder {self.encoder} needs weights; set pretrained.source")
        if self.pretrained and self.pretrained.mode == "lora" and self.encoder in ENCODERS:
            raise ValueError(
                f"encoder {self.encoder} has no layers for adapters; set pretrained.mode to "
                "finetune or frozen"
            )
        if self.cross_domain and self.loss == "nt_xent":
            raise ValueError(
                "nt_xent knows no domains; set cross_domain=false or loss=supervised_contrastive"
            )
        return self


Batch = tuple[Tensor, Tensor, Tensor, Tensor]
"""Crops (B, F, T), or (2, B, F, T) if each view has its own, and class, domain and clip (B,)."""


class CropBatches:
    """Batches of random crops of normal clips; seed and epoch decide order and crops.

    `noise` are supplemental clips that are mixed in; clean ones join `rows`.
    """

    def __init__(self, rows: Rows, params: ContrastiveParams, seed: int) -> None:
        clean = supplemental(rows, "clean") if params.supplemental_clean else rows.select([])
        rows = Rows(rows.store, np.concatenate([rows.index, clean.index]))
        self.rows, self.n_clean = rows, len(clean)
        self.noise = supplemental(rows, "noise") if params.supplemental_noise else rows.select([])
        self.shortest = int(np.concatenate([rows.frames, self.noise.frames]).min())
        self.n_frames = min(params.crop_frames, self.shortest)
        self.params = params
        self.seed = seed
        self.epoch: Callable[[], int] = lambda: 0
        names, self.classes = np.unique(
            class_names(rows, params.classes, seed), return_inverse=True
        )
        self.n_classes = len(names)
        self.sections = np.unique(section_keys(rows.manifest).astype(str), return_inverse=True)[1]
        domains = rows.manifest["domain"].to_numpy(str)
        domains[len(rows) - len(clean) :] = "source"
        self.domains = np.unique(domains, return_inverse=True)[1]

    def __len__(self) -> int:
        """Batches in an epoch, as even as can be: a small last one would hold few negatives."""
        return max(1, -(-len(self.rows) // self.params.batch_size))

    def order(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the clips of an epoch, shape (N,): every clip once.

        With cross-domain positives a class that has two domains, and with balanced domains a
        section, is drawn half from each [O].
        """
        n = len(self.rows)
        if not (self.params.cross_domain or self.params.balanced_domains):
            return rng.permutation(n)
        drawn = []
        balanced = self.sections if self.params.balanced_domains else self.classes
        for number in np.unique(balanced):
            of_class = np.flatnonzero(balanced == number)
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
        """Draw the batches of the current epoch."""
        rng = np.random.default_rng([self.seed, self.epoch()])
        for positions in np.array_split(self.order(rng), len(self)):
            crops = [self._crop(self.rows, positions, rng)]
            if self.params.crops == "different":
                crops.append(self._crop(self.rows, positions, rng))
            yield (
                torch.from_numpy(crops[0] if len(crops) == 1 else np.stack(crops)),
                torch.from_numpy(self.classes[positions]),
                torch.from_numpy(self.domains[positions]),
                torch.from_numpy(positions),
            )

    def noise_crops(self, n: int, step: int) -> Tensor:
        """Cut `n` random crops out of clips of noise, shape (n, F, T); `step` is of the epoch."""
        rng = np.random.default_rng([self.seed, self.epoch(), 2, step])
        positions = rng.integers(len(self.noise), size=n)
        return torch.from_numpy(self._crop(self.noise, positions, rng))

    def _crop(self, rows: Rows, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Cut one random crop out of each clip, shape (B, F, T)."""
        starts = rng.integers(0, rows.frames[positions] - self.n_frames, endpoint=True)
        return rows.crops(positions, starts, self.n_frames)


class ContrastiveTraining(Training):
    """One training step: crops → two views → projections → loss."""

    network: Network
    params: ContrastiveParams

    def __init__(
        self,
        network: Network,
        augmentation: SpectrumAugmentation,
        rows: Rows,
        params: ContrastiveParams,
        seed: int,
        batches: CropBatches | None = None,
    ) -> None:
        super().__init__(network, params, seed, rows)
        self.augmentation = augmentation
        self.batches = batches or CropBatches(rows, params, seed)
        self.batches.epoch = lambda: int(self.current_epoch)
        # Of the method, not of the module: names of weights stay as they are.
        encode = network.encoder.forward
        self.encode = torch.compile(encode) if params.compile else encode
        self.losses: list[Tensor] = []

    def on_train_start(self) -> None:
        """Store the weights in the layout that a GPU is fast at; a CPU would round otherwise."""
        super().on_train_start()
        if self.device.type != "cpu":
            self.network.encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def on_train_epoch_start(self) -> None:
        """Seed the augmentation's draws of this epoch."""
        self.losses = []
        state = np.random.SeedSequence([self.seed, self.current_epoch, 1]).generate_state(1)
        self.generator.manual_seed(int(state[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Compute the loss of one batch."""
        crops, *numbers = batch
        if len(self.batches.noise):
            # Half of what is mixed in later is noise.
            noise = self.batches.noise_crops(len(numbers[0]), batch_idx)
            self.augmentation.remember(noise.to(crops.device))
        views = self.augmentation(crops, self.generator)
        embeddings = self.encode(views.flatten(0, 1))
        repeated = [number.repeat(len(views)) for number in numbers]
        contrast = self.contrast(self.network.head(embeddings), *repeated)
        loss: Tensor = self.params.contrast_weight * contrast
        if self.network.classifier is not None:
            classification = self.network.classifier(embeddings, repeated[0])
            loss = loss + self.params.classifier_weight * classification
        # To read it now, the processor would have to wait for the device.
        self.losses.append(loss.detach())
        return loss

    def end_epoch(self) -> None:
        """Record the losses of the epoch."""
        for loss in torch.stack(self.losses).tolist():
            self.record(loss=loss)

    def contrast(
        self, projections: Tensor, classes: Tensor, domains: Tensor, clips: Tensor
    ) -> Tensor:
        """Contrast the projections (V·B, D) of both views; NT-Xent knows clips, no classes."""
        return supervised_contrastive_loss(
            projections,
            clips if self.params.loss == "nt_xent" else classes,
            self.params.temperature,
            domains=domains,
            clips=clips,
            cross_domain=self.params.cross_domain,
        )

    def configure_optimizers(self) -> Any:
        """AdamW with a cosine schedule, stepped every batch."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.params.learning_rate,
            weight_decay=self.params.weight_decay,
        )
        n_steps = self.params.epochs * len(self.batches)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
        return [optimizer], [{"scheduler": schedule, "interval": "step"}]


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
    network_, augmentation_, backend_
        Trained encoder and head; mean and deviation of the training clips; fitted back-end.
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
    levels_: tuple[str, ...]
    mel_frequencies_: np.ndarray

    def __init__(self, /, *, seed: int = 0, **params: Any) -> None:
        super().__init__(seed=seed, **params)
        if self.params.pretrained and self.params.pretrained.sha256 is None:
            # A run is known by the weights that it starts from, not by the name of a folder.
            found = self.params.pretrained.resolved()
            self.params = self.params.model_copy(update={"pretrained": found})

    def _fit(self, rows: Rows, workdir: Path | None, progress: Progress) -> None:
        if len(rows) < 2:
            raise RunError(
                f"too few training clips: {len(rows)}; the contrastive system needs at least 2"
            )
        if self.params.pretrained:
            self.params.pretrained.resolved()
            check_front_end(self.params.encoder, self.params.pretrained, rows.store)
        self.fit_network(rows, workdir, progress)
        if self.params.batch_norm == "clean" and not self.params.frozen:
            measure_batch_norm(
                self.network_.to(self.device).encoder,
                self.augmentation_.to(self.device).eval().pre_normalise,
                rows,
                seed=self.seed,
            )
        self.fit_backend(rows, progress=progress)

    def fit_network(self, rows: Rows, workdir: Path | None, progress: Progress | None) -> None:
        """Train encoder and head alone; see `fit`.

        Raises
        ------
        RunError
            If a clip is too short, a machine is silent, or the training fails.
        """
        batches = CropBatches(rows, self.params, self.seed)
        shortest, crop_frames = batches.shortest, self.params.crop_frames
        for kind, wanted, found in (
            ("noise", self.params.supplemental_noise, len(batches.noise)),
            ("clean", self.params.supplemental_clean, batches.n_clean),
        ):
            if wanted and not found:
                self.notices_.append(
                    f"supplemental_{kind} changes nothing: '{rows.store.path}' has no such clips "
                    "of these machines"
                )
        if shortest < SHORTEST_CROP:
            parts = (batches.rows, batches.noise)
            clips = [clip for part in parts for clip in part.manifest["clip"]]
            clip = clips[int(np.argmin(np.concatenate([part.frames for part in parts])))]
            raise RunError(
                f"clip '{clip}' has {shortest} frames, expected at least {SHORTEST_CROP} for a "
                "crop; leave it out, or build the store with a shorter hop"
            )
        if crop_frames > shortest:
            self.notices_.append(
                f"crop_frames={crop_frames} is longer than the shortest training clip; crops have "
                f"{shortest} frames instead"
            )
        if batches.n_classes == 1 and self.params.loss != "nt_xent" and self.params.contrast_weight:
            self.notices_.append(
                "all training clips are of one class: the contrast has no negatives and learns "
                "nothing about it; train on more sections or machines, or set loss=nt_xent"
            )
        statistics, frequencies = mean_and_deviation(rows), rows.store.mel_frequencies()
        self._build(statistics, frequencies, batches.n_classes)
        if not self.params.epochs:
            return
        training = ContrastiveTraining(
            self.network_, self.augmentation_, rows, self.params, self.seed, batches
        )
        train(
            training,
            training.batches,
            epochs=self.params.epochs,
            device=self.device,
            checkpoint=workdir / "epoch.ckpt" if workdir else None,
            progress=progress,
            precision=self.params.precision,
        )
        self.history_ = pd.DataFrame(training.history)
        self.history_.insert(0, "step", range(1, len(self.history_) + 1))

    def fit_backend(self, rows: Rows, *, progress: Progress | None = None) -> Self:
        """Fit the back-end alone on normal clips, with the network as it is."""
        self.levels_ = self._all_levels
        embeddings = self.embed(rows, progress=progress)
        options = self.params.backend_params
        if self.params.backend == "level_sum":
            sizes = self.network_.size_of(self.levels_)
            options = {"levels": self.levels_, "sizes": tuple(sizes), "trained": self._trained}
        self.backend_ = build_backend(self.params.backend, **options).fit(
            embeddings, section_keys(rows.manifest), rows.manifest["domain"]
        )
        return self

    @torch.inference_mode()
    def embed(self, rows: Rows, *, progress: Progress | None = None) -> np.ndarray:
        """Embed clips, shape (N, D), float32, with the trained encoder."""
        if not len(rows):
            raise RunError("no clips to embed; choose rows that exist in the store")
        device = self.device
        network = self.network_.to(device).eval()
        augmentation = self.augmentation_.to(device).eval()

        def compute(log_mel: np.ndarray, positions: np.ndarray) -> np.ndarray:
            x = torch.from_numpy(log_mel).to(device, non_blocking=True)
            x = augmentation.pre_normalise(x)
            return self._embed_batch(network, x).float().cpu().numpy()

        return per_clip(rows, self.params.score_batch_size, compute, "embedding", progress)

    def _embed_batch(self, network: Network, x: Tensor) -> Tensor:
        """Embed (B, F, T) as (B, D): the whole clip, or the mean of half-overlapping windows."""
        window = self.params.crop_frames
        if self.params.segment == "clip" or x.shape[-1] <= window:
            return network.embed(x, self.levels_)
        windows = x.unfold(-1, window, window // 2)  # (B, F, W, window)
        flat = windows.transpose(1, 2).flatten(0, 1)
        values = network.embed(flat, self.levels_)
        return values.reshape(len(x), windows.shape[2], -1).mean(dim=1)

    @property
    def _all_levels(self) -> tuple[str, ...]:
        kind = self.params.embedding
        return self.network_.encoder.level_names if kind == "levels" else (kind,)

    @property
    def _trained(self) -> tuple[str, ...]:
        """Levels that the training of this system has changed."""
        if self.params.frozen or not self.params.epochs:
            return tuple(level for level in self.levels_ if level == "projection")
        return tuple(level for level in self.levels_ if level not in ("spectrum", "deviation"))

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
            "encoder": {"config": self.network_.encoder.config},
        }

    def _restore(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        frequencies = np.asarray(facts["mel_frequencies"])
        # Version 0.1 did not keep the front end.
        self.front_end_ = self.front_end_ or {"n_mels": len(frequencies)}
        weights = with_prefix(tensors, "network.")
        if self.params.frozen:
            # Up to version 0.2 a frozen encoder was wrapped in another module.
            weights = {re.sub(r"^encoder\.encoder\.", "encoder.", k): v for k, v in weights.items()}
        n_classes = len(weights.get("classifier.centres", ()))
        config = facts.get("encoder", {}).get("config") or {}
        self._build((facts["mean"], facts["std"]), frequencies, n_classes, config)
        self.network_.load_state_dict(weights)
        backend = {k: v.numpy() for k, v in with_prefix(tensors, "backend.").items()}
        self.backend_ = backend_from_state(backend)
        # A back-end of another shape or other sections is better found now than with the clips.
        self.levels_ = getattr(self.backend_, "levels", self._all_levels)
        size = sum(self.network_.size_of(self.levels_))
        self.backend_.score(np.zeros((len(self.sections_), size)), self.sections_)

    def _build(
        self,
        statistics: tuple[float, float],
        mel_frequencies: np.ndarray,
        n_classes: int,
        config: dict[str, Any] | None = None,
    ) -> None:
        """Make the augmentation and a network with the seed's initial weights."""
        params, (mean, std), n_mels = self.params, statistics, len(mel_frequencies)
        self.augmentation_ = SpectrumAugmentation(
            params.augmentation, mean=mean, std=std, mel_frequencies=mel_frequencies
        )
        self.mel_frequencies_ = mel_frequencies
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            # In this order: each takes its initial weights from the same random numbers.
            encoder = make_encoder(params.encoder, n_mels, params.pretrained, config)
            if params.augmentation.pre_norm:
                encoder.statistics = statistics
            size = encoder.embedding_size
            head = ProjectionHead(size, params.projection_size)
            classifier: nn.Module | None = None
            if params.classifier == "arcface":
                classifier = ArcFaceHead(
                    size, n_classes, margin=params.arcface_margin, scale=params.arcface_scale
                )
            self.network_ = Network(encoder, head, classifier)


def mean_and_deviation(rows: Rows, batch_size: int = 256) -> tuple[float, float]:
    """Scalar mean and standard deviation of all log-mel values of some clips.

    Raises
    ------
    RunError
        If a machine is silent: in each of its clips all values are equal.
    """
    count, total, squares = 0, 0.0, 0.0
    machine, heard = rows.manifest["machine"].to_numpy(dtype=str), set()
    for positions, log_mel in rows.batches(batch_size):
        heard.update(machine[positions[np.ptp(log_mel, axis=(1, 2)) > 0]])
        values = log_mel.astype(np.float64)
        count += values.size
        total += float(values.sum())
        squares += float(np.square(values).sum())
    for silent in sorted(set(machine) - heard):
        raise silence(silent)
    mean = total / count
    return mean, float(np.sqrt(squares / count - mean**2))
