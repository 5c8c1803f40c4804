"""Folders outside of a project: what an interrupted training needs, and locks."""

import hashlib
import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Give the user's cache folder of this package, or ``$ASDLIB_CACHE``."""
    told = os.environ.get("ASDLIB_CACHE")
    return Path(told) if told else platformdirs.user_cache_path("asdlib")


def lock_file(path: Path) -> Path:
    """Lock file for work on `path`; it lies in the cache folder, not beside the result."""
    name = hashlib.sha256(str(path.absolute()).encode()).hexdigest()[:24]
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.lock"


def default_workspace() -> Path:
    """Give ``build/study`` of the project around the current folder, or of the current folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "_toc.yml").is_file():
            return folder / "build" / "study"
    return here / "build" / "study"
