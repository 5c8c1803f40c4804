"""Download of a dataset: plan, fetch, verify, unpack, and remember that it is done.

A plan says what will be done and writes nothing. Each file then goes through the same steps,
several files at once: transfer to a ``.part`` name, checksum, rename, unpacking, marker in the lock
file, removal of the archive. Every step can be killed; the next call goes on from what is there,
and a call after the last step finds the markers and needs no network.

An archive is checked as a whole before its first byte is written, then unpacked into a scratch
folder on the same disk, and its files are renamed to their final place.

Layout of a data root::

    asdlib-lock.json                     checksums and markers of all datasets
    dcase2020/archives/                  archives in transfer
    dcase2020/dev_data/<machine>/…       development
    dcase2020/eval_data/<machine>/…      additional training, evaluation
    dcase2020/ground_truth/…             labels of the evaluation

Sizes are in bytes.
"""

import hashlib
import json
import shutil
import stat
import threading
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from asdlib.data.fetch import Fetcher
from asdlib.data.naming import SPLIT_FOLDERS
from asdlib.data.sources import Archive, archives_for, newest, of_machines, where_truth_is
from asdlib.errors import DownloadError
from asdlib.files import only_process, reading, write_text, writing

LOCK_NAME = "asdlib-lock.json"
_WRITING = threading.Lock()

# An estimate on the safe side: 16-bit recordings of noisy machines shrink little.
UNPACKED_BY_PACKED = 1.4

MAX_ENTRIES = 200_000  # the largest official archives hold some thousands
MAX_RATIO = 20.0  # unpacked by packed size; recorded 16-bit audio stays below 3
SLACK = 16 << 20  # unpacked size that no ratio is asked of

OnProgress = Callable[[str, int, int], None]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 ._+-]{0,99}$")]


class RecordFile(BaseModel, extra="forbid"):
    """Checksum and size of one file of a Zenodo record."""

    md5: str = Field(pattern=r"^[0-9a-f]{32}$")
    size: int = Field(ge=0, le=1 << 40)


class Record(BaseModel, extra="forbid"):
    """What a Zenodo record said when it was first read; its file names become names on the disk."""

    licence: str
    files: dict[FileName, RecordFile]


class FilePin(BaseModel, extra="forbid"):
    """Checksum of a file that was taken as it came the first time."""

    sha256: str
    size: int


class Unpacked(BaseModel, extra="forbid"):
    """What came out of an archive: folder below that of its subset → number of files."""

    checksum: str
    placed: dict[str, int]


class LockData(BaseModel, extra="forbid"):
    """Content of the lock file of a data root.

    Records and files are pinned once a file of theirs is in place: a file that differs later is an
    error, never a new truth.
    """

    version: Literal[1] = 1
    records: dict[str, Record] = {}
    files: dict[str, FilePin] = {}
    unpacked: dict[str, Unpacked] = {}


def _read_lock(root: Path) -> LockData:
    path = root / LOCK_NAME
    if not path.exists():
        return LockData()
    with reading(path, DownloadError, "mend it, or delete it, and all checksums are read anew"):
        return LockData.model_validate_json(path.read_bytes())


@dataclass(frozen=True, slots=True)
class Plan:
    """What a download will do."""

    dataset: str
    root: Path
    archives: tuple[Archive, ...]
    """All files, also those in place."""
    records: dict[str, Record]
    """What Zenodo records said, to be pinned by the download."""
    note: str
    """Where the labels of the evaluation are, if they are not among the files."""
    mirror: str | None = field(repr=False)
    """Address in place of the hosts, maybe with user and password."""

    @property
    def missing(self) -> tuple[Archive, ...]:
        """Files that are not in place."""
        return tuple(archive for archive in self.archives if not archive.there)

    def disk_needed(self, *, jobs: int = 2, keep: bool = False) -> int:
        """Estimate the free disk space that a `download` with these options needs at its peak.

        Archives lie beside what was unpacked: all if they are kept, else those in work.
        """
        zips = [archive for archive in self.missing if archive.is_zip]
        packed = sorted((archive.size or 0 for archive in zips), reverse=True)
        needed = int(sum(packed) * UNPACKED_BY_PACKED) + sum(packed if keep else packed[:jobs])
        return max(0, needed - sum(archive.fetched for archive in zips))


