"""Contrastive anomalous sound detection, as one small library behind a book.

Data goes one way, and the folders say it::

    clips → log-mel features → two augmented views → embeddings → anomaly scores → metrics

Import what you need from its room, for example ``from asdlib.features import FeatureStore``.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("asdlib")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__all__ = ["__version__"]
