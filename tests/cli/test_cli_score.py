"""``asd score`` and what comes after it, as a user types it: recordings of any kind in."""

import csv
import io
import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import soundfile
from asd_process import Outcome
from fake_microphone import plug_in
from scipy.signal import butter, resample_poly, sosfilt
from scipy.stats import poisson
from study_stores import QUICK, write_recordings

import asdlib
from asdlib.data import index_folder, index_own_folder
from asdlib.features import build_store
from asdlib.features.build import own_store
from asdlib.study.held_out import held_out
from asdlib.study.listen import Listener

Asd = Callable[..., Outcome]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of two machines, their store, and a run."""
    folder = tmp_path_factory.mktemp("score")
    write_recordings(folder / "wav", machines=("fan", "pump"), n_train=8)
    store = build_store(folder / "wav", folder / "store")
    held_out(asdlib.run("statistics", store.path, store.path, folder / "run"), store.path)
    return folder


@pytest.fixture(scope="module")
def hiss(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run on a folder of white noise."""
    folder = tmp_path_factory.mktemp("listen")
    rng = np.random.default_rng(0)
    for i in range(40):
        (folder / "hiss").mkdir(exist_ok=True)
        soundfile.write(folder / f"hiss/{i}.wav", rng.normal(scale=0.02, size=16000), 16000)
    store = own_store(folder / "hiss")
    held_out(asdlib.run("statistics", store, store, folder / "run"), store)
    return folder / "run"


def rows(told: Outcome) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(told.success.out)))


@pytest.mark.parametrize("system", ["statistics", "contrastive"])
def test_score_says_what_run_and_decide_say(
    asd: Asd, place: Path, tmp_path: Path, system: str
) -> None:
    out, train = tmp_path / "run", place / "store"
    asdlib.run(system, train, train, out, params=QUICK[system])
    assert "name the store" in asd("score", out, place / "wav/fan/test").error
    wav = [place / "wav/fan/test", place / "wav/pump/test"]
    tested = rows(asd("score", out, *wav, "--train", train, "--quantile", 0.8))
    assert asd("decide", out, "--quantile", 0.8).code == 0
    kept = pd.read_csv(out / "held_out.csv", dtype={"section": str})
    assert len(tested) == 16
    for row in tested:
        machine, section = row["section"].split("/")
        name = Path(row["clip"]).name
        for file, value in (("anomaly_score", row["score"]), ("decision_result", row["decision"])):
            table = pd.read_csv(out / f"{file}_{machine}_id_{section}.csv", header=None)
            (expected,) = table.loc[table[0] == name, 1]
            said = {"normal": 0, "anomaly": 1}.get(value)
            assert (float(value) if said is None else said) == pytest.approx(expected, rel=1e-4)
        normal = kept.query("machine == @machine and section == @section")["anomaly_score"]
        assert float(row["share_higher"]) == (normal >= float(row["score"])).mean()
        assert int(row["normal_clips"]) == len(normal) == 8
    # What was decided stays in force.
    again = rows(asd("score", out, place / "wav/fan/test"))
    assert [row["threshold"] for row in again] == [row["threshold"] for row in tested[:8]]


