"""A server on loopback that answers what it is told and counts, in threads."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

REPLY = {
    "model_id": "m", "task": "detect", "image": {"width": 4, "height": 3}, "timings_ms": {"total": 1.0}, "request_id": "r",
    "predictions": [{"label": "a", "class_id": 0, "confidence": 0.5, "box": {"x1": 0, "y1": 1, "x2": 2, "y2": 3}}],
}  # fmt: skip


@dataclass
class Answer:
    """A status, a body (JSON types or bytes) and headers; status 0 resets the connection."""

    status: int = 200
    body: Any = field(default_factory=lambda: REPLY)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Asked:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Origin:
    """`answers` are given in order, the last one for ever."""

    url: str = ""
    answers: list[Answer] = field(default_factory=lambda: [Answer()])
    asked: list[Asked] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def next(self, asked: Asked) -> Answer:
        with self.lock:
            self.asked.append(asked)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def refusal(status: int, code: str, **headers: str) -> Answer:
    """An error in the engine's shape."""
    detail = {"code": code, "message": "So it is.", "request_id": "r1"}
    return Answer(
        status, {"error": detail}, {name.replace("_", "-"): value for name, value in headers.items()}
    )


@contextlib.contextmanager
def running_origin() -> Iterator[Origin]:
    origin = Origin()

    class Serve(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = origin.next(Asked(self.command, self.path, headers, body))
            if not answer.status:
                linger = struct.pack("ii", 1, 0)  # closing sends a reset
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.close_connection = True
                self.connection.shutdown(socket.SHUT_RD)
                return
            content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
            self.send_response(answer.status)
            for name, value in {"content-length": str(len(content)), **answer.headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Serve)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    origin.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield origin
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
