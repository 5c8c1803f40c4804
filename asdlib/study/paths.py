"""Folders outside of a project: what an interrupted training needs, and locks."""

import hashlib
import os
from pathlib import Path

import platformdirs

from asdlib.errors import RunError


def cache_folder() -> Path:
    """Give the user's cache folder of this package, or ``$ASDLIB_CACHE``."""
    told = os.environ.get("ASDLIB_CACHE")
    return Path(told) if told else platformdirs.user_cache_path("asdlib")


def path_key(path: Path) -> str:
    """Short name for a path, the same however the path is written."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]


def lock_file(path: Path) -> Path:
    """Lock file for work on `path`; it lies in the cache folder, not beside the result.

    Raises
    ------
    RunError
        If that folder cannot be made.
    """
    folder = cache_folder() / "locks"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"the cache folder '{folder}' cannot be written ({error.strerror}); set "
            "ASDLIB_CACHE to one that can"
        ) from error
    return folder / f"{path_key(path)}.lock"


def default_workspace() -> Path:
    """Give ``build/study`` of the project around the current folder, or of the current folder."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "_toc.yml").is_file():
            return folder / "build" / "study"
    return here / "build" / "study"