def test_a_phone_recording(
    asd: Asd, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """48 kHz, stereo, 7 s, with half a second that is louder; the training clips have 1 s."""
    parts = [soundfile.read(f)[0] for f in sorted((place / "wav/fan/test").glob("normal_id_00*"))]
    sound = np.tile(np.concatenate(parts), 4)[: 7 * 16000]
    sound[64000:72000] *= 3
    stereo = np.stack([0.1 * sound, sound], axis=1)
    phone = tmp_path / "phone.wav"
    soundfile.write(phone, resample_poly(stereo, 3, 1), 48000, subtype="PCM_24")

    told = asd("score", place / "run", phone, "--section", "fan/00", "--channel", 1)
    (row,) = rows(told)
    assert told.err == f"note: '{phone}': resampled from 48000 to 16000 Hz\n"
    assert (row["decision"], row["share_higher"]) == ("anomaly", "0.0")
    start, end = float(row["window_start"]), float(row["window_end"])
    assert start <= 4.0 < 4.5 <= end <= start + 1
    # The same samples at the rate of the model: but for the filters the same score.
    soundfile.write(tmp_path / "same.wav", sound, 16000)
    (same,) = rows(asd("score", place / "run", tmp_path / "same.wav", "--section", "fan/00"))
    assert float(row["score"]) == pytest.approx(float(same["score"]), rel=0.05)

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(phone.read_bytes())))
    told = asd("score", place / "run", "-", "--section", "nearest", "--json", "--window", 2)
    said: dict[str, Any] = json.loads(told.success.out)
    assert said["clip"] == "-"
    assert said["window_end"] - said["window_start"] == 2
    assert "note: '-': the first channel is taken" in told.err
    assert f"the nearest is {said['section']}" in told.err


def test_the_nearest_section_is_the_right_one(asd: Asd, place: Path, tmp_path: Path) -> None:
    for file in (place / "wav/pump/test").glob("normal_id_02*"):
        (tmp_path / "unknown").mkdir(exist_ok=True)
        (tmp_path / f"unknown/{file.stem[-1]}.wav").write_bytes(file.read_bytes())
    found = rows(asd("score", place / "run", tmp_path / "unknown", "--section", "nearest"))
    assert {row["section"].split("/")[1] for row in found} == {"02"}


