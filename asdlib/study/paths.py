"""Folders outside of a project: what an interrupted training needs, and locks."""

import hashlib
import os
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """Give the user's cache folder of this package, or ``$ASDLIB_CACHE``."""
    told = os.environ.get("ASDLIB_CACHE")
    return Path(told) if told else platformdirs.user_cache_path("asdlib")


def path_key(path: Path) -> str:
    """Short name for a path, the same however the path is written."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]


def lock_file(path: Path) -> Path:
    """Lock file for work on `path`; it lies in the cache folder, not beside the result."""
    folder = cache_folder() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{path_key(path)}.lock"


def default_workspace() -> Path:
    """Give ``build/study`` of the project around the current folder, or of the current folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "_toc.yml").is_file():
            return folder / "build" / "study"
    return here / "build" / "study"
