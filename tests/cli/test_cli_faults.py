"""What goes wrong ends with one clear line and leaves nothing half-written."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from asd_process import AsdProcess, Outcome
from filelock import FileLock
from study_stores import (
    FRONT_END,
    QUICK,
    listing,
    make_manifest,
    make_store,
    score_bytes,
    set_arguments,
    write_recordings,
)

from asdlib.files import lock_file

Asd = Callable[..., Outcome]
Start = Callable[..., AsdProcess]


def run_words(system: str, store: Path, out: Path, **params: Any) -> list[Any]:
    told = set_arguments(QUICK.get(system, {}) | params)
    return ["run", system, "--train", store, "--test", store, "--out", out, *told]


def nothing_but(folder: Path, *names: str) -> bool:
    """Whether a folder holds these entries only, hidden ones counted."""
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


BROKEN: dict[str, Callable[[bytes], bytes]] = {
    "garbage": lambda content: b"this is no sound" * 100,
    "empty": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "header only": lambda content: content[:20],
}


def test_recordings_that_cannot_be_read(asd: Asd, tmp_path: Path) -> None:
    root = write_recordings(tmp_path / "wav", n_train=2, n_test=2)
    file = root / "fan" / "test" / "anomaly_id_02_00000003.wav"
    whole = file.read_bytes()
    for kind, damage in BROKEN.items():
        file.write_bytes(damage(whole))
        assert file.name in asd("features", root, tmp_path / "store").error, kind
    file.rename(file.with_name("a b.wav"))
    assert "a b.wav" in asd("features", root, tmp_path / "store").error
    (tmp_path / "empty").mkdir()
    for name in ("empty", "not there"):
        assert str(tmp_path / name) in asd("features", tmp_path / name, tmp_path / "store").error
    assert nothing_but(tmp_path, "wav", "empty")


def test_stores_that_do_not_serve(asd: Asd, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    damaged = make_store(tmp_path / "damaged").path
    array = damaged / "logmel.npy"
    array.write_bytes(array.read_bytes()[:-100])
    manifest = make_manifest()
    gone = (manifest["split"] == "train") & (manifest["section"] == "02")
    gap = make_store(tmp_path / "gap", manifest[~gone]).path
    for store, message in (
        (tmp_path / "nowhere", "nowhere' is not a feature store"),
        (tmp_path / "empty", "it lacks manifest.csv, logmel.npy, feature.json"),
        (damaged, "logmel.npy"),
        (gap, "section 'fan/02' has no training rows (known: fan/00"),
    ):
        assert message in asd(*run_words("contrastive", store, tmp_path / "run")).error
    front_end = FRONT_END.model_copy(update={"hop_length": 128})
    other = make_store(tmp_path / "other", front_end=front_end).path
    words = ["run", "statistics", "--train", gap, "--test", other, "--out", tmp_path / "run"]
    assert "different front ends: hop_length 256 and 128" in asd(*words).error
    assert not (tmp_path / "run").exists()


WRONG: tuple[tuple[str, int, str], ...] = (
    ("--set epoch=3", 1, "unknown parameter 'epoch' of contrastive"),
    ("--set augmentation.x=1", 1, "unknown parameter 'augmentation.x'"),
    ("--set temperature=-1", 1, "temperature=-1 is refused"),
    ("--set epochs=many", 1, "epochs='many' is refused"),
    ("--set backend=forest", 1, "backend='forest' is refused: not known"),
    ("--set epochs", 1, "'epochs' is not of the form key=value"),
    ("--set epochs=1 --set epochs=2", 1, "'epochs' is set twice"),
    ("--set seed=1", 1, "seed is no parameter of a system; give it apart, e.g. --seed 1"),
    ("--machine valve", 1, "machine 'valve' is not in the store"),
    ("--colour red", 2, "No such option: --colour"),
    ("--seed -1", 2, "'--seed'"),
    ("--seed one", 2, "'--seed'"),
)


def test_wrong_arguments(asd: Asd, store: Path, tmp_path: Path) -> None:
    command = ["run", "contrastive", "--train", store, "--test", store, "--out", tmp_path / "run"]
    for words, code, message in WRONG:
        done = asd(*command, *words.split())
        assert message in done.error
        assert done.code == code, words
    assert asd(*run_words("svm", store, tmp_path / "run")).error.startswith(
        "unknown system 'svm' (known: autoencoder, "
    )
    for given, message in (
        (["paint"], "No such command 'paint'"),
        (["run", "statistics"], "Missing option '--train'"),
        (["features"], "Missing argument"),
        (["evaluate", store, "--year", "2019"], "greater than or equal to 2020"),
        (["features", store, tmp_path / "x", "--preset", "mfcc"], ""),
        (["evaluate", store, "--year", "2020"], "has no score files"),
        (["evaluate", tmp_path / "nowhere", "--year", "2020"], "does not exist"),
    ):
        assert message in asd(*given).error
    assert nothing_but(tmp_path, "store")


def test_values_that_diverge(asd: Asd, store: Path, tmp_path: Path) -> None:
    words = run_words("contrastive", store, tmp_path / "run", learning_rate=1e30, epochs=3)
    assert "lower learning_rate" in asd(*words).error
    assert not (tmp_path / "run").exists()


def test_folds_that_leave_too_few_clips_are_refused_and_the_run_is_kept(
    asd: Asd, tmp_path: Path
) -> None:
    for n_train, system, message in (
        (4, "contrastive", "back-end 'level_sum' needs at least 4"),
        (3, "statistics", "back-end 'mahalanobis' needs at least 3"),
        (1, "autoencoder", "no training clips"),
    ):
        out = tmp_path / f"run of {system}"
        words = run_words(system, make_store(tmp_path / system, n_train=n_train).path, out)
        error = asd(*words, "--held-out", 99).error
        assert "held-out scores of 99 folds cannot be made" in error
        assert message in error
        assert not (out / "held_out.csv").exists()
        assert "found, not computed again" in asd(*words).success.out
    for folds in ("1", "101", "1000000", "9" * 30):
        assert asd(*words, "--held-out", folds).code == 2


def test_test_rows_without_labels(asd: Asd, tmp_path: Path) -> None:
    manifest = make_manifest()
    manifest.loc[manifest["split"] == "test", "label"] = ""
    store = make_store(tmp_path / "store", manifest).path
    told = asd(*run_words("statistics", store, tmp_path / "run")).success
    assert told.err == "note: the test clips carry no labels: scores only, no metrics\n"
    assert len(score_bytes(tmp_path / "run")) == 4


def test_two_processes_on_one_folder(asd: Asd, store: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with FileLock(lock_file(out)):
        told = asd(*run_words("statistics", store, out)).error
    assert "another process is at work on" in told
    assert not out.exists()


def test_two_processes_at_the_same_moment(asd_process: Start, store: Path, tmp_path: Path) -> None:
    words = run_words("autoencoder", store, tmp_path / "run", epochs=20)
    outcomes = [process.wait() for process in [asd_process(*words) for _ in range(2)]]
    failed = [outcome for outcome in outcomes if outcome.code]
    assert len(failed) <= 1
    for outcome in failed:
        assert "another process is at work on" in outcome.error
    assert nothing_but(tmp_path, "cache", "run", "store", "streams")
    assert len(score_bytes(tmp_path / "run")) == 4


def test_places_that_cannot_be_written(
    asd: Asd, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_recordings(tmp_path / "wav", n_train=2, n_test=2)
    (tmp_path / "file").write_text("mine")
    folder, closed = tmp_path / "folder", tmp_path / "closed"
    folder.mkdir()
    closed.mkdir()
    (folder / "thesis.txt").write_text("mine")
    mkdir = Path.mkdir

    def refuse(path: Path, *args: Any, **options: Any) -> None:
        # The administrator may write everywhere, so the refusal is played.
        if path.is_relative_to(closed) and path != closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        mkdir(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)
    for out, named in (
        (tmp_path / "file", "file"),
        (folder, "folder"),
        (tmp_path / "file" / "below", "file"),
        (closed / "out", "Permission denied"),
    ):
        for words in (run_words("statistics", store, out), ["features", root, out]):
            message = asd(*words).error
            assert named in message
            assert str(tmp_path) in message
    assert (tmp_path / "file").read_text() == "mine"
    assert (listing(folder), listing(closed)) == (["thesis.txt"], [])
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_outputs_without_a_name_and_links(
    asd: Asd, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are refused before anything is computed, by every command in the same way."""
    a, b = (tmp_path / name for name in ("a", "b"))
    for run, more in ((a, []), (b, ["--set", "covariance=pooled"])):
        words = ["run", "statistics", "--train", store, "--test", store, "--held-out", 2]
        asd(*words, "--out", run, *more).success  # noqa: B018
    here = tmp_path / "here"
    here.mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "dangling").symlink_to(tmp_path / "void")
    (tmp_path / "file").write_text("mine")
    monkeypatch.chdir(here)
    monkeypatch.setattr("asdlib.system.System.fit", lambda *_, **__: pytest.fail("computed"))
    links = [tmp_path / name for name in ("link", "dangling", "file", "file/below")]
    for out in (".", "..", "/", "", "a\nb", "\udcff", *links):
        for words in (
            ["run", "autoencoder", "--train", store, "--test", store],
            ["fuse", a, b],
            ["compare", a, "--kind", "real"],
            ["ablate", "--train", store, "--test", store],
        ):
            assert len(asd(*words, "--out", out).error) <= 400, (words, out)
    assert listing(here) == listing(tmp_path / "target") == []
    assert (tmp_path / "file").read_text() == "mine"
    assert not (tmp_path / "void").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 256 kB, a real one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and shutil.which("mount")
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    if not mounted or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs the administrator's rights")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path, *, free: int) -> None:
    left = shutil.disk_usage(disk).free - free
    (disk / "ballast").write_bytes(b"\0" * left)