def free_bytes(root: Path) -> int:
    """Return the free space on the disk that holds `root`, which need not exist yet."""
    here = next(path for path in (root.absolute(), *root.absolute().parents) if path.exists())
    return shutil.disk_usage(here).free


def plan_download(
    dataset: str,
    machines: Sequence[str] | None = None,
    subsets: Sequence[str] | None = None,
    root: str | Path = "data",
    *,
    base_url: str | None = None,
) -> Plan:
    """Find out what a download will do. Nothing is written.

    Checksums, sizes and lists of files that are neither declared nor pinned are read from the JSON
    of the Zenodo records.

    Parameters
    ----------
    dataset
        For example ``dcase2020``.
    machines, subsets
        Only these; all if None or empty.
    root
        The data root.
    base_url
        Address of a mirror that serves the same paths, ``https://user:password@…`` if it asks for
        them.

    Raises
    ------
    DownloadError
        If dataset, machine, subset or base URL are not known, or if a record that is needed cannot
        be read or contradicts a declared checksum.
    """
    root = Path(root)
    data = _read_lock(root)
    rows = of_machines(archives_for(dataset, subsets), machines)
    records = dict(data.records)
    with Fetcher(base_url) as web:
        for row in rows:
            if "zenodo.org" in row.url and not (row.md5 and row.size) and row.record not in records:
                records[row.record] = _read_record(web, row.record)
    full = [archive for row in rows for archive in _resolved(row, records.get(row.record))]
    archives = [_on_disk(root, archive, data) for archive in of_machines(full, machines)]
    note = ""
    if (not subsets or "evaluation" in subsets) and all(a.subset != "ground_truth" for a in full):
        note = f"the ground truth of the evaluation set: {where_truth_is(rows[0].year)}"
    return Plan(dataset, root, tuple(archives), records, note, base_url)


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _on_disk(root: Path, archive: Archive, data: LockData) -> Archive:
    """Fill in how much of a file is on disk; a marker and a count of files decide."""
    path = archive.path(root)
    held = [file.stat().st_size for file in (path, _part(path)) if file.is_file()]
    pin, done = data.files.get(archive.key), data.unpacked.get(archive.key)
    if not archive.is_zip:
        there = pin is not None and path.is_file() and path.stat().st_size == pin.size
    else:
        there = (
            done is not None
            and done.checksum == f"md5:{archive.md5}"
            and all(
                sum(file.is_file() for file in (archive.folder(root) / name).glob("*")) >= count
                for name, count in done.placed.items()
            )
        )
    return replace(archive, there=there, fetched=max(held, default=0))


def _read_record(web: Fetcher, record: str) -> Record:
    url, content = f"https://zenodo.org/api/records/{record}", BytesIO()
    web.fetch(url, content, largest=16 << 20)
    try:
        said = json.loads(content.getvalue())
        files = {
            file["key"]: {"md5": file["checksum"].removeprefix("md5:"), "size": file["size"]}
            for file in said["files"]
        }
        licence = said.get("metadata", {}).get("license", {}).get("id", "")
        return Record.model_validate({"licence": licence, "files": files})
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise DownloadError(
            f"{url} is not the JSON of a record with safe names, MD5 sums and sizes; check the "
            "base URL"
        ) from None


def _resolved(row: Archive, record: Record | None) -> list[Archive]:
    """Fill in a row, or replace ``*`` by the archives that the record lists."""
    if record is None:
        return [row]
    names = [row.file]
    if row.file == "*":
        names = newest([name for name in record.files if name.endswith(".zip")])
    if not names or not set(names) <= set(record.files):
        raise DownloadError(
            f"record {row.record} has no {row.file if row.file != '*' else 'archives'} "
            f"(it lists: {', '.join(record.files) or 'no files'})"
        )
    said = [(name, record.files[name]) for name in names]
    return [row.filled(name, file.md5, file.size, record.licence) for name, file in said]


