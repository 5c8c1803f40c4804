"""Files and folders appear whole or not at all, and one process at a time writes them."""

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from asdlib.errors import DataError, RunError
from asdlib.files import (
    is_disk_full,
    is_taken,
    only_process,
    whole_file,
    whole_folder,
    write_text,
    writing,
)


def interrupt(path: Path) -> None:
    path.write_text("half")
    raise KeyboardInterrupt


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "below" / "file.txt"
    write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), whole_file(path) as partial:
        interrupt(partial)
    assert path.read_text() == "old"
    write_text(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_appears_whole_and_may_be_continued(tmp_path: Path, resume: bool) -> None:
    path = tmp_path / "out"
    path.mkdir()
    with pytest.raises(KeyboardInterrupt), whole_folder(path, resume=resume) as partial:
        interrupt(partial / "first")
    assert list(path.iterdir()) == []
    # What is not continued leaves nothing beside the folder, either.
    left = [".out.partial"] if resume else []
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [*left, "out"]
    with whole_folder(path, resume=resume) as partial:
        assert (partial / "first").exists() is resume
        (partial / "second").write_text("2")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert (path / "second").read_text() == "2"
    with pytest.raises(DataError, match="choose another output"), whole_folder(path, DataError):
        pass


def test_an_output_without_a_name_or_too_deep_is_refused() -> None:
    for name in [".", "..", "/", "", "x/..", "a/" * 2000 + "x"]:
        message = "no name of its own|2001 folders deep"
        with pytest.raises(DataError, match=message), whole_folder(name, DataError):
            pass
        with pytest.raises(DataError, match=message), only_process(Path(name), DataError):
            pass


def test_a_link_is_no_output_folder(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name, target in (("to-empty", "empty"), ("to-nothing", "nothing")):
        (tmp_path / name).symlink_to(target)
        assert is_taken(tmp_path / name)
        with pytest.raises(DataError, match="exists"), whole_folder(tmp_path / name, DataError):
            pass


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 250)
    with pytest.raises(DataError, match="cannot be written"), whole_folder(long, DataError):
        pass


def test_what_the_disk_refuses_is_one_line(tmp_path: Path) -> None:
    for number, message in [
        (errno.ENOSPC, "the disk of '.*x' is full; free some room"),
        (errno.EDQUOT, "the disk of '.*x' is full; free some room"),
        (errno.EACCES, r"'.*x' cannot be written \(Permission denied\); choose another place"),
    ]:
        with pytest.raises(DataError, match=message) as caught, writing(tmp_path / "x", DataError):
            raise OSError(number, os.strerror(number))
        assert is_disk_full(caught.value.__cause__) is (number != errno.EACCES)
        with pytest.raises(FileNotFoundError), writing(tmp_path / "x", DataError):
            raise FileNotFoundError(errno.ENOENT, "x")


def test_a_full_disk_names_the_file_as_it_would_be_called(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    for resume in (False, True):
        with (
            pytest.raises(DataError) as caught,
            whole_folder(tmp_path / "run", DataError, resume=resume) as folder,
            whole_file(folder / "model" / "weights", DataError),
        ):
            raise full
        final = tmp_path / "run" / "model" / "weights"
        assert f"the disk of '{final}' is full" in str(caught.value)


def test_a_lock_leaves_nothing_beside_the_folder(tmp_path: Path) -> None:
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


def test_a_waiting_process_goes_on_when_the_other_has_ended(tmp_path: Path) -> None:
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
        with pytest.raises(RunError), only_process(tmp_path / "out", lock=lock):
            pass
        timer = threading.Timer(0.3, other.stdin.close)
        timer.start()
        with only_process(tmp_path / "out", lock=lock, wait=True):
            assert other.stdout.readline() == "ended\n"
        timer.join()
    assert not lock.exists()


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with (
        pytest.raises(RunError, match=r"cannot be written \(.*file: .*\); choose another folder"),
        only_process(tmp_path / "file" / "out", RunError),
    ):
        pass
    with pytest.raises(DataError, match="choose another place"):
        write_text(tmp_path / "file" / "out", "x", DataError)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
