"""Contrastive anomalous sound detection: one small library behind a book.

Data goes one way, and the folders say it::

    clips → log-mel features → two augmented views → embeddings → anomaly scores → metrics

The names below are enough for most uses. Everything else is imported from its room, for example
``from asdlib.method import log_mixup_exp``.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

try:
    __version__ = version("asdlib")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

_ROOM_OF = {
    "AsdError": "errors",
    "Autoencoder": "baselines",
    "Contrastive": "method",
    "FeatureStore": "features",
    "FrontEnd": "features",
    "MobileNetV2": "baselines",
    "SpectrumAugmentation": "method",
    "TimeStatistics": "baselines",
    "auc": "evaluation",
    "build_store": "features",
    "evaluate": "evaluation",
    "evaluate_folder": "evaluation",
    "load_run": "study",
    "pauc": "evaluation",
    "run": "study",
}

__all__ = ["__version__", *_ROOM_OF]


def __getattr__(name: str) -> Any:
    """Import a public name on first use: ``import asdlib`` itself loads no other package."""
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'asdlib' has no attribute '{name}'")
    return getattr(import_module(f"asdlib.{_ROOM_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
