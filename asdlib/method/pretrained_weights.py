"""Weights on disk: find them, tell them from others, and fetch them from a public hub when asked.

Nothing is ever downloaded by the way. `fetch` is the only function that uses the network, and it
shows licence and size first. A training finds fetched checkpoints in the hub's own cache. Only
safetensors files are read: loading a pickle would run whatever is in it.
"""

import hashlib
import importlib.util
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asdlib.errors import ConfigError, DownloadError, RunError

CONFIG = "config.json"
_WANTED = (CONFIG, "*.safetensors", "*.safetensors.index.json")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_known: dict[tuple[Any, ...], str] = {}


@dataclass(frozen=True)
class Offer:
    """What a hub says of a checkpoint before it is fetched.

    Attributes
    ----------
    name
        ``owner/name`` on the hub.
    commit
        The exact version.
    licence
        As its page states it; ``"not stated"`` if it does not.
    n_bytes
        Size of the files that would be fetched.
    """

    name: str
    commit: str
    licence: str
    n_bytes: int


def check_extra() -> None:
    """Refuse to go on without the packages that public models need.

    Raises
    ------
    ConfigError
        Saying how to install them.
    """
    needed = ("transformers", "peft", "huggingface_hub")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"public models need {', '.join(missing)}, not installed here; install asdlib with the "
            "extra 'pretrained'"
        )


def weights_folder(source: str, revision: str | None = None) -> Path:
    """Find the folder of a checkpoint: the given one, or the cached one of a hub.

    Raises
    ------
    ConfigError
        If it is neither a folder nor the name of a checkpoint on a hub.
    RunError
        If it was not fetched yet.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists() or not _HUB_NAME.fullmatch(source):
        raise ConfigError(
            f"weights '{source}' are not there; expected a folder with a checkpoint, or owner/name "
            "of one on the public hub"
        )
    check_extra()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    version = f" (revision {revision})" if revision else ""
    try:
        found = Path(
            snapshot_download(
                source, revision=revision, local_files_only=True, allow_patterns=list(_WANTED)
            )
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        found = None
    if found is None or not any(found.glob("*.safetensors")):
        raise RunError(
            f"weights '{source}'{version} are not on this machine; fetch them with "
            f"asd weights {source}{f' --revision {revision}' if revision else ''}, or give a folder"
        )
    return found


def weight_files(folder: Path) -> list[Path]:
    """List what decides an encoder: its configuration, if it has one, and its safetensors files.

    Raises
    ------
    RunError
        If there are no safetensors files.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(path.name for path in folder.glob("*.bin"))
        has = f"only {pickles[0]}, a pickle" if pickles else "no *.safetensors file"
        raise RunError(
            f"'{folder}' holds {has}; expected the safetensors format, which "
            "save_pretrained of transformers and asd pretrain write"
        )
    config = folder / CONFIG
    return [config, *weights] if config.is_file() else weights


def weights_sha256(folder: Path) -> str:
    """SHA-256 over names and contents of `weight_files`, 64 hexadecimal digits."""
    files = weight_files(folder)
    states = [file.stat() for file in files]
    key = (str(folder.resolve()), *((s.st_size, s.st_mtime_ns) for s in states))
    if key not in _known:
        total = hashlib.sha256()
        for file in files:
            with file.open("rb") as stream:
                total.update(file.name.encode() + b"\0")
                total.update(hashlib.file_digest(stream, "sha256").digest())
        _known[key] = total.hexdigest()
    return _known[key]


def offer(name: str, revision: str | None = None, *, endpoint: str | None = None) -> Offer:
    """Ask a hub for licence, size and exact version of a checkpoint; nothing is fetched.

    Parameters
    ----------
    name
        ``owner/name``.
    revision
        Branch, tag or commit; by default its main branch.
    endpoint
        Address of the hub; by default the one that huggingface_hub is set to.

    Raises
    ------
    ConfigError
        If the name has another form.
    DownloadError
        If the hub cannot be reached, does not know the name, or has no safetensors file of it.
    """
    if not _HUB_NAME.fullmatch(name):
        raise ConfigError(f"'{name}' is not a name on the hub; expected owner/name")
    check_extra()
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    with _hub_errors(name, revision):
        told = HfApi(endpoint=endpoint).model_info(name, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in told.siblings or []}
    wanted = list(filter_repo_objects(sizes, allow_patterns=list(_WANTED)))
    if not any(file.endswith(".safetensors") for file in wanted):
        raise DownloadError(
            f"'{name}' has no safetensors file on the hub; choose another checkpoint, or convert "
            "it and give its folder"
        )
    stated = (told.card_data or {}).get("license") or next(
        (tag.removeprefix("license:") for tag in told.tags or [] if tag.startswith("license:")),
        "not stated",
    )
    return Offer(name, str(told.sha), str(stated), sum(sizes[file] for file in wanted))


def fetch(
    name: str,
    revision: str | None = None,
    *,
    confirm: Callable[[Offer], bool],
    endpoint: str | None = None,
) -> Path:
    """Fetch a checkpoint into the hub's cache, once licence and size are agreed to.

    Parameters
    ----------
    name, revision, endpoint
        See `offer`.
    confirm
        Is shown the offer; nothing is fetched unless it gives True.

    Returns
    -------
    The folder.

    Raises
    ------
    ConfigError, DownloadError
        See `offer`; also if the offer is declined or the transfer fails.
    """
    offered = offer(name, revision, endpoint=endpoint)
    if not confirm(offered):
        raise DownloadError("nothing was fetched; --yes answers the question beforehand")
    from huggingface_hub import snapshot_download

    with _hub_errors(name, revision):
        folder = Path(
            snapshot_download(
                name, revision=revision, allow_patterns=list(_WANTED), endpoint=endpoint
            )
        )
    if folder.name != offered.commit:
        raise DownloadError(
            f"'{name}' changed on the hub while it was fetched: {folder.name[:12]}, agreed to was "
            f"{offered.commit[:12]}; give the same command again"
        )
    return folder


class _hub_errors:  # noqa: N801
    """Turn what goes wrong with a hub into one line."""

    def __init__(self, name: str, revision: str | None) -> None:
        self.name, self.revision = name, revision

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: Any, _: object) -> None:
        if kind is None or not issubclass(kind, Exception):
            return
        from huggingface_hub import errors

        version = f" in revision '{self.revision}'" if self.revision else ""
        if issubclass(kind, errors.GatedRepoError):
            reason = "asks for an agreement; agree on its page and log in, or choose another"
        elif issubclass(kind, errors.RevisionNotFoundError | errors.RepositoryNotFoundError):
            reason = f"is not on the hub{version}; check the name and the revision"
        else:
            first = str(error).strip().splitlines() or [kind.__name__]
            reason = (
                f"cannot be fetched ({first[0].rstrip('.')}); check the connection, or copy the "
                "checkpoint to a folder and give that"
            )
        raise DownloadError(f"'{self.name}' {reason}") from error
