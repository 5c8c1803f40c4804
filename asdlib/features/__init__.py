"""Log-mel features: the front end, the memory-mapped store, and how stores are built and cut.

``front_end`` holds the parameters and presets, ``logmel`` the transform, ``store`` what every
system reads and how stores are cut and joined, ``build`` makes a store from recordings with the
faster ``clip_transform``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from asdlib.features.front_end import PRESETS, FrontEnd
from asdlib.features.store import (
    FeatureStore,
    Rows,
    check_same_front_end,
    merge_stores,
    store_info,
    subset_store,
    write_store,
)

if TYPE_CHECKING:
    from asdlib.features.build import build_store
    from asdlib.features.logmel import LogMel

__all__ = [
    "PRESETS",
    "FeatureStore",
    "FrontEnd",
    "LogMel",
    "Rows",
    "build_store",
    "check_same_front_end",
    "merge_stores",
    "store_info",
    "subset_store",
    "write_store",
]


_NEED_TORCH = {"LogMel": "asdlib.features.logmel", "build_store": "asdlib.features.build"}


def __getattr__(name: str) -> Any:
    """Import what needs torch on first use: reading a store must not wait for it."""
    if name in _NEED_TORCH:
        return getattr(import_module(_NEED_TORCH[name]), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
