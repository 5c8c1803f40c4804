"""Building a store: what comes out, what is refused, and what a broken-off build leaves behind."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from filelock import FileLock
from small_recordings import write_clip, write_tree

from asdlib.data.clips import COLUMNS, index_folder
from asdlib.errors import DataError, StoreError
from asdlib.features import (
    FeatureStore,
    FrontEnd,
    LogMel,
    build as build_module,
    build_store,
)

SMALL = FrontEnd(n_fft=512, hop_length=256, n_mels=16)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "wav"
    write_tree(folder)
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "stores" / "new"


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_module, "_BATCH", 2)


def left_behind(out: Path) -> list[str]:
    return sorted(path.name for path in out.parent.iterdir()) if out.parent.exists() else []


def assert_store_equals_recordings(store: FeatureStore, root: Path, front_end: FrontEnd) -> None:
    transform = LogMel(front_end)
    for row, (path, frames) in enumerate(
        zip(store.manifest["path"], store.manifest["frames"], strict=True)
    ):
        samples, _ = soundfile.read(root / path, dtype="float32", always_2d=True)
        expected = transform(torch.from_numpy(samples[:, 0].copy())[None])[0].half().numpy()
        assert expected.shape[1] == frames
        np.testing.assert_allclose(store.features[row, :, :frames], expected, rtol=2e-3)
        assert not store.features[row, :, frames:].any()


def test_store_holds_what_the_recordings_hold(root: Path, out: Path) -> None:
    told: list[tuple[int, int]] = []
    store = build_store(root, out, preset=SMALL, on_progress=lambda *at: told.append(at))
    assert_store_equals_recordings(store, root, SMALL)
    table = index_folder(root)
    assert list(store.manifest) == [*COLUMNS, "frames"]
    assert store.manifest["clip"].tolist() == table["clip"].tolist()
    assert store.manifest["frames"].tolist().count(18) == 3
    assert store.parameters == SMALL
    assert told[0] == (0, 15)
    assert told[-1] == (15, 15)
    assert left_behind(out) == ["new"]
    assert sorted(p.name for p in out.iterdir()) == [
        "SHA256SUMS",
        "feature.json",
        "logmel.npy",
        "manifest.csv",
        "source.json",
    ]


def test_processes_and_batches_change_nothing(
    root: Path, out: Path, tmp_path: Path, small_batches: None
) -> None:
    one = build_store(root, out, preset=SMALL, jobs=1)
    two = build_store(root, tmp_path / "two", preset=SMALL, jobs=10**30)  # as many as clips
    assert one.fingerprint == two.fingerprint


def test_flac_gives_the_same_features(root: Path, out: Path, tmp_path: Path) -> None:
    write_tree(tmp_path / "flac", suffix="flac")
    a = build_store(root, out, preset=SMALL)
    b = build_store(tmp_path / "flac", tmp_path / "b", preset=SMALL)
    np.testing.assert_array_equal(a.features, b.features)


def test_other_sample_formats(out: Path, tmp_path: Path) -> None:
    for subtype in ("PCM_24", "FLOAT"):
        wav = tmp_path / subtype
        write_clip(wav / "fan/train/normal_id_00_00000000.wav", 0, subtype=subtype)
        store = build_store(wav, out.with_name(subtype), preset=SMALL)
        assert_store_equals_recordings(store, wav, SMALL)


def test_same_request_gives_the_finished_store_at_once(
    root: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build_store(root, out, preset=SMALL)
    monkeypatch.setattr(build_module, "_fill", None)
    assert build_store(root, out, preset=SMALL).fingerprint == first.fingerprint
    for file in root.rglob("*.wav"):
        os.utime(file)
    assert build_store(root, out, preset=SMALL).fingerprint == first.fingerprint


def test_other_requests_under_the_same_name_are_refused(root: Path, out: Path) -> None:
    before = build_store(root, out, preset=SMALL).fingerprint
    other = SMALL.model_copy(update={"n_mels": 20, "pad_mode": "constant"})
    with pytest.raises(
        StoreError, match="n_mels 16 and 20; pad_mode 'reflect' and 'constant'; delete it or"
    ):
        build_store(root, out, preset=other)
    with pytest.raises(StoreError, match="built otherwise, .*: channel None and 0"):
        build_store(root, out, preset=SMALL, channel=0)
    write_clip(root / "fan/train/normal_id_00_00000002.wav", 77)
    with pytest.raises(
        StoreError, match="another recording of the name 'fan/train/normal_id_00_00000002.wav'"
    ):
        build_store(root, out, preset=SMALL)
    write_clip(root / "fan/train/normal_id_00_00000099.wav", 5)
    with pytest.raises(StoreError, match="built from other clips: 15, now 16"):
        build_store(root, out, preset=SMALL)
    assert FeatureStore.open(out).fingerprint == before
    assert left_behind(out) == ["new"]


def test_a_folder_that_is_no_store_is_not_touched(root: Path, out: Path) -> None:
    out.mkdir(parents=True)
    (out / "precious.txt").write_text("x")
    with pytest.raises(StoreError, match="exists and was not built from recordings"):
        build_store(root, out, preset=SMALL)
    assert (out / "precious.txt").exists()


def test_a_part_of_the_folder(root: Path, out: Path) -> None:
    table = index_folder(root)
    part = table[table["split"] == "test"].assign(label="")
    store = build_store(root, out, preset=SMALL, table=part)
    assert len(store) == 5
    assert set(store.manifest["label"]) == {""}


def break_file(file: Path, how: str) -> None:
    data = file.read_bytes()
    if how == "text":
        file.write_text("this is not audio")
    elif how == "empty":
        file.write_bytes(b"")
    elif how == "cut header":
        file.write_bytes(data[:20])
    elif how == "cut samples":
        file.write_bytes(data[: len(data) // 2])
    elif how == "gone":
        file.unlink()
        file.symlink_to(file.with_name("nowhere.wav"))
    elif how == "short":
        write_clip(file, 0, n_samples=256)
    elif how == "rate":
        write_clip(file, 0, rate=8000)
    elif how == "stereo":
        write_clip(file, 0, channels=2)
    elif how == "nan":
        soundfile.write(file, np.full(4000, np.nan), 16000, subtype="FLOAT")


BROKEN = ("text", "empty", "cut header", "cut samples", "short", "rate", "stereo", "nan", "gone")


def test_a_bad_file_is_named_and_nothing_is_left(
    root: Path, out: Path, small_batches: None
) -> None:
    file = root / "fan/train/normal_id_00_00000004.wav"
    whole = file.read_bytes()
    for how in BROKEN:
        file.write_bytes(whole)
        break_file(file, how)
        refused = (DataError, StoreError)
        with pytest.raises(refused, match=r"normal_id_00_00000004\.wav'") as caught:
            build_store(root, out, preset=SMALL, jobs=1)
        assert "\n" not in str(caught.value), how
        assert left_behind(out) == [], how


def test_flac_cut_short(tmp_path: Path, out: Path) -> None:
    file = write_tree(tmp_path / "wav", suffix="flac")[3]
    file.write_bytes(file.read_bytes()[:-2000])
    with pytest.raises(DataError, match=file.name):
        build_store(tmp_path / "wav", out, preset=SMALL)
    assert left_behind(out) == []


def test_channels(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "wav/fan/train/normal_id_00_00000000.wav"
    samples = write_clip(file, 0, channels=2)
    with pytest.raises(DataError, match=r"has 2 channels, expected one; .*--channel 0\)"):
        build_store(tmp_path / "wav", out, preset=SMALL)
    with pytest.raises(DataError, match="has 2 channels, counted from 0, and no channel 2"):
        build_store(tmp_path / "wav", out, preset=SMALL, channel=2)
    for channel in (0, 1):
        store = build_store(
            tmp_path / "wav", out.with_name(f"c{channel}"), preset=SMALL, channel=channel
        )
        wanted = LogMel(SMALL)(torch.from_numpy(samples[:, channel]).float()[None])[0].numpy()
        np.testing.assert_allclose(store.features[0], wanted, atol=0.1)


def test_resampling_on_request(tmp_path: Path, out: Path) -> None:
    for name, rate in (("0", 8000), ("1", 44100)):
        file = tmp_path / f"wav/fan/train/normal_id_00_0000000{name}.wav"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, np.sin(2 * np.pi * 1000 * np.arange(rate) / rate) * 0.5, rate)
    with pytest.raises(DataError, match=r"has 8000 Hz, expected 16000 Hz; .*--resample"):
        build_store(tmp_path / "wav", out)
    with pytest.warns(UserWarning, match="2 of 2 files are resampled to 16000 Hz"):
        store = build_store(tmp_path / "wav", out, resample=True)
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    expected = LogMel()(torch.from_numpy(tone)[None])[0].numpy()
    assert store.frames.tolist() == [32, 32]
    strongest = expected[:, 10].argmax()
    for row in store.features.astype(np.float32):
        assert row[:, 10].argmax() == strongest
        np.testing.assert_allclose(row[strongest, 2:-2], expected[strongest, 2:-2], atol=0.2)


def test_a_rate_that_would_take_gigabytes_to_convert_is_refused(tmp_path: Path, out: Path) -> None:
    file = tmp_path / "wav/fan/train/normal_id_00_00000000.wav"
    file.parent.mkdir(parents=True)
    soundfile.write(file, np.zeros(48_001, np.int16), 48_001)
    with pytest.raises(DataError, match="has 48001 Hz, too odd a ratio to 16000 Hz"):
        build_store(tmp_path / "wav", out, resample=True)


def test_two_builds_of_the_same_store(root: Path, out: Path) -> None:
    out.parent.mkdir(parents=True)
    with (
        FileLock(out.with_name(".new.lock")),
        pytest.raises(StoreError, match="another process is building"),
    ):
        build_store(root, out, preset=SMALL)


def test_unusual_arguments(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="cannot be written"):
        build_store(root, tmp_path / "file" / "s")
    (tmp_path / "void").mkdir()
    with pytest.raises(DataError, match="void"):
        build_store(tmp_path / "void", tmp_path / "s")


@pytest.mark.parametrize("where", ["before", "while writing"])
def test_disk_full(
    root: Path, out: Path, where: str, monkeypatch: pytest.MonkeyPatch, small_batches: None
) -> None:
    if where == "before":
        usage = shutil.disk_usage(root)._replace(free=1000)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    else:
        calls = []

        def fsync(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) > 5:
                raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StoreError, match=r"the disk of .* is full") as caught:
        build_store(root, out, preset=SMALL, jobs=1)
    assert "\n" not in str(caught.value)
    assert left_behind(out) == []


def test_interrupt_keeps_finished_rows(root: Path, out: Path, small_batches: None) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(root, out, preset=SMALL, jobs=1, on_progress=interrupt)
    assert left_behind(out) == [".new.partial"]
    assert_resumes(root, out, at_least=6)


def assert_resumes(root: Path, out: Path, *, at_least: int) -> None:
    """A second build starts from what is done, and the store equals one built in one go."""
    counts: list[int] = []
    store = build_store(
        root, out, preset=SMALL, jobs=1, on_progress=lambda *at: counts.append(at[0])
    )
    assert counts[0] >= at_least
    assert counts == sorted(set(counts))
    assert_store_equals_recordings(store, root, SMALL)
    assert left_behind(out) == [out.name]
    fresh = build_store(root, out.with_name("fresh"), preset=SMALL, jobs=1)
    assert store.fingerprint == fresh.fingerprint


@pytest.mark.parametrize("tail", [0, 1, 16 * 18 * 2 - 1])
def test_a_cut_row_does_not_count(root: Path, out: Path, tail: int, small_batches: None) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(root, out, preset=SMALL, jobs=1, on_progress=interrupt)
    with (out.parent / ".new.partial" / "logmel.npy").open("ab") as stream:
        stream.write(bytes(tail))
    assert_resumes(root, out, at_least=6)


@pytest.mark.parametrize("change", ["parameters", "recordings", "request gone"])
def test_a_partial_of_another_request_is_discarded(
    root: Path, out: Path, change: str, small_batches: None
) -> None:
    def interrupt(done: int, total: int) -> None:
        if done >= 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(root, out, preset=SMALL, jobs=1, on_progress=interrupt)
    front_end = SMALL
    if change == "parameters":
        front_end = SMALL.model_copy(update={"power": 1.0})
    elif change == "recordings":
        for file in root.rglob("*.wav"):
            write_clip(file, hash(file.name) % 1000)
    else:
        (out.parent / ".new.partial" / "request.json").unlink()
    store = build_store(root, out, preset=front_end, jobs=1)
    assert_store_equals_recordings(store, root, front_end)
    assert left_behind(out) == ["new"]


KILLED = """
    import sys
    from asdlib.features import FrontEnd, build_store
    from asdlib.features import build as build_module

    build_module._BATCH = 2

    def tell(done, total):
        print(done, flush=True)

    front_end = FrontEnd(n_fft=512, hop_length=256, n_mels=16)
    build_store(sys.argv[1], sys.argv[2], preset=front_end, jobs=int(sys.argv[3]),
                on_progress=tell)
