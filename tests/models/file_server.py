"""A real HTTP server on loopback that serves one file, or misbehaves in a chosen way."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class ServedFile:
    """What the server does. `cut_at`: close the connection after that many bytes of the body, once. `gate`: answer when it is set."""

    body: bytes
    status: int = 200
    cut_at: int | None = None
    ranges: bool = True
    weak_etag: bool = False
    gate: threading.Event | None = None
    requests: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.body).hexdigest()[:16]}"'


@contextmanager
def serving(file: ServedFile) -> Iterator[ServedFile]:
    """Serve `file` under any path of `file.url` until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            file.requests.append(dict(self.headers))
            if file.gate is not None:
                file.gate.wait(timeout=30.0)
            if file.status != 200:
                self.send_error(file.status)
                return
            start = self._start()
            if start is None:
                self.send_response(200)
                start = 0
            elif start >= len(file.body):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(file.body)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            else:
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(file.body) - 1}/{len(file.body)}")
            self.send_header("ETag", f"W/{file.etag}" if file.weak_etag else file.etag)
            self.send_header("Content-Length", str(len(file.body) - start))
            self.end_headers()
            end, file.cut_at = file.cut_at, None
            with suppress(BrokenPipeError, ConnectionResetError):  # clients may leave early
                self.wfile.write(file.body[start:end])
            self.close_connection = end is not None

        def _start(self) -> int | None:
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if match is None or not file.ranges or self.headers.get("If-Range", file.etag) != file.etag:
                return None
            return int(match[1])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        file.url = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield file
        finally:
            server.shutdown()
            thread.join()
