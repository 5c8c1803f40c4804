"""One channel of a file, at full scale 1.0, and files that do not hold it."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asdlib.data.check import Header, read_header
from asdlib.errors import DataError
from asdlib.features.build import decode

SAMPLES = np.random.default_rng(0).integers(-3000, 3000, size=(700, 2), dtype=np.int16)


FORMATS = [
    ("WAV", "PCM_16"),
    ("WAV", "PCM_24"),
    ("WAV", "FLOAT"),
    ("FLAC", "PCM_16"),
]


def test_samples_equal_libsndfile(tmp_path: Path) -> None:
    for channels in (1, 2):
        for kind, subtype in FORMATS:
            file = str(tmp_path / "clip")
            soundfile.write(file, SAMPLES[:, :channels], 8000, subtype=subtype, format=kind)
            header = read_header(file)
            assert isinstance(header, Header)
            whole, _ = soundfile.read(file, dtype="float32", always_2d=True)
            for channel in range(channels):
                np.testing.assert_array_equal(decode(file, header, channel), whole[:, channel])


def test_a_file_that_shrank_after_the_look_is_named(tmp_path: Path) -> None:
    file = tmp_path / "clip.wav"
    soundfile.write(file, SAMPLES[:, 0], 16000, subtype="PCM_16")
    header = read_header(str(file))
    assert isinstance(header, Header)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"clip\.wav' ends after 650 of 700 samples"):
        decode(str(file), header, None)
    # In the middle of a sample, too.
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"clip\.wav' ends after 649 of 700 samples"):
        decode(str(file), header, None)
    file.unlink()
    with pytest.raises(DataError, match=r"clip\.wav' cannot be decoded \(Error opening"):
        decode(str(file), header, None)
