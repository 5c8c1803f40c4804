"""Headers that are read by hand say the same as libsndfile does."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdlib.data.headers import BadFile, Header, read_header
from asdlib.errors import DataError
from asdlib.features.sources import decode

SAMPLES = np.random.default_rng(0).integers(-3000, 3000, size=(700, 2), dtype=np.int16)


def insert_chunk(file: Path, before: bytes, name: bytes, content: bytes) -> None:
    data = file.read_bytes()
    at = data.index(before)
    chunk = name + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)
    file.write_bytes(data[:at] + chunk + data[at:])


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT", "WAVEX"])
def test_headers_and_samples_equal_libsndfile(
    tmp_path: Path, channels: int, suffix: str, subtype: str
) -> None:
    if suffix == "flac" and subtype in ("FLOAT", "WAVEX"):
        subtype = "PCM_16"
    kind = "WAVEX" if subtype == "WAVEX" else suffix.upper()
    subtype = "PCM_16" if subtype == "WAVEX" else subtype
    file = tmp_path / f"clip.{suffix}"
    soundfile.write(file, SAMPLES[:, :channels], 8000, subtype=subtype, format=kind)
    header = read_header(str(file))
    assert isinstance(header, Header)
    assert (header.rate, header.channels, header.frames) == (8000, channels, 700)
    assert (header.size, header.mtime_ns) == (file.stat().st_size, file.stat().st_mtime_ns)
    assert (header.pcm16_at is not None) == (kind == "WAV" and subtype == "PCM_16")
    whole, _ = soundfile.read(file, dtype="int16" if subtype == "PCM_16" else "float32")
    for channel in range(channels):
        expected = whole[:, channel] if channels > 1 else whole
        np.testing.assert_array_equal(decode(str(file), header, channel), expected)


@pytest.mark.parametrize("length", [1, 26, 300])
@pytest.mark.parametrize("before", [b"fmt ", b"data"])
def test_other_chunks_are_passed_over(tmp_path: Path, before: bytes, length: int) -> None:
    file = tmp_path / "clip.wav"
    soundfile.write(file, SAMPLES[:, 0], 16000, subtype="PCM_16")
    insert_chunk(file, before, b"LIST", b"x" * length)
    with file.open("ab") as stream:
        stream.write(b"tail" + (4).to_bytes(4, "little") + b"more")
    header = read_header(str(file))
    assert isinstance(header, Header)
    assert header.pcm16_at is not None
    assert header.frames == soundfile.info(str(file)).frames == 700
    np.testing.assert_array_equal(decode(str(file), header, None), SAMPLES[:, 0])


def test_a_header_that_cannot_be_is_left_to_libsndfile(tmp_path: Path) -> None:
    file = tmp_path / "clip.wav"
    soundfile.write(file, SAMPLES[:, 0], 16000, subtype="PCM_16")
    data = bytearray(file.read_bytes())
    data[32:34] = (3).to_bytes(2, "little")
    file.write_bytes(data)
    header = read_header(str(file))
    assert isinstance(header, BadFile) or header.pcm16_at is None


def test_a_file_that_shrank_after_the_look_is_named(tmp_path: Path) -> None:
    file = tmp_path / "clip.wav"
    soundfile.write(file, SAMPLES[:, 0], 16000, subtype="PCM_16")
    header = read_header(str(file))
    assert isinstance(header, Header)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"clip\.wav' ends after 650 of 700 samples"):
        decode(str(file), header, None)
    file.unlink()
    with pytest.raises(DataError, match=r"clip\.wav' cannot be read \(No such file"):
        decode(str(file), header, None)
