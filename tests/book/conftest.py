"""The whole study on the smoke profile, rendered once, served locally, read by Chromium."""

import functools
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from filelock import FileLock
from playwright.sync_api import Browser, sync_playwright
from reader import ROOT

CHROMIUM = Path(os.environ.get("ASDLIB_CHROMIUM", "/usr/bin/chromium"))
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


def asd(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "asdlib", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def built() -> Path:
    """The folder with ``html`` and ``study``, made by the two commands that a user types.

    It stays from one call of the tests to the next: what did not change is not executed again.
    ``ASDLIB_BOOK`` names a folder that is finished and is only read. No limit of time applies: the
    one of pytest is for the functions of tests (``timeout_func_only``), and this is a fixture.
    """
    named = os.environ.get("ASDLIB_BOOK")
    if named:
        return Path(named)
    folder = ROOT / "build" / "book-tests"
    folder.mkdir(parents=True, exist_ok=True)
    # Workers of one call share it; the name is different in the next call.
    done = folder / f"done-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}"
    with FileLock(f"{folder}.lock"):
        if not done.exists():
            for old in folder.glob("done-*"):
                old.unlink()
            profile = ("--profile", "smoke", "--out", str(folder / "study"))
            study = asd("study", *profile)
            assert study.returncode == 0, study.stdout + study.stderr
            book = asd("book", *profile, "--html", str(folder / "html"))
            assert book.returncode == 0, book.stdout + book.stderr
            done.touch()
    return folder


@pytest.fixture(scope="session")
def site(built: Path) -> Iterator[str]:
    """Address of the served book."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    handler = functools.partial(Quiet, directory=str(built / "html"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Debian's Chromium."""
    if not CHROMIUM.exists():
        pytest.skip(f"no Chromium at {CHROMIUM}; install it or set ASDLIB_CHROMIUM")
    return CHROMIUM


@pytest.fixture(scope="session")
def browser(chromium: Path) -> Iterator[Browser]:
    """Chromium without a window."""
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=str(chromium), args=list(QUIET))
        yield started
        started.close()
