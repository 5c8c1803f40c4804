"""Contrastive training: batches of crops, two views, one loss; the loop is Lightning's.

Every random draw of an epoch comes from (seed, epoch), so a training that was stopped goes on from
its last finished epoch and ends with the same weights as one that was not.

Shapes: B batch, V views (2), F mel bins, T frames, D projection size.
"""

import contextlib
import logging
import math
import pickle
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from asdlib.errors import RunError
from asdlib.method.allocator import keep_freed_memory
from asdlib.method.augment import SpectrumAugmentation
from asdlib.method.crops import Batch, CropBatches
from asdlib.method.losses import nt_xent_loss, supervised_contrastive_loss
from asdlib.method.network import Network
from asdlib.method.parameters import ContrastiveParams
from asdlib.system import Progress


class ContrastiveTraining(L.LightningModule):
    """One training step: crops → two views → projections → loss.

    Parameters
    ----------
    network
        Encoder, head and, where asked for, a classifier.
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
        network: Network,
        augmentation: SpectrumAugmentation,
        params: ContrastiveParams,
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
        embeddings = self.network.encoder(views.flatten(0, 1))
        repeated = [number.repeat(len(views)) for number in numbers]
        loss = self.params.contrast_weight * self.loss(self.network.head(embeddings), *repeated)
        if self.network.classifier is not None:
            classification = self.network.classifier(embeddings, repeated[0])
            loss = loss + self.params.classifier_weight * classification
        value = float(loss.detach())
        if not math.isfinite(value):
            raise RunError(
                f"the training loss is {value} in step {len(self.losses) + 1}; expected a finite "
                f"number: lower learning_rate ({self.params.learning_rate:g})"
            )
        self.losses.append(value)
        return loss

    @property
    def identity(self) -> str:
        """What tells this training from others: parameters, seed and number of steps."""
        return f"{self.params.model_dump_json()} seed={self.seed} steps={self.total_steps}"

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the losses so far, and which training they are of."""
        checkpoint["losses"] = self.losses
        checkpoint["training"] = self.identity

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


@contextlib.contextmanager
def ctrl_c_stays_ctrl_c() -> Iterator[None]:
    """Undo what Lightning makes of Ctrl-C: exit code 1, and deafness to any further one."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def check_checkpoint(path: Path, identity: str) -> None:
    """Refuse a checkpoint that is damaged or of another training."""
    way_out = "delete it to train from the start"
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError):
        raise RunError(f"checkpoint '{path}' is damaged; {way_out}") from None
    if content.get("training") != identity:
        raise RunError(
            f"checkpoint '{path}' is of a training with other parameters, seed or clips; {way_out}"
        )


def train_network(
    network: Network,
    augmentation: SpectrumAugmentation,
    batches: CropBatches,
    params: ContrastiveParams,
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

    Raises
    ------
    RunError
        If the loss is not finite, or the checkpoint is damaged or of another training.
    """
    total_steps = params.epochs * len(batches)
    module = ContrastiveTraining(network, augmentation, params, seed, total_steps)
    callbacks: list[Callback] = [_Report(progress, total_steps)] if progress else []
    resume = None
    if workdir is not None:
        workdir.mkdir(parents=True, exist_ok=True)
        checkpoint = workdir / "epoch.ckpt"
        callbacks.append(_KeepLastEpoch(checkpoint))
        if checkpoint.exists():
            check_checkpoint(checkpoint, module.identity)
            resume = checkpoint
    keep_freed_memory()
    with quiet_lightning(), ctrl_c_stays_ctrl_c():
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