def download(
    plan: Plan,
    *,
    jobs: int = 2,
    keep: bool = False,
    on_progress: OnProgress = lambda what, done, total: None,
) -> list[str]:
    """Carry out a plan, and return the names of the files that were fetched.

    Parameters
    ----------
    plan
        From `plan_download`.
    jobs
        Files in work at once, at least 1. Zenodo answers many parallel downloads with 429.
    keep
        Whether to keep the archives after unpacking.
    on_progress
        Called as ``on_progress(what, done, total)``, in bytes, from several threads.

    Raises
    ------
    DownloadError
        If a file cannot be fetched, verified or unpacked. The other files are finished first.
    """
    if not plan.missing:
        return []
    root, base = plan.root, plan.root / plan.dataset
    new = [folder for folder in (root, *root.absolute().parents) if not folder.exists()]
    failed: dict[str, BaseException] = {}
    stop = threading.Event()

    def report(what: str, done: int, total: int) -> None:
        if stop.is_set():
            raise DownloadError("the download was stopped")
        on_progress(what, done, total)

    try:
        with only_process(root / LOCK_NAME, DownloadError, wait=True), Fetcher(plan.mirror) as web:
            # Another process may have done some of the work since the plan was made.
            data = _read_lock(root)
            here = tuple(_on_disk(root, archive, data) for archive in plan.archives)
            plan = replace(plan, archives=here)
            needed, free = plan.disk_needed(jobs=jobs, keep=keep), free_bytes(root)
            if needed > free:
                raise DownloadError(
                    f"about {needed / 1e9:.1f} GB are needed in {root}, {free / 1e9:.1f} GB "
                    "are free; free some space, choose another root or fewer machines"
                )
            todo = iter(plan.missing)

            def work() -> None:
                while not stop.is_set() and (archive := next(todo, None)):
                    try:
                        _put_in_place(plan, archive, data, keep, web, report)
                    except BaseException as error:
                        failed[archive.file] = error
                        if not isinstance(error, DownloadError):
                            return

            # A pool would wait for a silent server after Ctrl-C; daemons end with the process.
            threads = [threading.Thread(target=work, daemon=True) for _ in range(jobs)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        stop.set()
        for folder in (*base.glob("*/*"), *base.glob("*"), base, *new):
            with suppress(OSError):  # only what is empty can be removed
                folder.rmdir()
    if failed:
        error, *others = failed.values()
        if others and isinstance(error, DownloadError):
            raise DownloadError(f"{error} (failed too: {', '.join(list(failed)[1:])})")
        raise error
    return [archive.file for archive in plan.missing]


def _put_in_place(
    plan: Plan, archive: Archive, data: LockData, keep: bool, web: Fetcher, report: OnProgress
) -> None:
    """Fetch and verify a file, unpack it if it is an archive, and record that it is done."""
    path, pin = archive.path(plan.root), data.files.get(archive.key)
    expected = f"md5:{archive.md5}" if archive.md5 else f"sha256:{pin.sha256}" if pin else ""
    if not expected or not path.is_file() or _digest(path, expected) != expected:
        _fetch(plan, archive, expected, web, report)
    if archive.is_zip:
        folder = archive.folder(plan.root)
        scratch = folder.with_name(".unpack") / archive.subset / path.stem
        placed = unpack(
            path,
            folder,
            archive.machine,
            scratch,
            lambda done, total: report(f"{archive.file} unpack", done, total),
        )
    with _WRITING:
        if archive.is_zip:
            data.unpacked[archive.key] = Unpacked(checksum=expected, placed=placed)
        else:
            digest = _digest(path, "sha256").removeprefix("sha256:")
            data.files[archive.key] = FilePin(sha256=digest, size=path.stat().st_size)
        if archive.record in plan.records:
            data.records.setdefault(archive.record, plan.records[archive.record])
        write_text(plan.root / LOCK_NAME, data.model_dump_json(indent=1), DownloadError)
    if archive.is_zip and not keep:
        path.unlink()


def _fetch(plan: Plan, archive: Archive, expected: str, web: Fetcher, report: OnProgress) -> None:
    """Fetch a file, and give it its name once its checksum is right.

    Without an expected checksum, the file is taken as it comes this once.
    """
    path, size = archive.path(plan.root), archive.size
    part, url = _part(path), archive.address

    def on_bytes(done: int) -> None:
        report(f"{archive.file} fetch", done, size or max(1, done))

    for _ in range(2):
        try:
            with writing(part, DownloadError):
                part.parent.mkdir(parents=True, exist_ok=True)
                with part.open("ab") as sink:
                    resumed = web.fetch(
                        url, sink, size=size, resume=bool(expected), on_bytes=on_bytes
                    )
        except DownloadError:
            if part.is_file() and not part.stat().st_size:
                part.unlink()
            raise
        found = _digest(part, expected) if expected else ""
        if found == expected:
            part.replace(path)
            return
        part.unlink()
        # Bytes of two versions may have met in a part that was continued: once more, from byte 0.
        if not resumed:
            break
    kind, _, digest = found.partition(":")
    raise DownloadError(
        f"{url} has {kind.upper()} {digest}, expected {expected.partition(':')[2]}; it was "
        "deleted, try again later or another base URL"
    )


def _digest(path: Path, like: str) -> str:
    """Return the checksum of a file as ``md5:<hex>``, of the kind that `like` begins with."""
    kind = like.partition(":")[0]
    with path.open("rb") as handle:
        return f"{kind}:{hashlib.file_digest(handle, kind).hexdigest()}"


_LITTER = frozenset({"__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini"})


def unpack(
    archive: Path,
    destination: Path,
    machine: str,
    scratch: Path,
    on_bytes: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, int]:
    """Unpack an archive below `destination`; return folder → number of files put there.

    `machine` is the folder that the files must be in; if it is empty, the paths are taken as they
    are. `scratch` lies on the same disk; it is emptied first. `on_bytes` is called with the bytes
    written so far and those to write.

    Raises
    ------
    DownloadError
        If the archive is damaged, unsafe, too large or not in the official layout, and then it is
        deleted; if the disk is full or the folder cannot be written. In no case is anything
        half-written left under a final name.
    """
    try:
        with writing(destination, DownloadError), zipfile.ZipFile(archive) as bundle:
            places = _places(bundle.infolist(), machine, archive.stat().st_size)
            total, done = sum(info.file_size for info in places.values()), 0
            shutil.rmtree(scratch, ignore_errors=True)
            for place, info in places.items():
                target = scratch / place
                target.parent.mkdir(parents=True, exist_ok=True)
                # "x": on a disk that ignores case, two names may be one file.
                with bundle.open(info) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
                done += info.file_size
                on_bytes(done, total)
            for place in places:
                (destination / place).parent.mkdir(parents=True, exist_ok=True)
                (scratch / place).replace(destination / place)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
        archive.unlink()
        raise DownloadError(
            f"{archive.name} is damaged or unsafe ({error}); it was deleted, and nothing of it put "
            "in place"
        ) from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return dict(Counter(place.parent.as_posix() for place in places))


def _places(
    entries: list[zipfile.ZipInfo], machine: str, packed: int
) -> dict[PurePosixPath, zipfile.ZipInfo]:
    """Check all entries of an archive; return place below the destination → entry."""
    if len(entries) > MAX_ENTRIES:
        raise ValueError(f"{len(entries)} entries, at most {MAX_ENTRIES} are allowed")
    total, allowed = sum(info.file_size for info in entries), SLACK + MAX_RATIO * packed
    if total > allowed:
        raise ValueError(f"it unpacks to {total} bytes, at most {allowed:.0f} are allowed")
    places: dict[PurePosixPath, zipfile.ZipInfo] = {}
    for info in entries:
        name, parts = info.filename, PurePosixPath(info.filename).parts
        odd = "\\" in name or name[1:2] == ":" or any(ord(letter) < 32 for letter in name)
        if odd or not parts or parts[0].startswith("/") or ".." in parts:
            raise ValueError(f"entry {name!r} points outside the folder or has no valid name")
        if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"entry {name!r} is a link or a device")
        if info.is_dir() or _LITTER.intersection(parts) or parts[-1].startswith("._"):
            continue
        if machine in parts[:-1]:
            parts = parts[parts.index(machine) :]
        elif machine and len(parts) > 1 and parts[0] not in SPLIT_FOLDERS:
            raise ValueError(f"entry {name!r} is not below '{machine}/'")
        elif machine:
            parts = (machine, *parts)
        place = PurePosixPath(*parts)
        if place in places:
            raise ValueError(f"two entries are called '{place}'")
        places[place] = info
    for place in places:
        if parent := next((parent for parent in place.parents if parent in places), None):
            raise ValueError(f"'{parent}' is a file and a folder")
    if not places:
        raise ValueError("it holds no files")
    return places
