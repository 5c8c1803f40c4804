"""Names of runs for tables: the system and what of it differs from its defaults."""

from collections.abc import Mapping
from typing import Any

from asdlib.study.config import SYSTEMS, system_class


def label_of(record: Mapping[str, Any]) -> str:
    """Name the system of a run with the parameters that differ from its defaults.

    Parameters
    ----------
    record
        Content of ``run.json``.
    """
    config = record["config"]
    system = str(config["system"])
    if system not in SYSTEMS:
        return system
    defaults = _flat(system_class(system).Params().model_dump(mode="json"))
    own = _flat(config["params"])
    told = [f"{k}={_said(v)}" for k, v in own.items() if k not in defaults or defaults[k] != v]
    return f"{system} ({', '.join(told)})" if told else system


def _said(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _flat(params: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in params.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat
