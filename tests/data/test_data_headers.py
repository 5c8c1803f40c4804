"""Headers say the same as libsndfile does, and name what is wrong with a file."""

import os
import struct
from pathlib import Path

import numpy as np
import soundfile
from hypothesis import given, settings, strategies as st

from asdlib.data.check import BadFile, Header, read_header

SAMPLES = np.random.default_rng(0).integers(-3000, 3000, size=(700, 2), dtype=np.int16)


FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("WAVEX", "PCM_16"),
    ("FLAC", "PCM_16"),
    ("FLAC", "PCM_24"),
]


def test_headers_equal_libsndfile(tmp_path: Path) -> None:
    for channels in (1, 2):
        for kind, subtype in FORMATS:
            file = tmp_path / "clip"
            soundfile.write(file, SAMPLES[:, :channels], 8000, subtype=subtype, format=kind)
            header = read_header(str(file))
            assert isinstance(header, Header)
            assert (header.rate, header.channels, header.frames) == (8000, channels, 700)
            assert (header.size, header.mtime_ns) == (file.stat().st_size, file.stat().st_mtime_ns)


ABSURD = [
    (24, "<I", 0, "unreadable"),
    (24, "<I", 1, "rate"),
    (24, "<I", 2**32 - 1, "unreadable"),
    (22, "<H", 0, "unreadable"),
    (22, "<H", 65_535, "unreadable"),
    (22, "<H", 200, "channels"),
    (34, "<H", 0, "unreadable"),
    (40, "<I", 0, "empty"),
    (40, "<I", 4, "empty"),
    (40, "<I", 2**32 - 1, "truncated"),
]


def test_absurd_headers_are_refused(tmp_path: Path) -> None:
    for at, code, value, kind in ABSURD:
        file = tmp_path / "clip.wav"
        soundfile.write(file, np.zeros((70_000, 1), np.int16), 16000, subtype="PCM_16")
        data = bytearray(file.read_bytes())
        struct.pack_into(code, data, at, value)
        file.write_bytes(data)
        bad = read_header(str(file))
        assert isinstance(bad, BadFile)
        assert bad.kind == kind


def test_what_is_no_ordinary_file_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "folder.wav").mkdir()
    for name in ("pipe.wav", "folder.wav"):
        bad = read_header(str(tmp_path / name))
        assert isinstance(bad, BadFile)
        assert "not an ordinary file" in bad.what


@settings(max_examples=150)
@given(st.integers(0, 3), st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4),
       st.integers(0, 3000))  # fmt: skip
def test_any_bytes_are_a_header_or_a_fault(
    tmp_path: Path, kind: int, changes: list[tuple[int, int]], cut: int
) -> None:
    file = tmp_path / "clip.wav"
    forms = (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_16"), ("WAVEX", "PCM_24"))
    soundfile.write(file, SAMPLES, 8000, format=forms[kind][0], subtype=forms[kind][1])
    data = bytearray(file.read_bytes()[:cut])
    for at, value in changes:
        data[at : at + 1] = bytes([value])
    file.write_bytes(data)
    header = read_header(str(file))
    if isinstance(header, BadFile):
        assert header.what.isprintable()
    else:
        assert header.frames * header.channels <= 16 * len(data)


def test_every_wav_that_was_cut_is_found(tmp_path: Path) -> None:
    for subtype in ["PCM_16", "PCM_24", "FLOAT", "ULAW"]:
        file = tmp_path / "clip.wav"
        soundfile.write(file, SAMPLES, 16000, subtype=subtype)
        for at in (0, 20, 44, 100, len(whole := file.read_bytes()) // 2, len(whole) - 4):
            file.write_bytes(whole[:at])
            assert isinstance(read_header(str(file)), BadFile), at
            file.write_bytes(whole)
