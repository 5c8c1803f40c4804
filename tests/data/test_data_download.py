"""Downloads from a server that fails: the right data or a clear error, never half a file."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import multiprocessing
import signal
import stat
import time
import zipfile
from collections.abc import Iterator
from email.utils import formatdate
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from fault_server import EVALUATOR, RECORD, Fault, FaultServer, recordings, zip_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asdlib.data import fetch as fetch_module
from asdlib.data import unpack as unpack_module
from asdlib.data.download import Limits, Plan, Progress, Report, Retry, download, plan_download
from asdlib.data.fetch import DiskFullError
from asdlib.data.lockfile import LOCK_NAME
from asdlib.errors import DownloadError

pytestmark = pytest.mark.timeout(60)

QUICK = Retry(tries=3, first_wait=0.01, longest_wait=0.02, longest_retry_after=5, timeout=5)
ZIP = f"/records/{RECORD}/files/dev_fan.zip"
WAVS = recordings()
PUMP = recordings("slider", seed=1)
GOOD = zip_of(WAVS)
ALWAYS = 50


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.add_zenodo(RECORD, {"dev_fan.zip": GOOD, "dev_slider.zip": zip_of(PUMP)})
        yield running


def plan(server: FaultServer, root: Path, machine: str = "fan") -> Plan:
    return plan_download(
        "dcase2022", [machine], ["development"], root, base_url=server.url, retry=QUICK
    )


def fetch(server: FaultServer, root: Path, **options: Any) -> Report:
    return download(plan(server, root), retry=QUICK, **options)


def in_place(root: Path, wavs: dict[str, bytes] = WAVS) -> bool:
    folder = root / "dcase2022/dev_data"
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return set(found) == set(wavs) and all(found[n].read_bytes() == wavs[n] for n in wavs)


def leftovers(root: Path) -> set[str]:
    """Files below the dataset that are neither data in place nor locks."""
    base = root / "dcase2022"
    paths = (p for p in base.rglob("*") if p.is_file() and p.suffix != ".lock")
    names = {p.relative_to(base).as_posix() for p in paths}
    return {name for name in names if not name.startswith("dev_data/")}


def nothing_in_place(root: Path) -> bool:
    return not any((root / "dcase2022/dev_data").rglob("*"))


def error_of(server: FaultServer, root: Path, **options: Any) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch(server, root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_download_gives_the_official_layout(server: FaultServer, tmp_path: Path) -> None:
    made = plan(server, tmp_path)
    assert not any(tmp_path.iterdir())
    assert (made.bytes_to_fetch, made.unknown_sizes) == (len(GOOD), 0)
    assert made.licences == ("cc-by-4.0",)
    assert made.disk_needed() == int(len(GOOD) * 1.4) + len(GOOD)
    assert download(made, retry=QUICK).fetched == ("dev_fan.zip",)
    assert in_place(tmp_path)
    assert leftovers(tmp_path) == set()


def test_second_call_does_nothing_in_under_a_second(server: FaultServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    asked = len(server.log)
    begin = time.perf_counter()
    assert fetch(server, tmp_path).already_there == ("dev_fan.zip",)
    assert time.perf_counter() - begin < 1
    assert len(server.log) == asked
    assert plan(server, tmp_path).disk_needed() == 0


def test_keep_leaves_the_archive(server: FaultServer, tmp_path: Path) -> None:
    fetch(server, tmp_path, keep=True)
    assert (tmp_path / "dcase2022/archives/dev_fan.zip").read_bytes() == GOOD
    (tmp_path / "dcase2022/dev_data/fan/attributes_00.csv").unlink()
    fetch(server, tmp_path, keep=True)
    assert in_place(tmp_path)
    assert len(server.requests(ZIP)) == 1


def test_deleted_recording_is_brought_back(server: FaultServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    next((tmp_path / "dcase2022/dev_data/fan/test").iterdir()).unlink()
    assert fetch(server, tmp_path).fetched == ("dev_fan.zip",)
    assert in_place(tmp_path)


def test_progress_of_each_stage(server: FaultServer, tmp_path: Path) -> None:
    seen: list[Progress] = []
    fetch(server, tmp_path, on_progress=seen.append)
    stages = list(dict.fromkeys(step.stage for step in seen))
    assert stages == ["fetch", "verify", "unpack", "done"]
    assert Progress("dev_fan.zip", "fetch", len(GOOD), len(GOOD)) in seen


@pytest.mark.parametrize("tenth", range(10))
def test_cut_once_is_resumed(server: FaultServer, tmp_path: Path, tenth: int) -> None:
    cut = len(GOOD) * tenth // 10
    server.fail(ZIP, Fault(cut=cut))
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    first, second = server.requests(ZIP)
    assert (first.sent, second.sent) == (cut, len(GOOD) - cut)
    assert second.range == (f"bytes={cut}-" if cut else None)


@pytest.mark.parametrize("tenth", range(1, 10))
def test_cut_for_good_keeps_only_a_part(server: FaultServer, tmp_path: Path, tenth: int) -> None:
    cut = len(GOOD) * tenth // 10
    server.fail(ZIP, Fault(cut=cut), *[Fault(cut=0)] * ALWAYS)
    assert "call again to go on" in error_of(server, tmp_path)
    assert nothing_in_place(tmp_path)
    part = tmp_path / "dcase2022/archives/dev_fan.zip.part"
    assert part.read_bytes() == GOOD[:cut]
    assert leftovers(tmp_path) == {"archives/dev_fan.zip.part", "archives/dev_fan.zip.part.json"}
    server.faults.clear()
    assert plan(server, tmp_path).bytes_to_fetch == len(GOOD) - cut
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    assert server.requests(ZIP)[-1].sent == len(GOOD) - cut


def test_cut_at_every_tenth_of_one_transfer(server: FaultServer, tmp_path: Path) -> None:
    server.fail(ZIP, *[Fault(cut=len(GOOD) // 10)] * 10)
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    assert sum(request.sent for request in server.requests(ZIP)) == len(GOOD)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    cuts=st.lists(st.integers(0, len(GOOD)), max_size=6),
    etag=st.sampled_from(["strong", "weak", "none"]),
)
def test_any_cuts_and_any_etag_give_the_right_bytes(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], etag: str
) -> None:
    root = tmp_path_factory.mktemp("root")
    patient = Retry(tries=10, first_wait=0, longest_wait=0)
    with FaultServer() as server:
        server.add_zenodo(RECORD, {"dev_fan.zip": GOOD})
        server.etag = etag
        server.fail(ZIP, *[Fault(cut=cut) for cut in cuts])
        download(plan(server, root), retry=patient)
    assert in_place(root)


def test_wrong_checksum(server: FaultServer, tmp_path: Path) -> None:
    bad = bytearray(GOOD)
    bad[len(bad) // 2] ^= 1
    server.add(ZIP, bytes(bad))
    message = error_of(server, tmp_path)
    assert f"has MD5 {hashlib.md5(bad).hexdigest()}, expected " in message
    assert nothing_in_place(tmp_path)
    assert leftovers(tmp_path) == set()
    server.add(ZIP, GOOD)
    fetch(server, tmp_path)
    assert in_place(tmp_path)


def test_declared_checksum_of_2020_is_enforced(server: FaultServer, tmp_path: Path) -> None:
    path = server.add("/records/3727685/files/eval_data_train_fan.zip", GOOD)
    made = plan_download(
        "dcase2020", ["fan"], ["additional"], tmp_path, base_url=server.url, retry=QUICK
    )
    assert made.unknown_sizes == 1
    assert any(note.startswith("sizes of record 3727685 are not known") for note in made.notes)
    with pytest.raises(DownloadError, match="expected 567798854130c8019df8b664c095ed1e"):
        download(made, retry=QUICK)
    assert len(server.requests(path)) == 1
    assert not (tmp_path / "dcase2020/eval_data").exists()


def test_truncated_on_the_server(server: FaultServer, tmp_path: Path) -> None:
    server.add(ZIP, GOOD[:-100])
    assert f"has {len(GOOD) - 100} bytes, {len(GOOD)} were expected" in error_of(server, tmp_path)
    assert nothing_in_place(tmp_path)
    assert leftovers(tmp_path) == set()


def test_truncated_before_it_was_published(server: FaultServer, tmp_path: Path) -> None:
    server.add_zenodo(RECORD, {"dev_fan.zip": GOOD[:-100]})
    assert "dev_fan.zip is refused: it is damaged" in error_of(server, tmp_path)
    assert nothing_in_place(tmp_path)
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("name", ["../../../evil.wav", "/tmp/asdlib-evil.wav"])
def test_archive_with_escapes(server: FaultServer, tmp_path: Path, name: str) -> None:
    root = tmp_path / "a/b/root"
    server.add_zenodo(RECORD, {"dev_fan.zip": zip_of(WAVS | {name: b"x"})})
    assert "points outside the folder" in error_of(server, root)
    assert nothing_in_place(root)
    assert leftovers(root) == set()
    assert not list(tmp_path.rglob("*evil*"))
    assert not Path("/tmp/asdlib-evil.wav").exists()


def test_archive_with_links(server: FaultServer, tmp_path: Path) -> None:
    link = zipfile.ZipInfo("fan/train/x.wav")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    entries: list[tuple[zipfile.ZipInfo | str, bytes]] = [*WAVS.items(), (link, b"/etc/passwd")]
    server.add_zenodo(RECORD, {"dev_fan.zip": zip_of(entries)})
    assert "is a link or a device" in error_of(server, tmp_path)
    assert nothing_in_place(tmp_path)
    assert leftovers(tmp_path) == set()


def test_archive_over_the_limits(server: FaultServer, tmp_path: Path) -> None:
    assert "at most 5 are allowed" in error_of(server, tmp_path, limits=Limits(entries=5))
    assert nothing_in_place(tmp_path)


def test_not_found_ends_at_once(server: FaultServer, tmp_path: Path) -> None:
    del server.files[ZIP]
    assert "404 Not Found" in error_of(server, tmp_path)
    assert len(server.requests(ZIP)) == 1
    assert nothing_in_place(tmp_path)
    assert leftovers(tmp_path) == set()


def test_other_files_are_finished_when_one_is_missing(server: FaultServer, tmp_path: Path) -> None:
    del server.files[ZIP]
    both = plan_download(
        "dcase2022", ["fan", "slider"], ["development"], tmp_path, base_url=server.url, retry=QUICK
    )
    with pytest.raises(DownloadError, match="404"):
        download(both, retry=QUICK)
    assert in_place(tmp_path, PUMP)


@pytest.mark.parametrize("header", ["seconds", "date", "x-ratelimit-reset"])
def test_too_many_requests_waits_as_told(server: FaultServer, tmp_path: Path, header: str) -> None:
    clock = time.time() - time.monotonic()
    moment = int(time.time()) + 3
    headers = {
        "seconds": {"Retry-After": "1"},
        "date": {"Retry-After": formatdate(moment, usegmt=True)},
        "x-ratelimit-reset": {"X-RateLimit-Reset": str(moment)},
    }[header]
    server.fail(ZIP, Fault(status=429, headers=headers))
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    first, second = server.requests(ZIP)
    told = first.time + 1 if header == "seconds" else moment - clock
    assert told - 0.1 < second.time < max(told, first.time) + 4


def test_too_long_a_pause_is_told_to_the_user(server: FaultServer, tmp_path: Path) -> None:
    server.fail(ZIP, Fault(status=429, headers={"Retry-After": "3600"}))
    assert "answers 429 and asks for a pause of 3600 s" in error_of(server, tmp_path)
    assert nothing_in_place(tmp_path)


def test_500_then_success(server: FaultServer, tmp_path: Path) -> None:
    record = f"/api/records/{RECORD}"
    server.fail(record, Fault(status=503))
    server.fail(ZIP, Fault(status=500), Fault(status=502), Fault(cut=1000), Fault(status=500))
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    assert [request.status for request in server.requests(ZIP)] == [500, 502, 200, 500, 206]


def test_500_for_ever(server: FaultServer, tmp_path: Path) -> None:
    server.fail(ZIP, *[Fault(status=500)] * ALWAYS)
    assert "the server answers 500 (3 tries)" in error_of(server, tmp_path)
    assert len(server.requests(ZIP)) == 3
    assert nothing_in_place(tmp_path)


def test_no_server_at_all(tmp_path: Path) -> None:
    with FaultServer() as gone:
        gone.add_zenodo(RECORD, {"dev_fan.zip": GOOD})
        made = plan(gone, tmp_path)
    with pytest.raises(DownloadError, match="refused"):
        download(made, retry=QUICK)
    assert nothing_in_place(tmp_path)


def test_server_without_ranges(server: FaultServer, tmp_path: Path) -> None:
    server.ranges = False
    server.fail(ZIP, Fault(cut=len(GOOD) // 2))
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    assert server.requests(ZIP)[-1].sent == len(GOOD)


def test_server_without_ranges_that_always_cuts_is_given_up(
    server: FaultServer, tmp_path: Path
) -> None:
    server.ranges = False
    server.fail(ZIP, *[Fault(cut=size) for size in range(1000, 1000 + ALWAYS)])
    assert "call again" in error_of(server, tmp_path)
    assert len(server.requests(ZIP)) <= 4
    assert nothing_in_place(tmp_path)


@pytest.mark.parametrize("etag", ["strong", "weak", "none"])
def test_file_changed_between_two_tries(server: FaultServer, tmp_path: Path, etag: str) -> None:
    """The server first sends half of another file: no byte of it may stay."""
    other = zip_of(recordings(seed=9))
    assert len(other) == len(GOOD)
    server.etag = etag
    server.add(ZIP, other)
    server.fail(ZIP, Fault(cut=len(other) // 2, then=GOOD))
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("etag", ["strong", "weak", "none"])
def test_file_changed_to_a_wrong_one(server: FaultServer, tmp_path: Path, etag: str) -> None:
    other = zip_of(recordings(seed=9))
    server.etag = etag
    server.fail(ZIP, Fault(cut=len(other) // 2, then=other))
    assert "expected" in error_of(server, tmp_path)
    assert nothing_in_place(tmp_path)
    assert leftovers(tmp_path) == set()


@pytest.mark.parametrize("etag", ["strong", "weak", "none"])
def test_changed_file_without_a_known_checksum(
    server: FaultServer, tmp_path: Path, etag: str
) -> None:
    """No checksum can catch a mixture here: the server's word alone decides."""
    server.etag = etag
    server.fail(ZIP, Fault(cut=len(GOOD) // 2, then=GOOD[::-1]))
    part = tmp_path / "x.part"
    with fetch_module.Fetcher(QUICK) as fetcher:
        fetcher.file(server.url + ZIP, part)
    assert part.read_bytes() == GOOD[::-1]
    conditions = [request.condition for request in server.requests(ZIP)]
    assert conditions[:2] == [
        None,
        f'"{hashlib.md5(GOOD).hexdigest()}"' if etag == "strong" else None,
    ]


def test_file_that_has_shrunk(server: FaultServer, tmp_path: Path) -> None:
    path = EVALUATOR + "ground_truth_data/ground_truth_fan_section_03_test.csv"
    part = tmp_path / "labels.csv.part"
    server.add(path, b"section_03_0000.wav,1\n" * 9)
    server.fail(path, Fault(cut=150, then=b"section_03_0000.wav,1\n"))
    with fetch_module.Fetcher(QUICK) as fetcher:
        fetcher.file(server.url + path, part)
    assert part.read_bytes() == b"section_03_0000.wav,1\n"


def test_later_mismatch_with_the_lock_file_is_an_error(server: FaultServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    (tmp_path / "dcase2022/dev_data/fan/attributes_00.csv").unlink()
    server.add_zenodo(RECORD, {"dev_fan.zip": zip_of(recordings(seed=9))})
    assert "expected" in error_of(server, tmp_path)
    assert not (tmp_path / "dcase2022/dev_data/fan/attributes_00.csv").exists()


def test_damaged_lock_file_is_named(server: FaultServer, tmp_path: Path) -> None:
    (tmp_path / LOCK_NAME).write_text("{")
    with pytest.raises(DownloadError, match=r"asdlib-lock\.json' is damaged"):
        plan(server, tmp_path)


def truth(server: FaultServer) -> list[str]:
    paths = [
        f"ground_truth_{kind}/ground_truth_fan_section_{section}_test.csv"
        for kind in ("data", "domain")
        for section in ("03", "04", "05")
    ]
    for path in paths:
        server.add(EVALUATOR + path, f"{path}\nsection_03_0000.wav,1\n".encode())
    return paths


def test_ground_truth_is_pinned_on_first_use(server: FaultServer, tmp_path: Path) -> None:
    paths = truth(server)

    def again() -> Report:
        made = plan_download("dcase2022", ["fan"], ["ground_truth"], tmp_path, base_url=server.url)
        return download(made, retry=QUICK)

    assert len(again().fetched) == 6
    file = tmp_path / "dcase2022/ground_truth" / paths[0]
    content = file.read_bytes()
    pins = json.loads((tmp_path / LOCK_NAME).read_text())["files"]
    assert pins[f"dcase2022/ground_truth/{paths[0]}"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    assert len(again().already_there) == 6
    file.unlink()
    server.add(EVALUATOR + paths[0], content.replace(b"1", b"0"))
    with pytest.raises(DownloadError, match="has SHA256 .* expected"):
        again()
    assert not file.exists()


def test_file_list_of_other_years_comes_from_the_record(
    server: FaultServer, tmp_path: Path
) -> None:
    archives = {"eval_data_bandsaw_train_r2.zip": zip_of(recordings("bandsaw", n=2))}
    server.add_zenodo("7830345", archives | {"readme.txt": b"x"})
    made = plan_download("dcase2023", None, ["additional"], tmp_path, base_url=server.url)
    assert [item.archive.machine for item in made.items] == ["bandsaw"]
    with pytest.raises(DownloadError, match=r"machine 'fan' is not .* \(known: bandsaw\)"):
        plan_download("dcase2023", ["fan"], ["additional"], tmp_path, base_url=server.url)
    download(made, retry=QUICK)
    assert len(list((tmp_path / "dcase2023/eval_data/bandsaw/train").iterdir())) == 2
    server.files.clear()
    again = plan_download("dcase2023", None, ["additional"], tmp_path, base_url=server.url)
    assert again.missing == ()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"<html>", "is not JSON"),
        (b"{}", "is not the JSON of a record"),
        (b'{"files": [{"key": "../../x.zip", "size": 1, "checksum": "md5:0"}]}', "file name"),
        (b'{"files": []}', r"has no dev_fan.zip \(it lists: no files\)"),
    ],
)
def test_bad_record(server: FaultServer, tmp_path: Path, said: bytes, message: str) -> None:
    server.add(f"/api/records/{RECORD}", said)
    with pytest.raises(DownloadError, match=message):
        plan(server, tmp_path)


def test_disk_full_during_the_transfer(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(handle: Any, chunk: bytes) -> None:
        handle.write(chunk[: len(GOOD) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch_module, "_write", full)
    assert "disk full while writing" in error_of(server, tmp_path)
    assert nothing_in_place(tmp_path)
    assert leftovers(tmp_path) == {"archives/dev_fan.zip.part", "archives/dev_fan.zip.part.json"}
    monkeypatch.undo()
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    half = server.requests(ZIP)[-1].range
    assert half is not None


@pytest.mark.parametrize("stage", ["fetch", "unpack"])
def test_interrupt_leaves_nothing_half(server: FaultServer, tmp_path: Path, stage: str) -> None:
    def interrupt(step: Progress) -> None:
        if step.stage == stage and step.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path, on_progress=interrupt)
    assert nothing_in_place(tmp_path)
    kept = {"archives/dev_fan.zip"} if stage == "unpack" else leftovers(tmp_path)
    assert (
        leftovers(tmp_path)
        == kept
        <= {
            "archives/dev_fan.zip",
            "archives/dev_fan.zip.part",
            "archives/dev_fan.zip.part.json",
        }
    )
    fetch(server, tmp_path)
    assert in_place(tmp_path)


def test_disk_too_small_is_seen_before_the_transfer(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("asdlib.data.plan.shutil.disk_usage", lambda _: usage)
    with pytest.raises(DiskFullError, match=r"GB are needed in .* choose another root or fewer"):
        fetch(server, tmp_path)
    assert server.requests(ZIP) == []


def child(pipe: Connection, where: str, url: str, root: str) -> None:
    """Download in a process of its own; `where` is ``function:n``, the place to be killed at."""
    name, _, after = where.partition(":")
    if name:
        original, calls = getattr(unpack_module, name), itertools.count()

        def slow(*args: Any, **options: Any) -> Any:
            if next(calls) == int(after):
                pipe.send("there")
                time.sleep(60)
            return original(*args, **options)

        setattr(unpack_module, name, slow)
    made = plan_download("dcase2022", ["fan"], ["development"], root, base_url=url, retry=QUICK)
    pipe.send(download(made, retry=QUICK).fetched)


def start(server: FaultServer, root: Path, where: str = "") -> tuple[Any, Connection]:
    # A fork server imports once; its children are processes like any other.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["asdlib.data.download"])
    mine, theirs = context.Pipe()
    process = context.Process(target=child, args=(theirs, where, server.url, str(root)))
    process.start()
    return process, mine


def test_two_processes_at_once(server: FaultServer, tmp_path: Path) -> None:
    server.delay = 0.3
    both = [start(server, tmp_path) for _ in range(2)]
    fetched = []
    for process, pipe in both:
        assert pipe.poll(40)
        fetched.append(pipe.recv())
        process.join(10)
        assert process.exitcode == 0
    assert sorted(fetched) == [(), ("dev_fan.zip",)]
    assert in_place(tmp_path)
    assert leftovers(tmp_path) == set()
    assert len(server.requests(ZIP)) == 1


@pytest.mark.parametrize("where", ["_copy:7", "_install:1", "_install:2"])
def test_kill_9_while_unpacking_is_repaired(
    server: FaultServer, tmp_path: Path, where: str
) -> None:
    """Killed between two recordings, before the first rename, between two renames."""
    (tmp_path / "dcase2022/dev_data/fan/train").mkdir(parents=True)
    process, pipe = start(server, tmp_path, where)
    assert pipe.poll(40)
    assert pipe.recv() == "there"
    process.kill()
    process.join(10)
    assert process.exitcode == -signal.SIGKILL
    folder = tmp_path / "dcase2022/dev_data"
    for path in (p for p in folder.rglob("*") if p.is_file()):
        assert path.read_bytes() == WAVS[path.relative_to(folder).as_posix()]
    assert any(name.startswith(".unpack/") for name in leftovers(tmp_path))
    assert fetch(server, tmp_path).fetched == ("dev_fan.zip",)
    assert in_place(tmp_path)
    assert leftovers(tmp_path) == set()
    assert len(server.requests(ZIP)) == 1


def test_kill_9_during_the_transfer_is_resumed(server: FaultServer, tmp_path: Path) -> None:
    archives = tmp_path / "dcase2022/archives"
    archives.mkdir(parents=True)
    (archives / "dev_fan.zip.part").write_bytes(GOOD[:5000])
    (archives / "dev_fan.zip.part.json").write_text('{"etag": "cut sh')
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    assert server.requests(ZIP)[-1].range == "bytes=5000-"