@pytest.mark.parametrize("free", [0, 20_000, 200_000])
def test_a_full_disk_while_features_are_computed(
    asd_process: Start, small_disk: Path, tmp_path: Path, free: int
) -> None:
    root = write_recordings(tmp_path / "wav", n_train=20, n_test=10)
    fill(small_disk, free=free)
    told = asd_process("features", root, small_disk / "store").wait()
    assert f"the disk of '{small_disk / 'store'}' is full" in told.error
    assert nothing_but(small_disk, "ballast")


@pytest.mark.parametrize(
    ("system", "free"), [("statistics", 0), ("autoencoder", 4096), ("contrastive", 12288)]
)
def test_a_full_disk_while_a_run_is_written(
    asd: Asd, small_disk: Path, store: Path, system: str, free: int
) -> None:
    fill(small_disk, free=free)
    told = asd(*run_words(system, store, small_disk / "run"))
    assert f"the disk of '{small_disk / 'run'}" in told.error
    assert "is full" in told.error
    assert ".partial" not in told.error
    assert nothing_but(small_disk, "ballast")


def test_a_full_disk_for_checkpoints(
    asd: Asd, small_disk: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASDLIB_CACHE", str(small_disk))
    fill(small_disk, free=12288)
    done = asd(*run_words("contrastive", store, tmp_path / "run", epochs=3))
    # It names the disk that is full, not that of the run.
    assert f"the disk of '{small_disk}" in done.error
    assert nothing_but(tmp_path, "disk", "store")
    assert not list(small_disk.rglob("*.ckpt"))


def test_ctrl_c_while_features_are_computed(tmp_path: Path, cache: Path) -> None:
    root = write_recordings(tmp_path / "wav", n_train=1, n_test=0, sections=("00",))
    first = next(root.rglob("*.wav"))
    for i in range(1, 1500):
        os.link(first, first.with_name(f"normal_id_00_{i:08d}.wav"))
    out = tmp_path / "store"
    words = [sys.executable, "-m", "asdlib", "features", root, out, "--jobs", "1"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [str(word) for word in words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    done, row = tmp_path / ".store.partial" / "logmel.npy", 128 * 32 * 2
    while not (done.exists() and done.stat().st_size > row):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    outcome = Outcome(0, *process.communicate())
    outcome = Outcome(process.returncode, outcome.out, outcome.err)
    assert outcome.code == 130
    assert outcome.error.startswith("stopped; ")
    assert outcome.out == ""
    assert not out.exists()
    # The same command goes on from here.
    assert done.stat().st_size > row


STOPPED = "error: stopped; no result is half-written, the same command goes on from here\n"
EARLY = """
import sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == "typer":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from asdlib.__main__ import main
main()
"""


def test_an_ascii_terminal_shows_what_it_can(tmp_path: Path) -> None:
    scores = Path(__file__).parents[1] / "golden" / "evaluation" / "dcase2022"
    words = [sys.executable, "-m", "asdlib", "evaluate", str(scores), "--year", "2022"]
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "official score of 2022, in %: ? " in done.stdout


def test_ctrl_c_while_the_command_line_is_imported() -> None:
    done = subprocess.run(
        [sys.executable, "-c", EARLY], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr == "error: stopped before anything was done\n"


@pytest.mark.parametrize(
    ("system", "number", "code", "error"),
    [
        ("autoencoder", signal.SIGINT, 130, STOPPED),
        ("contrastive", signal.SIGTERM, 143, ""),
    ],
)
def test_signals_while_training(
    asd_process: Start,
    store: Path,
    tmp_path: Path,
    cache: Path,
    system: str,
    number: signal.Signals,
    code: int,
    error: str,
) -> None:
    words = run_words(system, store, tmp_path / "run", epochs=3000)
    outcome = asd_process(*words).when(lambda: any((cache / "training").rglob("*.ckpt")), number)
    assert (outcome.code, outcome.err, outcome.out) == (code, error, "")
    assert nothing_but(tmp_path, "cache", "store", "streams")


def test_killed_and_given_again(
    asd: Asd, asd_process: Start, store: Path, tmp_path: Path, cache: Path
) -> None:
    out = tmp_path / "run"
    words = run_words("contrastive", store, out, epochs=40)

    def checkpoints() -> list[Path]:
        return list((cache / "training").rglob("epoch.ckpt"))

    outcome = asd_process(*words).when(checkpoints, signal.SIGKILL)
    assert outcome.code == -signal.SIGKILL
    assert not out.exists()
    (checkpoint,) = checkpoints()
    content = torch.load(checkpoint, weights_only=True)
    finished = content["epoch"] + 1
    assert 1 <= finished < 40
    # A mark that only a training that goes on from here can carry into its history.
    content["history"][0]["loss"] = 1234.5
    torch.save(content, checkpoint)

    asd_process(*words).wait().success  # noqa: B018
    history = [float(line.split(",")[1]) for line in (out / "training.csv").open().readlines()[1:]]
    assert history[0] == 1234.5
    assert len(history) == 40 * 3
    assert not checkpoints()
    assert nothing_but(tmp_path, "cache", "run", "store", "streams")

    straight = run_words("contrastive", store, tmp_path / "straight", epochs=40)
    asd_process(*straight).wait().success  # noqa: B018
    assert score_bytes(out) == score_bytes(tmp_path / "straight")
    weights = [tmp_path / name / "model" / "model.safetensors" for name in ("run", "straight")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_an_error_that_nobody_foresaw_is_not_hidden(
    asd: Asd, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from asdlib.baselines.statistics import TimeStatistics

    monkeypatch.setattr(TimeStatistics, "fit", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asd(*run_words("statistics", store, tmp_path / "run"))
    assert nothing_but(tmp_path, "cache", "store")