"""


@pytest.mark.slow
def test_resume_after_kill(tmp_path: Path, out: Path) -> None:
    root = tmp_path / "wav"
    write_tree(root, 200)
    script = tmp_path / "killed.py"
    script.write_text(textwrap.dedent(KILLED))
    process = subprocess.Popen(
        [sys.executable, str(script), str(root), str(out), "2"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 20:
            process.kill()
            break
    assert process.wait() == -signal.SIGKILL
    assert left_behind(out) == [".new.lock", ".new.partial"]
    assert_resumes(root, out, at_least=20)


def test_a_copy_is_the_same_store_and_an_edit_is_not(root: Path, out: Path) -> None:
    before = build_store(root, out, preset=SMALL).fingerprint
    file = root / "fan/train/normal_id_01_00000003.wav"
    samples, rate = soundfile.read(file, dtype="int16")
    # As another processor rounds: the last bit of some samples.
    samples[::7] ^= 1
    soundfile.write(file, samples, rate)
    assert build_store(root, out, preset=SMALL).fingerprint == before
    samples[-400:] //= 2
    soundfile.write(file, samples, rate)
    with pytest.raises(StoreError, match=f"another recording of the name 'fan/train/{file.name}'"):
        build_store(root, out, preset=SMALL)
    soundfile.write(file, samples[:-300], rate)
    with pytest.raises(StoreError, match=f"another recording of the name 'fan/train/{file.name}'"):
        build_store(root, out, preset=SMALL)


def test_torch_keeps_its_threads(root: Path, out: Path) -> None:
    before = torch.get_num_threads()
    build_store(root, out, preset=SMALL, jobs=2)
    assert torch.get_num_threads() == before
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [before]


def test_real_recordings(real_data: Path, out: Path) -> None:
    store = build_store(real_data / "wav", out)
    assert sorted(set(store.manifest["machine"])) == ["ToyCar", "ToyConveyor", "fan"]
    assert sorted(set(store.frames.tolist())) == [313, 344]
    toycar = FeatureStore.open(real_data / "toycar")
    toycar.check_front_end(store.described, "the new store")
    rows = pd.Series(range(len(toycar)), index=toycar.manifest["clip"])
    for row, clip in enumerate(store.manifest["clip"]):
        if clip in rows.index and store.manifest["machine"].iloc[row] == "ToyCar":
            ours = store.features[row, :, 50:250].astype(np.float32)
            theirs = toycar.features[rows[clip]].astype(np.float32)
            np.testing.assert_allclose(ours, theirs, atol=0.07)
