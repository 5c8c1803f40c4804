"""What defines a run: a system, its validated parameters, a seed, and the data it sees.

A run has a key made of all that and the version of the code; the same key is never computed twice.
"""

import functools
import hashlib
import importlib
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel

import asdlib
from asdlib.errors import ConfigError

if TYPE_CHECKING:
    from asdlib.system import System

SYSTEMS: dict[str, str] = {
    "contrastive": "asdlib.method.contrastive:Contrastive",
    "autoencoder": "asdlib.baselines.autoencoder:Autoencoder",
    "statistics": "asdlib.baselines.statistics:TimeStatistics",
    "autoencoder2022": "asdlib.baselines.autoencoder:Autoencoder2022",
    "mobilenetv2": "asdlib.baselines.mobilenet:MobileNetV2",
}
"""Name of each system → ``module:class``; imported only when asked for."""

_ROOMS_THAT_DECIDE_SCORES = ("data", "features", "method", "baselines", "evaluation")


_DEEPEST = 8  # dots in the name of a parameter; there are two at most


def system_class(name: str) -> Any:
    """Import the class of a system; a ConfigError names the known ones."""
    if name not in SYSTEMS:
        raise ConfigError(f"unknown system '{name}' (known: {', '.join(sorted(SYSTEMS))})")
    module, _, attribute = SYSTEMS[name].partition(":")
    return getattr(importlib.import_module(module), attribute)


def make_system(
    name: str, params: Mapping[str, Any] | None = None, *, seed: int = 0
) -> "System[Any]":
    """Construct a system; a ConfigError names what is unknown or not allowed."""
    if "seed" in (params or {}):
        raise ConfigError("seed is no parameter of a system; give it apart, e.g. --seed 1")
    system: System[Any] = system_class(name)(seed=seed, **(params or {}))
    return system


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Turn ``key=value`` pairs into a nested mapping; dots lead into a nested key.

    Values are JSON where that is possible (``3``, ``true``, ``[1, 2]``), and text otherwise.
    """
    nested: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"'{pair}' is not of the form key=value, e.g. --set epochs=12")
        *parents, leaf = key.strip().split(".")
        if len(parents) > _DEEPEST:
            raise ConfigError(f"'{key}' has more than {_DEEPEST} dots; name a parameter")
        level = nested
        for parent in parents:
            level = level.setdefault(parent, {})
            if not isinstance(level, dict):
                raise ConfigError(f"'{key}' and '{parent}' are both set; give only one of them")
        if leaf in level:
            raise ConfigError(f"'{key}' is set twice; give it once")
        try:
            level[leaf] = json.loads(text)
        except (ValueError, RecursionError):  # the latter is refused as text, too
            level[leaf] = text
    return nested


def describe_parameters(name: str) -> list[tuple[str, str]]:
    """Return each parameter of a system with its meaning and default; nested ones with dots."""

    def lines(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str]]:
        for key, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from lines(field.annotation, f"{prefix}{key}.")
            else:
                default = json.dumps(field.get_default(call_default_factory=True), default=str)
                yield prefix + key, f"{field.description}  [default: {default}]"

    return list(lines(system_class(name).Params, ""))


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `changes` over `base`, level by level."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            value = merge(below, value)
        merged[key] = value
    return merged


class RunConfig(BaseModel, frozen=True, extra="forbid"):
    """Everything that decides the scores of a run."""

    system: str
    params: dict[str, Any]
    seed: int
    train_fingerprint: str
    test_fingerprint: str
    machines: tuple[str, ...] | None = None
    code_version: str
    device: Literal["cpu", "cuda", "mps"]
    network_of: str | None = None
    """Key of the run whose network was taken, if another version of the code trained it."""
    year: int | None = None
    """Whose rules count, if not those of the year that the store says."""

    @property
    def key(self) -> str:
        """SHA-256 of the canonical JSON, 64 hexadecimal digits."""
        content = self.model_dump(mode="json")
        for name in ("network_of", "year"):  # they came later: runs without them keep their keys
            if content[name] is None:
                del content[name]
        canonical = json.dumps(content, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


@functools.cache
def code_version() -> str:
    """Version of the package and a hash of the sources that decide scores; others may change."""
    root = Path(asdlib.__file__).parent
    digest = hashlib.sha256()
    rooms = [sorted((root / room).rglob("*.py")) for room in _ROOMS_THAT_DECIDE_SCORES]
    for path in [root / "system.py", *itertools.chain(*rooms)]:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"{asdlib.__version__}+{digest.hexdigest()[:12]}"
