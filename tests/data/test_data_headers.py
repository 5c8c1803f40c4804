"""Headers say the same as libsndfile does, and name what is wrong with a file."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdlib.data.headers import BadFile, Header, read_header

SAMPLES = np.random.default_rng(0).integers(-3000, 3000, size=(700, 2), dtype=np.int16)


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("WAV", "PCM_24"),
        ("WAV", "FLOAT"),
        ("WAVEX", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("FLAC", "PCM_24"),
    ],
)
def test_headers_equal_libsndfile(tmp_path: Path, channels: int, kind: str, subtype: str) -> None:
    file = tmp_path / "clip"
    soundfile.write(file, SAMPLES[:, :channels], 8000, subtype=subtype, format=kind)
    header = read_header(str(file))
    assert isinstance(header, Header)
    assert (header.rate, header.channels, header.frames) == (8000, channels, 700)
    assert (header.size, header.mtime_ns) == (file.stat().st_size, file.stat().st_mtime_ns)
    assert (header.pcm16_at is not None) == (kind == "WAV" and subtype == "PCM_16")


@pytest.mark.parametrize("length", [1, 26, 300])
@pytest.mark.parametrize("before", [b"fmt ", b"data"])
def test_other_chunks_are_passed_over(tmp_path: Path, before: bytes, length: int) -> None:
    file = tmp_path / "clip.wav"
    soundfile.write(file, SAMPLES[:, 0], 16000, subtype="PCM_16")
    data = file.read_bytes()
    at = data.index(before)
    chunk = b"LIST" + length.to_bytes(4, "little") + b"x" * (length + length % 2)
    file.write_bytes(data[:at] + chunk + data[at:] + b"tail" + (4).to_bytes(4, "little") + b"more")
    header = read_header(str(file))
    assert isinstance(header, Header)
    assert header.frames == soundfile.info(str(file)).frames == 700
    samples = np.frombuffer(file.read_bytes(), "<i2", 700, header.pcm16_at)
    np.testing.assert_array_equal(samples, SAMPLES[:, 0])


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "ULAW"])
def test_every_wav_that_was_cut_is_found(tmp_path: Path, subtype: str) -> None:
    file = tmp_path / "clip.wav"
    soundfile.write(file, SAMPLES, 16000, subtype=subtype)
    for at in (0, 20, 44, 100, len(whole := file.read_bytes()) // 2, len(whole) - 4):
        file.write_bytes(whole[:at])
        assert isinstance(read_header(str(file)), BadFile), at
        file.write_bytes(whole)
