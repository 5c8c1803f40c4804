"""Downloads from a server that fails: the right data or a clear error, never half a file."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import re
import signal
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from email.utils import formatdate
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import pytest
from fault_server import (
    EVALUATOR,
    RECORD,
    Fault,
    FaultServer,
    download_in_child,
    recordings,
    zip_of,
)
from hypothesis import given, settings, strategies as st

from asdlib.data import fetch as fetch_module
from asdlib.data.download import LOCK_NAME, Plan, download, plan_download
from asdlib.errors import DownloadError

pytestmark = pytest.mark.timeout(600)

ZIP = f"/records/{RECORD}/files/dev_fan.zip"
WAVS = recordings()
SLIDER = recordings("slider", seed=1)
GOOD = zip_of(WAVS)
OTHER = zip_of(recordings(seed=9))
SIZE = len(GOOD)
ALWAYS = 50
NOT_UTF8 = zip_of({"fan/train/\u00e4.wav": b"x"}).replace("\u00e4".encode(), b"\xff\xfe")
PART = "archives/dev_fan.zip.part"
LISTED = b'{"files": [{"key": "x.zip", "size": 1, "checksum": "md5:%b"}]}' % (b"0" * 32)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"TRIES": 3, "FIRST_WAIT": 0.01, "LONGEST_WAIT": 0.02, "PATIENCE": 2}
    for name, value in limits.items():
        monkeypatch.setattr(fetch_module, name, value)


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        running.add_zenodo(RECORD, {"dev_fan.zip": GOOD, "dev_slider.zip": zip_of(SLIDER)})
        yield running


def plan(server: FaultServer, root: Path, *machines: str) -> Plan:
    return plan_download(
        "dcase2022", machines or ["fan"], ["development"], root, base_url=server.url
    )


def fetch(server: FaultServer, root: Path, **options: Any) -> list[str]:
    return download(plan(server, root), **options)


def in_place(root: Path, wavs: dict[str, bytes] = WAVS) -> bool:
    folder = root / "dcase2022/dev_data"
    found = {p.relative_to(folder).as_posix(): p for p in folder.rglob("*") if p.is_file()}
    return set(found) == set(wavs) and all(found[n].read_bytes() == wavs[n] for n in wavs)


def leftovers(root: Path) -> set[str]:
    """Files below the dataset that are not data in place."""
    base = root / "dcase2022"
    names = {p.relative_to(base).as_posix() for p in base.rglob("*") if p.is_file()}
    return {name for name in names if not name.startswith("dev_data/")}


def nothing_in_place(root: Path) -> bool:
    return not any((root / "dcase2022/dev_data").rglob("*"))


def error_of(server: FaultServer, root: Path, **options: Any) -> str:
    with pytest.raises(DownloadError) as caught:
        fetch(server, root, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_download_ends_in_the_official_layout(server: FaultServer, tmp_path: Path) -> None:
    made = plan(server, tmp_path)
    assert not any(tmp_path.iterdir())
    assert [(a.size, a.licence) for a in made.missing] == [(SIZE, "cc-by-4.0")]
    assert made.disk_needed() == int(SIZE * 1.4) + SIZE
    seen: list[tuple[str, int, int]] = []
    assert download(made, on_progress=lambda *step: seen.append(step)) == ["dev_fan.zip"]
    assert in_place(tmp_path)
    assert leftovers(tmp_path) == set()
    assert list(dict.fromkeys(what for what, _, _ in seen)) == [
        "dev_fan.zip fetch",
        "dev_fan.zip unpack",
    ]
    assert ("dev_fan.zip fetch", SIZE, SIZE) in seen


def test_a_second_call_needs_no_network_and_repairs_what_was_lost(
    server: FaultServer, tmp_path: Path
) -> None:
    fetch(server, tmp_path, keep=True)
    archive = tmp_path / "dcase2022/archives/dev_fan.zip"
    assert archive.read_bytes() == GOOD
    asked = len(server.log)
    assert fetch(server, tmp_path) == []
    assert plan(server, tmp_path).disk_needed() == 0
    (tmp_path / "dcase2022/dev_data/fan/attributes_00.csv").unlink()
    # An archive that is there, and right, is not fetched again.
    assert fetch(server, tmp_path) == ["dev_fan.zip"]
    assert in_place(tmp_path)
    assert leftovers(tmp_path) == set()
    assert len(server.log) == asked
    next((tmp_path / "dcase2022/dev_data/fan/test").iterdir()).unlink()
    assert fetch(server, tmp_path) == ["dev_fan.zip"]
    assert in_place(tmp_path)


Setup = Callable[[FaultServer], Any]
BROKEN = GOOD[: SIZE // 2] + bytes([GOOD[SIZE // 2] ^ 1]) + GOOD[SIZE // 2 + 1 :]


def faults(*queue: Fault, content: bytes = GOOD, ranges: bool = True) -> Setup:
    """Queue faults for the archive; it may be another one than the record says."""

    def setup(server: FaultServer) -> None:
        server.fail(ZIP, *queue)
        server.ranges = ranges
        server.add(ZIP, content)

    return setup


def busy(status: int, **headers: object) -> Setup:
    return faults(
        Fault(status, {key.replace("_", "-"): str(value) for key, value in headers.items()})
    )


# fault → (what the server does, bytes sent by each of its replies)
SURVIVED = {
    **{f"cut at {tenth}/10": (faults(Fault(cut=SIZE * tenth // 10)), None) for tenth in (0, 1, 9)},
    "cut ten times": (faults(*[Fault(cut=SIZE // 10)] * 10), None),
    "500, 502, cut, 500": (
        faults(Fault(500), Fault(502), Fault(cut=1000), Fault(500)), [0, 0, 1000, 0, SIZE - 1000]),
    "cut, no ranges": (faults(Fault(cut=SIZE // 2), ranges=False), [SIZE // 2, SIZE]),
    # Half of another file comes first: no byte of it may stay.
    "changed between tries": (
        faults(Fault(cut=SIZE // 2, then=GOOD), content=OTHER),
        [SIZE // 2, SIZE - SIZE // 2, SIZE]),
    "another part than asked for": (
        faults(Fault(cut=100), Fault(206, {"Content-Range": "bytes 7-9/99"})), [100, 0, SIZE]),
    "rate limit": (busy(429, Retry_After=1), [0, SIZE]),
}  # fmt: skip


@pytest.mark.parametrize("name", SURVIVED)
def test_survived(server: FaultServer, tmp_path: Path, name: str) -> None:
    setup, sent = SURVIVED[name]
    setup(server)
    server.fail(f"/api/records/{RECORD}", Fault(503))
    assert fetch(server, tmp_path) == ["dev_fan.zip"]
    assert in_place(tmp_path)
    assert leftovers(tmp_path) == set()
    requests = server.requests(ZIP)
    if sent is None:
        assert sum(request.sent for request in requests) == SIZE
    else:
        assert [request.sent for request in requests] == sent
    if name == "rate limit":
        assert requests[1].time - requests[0].time > 0.95


LATER = int(time.time()) + 100_000
WRONG_SIZE = f"has {{}} bytes, {SIZE} were expected"
# fault → (what the server does, error, whether a part stays)
REFUSED = {
    "wrong checksum": (
        faults(content=BROKEN), f"has MD5 {hashlib.md5(BROKEN).hexdigest()}, expected ", False),
    "changed to a wrong one": (faults(Fault(cut=SIZE // 2, then=OTHER)), "expected ", False),
    "cut on the server": (faults(content=GOOD[:-9]), WRONG_SIZE.format(SIZE - 9), False),
    "longer than published": (faults(content=GOOD + b"x"), WRONG_SIZE.format(SIZE + 1), False),
    "shorter than what was fetched": (
        faults(Fault(cut=SIZE // 2, then=GOOD[:100])), WRONG_SIZE.format(100), False),
    "cut when published": (
        lambda server: server.add_zenodo(RECORD, {"dev_fan.zip": GOOD[:-100]}),
        "dev_fan.zip is damaged or unsafe", False),
    "404": (lambda server: server.files.pop(ZIP), "404 Not Found", False),
    "500 for ever": (faults(*[Fault(500)] * ALWAYS), r"answers 500 \(3 tries\)", False),
    "long pause": (busy(429, Retry_After=3600), "429 and asks for a pause of 3600 s", False),
    "pause until a date": (
        busy(503, Retry_After=formatdate(LATER, usegmt=True)), "a pause of 9.... s", False),
    "rate limit until a time": (
        busy(429, X_RateLimit_Reset=LATER), "429 .* pause of 9.... s", False),
    "a pause that is no number": (
        faults(*[Fault(503, {"Retry-After": "\u00b2"})] * ALWAYS), r"503 \(3 tries\)", False),
    "sent to no web address": (
        busy(302, Location="data:text/plain,x"), "check the address", False),
    "sent to a file": (busy(302, Location="file:///etc/passwd"), "check the address", False),
    "slower than any line": (
        faults(*[Fault(drip=0.005)] * ALWAYS), "less than 1 kB a second", True),
    "a head that never ends": (
        faults(*[Fault(slow_head=0.05)] * ALWAYS), "does not begin within 2 s", False),
    "name that is not UTF-8": (
        lambda server: server.add_zenodo(RECORD, {"dev_fan.zip": NOT_UTF8}), "is damaged", False),
    "compressed": (busy(200, Content_Encoding="gzip"), "comes compressed", False),
    "always cut, no ranges": (
        faults(*[Fault(cut=size) for size in range(1000, 1000 + ALWAYS)], ranges=False),
        "call again", True),
    **{f"cut for good at {tenth}/10": (
        faults(Fault(cut=SIZE * tenth // 10), *[Fault(cut=0)] * ALWAYS), "again to go on", True)
       for tenth in (1, 9)},
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(server: FaultServer, tmp_path: Path, name: str) -> None:
    setup, message, kept = REFUSED[name]
    setup(server)
    assert re.search(message, error_of(server, tmp_path))
    assert nothing_in_place(tmp_path)
    assert leftovers(tmp_path) == ({PART} if kept else set())
    assert kept or not any(tmp_path.iterdir())
    assert len(server.requests(ZIP)) <= 4
    held = (tmp_path / "dcase2022" / PART).read_bytes() if kept else b""
    assert GOOD.startswith(held)
    # Once the server is well again, the same call goes on.
    server.faults.clear()
    (tmp_path / LOCK_NAME).unlink(missing_ok=True)
    server.add_zenodo(RECORD, {"dev_fan.zip": GOOD})
    assert plan(server, tmp_path).missing[0].fetched == len(held)
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    assert leftovers(tmp_path) == set()
    if server.ranges:
        assert server.requests(ZIP)[-1].sent == SIZE - len(held)


@settings(max_examples=8)
@given(cuts=st.lists(st.integers(0, SIZE), max_size=6), ranges=st.booleans())
def test_any_cuts_give_the_right_bytes(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    cuts: list[int],
    ranges: bool,
) -> None:
    monkeypatch.setattr(fetch_module, "TRIES", 10)
    root = tmp_path_factory.mktemp("root")
    with FaultServer() as server:
        server.add_zenodo(RECORD, {"dev_fan.zip": GOOD})
        server.ranges = ranges
        server.fail(ZIP, *[Fault(cut=cut) for cut in cuts])
        fetch(server, root)
    assert in_place(root)


def test_other_files_are_finished_when_one_is_missing(server: FaultServer, tmp_path: Path) -> None:
    del server.files[ZIP]
    both = plan(server, tmp_path, "fan", "slider")
    with pytest.raises(DownloadError, match="404"):
        download(both)
    assert in_place(tmp_path, SLIDER)


def test_files_are_fetched_side_by_side(server: FaultServer, tmp_path: Path) -> None:
    both_begin = threading.Barrier(2, timeout=60)
    begun: set[str] = set()

    def meet(what: str, done: int, total: int) -> None:
        if what not in begun and what.endswith("fetch"):
            begun.add(what)
            both_begin.wait()

    assert len(download(plan(server, tmp_path, "fan", "slider"), on_progress=meet)) == 2
    assert in_place(tmp_path, WAVS | SLIDER)
    assert plan(server, tmp_path, "fan", "slider").missing == ()


def test_no_server_at_all(tmp_path: Path) -> None:
    with FaultServer() as gone:
        gone.add_zenodo(RECORD, {"dev_fan.zip": GOOD})
        made = plan(gone, tmp_path)
    with pytest.raises(DownloadError, match=f"{gone.url}{ZIP}.*refused"):
        download(made)
    assert nothing_in_place(tmp_path)


def test_a_declared_checksum_is_enforced(server: FaultServer, tmp_path: Path) -> None:
    server.add_zenodo("3727685", {"eval_data_train_fan.zip": GOOD})
    declared = "declared is 567798854130c8019df8b664c095ed1e"
    with pytest.raises(DownloadError, match=declared):
        plan_download("dcase2020", ["fan"], ["additional"], tmp_path, base_url=server.url)


def test_pins_of_the_lock_file_are_enforced(server: FaultServer, tmp_path: Path) -> None:
    fetch(server, tmp_path)
    file = tmp_path / "dcase2022/dev_data/fan/attributes_00.csv"
    file.unlink()
    server.add_zenodo(RECORD, {"dev_fan.zip": OTHER})
    assert "expected" in error_of(server, tmp_path)
    assert not file.exists()
    (tmp_path / LOCK_NAME).write_text("{")
    with pytest.raises(DownloadError, match=r"asdlib-lock\.json' cannot be read .Invalid JSON"):
        plan(server, tmp_path)


def test_a_record_is_pinned_only_with_a_file_that_is_verified(
    server: FaultServer, tmp_path: Path
) -> None:
    server.add_zenodo(RECORD, {"dev_fan.zip": OTHER})
    server.add(ZIP, GOOD)
    error_of(server, tmp_path / "deep" / "root")
    assert not any(tmp_path.iterdir())
    server.add_zenodo(RECORD, {"dev_fan.zip": GOOD})
    assert fetch(server, tmp_path) == ["dev_fan.zip"]


PROXIES = [
    ("ALL_PROXY", "socks5://127.0.0.1:9"),
    ("ALL_PROXY", "gopher://x:1"),
    ("HTTP_PROXY", "http://x:port"),
    ("HTTPS_PROXY", "http://[::1"),
]


def test_proxies_that_cannot_be_used(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, value in PROXIES:
        monkeypatch.setenv(variable, value)
        with pytest.raises(DownloadError, match="the proxy of the environment cannot be used"):
            plan(server, tmp_path)


def test_base_urls_that_are_none(tmp_path: Path) -> None:
    for url in [
        "mirror",
        "",
        "http://",
        "http://x:port",
        "http://[::1",
        "file:///x",
        "http://x/?q",
    ]:
        with pytest.raises(DownloadError, match=r"base URL '.*' is not an http\(s\) address"):
            plan_download("dcase2022", ["fan"], ["development"], tmp_path, base_url=url)


def test_a_password_of_the_base_url_is_used_and_never_shown(
    server: FaultServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = server.url.replace("//", "//user:top%20secret@")
    server.fail(ZIP, Fault(404))
    made = plan_download("dcase2022", ["fan"], ["development"], tmp_path, base_url=url)
    with pytest.raises(DownloadError) as refused:
        download(made)
    shown = [repr(made), str(refused.value), *capfd.readouterr()]
    assert download(made) == ["dev_fan.zip"]
    assert server.logins == {"Basic " + b64encode(b"user:top secret").decode()}
    for bad in ("ftp://u:top%20secret@x", url + "?q", "u:top/secret@x", "https://u:to/secret@x"):
        with pytest.raises(DownloadError, match="is not an http") as refused:
            plan_download("dcase2022", ["fan"], ["development"], tmp_path, base_url=bad)
        shown.append(str(refused.value))
    shown += [path.read_text() for path in tmp_path.rglob("*.json")]
    assert [text for text in shown if "secret" in text] == []


def test_ctrl_c_does_not_wait_for_a_silent_server(server: FaultServer, tmp_path: Path) -> None:
    server.fail(ZIP, Fault(silent=3600))
    process, _ = start(server, tmp_path)
    while not (tmp_path / "dcase2022" / PART).exists():
        assert process.is_alive()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)
    process.join(300)  # 1 s where the machine is quiet
    assert process.exitcode == 1


def test_the_lock_file_of_earlier_versions_is_read(server: FaultServer, tmp_path: Path) -> None:
    folder = tmp_path / "dcase2022/dev_data/fan"
    folder.mkdir(parents=True)
    (folder / "a.wav").touch()
    md5 = hashlib.md5(GOOD).hexdigest()
    lock = {
        "version": 1,
        "records": {RECORD: {"licence": "x", "files": {"dev_fan.zip": {"md5": md5, "size": SIZE}}}},
        "files": {},
        "unpacked": {
            "dcase2022/development/dev_fan.zip": {"checksum": f"md5:{md5}", "placed": {"fan": 1}}
        },
    }
    (tmp_path / LOCK_NAME).write_text(json.dumps(lock))
    assert plan(server, tmp_path).missing == ()
    assert server.log == []


def test_ground_truth_is_pinned_on_first_use(server: FaultServer, tmp_path: Path) -> None:
    paths = [
        f"ground_truth_{kind}/ground_truth_fan_section_{section}_test.csv"
        for kind in ("data", "domain")
        for section in ("03", "04", "05")
    ]
    for path in paths:
        server.add(EVALUATOR + path, f"{path}\nsection_03_0000.wav,1\n".encode())
    content = server.files[EVALUATOR + paths[0]]
    # No checksum could catch a mixture of two versions: a cut transfer begins anew.
    server.add(EVALUATOR + paths[0], content[::-1])
    server.fail(EVALUATOR + paths[0], Fault(cut=20, then=content))

    def again() -> list[str]:
        made = plan_download("dcase2022", ["fan"], ["ground_truth"], tmp_path, base_url=server.url)
        return download(made)

    assert len(again()) == 6
    assert {request.range for request in server.log} == {None}
    file = tmp_path / "dcase2022/ground_truth" / paths[0]
    assert file.read_bytes() == content
    pins = json.loads((tmp_path / LOCK_NAME).read_text())["files"]
    assert pins[f"dcase2022/ground_truth/{paths[0]}"] == {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    assert again() == []
    # A part of unknown size that is whole already.
    file.rename(f"{file}.part")
    assert again() == [paths[0]]
    assert server.log[-1].status == 416
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
    assert [archive.machine for archive in made.archives] == ["bandsaw"]
    with pytest.raises(DownloadError, match=r"machine 'fan' is not .* \(known: bandsaw\)"):
        plan_download("dcase2023", ["fan"], ["additional"], tmp_path, base_url=server.url)
    download(made)
    assert len(list((tmp_path / "dcase2023/eval_data/bandsaw/train").iterdir())) == 2
    server.files.clear()
    again = plan_download("dcase2023", None, ["additional"], tmp_path, base_url=server.url)
    assert again.missing == ()


BAD_RECORDS = [
    b"<html>",
    b"{}",
    b"[]",
    b"[" * 100_000,
    LISTED.replace(b"x.zip", b"../../x.zip"),
    LISTED.replace(b"1,", b"1" * 5000 + b","),
    LISTED.replace(b"1,", b"-1,"),
    LISTED.replace(b"md5:", b"sha:"),
]


def test_bad_record(server: FaultServer, tmp_path: Path) -> None:
    for said in BAD_RECORDS:
        server.add(f"/api/records/{RECORD}", said)
        with pytest.raises(DownloadError, match="is not the JSON of a record .* base URL"):
            plan(server, tmp_path)
    server.add(f"/api/records/{RECORD}", b'{"files": []}')
    with pytest.raises(DownloadError, match=r"has no dev_fan.zip \(it lists: no files\)"):
        plan(server, tmp_path)


def test_disk_full_during_the_transfer(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(reply: httpx.Response) -> Iterator[bytes]:
        yield GOOD[: SIZE // 2]
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        made = plan(server, tmp_path)
        patch.setattr(httpx.Response, "iter_raw", full)
        with pytest.raises(DownloadError, match=r"the disk of '.*dev_fan.zip.part' is full"):
            download(made)
    assert nothing_in_place(tmp_path)
    assert leftovers(tmp_path) == {PART}
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    assert server.requests(ZIP)[-1].range == f"bytes={SIZE // 2}-"


@pytest.mark.parametrize("stage", ["fetch", "unpack"])
def test_interrupt_leaves_nothing_half(server: FaultServer, tmp_path: Path, stage: str) -> None:
    def interrupt(what: str, done: int, total: int) -> None:
        if what.endswith(stage) and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(server, tmp_path, on_progress=interrupt)
    assert nothing_in_place(tmp_path)
    assert leftovers(tmp_path) == {PART if stage == "fetch" else PART.removesuffix(".part")}
    fetch(server, tmp_path)
    assert in_place(tmp_path)


def test_disk_too_small_is_seen_before_the_transfer(
    server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    assert re.search(
        r"GB are needed in .* choose another root or fewer", error_of(server, tmp_path)
    )
    assert server.requests(ZIP) == []


def start(server: FaultServer, root: Path, where: str = "") -> tuple[Any, Connection]:
    # A fork server imports once; its children are processes like any other.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["asdlib.data.download"])
    mine, theirs = context.Pipe()
    process = context.Process(target=download_in_child, args=(theirs, where, server.url, root))
    process.start()
    return process, mine


def test_two_processes_at_once(server: FaultServer, tmp_path: Path) -> None:
    server.delay = 0.3
    both = [start(server, tmp_path) for _ in range(2)]
    fetched = []
    for process, pipe in both:
        assert pipe.poll(300)
        fetched.append(pipe.recv())
        process.join(300)
        assert process.exitcode == 0
    assert sorted(fetched) == [[], ["dev_fan.zip"]]
    assert in_place(tmp_path)
    assert leftovers(tmp_path) == set()
    assert len(server.requests(ZIP)) == 1


@pytest.mark.parametrize("where", ["copyfileobj:7", "replace:1", "replace:9"])
def test_kill_9_while_unpacking_is_repaired(
    server: FaultServer, tmp_path: Path, where: str
) -> None:
    """Killed between two recordings, before the first rename, between two renames."""
    (tmp_path / "dcase2022/dev_data/fan/train").mkdir(parents=True)
    process, pipe = start(server, tmp_path, where)
    assert pipe.poll(300)
    assert pipe.recv() == "there"
    process.kill()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL
    folder = tmp_path / "dcase2022/dev_data"
    for path in (p for p in folder.rglob("*") if p.is_file()):
        assert path.read_bytes() == WAVS[path.relative_to(folder).as_posix()]
    assert any(name.startswith(".unpack/") for name in leftovers(tmp_path))
    assert fetch(server, tmp_path) == ["dev_fan.zip"]
    assert in_place(tmp_path)
    assert leftovers(tmp_path) == set()
    assert len(server.requests(ZIP)) == 1


def test_kill_9_during_the_transfer_is_resumed(server: FaultServer, tmp_path: Path) -> None:
    part = tmp_path / "dcase2022" / PART
    part.parent.mkdir(parents=True)
    part.write_bytes(GOOD[:5000])
    fetch(server, tmp_path)
    assert in_place(tmp_path)
    assert server.requests(ZIP)[-1].range == "bytes=5000-"
