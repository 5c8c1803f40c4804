"""Training of small networks as Keras does it, with exact resume.

A plain loop and not Lightning: a training step of the autoencoder takes 14.8 ms of one CPU core
here and 16.3 ms by Lightning with everything optional switched off (10 % more; measured by
`benchmarks/bench_baselines.py`). The difference is a fixed cost a step, so a faster device feels
it more, and Lightning's checkpoints are pickles. The loop keeps what Lightning would give:
progress, a checkpoint an epoch, exact resume.

Keras conventions kept here: Glorot-uniform weights and zero biases; the last share of the
examples, in their given order and not at random, is for validation; the last epoch is kept;
batches are shuffled anew each epoch and the last, smaller batch counts. One deviation: a last
batch of a single example is left out, because batch normalisation has no variance for it. Two
differences of the libraries remain: Adam's epsilon acts after the bias correction here and before
it in Keras, and the running variance of dense layers is the unbiased one here.

Shape legend: B batch, M examples (windows), N clips.
"""

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from asdlib.errors import RunError
from asdlib.files import write_bytes

Loss = Callable[[nn.Module, Tensor], Tensor]
"""Mean loss of the examples with the given numbers (B,): ``loss(network, examples)``."""

History = list[dict[str, float]]
"""One entry an epoch: ``loss`` and, with validation examples, ``val_loss``."""


class TrainingParams(BaseModel):
    """Parameters that all trained baselines share."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    epochs: int = Field(default=100, ge=1, description="passes over the training windows")
    batch_size: int = Field(default=512, ge=2, description="windows of a training step")
    learning_rate: float = Field(default=1e-3, gt=0.0, description="step size of Adam")
    adam_epsilon: float = Field(default=1e-7, gt=0.0, description="epsilon of Adam, as in Keras")
    validation_fraction: float = Field(
        default=0.1,
        ge=0.0,
        lt=1.0,
        description="share of the windows, the last in order, that is not trained on",
    )
    score_batch_size: int = Field(default=4096, ge=1, description="windows scored at once")
    device: str = Field(
        default="auto",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="auto (a GPU if there is one), cpu, cuda or cuda:N",
    )


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the state after each epoch is kept, and of which training it is.

    Attributes
    ----------
    path
        The checkpoint's file.
    key
        Digest of everything that decides the result: parameters, seed, data.
    """

    path: Path
    key: str


def digest(*parts: bytes | memoryview | str) -> str:
    """SHA-256 of parts one after another, each preceded by its length in bytes."""
    state = hashlib.sha256()
    for part in parts:
        content = part.encode() if isinstance(part, str) else part
        state.update(len(content).to_bytes(8, "big"))
        state.update(content)
    return state.hexdigest()


def generator_of(seed: int, machine: str) -> torch.Generator:
    """Make the generator of one machine; it does not depend on the other machines."""
    entropy = np.random.SeedSequence([seed, *machine.encode()]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(entropy[0] >> 1))


def materialise(network: nn.Module, generator: torch.Generator | None) -> nn.Module:
    """Give storage to a network that was built on the device "meta".

    Building on "meta" leaves the global random state alone.

    Parameters
    ----------
    network
        Linear, convolution and batch normalisation layers.
    generator
        Source of the Glorot-uniform weights; None leaves the numbers undefined, to be loaded.
    """
    network = network.to_empty(device="cpu")
    if generator is None:
        return network
    for module in network.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            module.reset_parameters()
    return network