def test_score_refuses(
    asd: Asd, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short, text, own = (tmp_path / name for name in ("short.wav", "text.wav", "own.wav"))
    soundfile.write(short, np.zeros(7000), 16000)
    soundfile.write(own, np.zeros(16000), 16000)
    text.write_text("no sound")
    for words, message in (
        ([short, "--section", "fan/00"], "holds 0.44 s, too short beside training clips of"),
        ([text], "text.wav' is not readable as audio"),
        ([tmp_path / "nothing.wav"], "nothing.wav' cannot be read"),
        ([own], "does not tell its section (known: fan/00, fan/02, pump/00, pump/02); give --sec"),
        ([own, "--section", "00"], "section '00' belongs to several machines"),
        ([own, "--section", "fan/07"], "section 'fan/07' is not known"),
        ([own, "--section", "fan/00", "--channel", 1], "channel 1 is not in"),
        ([own, "--section", "fan/00", "--quantile", 2], "quantile 2.0 is not allowed"),
    ):
        told = asd("score", place / "run", *words)
        assert message in told.error
        assert told.out == ""
    assert "not a file of asd export" in asd("score", text, own).error
    assert "holds no finished run" in asd("score", tmp_path, own).error
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    missing = "onnxruntime is not installed; install asdlib with the extra 'export'"
    assert missing in asd("score", text, own).error
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    missing = "huggingface_hub is not installed; install asdlib with the extra 'pretrained'"
    assert missing in asd("weights", "owner/name", "--yes").error


@pytest.mark.parametrize("system", ["statistics", "contrastive"])
def test_the_reason_is_the_band_and_the_time_of_the_fault(
    asd: Asd, place: Path, tmp_path: Path, system: str
) -> None:
    out, train = tmp_path / "run", place / "store"
    # Without training, by mean spectra alone: what the occlusion finds is known.
    plain = {"epochs": 0, "embedding": "spectrum", "backend": "pooled_mahalanobis"}
    params = {"statistics": {}, "contrastive": QUICK["contrastive"] | plain}[system]
    asdlib.run(system, train, train, out, params=params)
    sound = np.tile(soundfile.read(next((place / "wav/fan/test").glob("normal_id_00*")))[0], 4)
    band = butter(8, (3000, 4000), "bandpass", fs=16000, output="sos")
    hiss = sosfilt(band, np.random.default_rng(0).normal(size=8000))
    sound[40000:48000] += 0.3 * hiss  # 2.5 to 3 s
    soundfile.write(tmp_path / "hiss.wav", sound, 16000)
    command = ["score", out, tmp_path / "hiss.wav", "--section", "fan/00"]
    command += ["--train", train, "--explain"]
    told = json.loads(asd(*command, "--json", "--pictures", tmp_path / "pictures").success.out)
    reason = told["reason"]
    low, high = reason["band_hz"]
    around = 300 if system == "statistics" else 600  # a sixteenth of all mel bins
    assert 3000 - around < low < 3200
    assert 3800 < high < 4000 + around
    start, end = reason["seconds"]
    assert 2.3 < start < 2.7
    assert 2.8 < end < 3.2
    assert 0.3 < reason["coverage"] < 0.7
    assert reason["level_db"] > 3
    assert reason["nearest"].startswith("normal_id_00")
    (row,) = rows(asd(*command))
    assert row["reason"] == reason["sentence"]
    assert row["reason"].startswith("more energy than usual at ")
    assert (tmp_path / "pictures/000 hiss.png").stat().st_size > 10000
    if system == "statistics":
        assert sum(reason["by_bin"]) == pytest.approx(told["score"] ** 2, rel=1e-4)
        own = sorted((place / "wav/fan/train").glob("normal_id_00*"))[3]  # nearest to itself
        (itself,) = rows(asd(*command[:2], own, *command[3:]))
        assert itself["reason"].endswith(f"nearest normal clip is {own.name}")
    else:
        assert "name the store that it was trained on" in asd(*command[:-3], "--explain").error
    # The same from an exported file; normal recordings stand in for the store.
    command[1] = tmp_path / "model.onnx"
    assert asd("export", out, command[1]).code == 0
    normal = ["--train", place / "wav"] if system == "contrastive" else []
    command[-3:] = [*normal, "--explain", "--json", "--pictures", tmp_path / "of file"]
    again = json.loads(asd(*command).success.out)["reason"]
    for key in ("band_hz", "seconds", "method", "coverage"):
        assert again[key] == reason[key]
    assert again["level_db"] == pytest.approx(reason["level_db"], abs=0.05)
    assert again["nearest"] == (reason["nearest"] if normal else None)
    assert (tmp_path / "of file/000 hiss.png").stat().st_size > 10000
    if normal:
        command.remove("--train")
        command.remove(place / "wav")
        assert "a folder of normal recordings (--train)" in asd(*command).error


def pcm(samples: np.ndarray) -> bytes:
    return np.rint(np.clip(samples, -1, 1) * 32767).astype("<i2").tobytes()


def events(told: Outcome) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.success.out.splitlines()]


