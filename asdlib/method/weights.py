"""Weights on disk: find them, identify them, and fetch them from a public hub when asked.

Nothing is downloaded implicitly. `fetch` is the only function that transfers files, and it shows
licence and size first. A training finds fetched checkpoints in the hub's own cache. Only
safetensors files are read: loading a pickle would run whatever is in it.
"""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from asdlib.errors import ConfigError, DownloadError, RunError

CONFIG = "config.json"
_WANTED = [CONFIG, "*.safetensors", "*.safetensors.index.json"]
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True)
class Offer:
    """Name, exact version, stated licence and size of a checkpoint on a hub."""

    name: str
    commit: str
    licence: str
    n_bytes: int


def check_extra() -> None:
    """Raise a ConfigError if the packages that public models need are not installed."""
    needed = ("transformers", "peft", "huggingface_hub")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"public models need {', '.join(missing)}, not installed here; install asdlib with the "
            "extra 'pretrained'"
        )


def weights_folder(source: str, revision: str | None = None) -> Path:
    """Find the folder of a checkpoint: `source` itself, or where the hub's cache holds it.

    Raises
    ------
    ConfigError
        If it is neither a folder nor the name of a checkpoint on a hub.
    RunError
        If it has not been fetched yet.
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

    try:
        found = Path(
            snapshot_download(
                source, revision=revision, local_files_only=True, allow_patterns=_WANTED
            )
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError):
        found = None
    if found is None or not any(found.glob("*.safetensors")):
        asked = f"{source} --revision {revision}" if revision else source
        raise RunError(
            f"weights '{source}' are not on this machine; fetch them with asd weights {asked}, or "
            "give a folder"
        )
    return found


def weight_files(folder: Path) -> list[Path]:
    """List the files that define an encoder: its configuration, if any, and its weights.

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
    """Compute the SHA-256 over names and contents of `weight_files`, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for file in weight_files(folder):
        with file.open("rb") as stream:
            total.update(file.name.encode() + b"\0")
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def offer(name: str, revision: str | None = None, *, endpoint: str | None = None) -> Offer:
    """Ask a hub for licence, size and exact version of the checkpoint ``owner/name``.

    Parameters
    ----------
    revision
        Branch, tag or commit; by default the main branch.
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
        found = HfApi(endpoint=endpoint).model_info(name, revision=revision, files_metadata=True)
    sizes = {file.rfilename: file.size or 0 for file in found.siblings or []}
    wanted = list(filter_repo_objects(sizes, allow_patterns=_WANTED))
    if not any(file.endswith(".safetensors") for file in wanted):
        raise DownloadError(
            f"'{name}' has no safetensors file on the hub; choose another checkpoint, or convert "
            "it and give its folder"
        )
    tags = [tag.removeprefix("license:") for tag in found.tags or [] if tag.startswith("license:")]
    licence = (found.card_data or {}).get("license") or (*tags, "not stated")[0]
    return Offer(name, str(found.sha), str(licence), sum(sizes[file] for file in wanted))


def fetch(
    name: str,
    revision: str | None = None,
    *,
    confirm: Callable[[Offer], bool],
    endpoint: str | None = None,
) -> Path:
    """Fetch a checkpoint into a folder of the hub's cache, once licence and size are agreed to.

    Parameters
    ----------
    name, revision, endpoint
        See `offer`.
    confirm
        Called with the offer; nothing is fetched unless it returns True.

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
            snapshot_download(name, revision=revision, allow_patterns=_WANTED, endpoint=endpoint)
        )
    if folder.name != offered.commit:
        raise DownloadError(
            f"'{name}' changed on the hub while it was fetched: {folder.name[:12]}, agreed to was "
            f"{offered.commit[:12]}; give the same command again"
        )
    return folder


@contextmanager
def _hub_errors(name: str, revision: str | None) -> Iterator[None]:
    """Turn errors of the hub into one line."""
    from huggingface_hub import errors

    try:
        yield
    except errors.GatedRepoError as error:
        raise DownloadError(
            f"'{name}' asks for an agreement; agree on its page and log in, or choose another"
        ) from error
    except (errors.RevisionNotFoundError, errors.RepositoryNotFoundError) as error:
        version = f" in revision '{revision}'" if revision else ""
        raise DownloadError(
            f"'{name}' is not on the hub{version}; check the name and the revision"
        ) from error
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DownloadError(
            f"'{name}' cannot be fetched ({reason.rstrip('.')}); check the connection, or copy the "
            "checkpoint to a folder and give that"
        ) from error
