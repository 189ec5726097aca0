"""A real HTTP server on loopback that speaks as much of the Hugging Face hub as a snapshot download needs."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WEIGHTS = "model.safetensors"
MIN_CUT_BYTES = 1 << 20
"""Only larger files are cut: the library writes pieces of 10 MiB, and keeps nothing of a piece that did not come whole."""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class FakeHub:
    """One repository.

    `status` other than 200 is what everything answers, `num_failures` times (None: always), with `retry_after` if
    given. `cut_at`: close the connection after that many bytes of a large file, once. `gate`: answer when it is set.
    `lies`: send other weights, of the same size, than the list of files names.
    """

    repo_id: str
    files: dict[str, bytes]
    status: int = 200
    num_failures: int | None = None
    retry_after: str | None = None
    cut_at: int | None = None
    gate: threading.Event | None = None
    lies: bool = False
    ranges: list[str] = field(default_factory=list)
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
            if hub.gate is not None:
                hub.gate.wait(timeout=30.0)
            if hub.status != 200 and hub.num_failures != 0:
                hub.num_failures = None if hub.num_failures is None else hub.num_failures - 1
                self._answer(b"{}", hub.status)
            elif path == f"/api/models/{hub.repo_id}/revision/main":
                named = [{"rfilename": name} for name in hub.files]
                self._answer(json.dumps({"id": hub.repo_id, "sha": COMMIT, "siblings": named}).encode())
            elif path == f"/api/models/{hub.repo_id}/tree/{COMMIT}":
                self._answer(json.dumps(hub.tree()).encode())
            elif path.startswith(prefix) and path.removeprefix(prefix) in hub.files:
                self._send_file(path.removeprefix(prefix))
            else:
                self._answer(b"{}", 404)

        do_HEAD = do_GET

        def _send_file(self, name: str) -> None:
            body = hub.files[name]
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(match[1]) if match else 0
            sent = body[::-1] if hub.lies and name == WEIGHTS else body
            self.send_response(206 if start else 200)
            if start:
                hub.ranges.append(self.headers["Range"])
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self._send_rest(sent[start:], hashlib.sha256(body).hexdigest())

        def _answer(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            if hub.retry_after is not None and status != 200:
                self.send_header("Retry-After", hub.retry_after)
            self._send_rest(body, hashlib.sha256(body).hexdigest())

        def _send_rest(self, body: bytes, etag: str) -> None:
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{etag}"')
            self.end_headers()
            if self.command != "GET":
                return
            end = None
            if hub.cut_at is not None and len(body) > MIN_CUT_BYTES:
                end, hub.cut_at = hub.cut_at, None
                self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):  # clients may leave early
                self.wfile.write(body[:end])

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
