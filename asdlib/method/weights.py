"""Weights trained elsewhere: named in a configuration, found, identified, fetched when asked.

Nothing is downloaded implicitly: `fetch` alone transfers files, and shows licence and size first.
Encoders read safetensors files. A pickle (``.pt``, ``.pth``) can run any code when it is loaded: of
it torch's restricted reader takes nothing but tensors, which become a safetensors file at once.
"""

import hashlib
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

import torch
from pydantic import BaseModel, Field
from safetensors.torch import save
from torch import nn

from asdlib.data.fetch import Fetcher
from asdlib.errors import ConfigError, DownloadError, RunError
from asdlib.files import cache_folder, only_process, reading, whole_folder
from asdlib.system import Parameters

CONFIG = "config.json"
_WANTED = [CONFIG, "*.safetensors", "*.safetensors.index.json"]
_PICKLES = (".pt", ".pth")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class PretrainedParams(Parameters):
    """Where the weights of an encoder come from, and what the training may change of them."""

    retired = (("pooling", "patches"),)

    source: str = Field(
        min_length=1,
        description="folder of a checkpoint, a file *.pt, or the name of what `asd weights` has "
        "fetched",
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

        Raises as `folder` does, and a RunError if they are not those of a given SHA-256.
        """
        found = weights_sha256(self.folder)
        if self.sha256 not in (None, found):
            raise RunError(
                f"the weights of '{self.source}' have SHA-256 {found[:12]}…, expected "
                f"{str(self.sha256)[:12]}…; give the weights that were used before, or leave out "
                "sha256"
            )
        return self.model_copy(update={"sha256": found})


def add_adapters(model: nn.Module, params: PretrainedParams, layers: list[str]) -> None:
    """With mode "lora", put low-rank adapters beside layers of these names, and train no others.

    E. Hu et al., "LoRA", ICLR 2022, arXiv 2106.09685, Section 4.2: on query and value layers.
    """
    if params.mode != "lora":
        return
    from peft import LoraConfig, inject_adapter_in_model

    adapters = LoraConfig(r=params.lora_rank, lora_alpha=params.lora_alpha, target_modules=layers)
    inject_adapter_in_model(adapters, model)


class Release(NamedTuple):
    """Weights in the public release of EfficientAT, which is under the MIT licence."""

    file: str
    n_bytes: int
    """About: four times the numbers in it."""
    sha256: str | None = None
    """Of the safetensors file that is made of it; None where it is not known."""


VERSION = "v0.0.1"
ADDRESS = f"https://github.com/fschmid56/EfficientAT/releases/download/{VERSION}/"
RELEASES = {
    "mn01": Release("mn01_as_mAP_298.pt", 505_608),
    "mn02": Release("mn02_as_mAP_378.pt", 1_318_932),
    "mn04": Release(
        "mn04_as_mAP_432.pt",
        3_973_940,
        "e6dc8600fecfeccb27913e1dbba0df67d7fc9f6d282ef7fcdaf881ccbf5a2e7c",
    ),
    "mn05": Release("mn05_as_mAP_443.pt", 5_774_548),
    "mn10": Release("mn10_as_mAP_471.pt", 19_605_108),
    "mn20": Release("mn20_as_mAP_478.pt", 71_832_532),
    "mn30": Release("mn30_as_mAP_482.pt", 156_638_452),
    "mn40": Release("mn40_as_mAP_484.pt", 274_099_796),
}
HUB = {"ast": "MIT/ast-finetuned-audioset-10-10-0.4593"}
"""Short names: of files of the release, which name their mean average precision, and on the hub."""


def weights_folder(source: str, revision: str | None = None) -> Path:
    """Find the folder of a checkpoint: `source` itself, or where a cache holds it.

    A source of another kind is a `ConfigError`, one that is not fetched yet a `RunError`.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return folder
    if folder.suffix in _PICKLES and folder.is_file():
        return _as_safetensors(folder)
    found, name = _cached(source), HUB.get(source, source)
    if source not in RELEASES:
        if folder.exists() or not _HUB_NAME.fullmatch(name):
            raise ConfigError(
                f"weights '{source}' are not there; expected a folder with a checkpoint, a file "
                f"*.pt, owner/name of one on the public hub, or {', '.join([*RELEASES, *HUB])}"
            )
        from huggingface_hub import try_to_load_from_cache

        with suppress(ValueError):  # a name that the hub does not allow
            config = try_to_load_from_cache(name, CONFIG, revision=revision)
            found = Path(config).parent if isinstance(config, str) else found
    if not any(found.glob("*.safetensors")):
        asked = f"{name} --revision {revision}" if revision else name
        raise RunError(
            f"weights '{source}' are not on this machine; fetch them with asd weights {asked}, or "
            "give a folder"
        )
    return found


def weight_files(folder: Path) -> list[Path]:
    """List the files that define an encoder: its configuration, if any, and its weights.

    A folder without safetensors files is a `RunError`.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", *_PICKLES))
        has = f"only {pickles[0]}, a pickle" if pickles else "no *.safetensors file"
        raise RunError(
            f"'{folder}' holds {has}; expected the safetensors format, which "
            "save_pretrained of transformers and asd pretrain write"
        )
    config = folder / CONFIG
    return [config, *weights] if config.is_file() else weights


def read_facts(file: Path, model: type[BaseModel], written_by: str) -> dict[str, Any]:
    """Read the JSON beside weights; a `RunError` if it is missing or does not fit `model`."""
    try:
        return model.model_validate_json(file.read_bytes()).model_dump()
    except (OSError, ValueError):
        raise RunError(
            f"'{file.parent}' has no readable {file.name}; expected a folder that {written_by} has "
            "written"
        ) from None


def weights_sha256(folder: Path) -> str:
    """Compute the SHA-256 over names and contents of `weight_files`, 64 hexadecimal digits."""
    total = hashlib.sha256()
    for file in weight_files(folder):
        with file.open("rb") as stream:
            total.update(file.name.encode() + b"\0")
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()


def _keep_tensors(pickle: Path, folder: Path) -> str:
    """Write the tensors of a pickle, and nothing else, as safetensors; return their SHA-256."""
    try:
        tensors = torch.load(pickle, map_location="cpu", weights_only=True)
        content = save({k: tensor.clone().contiguous() for k, tensor in tensors.items()})
    except Exception as error:  # the reader has many ways to refuse a file
        raise RunError(
            f"'{pickle}' is damaged, or holds more than named tensors; it is not loaded, since a "
            "pickle can run any code: get weights in the safetensors format"
        ) from error
    (folder / "weights.safetensors").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def _cached(name: str) -> Path:
    return cache_folder() / "weights" / name


def _as_safetensors(pickle: Path) -> Path:
    """Return the folder of a pickle's tensors, which is made once for each content."""
    with reading(pickle, RunError, "copy it again"), pickle.open("rb") as stream:
        folder = _cached(hashlib.file_digest(stream, "sha256").hexdigest())
    with only_process(folder, wait=True):
        if not folder.is_dir():
            with whole_folder(folder) as partial:
                _keep_tensors(pickle, partial)
    return folder


class Offer(NamedTuple):
    """Name, exact version, stated licence and size of a checkpoint."""

    name: str
    commit: str
    licence: str
    n_bytes: int


def offer(name: str, revision: str | None = None, *, endpoint: str | None = None) -> Offer:
    """Ask a hub for licence, size and exact version of the checkpoint ``owner/name``; see `fetch`.

    Raises
    ------
    ConfigError, DownloadError
        If the name has another form; if the hub cannot be reached or has no such safetensors file.
    """
    if not _HUB_NAME.fullmatch(name):
        raise ConfigError(f"'{name}' is not known; expected owner/name, or mn01 … mn40")
    from huggingface_hub import HfApi
    from huggingface_hub.utils import filter_repo_objects

    with _hub_errors(name):
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
    """Fetch a release, or what `offer` found, into a cache, if `confirm` returns True for it.

    Parameters
    ----------
    name
        Key of `RELEASES` or `HUB`, or owner/name.
    revision
        Branch, tag or commit on a hub; by default the main branch.
    endpoint
        Address of the hub or the release; by default the public one.

    Raises
    ------
    ConfigError, DownloadError, RunError
        See `offer`; also if the offer is declined, the transfer fails, or no weights arrive.
    """
    name = HUB.get(name, name)
    release, folder = RELEASES.get(name), _cached(name)
    if release:
        offered = Offer(name, VERSION, "MIT", release.n_bytes)
    else:
        offered = offer(name, revision, endpoint=endpoint)
    if not confirm(offered):
        raise DownloadError("nothing was fetched; --yes answers the question beforehand")
    if not release:
        from huggingface_hub import snapshot_download

        how = {"revision": revision, "allow_patterns": _WANTED, "endpoint": endpoint}
        with _hub_errors(name):
            return Path(snapshot_download(name, **how))
    with only_process(folder, DownloadError, "fetching"):
        if folder.is_dir():
            return folder
        with Fetcher() as client, whole_folder(folder, DownloadError) as partial:
            pickle = partial / release.file
            with pickle.open("ab") as sink:
                client.fetch(f"{endpoint or ADDRESS}{release.file}", sink)
            found = _keep_tensors(pickle, partial)
            pickle.unlink()
            if release.sha256 not in (None, found):
                raise DownloadError(
                    f"{release.file} has other tensors than expected: SHA-256 {found[:12]}…, not "
                    f"{str(release.sha256)[:12]}…; nothing was kept"
                )
    return folder


@contextmanager
def _hub_errors(name: str) -> Iterator[None]:
    """Turn errors of the hub into one line."""
    try:
        yield
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0]
        raise DownloadError(
            f"'{name}' cannot be fetched ({type(error).__name__}: {reason.rstrip('.')}); check its "
            "name, its revision and the connection; if it asks for an agreement, agree on its page "
            "and log in"
        ) from error