def train(
    network: nn.Module,
    loss: Loss,
    n_examples: int,
    params: TrainingParams,
    *,
    generator: torch.Generator,
    checkpoint: Checkpoint | None = None,
    on_epoch: Callable[[int], None] | None = None,
) -> History:
    """Train `network` in place.

    Parameters
    ----------
    network
        On its device already, with initial weights.
    loss
        Mean loss of some examples.
    n_examples
        Number of examples M, training and validation together.
    params
        Epochs, batch size, Adam's settings, validation share.
    generator
        Shuffles the examples; on the CPU.
    checkpoint
        Goes on from there if its file exists; rewritten after each epoch.
    on_epoch
        Told the number of epochs done.

    Raises
    ------
    RunError
        If there are too few examples, the loss is not finite, or the checkpoint is of another
        training or damaged.
    """
    n_train = int(n_examples * (1.0 - params.validation_fraction))
    if n_train < 2:
        raise RunError(
            f"{n_train} training windows are too few, expected at least 2; "
            "add clips or lower validation_fraction"
        )
    optimizer = torch.optim.Adam(
        network.parameters(), lr=params.learning_rate, eps=params.adam_epsilon, fused=True
    )
    history: History = []
    if checkpoint is not None and checkpoint.path.exists():
        history = _restore(checkpoint, network, optimizer, generator)
    validation = torch.arange(n_train, n_examples)
    for epoch in range(len(history), params.epochs):
        network.train()
        shuffled = torch.split(torch.randperm(n_train, generator=generator), params.batch_size)
        batches = [batch for batch in shuffled if len(batch) > 1]
        total = torch.zeros((), dtype=torch.float64, device=_device_of(network))
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            value = loss(network, batch)
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += value.detach() * len(batch)
        entry = {"loss": float(total) / sum(len(batch) for batch in batches)}
        if len(validation):
            entry["val_loss"] = _mean_loss(network, loss, validation, params.score_batch_size)
        if not math.isfinite(entry["loss"]):
            raise RunError(
                f"the training loss is {entry['loss']} after epoch {epoch + 1}; "
                f"expected a finite number: lower learning_rate ({params.learning_rate})"
            )
        history.append(entry)
        if checkpoint is not None:
            _store(checkpoint, network, optimizer, generator, history)
        if on_epoch is not None:
            on_epoch(epoch + 1)
    return history


def _device_of(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


@torch.inference_mode()
def _mean_loss(network: nn.Module, loss: Loss, examples: Tensor, batch_size: int) -> float:
    network.eval()
    batches = torch.split(examples, batch_size)
    return sum(loss(network, batch).item() * len(batch) for batch in batches) / len(examples)


def _store(
    checkpoint: Checkpoint,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    history: History,
) -> None:
    tensors = {f"network/{name}": tensor for name, tensor in network.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{number}/{name}": tensor for name, tensor in state.items()}
    tensors["generator"] = generator.get_state()
    # A copy each: on the CPU a state dict shares memory with what the next epoch changes.
    content = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={"key": checkpoint.key, "history": json.dumps(history)},
    )
    write_bytes(checkpoint.path, content)


def _restore(
    checkpoint: Checkpoint,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
) -> History:
    way_out = "use an empty working folder to train anew"
    try:
        with safe_open(checkpoint.path, framework="pt") as file:
            facts: dict[str, str] = file.metadata() or {}
            tensors: dict[str, Tensor] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise RunError(f"checkpoint '{checkpoint.path}' is damaged ({error}); {way_out}") from error
    if facts.get("key") != checkpoint.key:
        raise RunError(
            f"checkpoint '{checkpoint.path}' is of a training with other parameters, seed or "
            f"clips; {way_out}"
        )
    weights: dict[str, Tensor] = {}
    moments: dict[int, dict[str, Any]] = {}
    for name, tensor in tensors.items():
        kind, _, rest = name.partition("/")
        if kind == "network":
            weights[rest] = tensor
        elif kind == "optimizer":
            number, _, what = rest.partition("/")
            moments.setdefault(int(number), {})[what] = tensor
    network.load_state_dict(weights)
    for place, parameter in enumerate(network.parameters()):
        state = moments[place]
        for what, moment in state.items():
            # In the memory layout of the weights, as it was: another one rounds otherwise.
            state[what] = torch.empty_like(parameter).copy_(moment) if moment.ndim else moment
    optimizer.load_state_dict(optimizer.state_dict() | {"state": moments})
    generator.set_state(tensors["generator"])
    history: History = json.loads(facts["history"])
    return history
