"""Memory of the C library: keep what was freed, instead of fetching it anew in every step.

A training step frees and allocates the same large arrays again and again. By default glibc hands
them back to the system, which then clears every page anew; on two CPU cores that was up to half
of the time of a step of the small CNN. Results do not change.
"""

import ctypes
import gc
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_LARGEST_ARRAY = 1 << 30
_LARGEST_INT = (1 << 31) - 1


def keep_freed_memory() -> bool:
    """Tell the C library to reuse freed memory of up to 1 GiB a block, for the whole process.

    Returns
    -------
    bool
        Whether it agreed; elsewhere than on Linux with glibc nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    agreed = [
        mallopt(_MMAP_THRESHOLD, _LARGEST_ARRAY),
        mallopt(_TRIM_THRESHOLD, _LARGEST_INT),
    ]
    return all(agreed)


def give_back_memory() -> None:
    """Give what a finished training left behind back to the system, cycles of objects included.

    Many runs in one process would otherwise each add some tens of megabytes.
    """
    gc.collect()
    if sys.platform.startswith("linux"):
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
