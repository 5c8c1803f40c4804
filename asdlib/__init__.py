"""Contrastive anomalous sound detection: one small library behind a book.

Data flows one way, and the folders are named after it::

    clips → log-mel features → two augmented views → embeddings → anomaly scores → metrics

The names below are enough for most uses. Everything else is imported from its subpackage,
for example ``from asdlib.method import log_mixup_exp``.
"""

from importlib.metadata import PackageNotFoundError, version

import lazy_loader

try:
    __version__ = version("asdlib")
except PackageNotFoundError:  # a source tree that was never installed
    __version__ = "0+unknown"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
