"""A hub of checkpoints on this machine, with as much of the protocol as a fetch needs."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def fake_hub(name: str, files: dict[str, bytes], **told: Any) -> Iterator[tuple[str, list[str]]]:
    """Serve the files of one checkpoint; give the address and the list of files that were sent."""
    sent: list[str] = []
    listing = [
        {
            "type": "file",
            "path": file,
            "size": len(content),
            "oid": hashlib.sha1(content).hexdigest(),
        }
        for file, content in files.items()
    ]
    siblings = [{"rfilename": entry["path"], "size": entry["size"]} for entry in listing]
    record = {"id": name, "modelId": name, "sha": COMMIT, "siblings": siblings} | told

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            base = f"/{name}/resolve/"
            if path == f"/api/models/{name}" or path in (
                f"/api/models/{name}/revision/{known}" for known in ("main", COMMIT)
            ):
                self._send(json.dumps(record).encode(), {})
            elif path.startswith(f"/api/models/{name}/tree/"):
                self._send(json.dumps(listing).encode(), {})
            elif path.startswith(base) and path.split("/", 5)[-1] in files:
                content = files[path.split("/", 5)[-1]]
                if self.command == "GET":
                    sent.append(path.split("/", 5)[-1])
                etag = hashlib.sha1(content).hexdigest()
                self._send(content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
            else:
                self._send(b'{"error": "Repository not found"}', {}, status=404)

        def _send(self, content: bytes, headers: dict[str, str], status: int = 200) -> None:
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "RepoNotFound")
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", sent
    finally:
        server.shutdown()
        server.server_close()
