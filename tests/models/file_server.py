"""A real HTTP server on loopback that serves one file, or misbehaves in a chosen way."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class ServedFile:
    """What the server does.

    `status` other than 200: what is answered, `num_failures` times (None: always), with `retry_after` if given.
    `cut_at`: close the connection after that many bytes of a body, `num_cuts` times. `gate`: answer when it is set.
    `rate`: bytes per second.
    """

    body: bytes
    status: int = 200
    num_failures: int | None = None
    retry_after: str | None = None
    cut_at: int | None = None
    num_cuts: int = 1
    rate: float | None = None
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
    with serving_all(lambda path: file) as file.url:
        yield file


@contextmanager
def serving_all(find: Callable[[str], ServedFile]) -> Iterator[str]:
    """Serve the file that `find` gives for a path's last part; yields the address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            file = find(self.path.rpartition("/")[2])
            file.requests.append(dict(self.headers))
            if file.gate is not None:
                file.gate.wait(timeout=30.0)
            if file.status != 200 and file.num_failures != 0:
                file.num_failures = None if file.num_failures is None else file.num_failures - 1
                self._fail(file)
                return
            start = self._start(file)
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
            end = None
            if file.cut_at is not None and file.num_cuts > 0:
                end, file.num_cuts = start + file.cut_at, file.num_cuts - 1
            with suppress(BrokenPipeError, ConnectionResetError):  # clients may leave early
                self._write(file.body[start:end], file.rate)
            self.close_connection = end is not None

        def _fail(self, file: ServedFile) -> None:
            self.send_response(file.status)
            if file.retry_after is not None:
                self.send_header("Retry-After", file.retry_after)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _write(self, body: bytes, rate: float | None) -> None:
            if rate is None:
                self.wfile.write(body)
                return
            step = max(1, int(rate * 0.05))
            for place in range(0, len(body), step):
                self.wfile.write(body[place : place + step])
                time.sleep(0.05)

        def _start(self, file: ServedFile) -> int | None:
            match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            if match is None or not file.ranges or self.headers.get("If-Range", file.etag) != file.etag:
                return None
            return int(match[1])

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
