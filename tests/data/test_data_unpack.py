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
from hypothesis import given, settings, strategies as st

from asdlib.data import download as unpack_module
from asdlib.data.download import unpack
from asdlib.errors import DownloadError

Entries = dict[str, bytes] | Iterable[tuple[zipfile.ZipInfo | str, bytes]]
WAVS = recordings()
RAW = zip_of(WAVS)
A = ("fan/train/a.wav", b"good")


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def run(tmp_path: Path, entries: Entries | bytes) -> dict[str, int]:
    archive, out = tmp_path / "dev_fan.zip", tmp_path / "out"
    archive.write_bytes(entries if isinstance(entries, bytes) else zip_of(entries))
    return unpack(archive, out / "dev_data", "fan", out / ".unpack")


def error_of(tmp_path: Path, entries: Entries | bytes) -> DownloadError:
    """The error of an archive of which nothing was put in place."""
    with pytest.raises(DownloadError) as caught:
        run(tmp_path, entries)
    assert "\n" not in str(caught.value)
    refused = "is damaged or unsafe" in str(caught.value)
    assert set(tree(tmp_path)) == (set() if refused else {"dev_fan.zip"})
    return caught.value


def test_official_layout_and_counts(tmp_path: Path) -> None:
    assert run(tmp_path, WAVS) == {"fan/train": 10, "fan/test": 10, "fan": 1}
    assert tree(tmp_path / "out") == {f"dev_data/{name}": data for name, data in WAVS.items()}


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


def test_other_wrappings_come_to_the_official_layout(tmp_path: Path) -> None:
    for number, name in enumerate(["dev_data/fan/train/a.wav", "train/a.wav"]):
        folder = tmp_path / str(number)
        folder.mkdir()
        run(folder, {name: b"1", "__MACOSX/fan/train/._a.wav": b"litter"})
        assert tree(folder / "out") == {"dev_data/fan/train/a.wav": b"1"}


def link(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


def damaged(*places: int) -> bytes:
    raw = bytearray(RAW)
    for place in places:
        raw[place] ^= 0xFF
    return bytes(raw)


def encrypted() -> bytes:
    raw = bytearray(zip_of([A]))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        raw[raw.index(signature) + offset] |= 1
    return bytes(raw)


UNSAFE = [
    ([A, ("../evil.wav", b"x")], "points outside"),
    ([A, ("fan/../../evil.wav", b"x")], "points outside"),
    ([A, ("/tmp/evil.wav", b"x")], "points outside"),
    ([A, ("//tmp/evil.wav", b"x")], "points outside"),
    ([A, ("//.", b"x")], "points outside"),
    ([A, ("C:/evil.wav", b"x")], "points outside"),
    ([A, ("fan\\..\\..\\evil.wav", b"x")], "points outside"),
    ([A, ("fan/train/a\n.wav", b"x")], "no valid name"),
    ([A, (link("fan/train/link.wav", stat.S_IFLNK), b"/etc/passwd")], "link or a device"),
    ([A, (link("fan/train", stat.S_IFLNK), b"/tmp")], "link or a device"),
    ([A, (link("fan/train/null.wav", stat.S_IFCHR), b"")], "link or a device"),
    ([A, (link("fan/train/pipe.wav", stat.S_IFIFO), b"")], "link or a device"),
    ([A, ("pump/train/a.wav", b"x")], "is not below 'fan/'"),
    ([A, ("train/a.wav", b"x")], "two entries are called 'fan/train/a.wav'"),
    ([A, ("train", b"x")], "'fan/train' is a file and a folder"),
    ([], "holds no files"),
    ({"fan/train/zeros.wav": bytes(32 << 20)}, "it unpacks to 33554432 bytes"),
    (encrypted(), "is encrypted"),
    (damaged(len(RAW) // 2), "damaged"),
    *((RAW[: len(RAW) * tenth // 10], "damaged") for tenth in (0, 1, 5, 9)),
]


def test_unsafe_and_broken_archives_are_refused_whole(tmp_path: Path) -> None:
    for number, (entries, reason) in enumerate(UNSAFE):
        folder = tmp_path / str(number)
        folder.mkdir()
        error = error_of(folder, entries)
        assert "is damaged or unsafe" in str(error)
        assert reason in str(error)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"MAX_ENTRIES": 20}, "21 entries, at most 20"),
        ({"MAX_RATIO": 0.5, "SLACK": 0}, "it unpacks to"),
    ],
)
def test_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, float], reason: str
) -> None:
    for name, value in limits.items():
        monkeypatch.setattr(unpack_module, name, value)
    assert reason in str(error_of(tmp_path, WAVS))


def test_a_full_disk_is_seen_while_unpacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: IO[bytes], sink: IO[bytes], length: int) -> None:
        sink.write(source.read(500))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", full)
    assert "dev_data' is full" in str(error_of(tmp_path, WAVS))
    monkeypatch.undo()
    run(tmp_path, WAVS)
    assert len(tree(tmp_path / "out")) == 21


def test_a_file_in_the_way_of_a_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "out/dev_data/fan").mkdir(parents=True)
    (tmp_path / "out/dev_data/fan/train").write_text("in the way")
    with pytest.raises(DownloadError, match="dev_data' cannot be written"):
        run(tmp_path, WAVS)
    assert (tmp_path / "dev_fan.zip").exists()


PIECES = st.sampled_from(["fan", "train", "..", ".", "", "a.wav", "/", "C:", "\\", "pump"])


@pytest.mark.filterwarnings("ignore:Duplicate name")
@settings(max_examples=40)
@given(st.lists(st.lists(PIECES, min_size=1, max_size=5).map("/".join), max_size=4, unique=True))
def test_no_name_ever_leaves_the_destination(
    tmp_path_factory: pytest.TempPathFactory, names: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("unpack")
    try:
        run(folder, [A, *((name, b"x") for name in names if name)])
    except DownloadError:
        assert tree(folder) == {}
    else:
        assert all(
            name.startswith("out/dev_data/fan/") for name in set(tree(folder)) - {"dev_fan.zip"}
        )
