"""Weights trained elsewhere: named in a configuration, found, identified, fetched when asked.

Nothing is downloaded implicitly: `fetch` alone transfers files, and shows licence and size first.
Only safetensors files are read: loading a pickle would run whatever is in it.
"""

import hashlib
import importlib.util
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from asdlib.errors import ConfigError, DownloadError, RunError

CONFIG = "config.json"
_WANTED = [CONFIG, "*.safetensors", "*.safetensors.index.json"]
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class PretrainedParams(BaseModel):
    """Where the weights of an encoder come from, and what the training may change of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    source: str = Field(
        min_length=1,
        description="folder of a checkpoint, or owner/name of one that `asd weights` has fetched",
    )
    revision: str | None = Field(
        None, description="branch, tag or commit of a fetched checkpoint; by default its main one"
    )
    mode: Literal["frozen", "finetune", "lora"] = Field(
        "finetune",
        description="what is trained: the head alone, everything, or low-rank adapters [O]",
    )
    lora_rank: int = Field(8, ge=1, le=1024, description="rank of the adapters, with mode=lora [O]")
    lora_alpha: float = Field(
        16.0, gt=0, description="the adapters' output is scaled by lora_alpha / lora_rank [O]"
    )
    pooling: Literal["patches", "tokens"] = Field(
        "patches",
        description="embedding of a transformer: mean over its patches, or over the class and "
        "distillation tokens that its own classifier reads [O]",
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-f]{64}$",
        description="SHA-256 of the weights, which identifies a run; by default computed",
    )

    @property
    def folder(self) -> Path:
        """Folder of the weights; raises ConfigError or RunError if they are not there."""
        return weights_folder(self.source, self.revision)

    def resolved(self) -> Self:
        """Add the SHA-256 of the weights, so that it identifies a run instead of a path.

        Raises
        ------
        ConfigError, RunError
            If the weights are not there, or are not those of a given SHA-256.
        """
        found = weights_sha256(self.folder)
        if self.sha256 not in (None, found):
            raise RunError(
                f"the weights of '{self.source}' have SHA-256 {found[:12]}…, expected "
                f"{str(self.sha256)[:12]}…; give the weights that were used before, or leave out "
                "sha256"
            )
        return self.model_copy(update={"sha256": found})


def check_extra() -> None:
    """Raise a ConfigError if the packages that public models need are not installed."""
    needed = ("transformers", "peft", "huggingface_hub")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            f"public models need {', '.join(missing)}, not installed here; install asdlib with the "
            "extra 'pretrained'"
        )


def add_adapters(model: nn.Module, params: PretrainedParams, layers: list[str]) -> None:
    """Put low-rank adapters beside layers of these names; nothing else is trained then.

    E. Hu et al., "LoRA", ICLR 2022, arXiv 2106.09685, Section 4.2: on query and value layers.
    """
    check_extra()
    from peft import LoraConfig, inject_adapter_in_model

    adapters = LoraConfig(r=params.lora_rank, lora_alpha=params.lora_alpha, target_modules=layers)
    inject_adapter_in_model(adapters, model)


def weights_folder(source: str, revision: str | None = None) -> Path:
    """Find the folder of a checkpoint: `source` itself, or where the hub's cache holds it.

    Raises
    ------
    ConfigError, RunError
        If it is neither a folder nor the name of a checkpoint, or has not been fetched yet.
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


@dataclass(frozen=True)
class Offer:
    """Name, exact version, stated licence and size of a checkpoint on a hub."""

    name: str
    commit: str
    licence: str
    n_bytes: int


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
    ConfigError, DownloadError
        If the name has another form; if the hub cannot be reached or has no such safetensors file.
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
    """Fetch what `offer` found into a folder of the hub's cache, if `confirm` returns True for it.

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
