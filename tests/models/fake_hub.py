"""A real HTTP server on loopback that speaks as much of the Hugging Face hub as a snapshot download needs."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """One repository. `status` other than 200 is what everything answers."""

    repo_id: str
    files: dict[str, bytes]
    status: int = 200
    paths: list[str] = field(default_factory=list)
    url: str = ""

    def tree(self) -> list[dict[str, object]]:
        return [
            {
                "type": "file",
                "path": name,
                "size": len(body),
                "oid": hashlib.sha1(body).hexdigest(),
                "lfs": {"oid": hashlib.sha256(body).hexdigest(), "size": len(body), "pointerSize": 134},
            }
            for name, body in self.files.items()
        ]


@contextmanager
def serving(hub: FakeHub) -> Iterator[FakeHub]:
    """Serve `hub` at `hub.url` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.paths.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0]
            prefix = f"/{hub.repo_id}/resolve/{COMMIT}/"
            if hub.status != 200:
                self._answer(b"{}", hub.status)
            elif path == f"/api/models/{hub.repo_id}/revision/main":
                named = [{"rfilename": name} for name in hub.files]
                self._answer(json.dumps({"id": hub.repo_id, "sha": COMMIT, "siblings": named}).encode())
            elif path == f"/api/models/{hub.repo_id}/tree/{COMMIT}":
                self._answer(json.dumps(hub.tree()).encode())
            elif path.startswith(prefix) and path.removeprefix(prefix) in hub.files:
                self._answer(hub.files[path.removeprefix(prefix)])
            else:
                self._answer(b"{}", 404)

        do_HEAD = do_GET

        def _answer(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        hub.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()
