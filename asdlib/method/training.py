"""Contrastive training: random crops of random clips, two views, one loss; the loop is Lightning's.

Every random draw of an epoch comes from (seed, epoch), so a training that was stopped goes on from
its last finished epoch and ends with the same weights as one that was not.

Shapes: B batch, V views (2), F mel bins, T frames, D projection size.
"""

import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from asdlib.features import Rows
from asdlib.method.augment import SpectrumAugmentation
from asdlib.method.losses import nt_xent_loss, supervised_contrastive_loss
from asdlib.system import Progress, section_keys

if TYPE_CHECKING:
    from asdlib.method.contrastive import ContrastiveParams

Batch = tuple[Tensor, Tensor, Tensor, Tensor]


class CropBatches:
    """One epoch of training batches after the other, straight from the memory-mapped store.

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

    def __init__(self, rows: Rows, params: "ContrastiveParams", seed: int) -> None:
        self.rows = rows
        self.params = params
        self.seed = seed
        self.epoch: Callable[[], int] = lambda: 0
        manifest = rows.manifest
        names = section_keys(manifest) if params.classes == "section" else manifest["machine"]
        self.classes = np.unique(np.asarray(names, dtype=str), return_inverse=True)[1]
        self.domains = np.unique(manifest["domain"].to_numpy(dtype=str), return_inverse=True)[1]

    def __len__(self) -> int:
        """Batches in an epoch; a last batch of a single clip is left out."""
        full, rest = divmod(len(self.rows), self.params.batch_size)
        return full + (rest >= 2)

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
        order = self.order(rng)
        for i in range(len(self)):
            positions = order[i * self.params.batch_size : (i + 1) * self.params.batch_size]
            crops = [self._crop(positions, rng)]
            if self.params.crops == "different":
                crops.append(self._crop(positions, rng))
            yield (
                torch.from_numpy(crops[0] if len(crops) == 1 else np.stack(crops)),
                torch.from_numpy(self.classes[positions]),
                torch.from_numpy(self.domains[positions]),
                torch.from_numpy(positions),
            )

    def _crop(self, positions: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Cut one random crop out of each clip, shape (B, F, T)."""
        last = self.rows.frames[positions] - self.params.crop_frames
        starts = rng.integers(0, last, endpoint=True)
        return self.rows.crops(positions, starts, self.params.crop_frames)


class ContrastiveTraining(L.LightningModule):
    """One training step: crops → two views → projections → loss.

    Parameters
    ----------
    network
        Encoder and head, (B, F, T) → (B, D).
    augmentation
        Makes the two views.
    params
        Parameters of the contrastive system.
    seed
        Seed of the augmentation, together with the epoch.
    total_steps
        Length of the cosine schedule.
    """

    def __init__(
        self,
        network: nn.Module,
        augmentation: SpectrumAugmentation,
        params: "ContrastiveParams",
        seed: int,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.augmentation = augmentation
        self.params = params
        self.seed = seed
        self.total_steps = total_steps
        self.generator = torch.Generator()
        self.losses: list[float] = []

    def on_train_epoch_start(self) -> None:
        """Seed the augmentation's draws of this epoch."""
        state = np.random.SeedSequence([self.seed, self.current_epoch, 1]).generate_state(1)
        self.generator.manual_seed(int(state[0]))

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of one batch."""
        crops, *numbers = batch
        views = self.augmentation(crops, self.generator)
        projections = self.network(views.flatten(0, 1))
        loss = self.loss(projections, *(number.repeat(len(views)) for number in numbers))
        self.losses.append(float(loss.detach()))
        return loss

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the losses so far."""
        checkpoint["losses"] = self.losses

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the losses so far."""
        self.losses = list(checkpoint["losses"])

    def loss(self, projections: Tensor, classes: Tensor, domains: Tensor, clips: Tensor) -> Tensor:
        """Contrast the projections (V·B, D) of both views."""
        if self.params.loss == "nt_xent":
            return nt_xent_loss(projections, clips, self.params.temperature)
        return supervised_contrastive_loss(
            projections,
            classes,
            self.params.temperature,
            domains=domains,
            clips=clips,
            cross_domain=self.params.cross_domain,
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a cosine schedule, stepped every batch."""
        optimizer = torch.optim.AdamW(
            self.network.parameters(),
            lr=self.params.learning_rate,
            weight_decay=self.params.weight_decay,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self.total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class _Report(Callback):
    """Tell the caller's progress function about every step."""

    def __init__(self, progress: Progress, total_steps: int) -> None:
        self.progress = progress
        self.total_steps = total_steps

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        self.progress("training", trainer.global_step, self.total_steps)


class _KeepLastEpoch(Callback):
    """Save a checkpoint after every epoch; the file is whole at any moment, even after a kill."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        temporary = self.path.with_suffix(".tmp")
        trainer.save_checkpoint(temporary)
        temporary.replace(self.path)


@contextlib.contextmanager
def quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice on loaders and hardware: what matters is reported by us."""
    names = ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric")
    levels = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*checkpoint director.*")
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)


def train_network(
    network: nn.Module,
    augmentation: SpectrumAugmentation,
    batches: CropBatches,
    params: "ContrastiveParams",
    seed: int,
    workdir: Path | None = None,
    progress: Progress | None = None,
) -> list[float]:
    """Train `network` in place; with `workdir`, go on from its last finished epoch.

    Parameters
    ----------
    network, augmentation, batches, params, seed
        See `ContrastiveTraining`.
    workdir
        Folder of the checkpoint, the caller's to remove.
    progress
        Told about every step.

    Returns
    -------
    Loss of every step.
    """
    total_steps = params.epochs * len(batches)
    module = ContrastiveTraining(network, augmentation, params, seed, total_steps)
    callbacks: list[Callback] = [_Report(progress, total_steps)] if progress else []
    resume = None
    if workdir is not None:
        workdir.mkdir(parents=True, exist_ok=True)
        checkpoint = workdir / "epoch.ckpt"
        callbacks.append(_KeepLastEpoch(checkpoint))
        resume = checkpoint if checkpoint.exists() else None
    with quiet_lightning():
        trainer = L.Trainer(
            max_epochs=params.epochs,
            accelerator="auto",
            devices=1,
            logger=False,
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        batches.epoch = lambda: int(trainer.current_epoch)
        trainer.fit(module, batches, ckpt_path=resume)
    return module.losses
