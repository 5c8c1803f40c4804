"""A web server on 127.0.0.1 that fails on demand, and small archives to serve.

Paths are those of the real hosts, so that a base URL is all that a test has to set. Faults are
queued for a path; each request takes one from the queue, later requests are answered well.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import shutil
import threading
import time
import zipfile
from collections import defaultdict, deque
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from asdlib.data.download import download, plan_download

RECORD = "6355122"
EVALUATOR = "/Kota-Dohi/dcase2022_evaluator/de8719b7d35280ff3a39487c9d1003413eef7818/"


@dataclass
class Fault:
    """What goes wrong with one reply."""

    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None  # close the connection after so many bytes of the body
    then: bytes | None = None  # the file is another one after this reply
    silent: float = 0.0  # seconds before the reply
    drip: float = 0.0  # seconds between two bytes of the body
    slow_head: float = 0.0  # seconds between two bytes of a header that never ends


@dataclass
class Request:
    path: str
    range: str | None
    status: int
    sent: int
    time: float


class FaultServer:
    """Context manager; `url` is the base URL."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, deque[Fault]] = defaultdict(deque)
        self.log: list[Request] = []
        self.logins: set[str | None] = set()
        self.ranges = True
        self.delay = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> FaultServer:
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, path: str, content: bytes) -> str:
        self.files[path] = content
        return path

    def add_zenodo(self, record: str, archives: dict[str, bytes]) -> None:
        listing = []
        for name, data in archives.items():
            self.add(f"/records/{record}/files/{name}", data)
            checksum = f"md5:{hashlib.md5(data).hexdigest()}"
            listing.append({"key": name, "size": len(data), "checksum": checksum})
        said = {"id": int(record), "metadata": {"license": {"id": "cc-by-4.0"}}, "files": listing}
        self.add(f"/api/records/{record}", json.dumps(said).encode())

    def fail(self, path: str, *faults: Fault) -> None:
        self.faults[path].extend(faults)

    def requests(self, path: str) -> list[Request]:
        return [request for request in self.log if request.path == path]


def _handler(server: FaultServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            server.logins.add(self.headers["Authorization"])
            queue = server.faults[path]
            fault = queue.popleft() if queue else Fault()
            content = server.files.get(path)
            time.sleep(server.delay + fault.silent)
            if fault.slow_head:
                server.log.append(Request(path, self.headers["Range"], 0, 0, time.monotonic()))
                self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                while True:  # until the client goes
                    self.wfile.write(b"x")
                    time.sleep(fault.slow_head)
            status, body = fault.status or (404 if content is None else 200), b""
            headers, wanted = dict(fault.headers), self.headers["Range"]
            if status == 200 and content is not None:
                body = content
                start = int(wanted[6:-1]) if wanted and server.ranges else 0
                if start:
                    status, body = (206, content[start:]) if start < len(content) else (416, b"")
                    span = f"{start}-{len(content) - 1}" if body else "*"
                    headers["Content-Range"] = f"bytes {span}/{len(content)}"
            self.send_response(status)
            for key, value in (headers | {"Content-Length": str(len(body))}).items():
                self.send_header(key, value)
            sent = body if fault.cut is None else body[: fault.cut]
            # Before the answer leaves: a client without a body to wait for is quicker than this.
            server.log.append(Request(path, wanted, status, len(sent), time.monotonic()))
            if fault.then is not None:
                server.files[path] = fault.then
            self.end_headers()
            step = 1 if fault.drip else max(1, len(sent))
            for start in range(0, len(sent), step):
                time.sleep(fault.drip)
                self.wfile.write(sent[start : start + step])
            self.close_connection = self.close_connection or len(sent) < len(body)

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

        def log_message(self, format: str, *args: Any) -> None:
            """Keep the test output clean."""

    return Handler


def recordings(machine: str = "fan", n: int = 10, seed: int = 0) -> dict[str, bytes]:
    """Small stand-ins for recordings, in the official layout of 2022."""
    rng = np.random.default_rng(seed)
    names = [
        f"{machine}/{split}/section_00_source_{split}_normal_{i:04d}_m-n_W.wav"
        for split in ("train", "test")
        for i in range(n)
    ]
    names.append(f"{machine}/attributes_00.csv")
    return {name: rng.bytes(2000 + 7 * i) for i, name in enumerate(names)}


def zip_of(entries: dict[str, bytes] | Iterable[tuple[zipfile.ZipInfo | str, bytes]]) -> bytes:
    """Bytes of a zip archive with these entries."""
    pairs = entries.items() if isinstance(entries, dict) else entries
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for name, content in pairs:
            bundle.writestr(name, content)
    return buffer.getvalue()


def download_in_child(pipe: Connection, where: str, url: str, root: Path) -> None:
    """Download in a process of its own; `where` is ``function:n``, the place to be killed at."""
    name, _, after = where.partition(":")
    if name:
        place: Any = {"copyfileobj": shutil, "replace": Path}[name]
        original, calls = getattr(place, name), itertools.count()

        def slow(*args: Any, **options: Any) -> Any:
            if next(calls) == int(after):
                pipe.send("there")
                time.sleep(60)
            return original(*args, **options)

        setattr(place, name, slow)
    made = plan_download("dcase2022", ["fan"], ["development"], root, base_url=url)
    pipe.send(download(made))
