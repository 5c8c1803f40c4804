"""The training loop that all networks share; it is Lightning's.

A `Training` computes the loss of a batch, names its optimiser, and draws random numbers so that an
epoch depends on the seed alone. `train` does the rest: device, progress, a checkpoint after every
epoch. A training that was stopped ends with the same weights as one that was not.
"""

import contextlib
import ctypes
import gc
import hashlib
import logging
import math
import signal
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.exceptions import SIGTERMException
from pydantic import BaseModel
from torch import nn

from asdlib.errors import RunError
from asdlib.features import Rows
from asdlib.files import whole_file
from asdlib.system import Progress

_WAY_OUT = "delete it to train from the start"
_PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "history", "generator")


class Training(L.LightningModule):
    """The training of one network; subclasses add `training_step` and `configure_optimizers`.

    Parameters
    ----------
    network
        Trained in place.
    params, seed, rows
        What decides the result: a checkpoint of other ones is refused.

    Attributes
    ----------
    history
        What `record` was given, one entry per step or per epoch; `unit` says which.
    generator
        Source of random numbers on the CPU; its state is part of a checkpoint.
    """

    unit = "step"
    begun = False
    checkpoint: Path | None = None
    report: Callable[[int], None] | None = None

    def __init__(self, network: nn.Module, params: BaseModel, seed: int, rows: Rows) -> None:
        super().__init__()
        self.network = network
        self.params, self.seed, self.rows = params, seed, rows
        self.history: list[dict[str, float]] = []
        self.generator = torch.Generator()

    @property
    def identity(self) -> str:
        """What tells this training from others."""
        store = self.rows.store.fingerprint
        chosen = hashlib.sha256(self.rows.index.tobytes()).hexdigest()
        return f"{self.params.model_dump_json()} seed={self.seed} {store} {chosen}"

    def record(self, **values: float) -> None:
        """Append to the history; a value that is not finite is a `RunError`."""
        for name, value in values.items():
            if not math.isfinite(value):
                raise RunError(
                    f"the training {name} is {value} in {self.unit} {len(self.history) + 1}, "
                    "expected a finite number; lower learning_rate"
                )
        self.history.append(values)

    def end_epoch(self) -> None:
        """Do what remains in an epoch before the checkpoint is written."""

    def on_train_start(self) -> None:
        """Note that a checkpoint, if there was one, is restored."""
        self.begun = True

    def on_train_batch_end(self, *_: Any) -> None:
        """Report a finished step."""
        if self.report:
            self.report(self.global_step)

    def on_train_epoch_end(self) -> None:
        """Write the checkpoint, whole at any moment, even after a kill."""
        self.end_epoch()
        if self.checkpoint:
            with whole_file(self.checkpoint) as partial:
                self.trainer.save_checkpoint(partial)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what Lightning does not know."""
        checkpoint["training"] = self.identity
        checkpoint["history"] = self.history
        checkpoint["generator"] = self.generator.get_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back what `on_save_checkpoint` added."""
        self.history = list(checkpoint["history"])
        self.generator.set_state(checkpoint["generator"])


def train(
    training: Training,
    batches: Any,
    *,
    epochs: int,
    device: torch.device,
    what: str = "training",
    checkpoint: Path | None = None,
    progress: Progress | None = None,
    precision: str = "float32",
) -> None:
    """Train a network in place; its training's `history` holds the losses afterwards.

    Parameters
    ----------
    training
        Network, loss and optimiser.
    batches
        Sized iterable of the batches of an epoch, iterated anew for each of `epochs`.
    what, progress
        Called after every step as ``progress(what, step, steps)``.
    checkpoint
        File that is rewritten after every epoch; the training goes on from it where it exists.
    precision
        "float32", or "bfloat16" for an autocast of `training_step`; weights stay float32.

    Raises
    ------
    RunError
        If the loss is not finite, or the checkpoint is damaged or of another training.
    KeyboardInterrupt, SystemExit
        After SIGINT, and after SIGTERM with exit code 143.
    """
    training.checkpoint = checkpoint
    if progress is not None:
        training.report = lambda step: progress(what, step, epochs * len(batches))
    resume = checkpoint if checkpoint and checkpoint.exists() else None
    if resume:
        _check_checkpoint(resume, training.identity)
    keep_freed_memory()
    with _quiet_lightning(), _signals_as_usual():
        trainer = L.Trainer(
            max_epochs=epochs,
            accelerator="cpu" if device.type == "cpu" else "gpu",
            precision="bf16-mixed" if precision == "bfloat16" else "32-true",
            devices=1 if device.index is None else [device.index],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        try:
            trainer.fit(training, batches, ckpt_path=resume)
        except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
            if resume and not training.begun:
                raise RunError(f"checkpoint '{resume}' is damaged; {_WAY_OUT}") from error
            raise


@contextlib.contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Silence Lightning's advice on loaders and hardware."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        warnings.filterwarnings("ignore", message=".*checkpoint director.*")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextlib.contextmanager
def _signals_as_usual() -> Iterator[None]:
    """Undo what Lightning makes of Ctrl-C (exit code 1, no second one) and SIGTERM (code 0)."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException:
        raise SystemExit(128 + signal.SIGTERM) from None
    except SystemExit as stop:
        if not isinstance(stop.__context__, KeyboardInterrupt):
            raise
        signal.signal(signal.SIGINT, handler)
        raise KeyboardInterrupt from None


def _check_checkpoint(path: Path, identity: str) -> None:
    """Refuse a checkpoint that is damaged or of another training."""
    try:
        with zipfile.ZipFile(path) as archive:  # torch itself checks no sums
            if archive.testzip():
                raise ValueError
        content = torch.load(path, map_location="cpu", weights_only=True)
        found, _ = content["training"], [content[part] for part in _PARTS]
    except Exception:  # whatever is wrong with a file, it is one line
        raise RunError(f"checkpoint '{path}' is damaged; {_WAY_OUT}") from None
    if found != identity:
        raise RunError(
            f"checkpoint '{path}' is of a training with other parameters, seed or clips; {_WAY_OUT}"
        )


def keep_freed_memory() -> None:
    """Make glibc reuse freed memory of up to 1 GiB per block, for the whole process.

    By default it returns large arrays to the system, which clears every page anew: on two CPU cores
    up to half of the time of a step of the small CNN.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(-3, 1 << 30)  # M_MMAP_THRESHOLD
        mallopt(-1, (1 << 31) - 1)  # M_TRIM_THRESHOLD


def give_back_memory() -> None:
    """Return to the system the tens of megabytes that a finished training left behind."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)
