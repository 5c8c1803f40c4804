"""Unpacking: the official layout, or nothing."""

from __future__ import annotations

import errno
import shutil
import stat
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO

import pytest
from fault_server import recordings, zip_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asdlib.data import unpack as unpack_module
from asdlib.data.unpack import RefusedError, unpack
from asdlib.errors import DownloadError
from asdlib.files import is_disk_full


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


Entries = dict[str, bytes] | Iterable[tuple[zipfile.ZipInfo | str, bytes]]


def run(tmp_path: Path, entries: Entries | bytes, *, machine: str = "fan") -> dict[str, int]:
    archive, out = tmp_path / "dev_fan.zip", tmp_path / "out"
    archive.write_bytes(entries if isinstance(entries, bytes) else zip_of(entries))
    return unpack(archive, out / "dev_data", machine, out / ".unpack")


def test_official_layout_and_counts(tmp_path: Path) -> None:
    entries = recordings()
    placed = run(tmp_path, entries)
    assert tree(tmp_path / "out") == {f"dev_data/{name}": data for name, data in entries.items()}
    assert placed == {"fan/train": 10, "fan/test": 10, "fan": 1}


def test_two_archives_share_a_machine_folder(tmp_path: Path) -> None:
    run(tmp_path, {"fan/train/a.wav": b"1", "fan/attributes_03.csv": b"x"})
    run(tmp_path, {"fan/test/b.wav": b"2"})
    run(tmp_path, {"fan/train/c.wav": b"3", "fan/train/a.wav": b"4"})
    assert tree(tmp_path / "out/dev_data") == {
        "fan/attributes_03.csv": b"x",
        "fan/test/b.wav": b"2",
        "fan/train/a.wav": b"4",
        "fan/train/c.wav": b"3",
    }


@pytest.mark.parametrize("name", ["fan/train/a.wav", "dev_data/fan/train/a.wav", "train/a.wav"])
def test_other_wrappings_come_to_the_official_layout(tmp_path: Path, name: str) -> None:
    run(tmp_path, {name: b"1", "__MACOSX/fan/train/._a.wav": b"litter"})
    assert tree(tmp_path / "out") == {"dev_data/fan/train/a.wav": b"1"}


def link(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


GOOD = ("fan/train/a.wav", b"good")


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([GOOD, ("../evil.wav", b"x")], "points outside"),
        ([GOOD, ("fan/../../evil.wav", b"x")], "points outside"),
        ([GOOD, ("/tmp/evil.wav", b"x")], "points outside"),
        ([GOOD, ("C:/evil.wav", b"x")], "points outside"),
        ([GOOD, ("fan\\..\\..\\evil.wav", b"x")], "points outside"),
        ([GOOD, ("fan/train/a\n.wav", b"x")], "no valid name"),
        ([GOOD, (link("fan/train/link.wav", stat.S_IFLNK), b"/etc/passwd")], "link or a device"),
        ([GOOD, (link("fan/train", stat.S_IFLNK), b"/tmp")], "link or a device"),
        ([GOOD, (link("fan/train/null.wav", stat.S_IFCHR), b"")], "link or a device"),
        ([GOOD, (link("fan/train/pipe.wav", stat.S_IFIFO), b"")], "link or a device"),
        ([GOOD, ("pump/train/a.wav", b"x")], "is not below 'fan/'"),
        ([GOOD, ("train/a.wav", b"x")], "two entries are called 'fan/train/a.wav'"),
        ([GOOD, ("train", b"x")], "'fan/train' is a file and a folder"),
        ([], "holds no files"),
    ],
)
def test_unsafe_archives_are_refused_whole(
    tmp_path: Path, entries: list[tuple[zipfile.ZipInfo | str, bytes]], reason: str
) -> None:
    with pytest.raises(RefusedError, match=reason) as caught:
        run(tmp_path, entries)
    assert "\n" not in str(caught.value)
    assert set(tree(tmp_path)) == {"dev_fan.zip"}


def test_encrypted_entry_is_refused(tmp_path: Path) -> None:
    raw = bytearray(zip_of([GOOD]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    with pytest.raises(RefusedError, match="is encrypted"):
        run(tmp_path, bytes(raw))


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"MAX_ENTRIES": 20}, "21 entries, at most 20"),
        ({"MAX_TOTAL": 10_000}, "at most 10000 are allowed"),
        ({"MAX_RATIO": 0.5, "SLACK": 0}, "it unpacks to"),
    ],
)
def test_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], reason: str
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(unpack_module, name, value)
    with pytest.raises(RefusedError, match=reason):
        run(tmp_path, recordings())
    assert set(tree(tmp_path)) == {"dev_fan.zip"}


def test_a_bomb_is_refused_with_the_usual_limits(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="it unpacks to 33554432 bytes"):
        run(tmp_path, {"fan/train/zeros.wav": bytes(32 << 20)})
    assert set(tree(tmp_path)) == {"dev_fan.zip"}


def test_damage_inside_an_entry_leaves_nothing(tmp_path: Path) -> None:
    raw = bytearray(zip_of(recordings()))
    raw[len(raw) // 2] ^= 0xFF
    with pytest.raises(RefusedError, match="damaged"):
        run(tmp_path, bytes(raw))
    assert set(tree(tmp_path)) == {"dev_fan.zip"}


@pytest.mark.parametrize("tenth", range(10))
def test_truncated_archive_leaves_nothing(tmp_path: Path, tenth: int) -> None:
    raw = zip_of(recordings())
    with pytest.raises(RefusedError, match="damaged"):
        run(tmp_path, raw[: len(raw) * tenth // 10])
    assert set(tree(tmp_path)) == {"dev_fan.zip"}


def test_disk_full_while_unpacking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(source: IO[bytes], sink: IO[bytes], length: int) -> None:
        if sink.name.endswith("0004_m-n_W.wav"):
            sink.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, sink, length)

    copy = shutil.copyfileobj
    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(DownloadError, match="the disk of '.*dev_data' is full") as caught:
        run(tmp_path, recordings())
    assert is_disk_full(caught.value.__cause__)
    assert set(tree(tmp_path)) == {"dev_fan.zip"}
    monkeypatch.undo()
    run(tmp_path, recordings())
    assert len(tree(tmp_path / "out")) == 21


def test_disk_too_small_is_seen_before_the_first_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 1000})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match="1000 are free") as caught:
        run(tmp_path, recordings())
    assert is_disk_full(caught.value.__cause__)
    assert set(tree(tmp_path)) == {"dev_fan.zip"}


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out/dev_data/fan").mkdir(parents=True)
    (tmp_path / "out/dev_data/fan/train").write_text("in the way")
    with pytest.raises(Exception, match="dev_data") as caught:
        run(tmp_path, recordings())
    assert "\n" not in str(caught.value)
    assert not isinstance(caught.value, RefusedError)


PIECES = st.sampled_from(["fan", "train", "..", ".", "", "a.wav", "/", "C:", "\\", "pump"])


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.lists(PIECES, min_size=1, max_size=5).map("/".join), max_size=4, unique=True))
def test_no_name_ever_leaves_the_destination(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("unpack")
    try:
        run(folder, [GOOD, *((name, b"x") for name in names if name)])
    except RefusedError:
        assert set(tree(folder)) == {"dev_fan.zip"}
    else:
        assert all(
            name == "dev_fan.zip" or name.startswith("out/dev_data/fan/") for name in tree(folder)
        )
