"""The lock that keeps two processes from writing one folder."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asdlib.data.locking import only_process
from asdlib.errors import DataError, RunError


def test_nothing_is_left_beside_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "below" / "out"
    with only_process(out, DataError, "writing"):
        assert [path.name for path in out.parent.iterdir()] == [".out.lock"]
        with (
            pytest.raises(DataError, match=r"another process is writing '.*out'; wait for it"),
            only_process(out, DataError, "writing"),
        ):
            pass
    assert list(out.parent.iterdir()) == []
    with only_process(out, DataError):
        pass


def test_a_lock_of_ones_own_stays_and_another_process_respects_it(tmp_path: Path) -> None:
    lock, out = tmp_path / "run.lock", tmp_path / "out"
    code = (
        "import sys; from filelock import FileLock, Timeout\n"
        "try: FileLock(sys.argv[1], timeout=0).acquire()\n"
        "except Timeout: sys.exit(3)\n"
    )
    with only_process(out, RunError, lock=lock):
        assert subprocess.run([sys.executable, "-c", code, str(lock)]).returncode == 3
    assert lock.exists()
    assert subprocess.run([sys.executable, "-c", code, str(lock)]).returncode == 0


def test_who_waits_goes_on_when_the_other_has_ended(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    hold = (
        "import sys; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read(); print('ended')"
    )
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(lock)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        timer = threading.Timer(0.3, other.stdin.close)
        timer.start()
        with only_process(tmp_path / "out", RunError, lock=lock, wait=True):
            assert other.stdout.readline() == "ended\n"
        timer.join()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(RunError, match=r"cannot be written \(.*file: .*\); choose another folder"),
        only_process(tmp_path / "file" / "out", RunError),
    ):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
