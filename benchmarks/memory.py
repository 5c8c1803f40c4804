"""Memory that a process holds now, and the most that it ever held."""

from __future__ import annotations

import resource
import sys
from pathlib import Path


def peak_memory() -> int:
    """Return the most memory that this process ever held, in bytes.

    Linux counts in `ru_maxrss` also what the parent held when it started this process; the high
    water mark of the process's own memory does not.
    """
    if Path("/proc/self/status").is_file():
        return _status("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def anonymous(process: int | str = "self") -> int:
    """Return the memory of a process that no file backs, in bytes; 0 once it has ended (Linux)."""
    return _status("RssAnon", process)


def _status(name: str, process: int | str = "self") -> int:
    try:
        text = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = (line.split() for line in text.splitlines() if line.startswith(name))
    return next((int(words[1]) * 1024 for words in found), 0)