def test_listen_confirms_and_counts_false_alarms(
    asd: Asd, hiss: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quiet = np.random.default_rng(2).normal(scale=0.02, size=24 * 16000)
    loud = quiet.copy()
    loud[48800:53600] *= 4  # 0.3 s lie in two windows, and three of four make an event
    loud[10 * 16000 : 16 * 16000] *= 4
    command = ["listen", hiss, "-", "--quantile", 0.99]
    raw = io.TextIOWrapper(io.BytesIO(pcm(loud)))
    monkeypatch.setattr(sys, "stdin", raw)
    told = asd(*command, "--rate", 16000, "--confirm", "3/4")
    begin, end = events(told)
    assert (begin["event"], end["event"]) == ("begin", "end")
    # The third alarming window, 0.992 s long, half of it apart; the end after four quiet ones.
    assert 11 < begin["time"] < 12.1
    assert 17 < end["time"] < 19
    assert end["score"] >= begin["score"] > begin["threshold"] == end["threshold"]
    assert f"note: {len(loud) / 16000:.1f} s heard in " in told.err

    # The same from a WAV stream whose header knows no length, second of two channels.
    stereo = np.stack([0 * loud, loud], axis=1)
    soundfile.write(tmp_path / "growing.wav", stereo, 16000, subtype="PCM_16")
    content = bytearray((tmp_path / "growing.wav").read_bytes())
    content[4:8] = content[40:44] = bytes(4)
    file = tmp_path / "growing.wav"
    file.write_bytes(content[: len(content) // 2])

    def grow() -> None:
        time.sleep(0.3)
        with file.open("ab") as sink:
            sink.write(content[len(content) // 2 :])

    writer = threading.Thread(target=grow)
    writer.start()
    command[2] = file
    same = events(asd(*command, "--channel", 1, "--wait", 2))
    writer.join()
    assert [event["time"] for event in same] == pytest.approx([begin["time"], end["time"]], abs=0.1)

    healthy, faulty = tmp_path / "healthy.wav", tmp_path / "faulty.wav"
    soundfile.write(healthy, quiet, 16000)
    soundfile.write(faulty, loud, 16000)
    command = ["listen", hiss, "--quantile", 0.99]
    for file, n_events in ((healthy, 0), (faulty, 1)):
        (said,) = events(asd(*command, "--normal", file))
        days = 24 / 86400
        assert said["events"] == n_events
        assert said["per_day"] == pytest.approx(n_events / days)
        # Given these rates, so few and so many events have a probability of 2.5 %.
        assert poisson.cdf(n_events, said["high"] * days) == pytest.approx(0.025)
        assert said["low"] == 0 or poisson.sf(n_events - 1, said["low"] * days) == pytest.approx(
            0.025
        )


def test_an_event_ends_below_the_lower_level_only() -> None:
    scores = iter([1.2, 1.2, 0.8, 0.8, 0.8, 0.8, 1.1, 0.4, 0.4, 0.4])
    model = SimpleNamespace(
        quantile=0.9,
        thresholds={"fan/00": 1.0},
        levels=lambda quantile: {"fan/00": 0.5},
        window_samples=lambda window: 100,
        front_end=SimpleNamespace(sample_rate=100),
        share_higher=lambda section, score: 0.0,
        score=lambda samples, section: [next(scores)],
    )
    listener = Listener(cast(Any, model), "fan/00", 100, confirm=(2, 3))
    begin, end = listener.hear([np.zeros(50, dtype=np.float32)] * 11)
    assert (begin.event, begin.time, begin.score) == ("begin", 1.5, 1.2)
    assert (end.event, end.time, end.score) == ("end", 5.5, 1.2)


def test_listen_hears_a_microphone(asd: Asd, hiss: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = np.random.default_rng(2).normal(scale=0.02, size=24 * 16000)
    sound[10 * 16000 : 16 * 16000] *= 4
    plug_in(monkeypatch, sound, lost=7)
    command = ["listen", hiss, "mic", "--quantile", 0.99]
    told = asd(*command)
    begin, end = events(told)
    assert (begin["event"], end["event"]) == ("begin", "end")
    assert 11 < begin["time"] < 12.1
    assert 17 < end["time"] < 19
    assert told.err.count("note: samples were lost") == 1
    assert "note: 24.0 s heard in" in told.err
    for name, reason in (("absent", "No input device matching"), ("busy", "Device unavailable")):
        command[2] = f"mic:{name}"
        assert f"the microphone cannot be opened ({reason}" in asd(*command).error
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    assert "no microphone without sounddevice" in asd(*command).error


def test_listen_refuses(asd: Asd, place: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("no sound at all")
    for words, message in (
        (["-"], "name the section that is heard: --section fan/00"),
        (["--section", "fan/00"], "name what to listen to"),
        ([text, "--section", "fan/00"], "has no WAV header"),
        ([text, "--section", "fan/00", "--rate", 16000, "--channel", 1], "channel 1 is not in"),
        ([text, "--section", "fan/00", "--rate", 16000, "--confirm", "5/4"], "5 of 4 windows"),
        ([text, "--section", "fan/00", "--confirm", "3"], "--confirm 3 is not of the form K/N"),
    ):
        assert message in asd("listen", place / "run", *words).error


def test_a_folder_of_recordings_is_trained_on(asd: Asd, tmp_path: Path) -> None:
    """Names of all kinds, 44.1 kHz, stereo; a second call builds nothing anew."""
    mine = tmp_path / "mine"
    rng = np.random.default_rng(0)
    for i in range(10):
        mine.mkdir(exist_ok=True)
        soundfile.write(mine / f"Monday {i}.wav", rng.normal(0, 0.02, (44100, 2)), 44100)
    command = ["run", "statistics", "--train", mine, "--held-out", 3]
    told = asd(*command, "--out", tmp_path / "one").success
    assert "note: 10 of 10 files are resampled to 16000 Hz" in told.err
    words = ["features", mine, tmp_path / "any", "--any-layout", "--resample", "--channel", 0]
    assert asd(*words).success.err == "note: 10 of 10 files are resampled to 16000 Hz\n"
    (built,) = tmp_path.glob("mine-store-*")
    manifest = asdlib.FeatureStore.open(built).manifest
    assert list(manifest.query("split == 'test'")["path"]) == ["Monday 4.wav", "Monday 9.wav"]
    assert set(manifest["machine"]) == {"mine"}
    changed = built.stat().st_mtime_ns
    assert "resampled" not in asd(*command, "--out", tmp_path / "two").success.err
    assert built.stat().st_mtime_ns == changed
    (row,) = rows(asd("score", tmp_path / "one", mine / "Monday 4.wav", "--explain"))
    assert row["section"] == "mine/00"

    labels = "file,label,machine,section\nMonday 3.wav,anomaly,press,01\n"
    (mine / "labels.csv").write_text(labels + "Monday 7.wav,,press,01\nMonday 8.wav,,,\n")
    table = index_own_folder(mine).set_index("path")
    tested = table["split"].eq("test").to_dict()
    assert tested == {f"Monday {i}.wav": i in (3, 7, 8) for i in range(10)}
    said = table.loc["Monday 3.wav"]
    assert tuple(said[["clip", "machine", "section", "label"]]) == (
        *("anomaly_id_01_00000003.wav", "press", "01", "anomaly"),
    )
    assert table.loc["Monday 7.wav", "clip"] == "id_01_00000007.wav"
    for text, message in (
        ("file,label\nTuesday.wav,normal", "file 'Tuesday.wav' is not there"),
        ("file,label\nMonday 3.wav,broken", "label 'broken' is not there or not allowed"),
        ("name\nMonday 3.wav", "its columns are name, expected file"),
        (
            "file,label\nMonday 3.wav,\nMonday 3.wav,normal",
            "duplicate keys: Index(['Monday 3.wav']",
        ),
        ("file,label,split\nMonday 3.wav,anomaly,train", "is not normal and marked for training"),
    ):
        (mine / "labels.csv").write_text(text)
        assert message in asd(*command, "--out", tmp_path / "three").error
    assert len(list(tmp_path.glob("mine-store-*"))) == 1


def test_official_names_and_split_folders_are_read_as_such(tmp_path: Path) -> None:
    write_recordings(tmp_path / "wav", n_train=2, n_test=2)
    official = index_own_folder(tmp_path / "wav")
    pd.testing.assert_frame_equal(official, index_folder(tmp_path / "wav"))
    for number, file in enumerate(sorted((tmp_path / "wav").rglob("*.wav"))):
        kind = "anomaly" if "anomaly" in file.name else "normal"
        own = tmp_path / "own" / file.parent.name / kind / f"{number}.wav"
        own.parent.mkdir(parents=True, exist_ok=True)
        file.rename(own)
    table = index_own_folder(tmp_path / "own")
    counts = table.groupby(["split", "label"]).size().to_dict()
    expected = official.groupby(["split", "label"]).size().to_dict()
    assert counts == expected
