"""The base of every system: the contrastive method, the baselines, the statistical reference.

A system is constructed with its parameters as keywords, sees the normal training clips once
(`System.fit`) and returns one anomaly score per clip (`System.score`); higher is more anomalous.
It is saved as a folder of two files: ``model.json`` says what it is, ``model.safetensors`` holds
its numbers, and no pickle is involved.

What all systems have in common stands here, once: parameters, checks of the clips, the device,
saving and loading. A subclass implements `_fit`, `_score`, `_state` and `_restore`. Torch, which
takes seconds to be imported, is imported once it is needed.

Shape legend: N clips, B batch, F mel bins, T frames.
"""

import difflib
import hashlib
import json
import re
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import pandas as pd
from pydantic import BaseModel, Field, ValidationError, model_validator

from asdlib.errors import ConfigError, RunError, shorten
from asdlib.features import Rows
from asdlib.files import check_regular, reading, write_bytes, write_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``."""

P = TypeVar("P", bound=BaseModel)
ModelT = TypeVar("ModelT", bound=BaseModel)

MOST = 1_000_000
"""Bound of parameters that count something, far beyond what is of use."""

Count = Annotated[int, Field(ge=1, le=MOST)]

_FORMAT = 1
_SEEDS = 2**63


class _Facts(BaseModel, extra="allow"):
    """What ``model.json`` holds of every system; version 0.1 had no format, front end or digest."""

    system: str
    format: int = _FORMAT
    params: dict[str, Any]
    seed: int
    sections: tuple[Annotated[str, Field(pattern=r"^[^/]+/[^/]+$")], ...] = Field(min_length=1)
    front_end: dict[str, Any] = {}
    n_frames: int | None = None
    sha256: str | None = None


class Parameters(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """Parameters of a system or of a part of it; unknown names are refused."""

    retired: ClassVar[tuple[tuple[str, Any], ...]] = ()
    """Parameters of earlier versions, each at the value that means what is always done now."""

    @model_validator(mode="before")
    @classmethod
    def _without_retired(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        return {name: value for name, value in given.items() if (name, value) not in cls.retired}


class System(ABC, Generic[P]):
    """An anomaly detector that learns from normal clips.

    Parameters
    ----------
    seed
        Decides everything random.
    **params
        Parameters of the system by name, see its `Params`; the others have their defaults.

    Attributes
    ----------
    params
        Validated parameters, an instance of `Params`.
    sections_ : tuple of str
        Sections seen in `fit`, "machine/section", sorted.
    front_end_ : dict
        Front end of the training store.
    n_frames_ : int or None
        Frames of a training clip, the median; None for a model of version 0.2.0 or before.
    history_ : pd.DataFrame or None
        Course of the training; None without one and for a loaded system.
    notices_ : list of str
        What `fit` did otherwise than asked for, and what should be known about its result.

    Raises
    ------
    ConfigError
        If a parameter is unknown or its value is not allowed.
    """

    name: ClassVar[str]
    Params: ClassVar[type[Any]]
    on_gpu: ClassVar[bool] = True
    """Whether it computes on a GPU where there is one."""

    params: P

    def __init__(self, /, *, seed: int = 0, **params: Any) -> None:
        if not 0 <= seed < _SEEDS:
            raise ConfigError(f"seed={_short(seed)} is refused: expected 0 to {_SEEDS - 1}")
        self.params = validate_params(self.Params, params, self.name)
        self.seed = seed
        self.sections_: tuple[str, ...] = ()
        self.front_end_: dict[str, Any] = {}
        self.n_frames_: int | None = None
        self.history_: pd.DataFrame | None = None
        self.notices_: list[str] = []

    @property
    def device(self) -> "torch.device":
        """Device to compute on: the parameter ``device`` where there is one, else "auto"."""
        return choose_device(getattr(self.params, "device", "auto"))

    def fit(
        self,
        rows: Rows,
        *,
        workdir: str | Path | None = None,
        progress: Progress | None = None,
    ) -> Self:
        """Learn what normal sounds like.

        Parameters
        ----------
        rows
            Normal training clips, of one or several machines and sections.
        workdir
            Folder for checkpoints. A training that was interrupted goes on from them and ends with
            the same numbers as one that was not.
        progress
            Called as the work advances.

        Raises
        ------
        RunError
            If there are no rows, one is labelled as anomalous or not finite, the system cannot be
            trained on them, memory is short, or a checkpoint is of another training.
        """
        if not len(rows):
            raise RunError(
                f"no training clips selected from '{rows.store.path}'; expected normal clips of at "
                "least one section: check the selection"
            )
        anomalous = (rows.manifest["label"] == "anomaly").to_numpy()
        if anomalous.any():
            raise RunError(
                f"clip '{rows.manifest['clip'].iloc[int(anomalous.argmax())]}' among the training "
                "rows is labelled 'anomaly', expected only normal clips; select label 'normal'"
            )
        self.sections_ = tuple(sorted(set(section_keys(rows.manifest))))
        self.front_end_ = rows.store.described
        self.n_frames_ = int(np.median(rows.frames))
        self.history_ = None
        self.notices_ = []
        folder = Path(workdir) if workdir is not None else None
        try:
            self._fit(rows, folder, progress or (lambda what, done, total: None))
        except BaseException as error:
            self.sections_ = ()  # what is half fitted must not score
            if isinstance(error, RuntimeError | MemoryError) and "memory" in str(error).lower():
                raise RunError(
                    f"memory is too short to train '{self.name}' ({str(error).splitlines()[0]}); "
                    "choose a smaller network or batch"
                ) from error
            raise
        return self

    def score(self, rows: Rows) -> np.ndarray:
        """Compute anomaly scores, shape (N,), float64; higher is more anomalous.

        Raises
        ------
        RunError
            If the system is not fitted, there are no rows, a section was not in training, the
            features are of another front end or not finite, or a score is not finite.
        """
        if not self.sections_:
            raise RunError(f"this '{self.name}' is not fitted; call fit, or load a fitted one")
        if not len(rows):
            raise RunError(f"no clips of '{rows.store.path}' to score; select at least one")
        check_sections(self.sections_, rows.manifest)
        rows.store.check_front_end(self.front_end_, "the training store")
        scores = np.asarray(self._score(rows), dtype=np.float64)
        finite = np.isfinite(scores)
        if not finite.all():
            bad = int(np.argmin(finite))
            raise RunError(
                f"the score of clip '{rows.manifest['clip'].iloc[bad]}' is {scores[bad]}, expected "
                f"a finite number; train '{self.name}' again, with a lower learning_rate"
            )
        return scores

    def save(self, folder: str | Path) -> None:
        """Write ``model.json`` and ``model.safetensors`` into `folder`, which is made.

        ``model.json`` comes last and holds the SHA-256 of its companion, so that a mixture of two
        models is noticed.
        """
        from safetensors.torch import save

        folder = Path(folder)
        tensors, facts = self._state()
        content = save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
        about = {
            "format": _FORMAT,
            "system": self.name,
            "params": self.params.model_dump(mode="json"),
            "seed": self.seed,
            "sections": list(self.sections_),
            "front_end": self.front_end_,
            "n_frames": self.n_frames_,
            **facts,
            "sha256": hashlib.sha256(content).hexdigest(),
        }
        write_bytes(folder / "model.safetensors", content)
        write_text(folder / "model.json", json.dumps(about, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote.

        Raises
        ------
        RunError
            If the folder holds no such system, a damaged one, or a mixture of two.
        """
        from safetensors.torch import load

        folder = Path(folder)
        way_out = "train again with a fresh output folder"
        with reading(folder, RunError, way_out):
            check_regular(folder)
            facts = _Facts.model_validate_json((folder / "model.json").read_bytes())
        if (facts.system, facts.format) != (cls.name, _FORMAT):
            raise RunError(
                f"'{folder}' holds system '{facts.system}' of format {facts.format}, expected "
                f"'{cls.name}' of format {_FORMAT}; load it with its own class"
            )
        with reading(folder, RunError, way_out):
            content = (folder / "model.safetensors").read_bytes()
            if facts.sha256 not in (None, hashlib.sha256(content).hexdigest()):
                raise ValueError("model.safetensors does not belong to model.json")
            system = cls(seed=facts.seed, **facts.params)
            system.sections_, system.front_end_ = facts.sections, facts.front_end
            system.n_frames_ = facts.n_frames
            system._restore(load(content), facts.model_dump())
        return system

    @abstractmethod
    def _fit(self, rows: Rows, workdir: Path | None, progress: Progress) -> None:
        """Learn from `rows`, which are checked; `sections_` and `front_end_` are set."""

    @abstractmethod
    def _score(self, rows: Rows) -> np.ndarray:
        """Compute scores (N,) of `rows`, whose sections and front end are checked."""

    @abstractmethod
    def _state(self) -> "tuple[Mapping[str, Tensor], Mapping[str, Any]]":
        """Return learned tensors, and what else `_restore` needs, as JSON."""

    @abstractmethod
    def _restore(self, tensors: "dict[str, Tensor]", facts: dict[str, Any]) -> None:
        """Take back what `_state` returned; parameters, sections and front end are set."""


def choose_device(name: str = "auto") -> "torch.device":
    """Return the device of a name: "auto" (a GPU if there is one), "cpu", "cuda" or "cuda:N".

    A GPU that is not there raises a `RunError`.
    """
    import torch

    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise RunError(f"device '{name}' is not available on this machine; use 'auto' or 'cpu'")
    return torch.device(name)


def section_keys(manifest: pd.DataFrame) -> np.ndarray:
    """Name the section of every row as ``machine/section``, shape (N,)."""
    keys: np.ndarray = (manifest["machine"] + "/" + manifest["section"]).to_numpy(dtype=object)
    return keys


def by_section(keys: np.ndarray) -> dict[str, np.ndarray]:
    """Return the positions of the rows of each section, or machine, sorted by name."""
    names, numbers = np.unique(keys.astype(str), return_inverse=True)
    order = np.argsort(numbers, kind="stable")
    ends = np.cumsum(np.bincount(numbers))[:-1]
    return {str(name): rows for name, rows in zip(names, np.split(order, ends), strict=False)}


def with_prefix(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the entries whose name begins with `prefix`, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def per_clip(
    rows: Rows,
    batch_size: int,
    compute: Callable[[np.ndarray, np.ndarray], np.ndarray],
    what: str = "",
    progress: Progress | None = None,
) -> np.ndarray:
    """Return one row for each clip, in the order of `rows`: (N,) or (N, D).

    `compute` is called with log-mel (B, F, T) and positions (B,), see `Rows.batches`, and
    `progress`, with `what`, after every batch.
    """
    in_order, done = np.empty(0), 0
    for positions, log_mel in rows.batches(batch_size):
        computed = compute(log_mel, positions)
        if not done:
            in_order = np.empty((len(rows), *computed.shape[1:]), computed.dtype)
        in_order[positions] = computed
        done += len(positions)
        if progress:
            progress(what, done, len(rows))
    return in_order


def silence(machine: str) -> RunError:
    """Return the error that a machine without any sound is refused with."""
    return RunError(
        f"in each training clip of machine '{machine}' all log-mel values are equal, expected "
        "sound: silent clips cannot be trained on; check the recordings, or leave the machine out"
    )


def check_sections(known: Iterable[str], manifest: pd.DataFrame) -> None:
    """Refuse, by a `RunError`, rows of sections that a system was not fitted on."""
    known = sorted(set(known))
    for key in sorted(set(section_keys(manifest)) - set(known)):
        names = textwrap.shorten(", ".join(known), 160, placeholder=" …")
        raise RunError(
            f"section '{key}' has no training rows (known: {names}); train on it, or leave it out "
            "of the test rows (--machine)"
        )


def validate_params(model: type[ModelT], values: Mapping[str, Any], name: str) -> ModelT:
    """Validate parameters of what is called `name`.

    A `ConfigError` names the key, and the nearest or known ones or what its value should be.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        of_field = [e for e in error.errors() if e["loc"][:1] == error.errors()[0]["loc"][:1]]
        first = max(of_field, key=lambda e: len(e["loc"]))  # of a union, where it fits best
        location = [str(part) for part in first["loc"]]
        if first["type"] == "extra_forbidden":
            schema = model.model_json_schema()
            nested = re.findall(r"#/\$defs/(\w+)", str(schema["properties"].get(location[0])))
            parts = [schema["$defs"][part] for part in nested[: len(location) - 1]] or [schema]
            known = sorted({key for part in parts for key in part["properties"]})
            near = difflib.get_close_matches(location[-1], known, n=1)
            names = textwrap.shorten(", ".join(known), 160, placeholder=" …")
            hint = f"did you mean '{near[0]}'?" if near else f"known: {names}"
            unknown = _short(".".join(location))
            raise ConfigError(f"unknown parameter {unknown} of {name} ({hint})") from None
        named = [part for part in location if part.isdigit() or part.isidentifier()]
        field = ".".join(part for part in named if not part[0].isupper()) or "value"
        reason = first["msg"].removeprefix("Value error, ")
        reason = reason[:1].lower() + reason[1:]
        given = _short(first["input"])
        raise ConfigError(f"{name}: {field}={given} is refused: {reason}") from None


def _short(value: object) -> str:
    """Show a value that a user has given, of any length and depth, in at most 120 characters."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # too deep, or a number of too many digits
        text = f"a {type(value).__name__}"
    return shorten(text, 120)
