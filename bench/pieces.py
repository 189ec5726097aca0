"""What each piece of a request costs alone, and all of them together around a model that does nothing.

    python -m bench.pieces --clients 16 --seconds 10

Pieces are measured in one thread of this process, in microseconds of its processor time and, for the fastest of
many rounds, of time; the whole path is the real server (noop.py) in a process of its own, on the same cores as the
generator, whose processor time stands beside it. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import io
import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import uvloop
from PIL import Image

from bench.caches import read_hits
from bench.client import build_request
from bench.engine import noop_engine
from bench.load import Load, Requests, engine_requests, measure
from bench.noop import FRAGMENT, MODEL, SPEC
from bench.pictures import Pictures
from bench.processor import process_seconds
from bench.record import record
from bench.serving import RunningServer
from pool.batching import Entry, RequestQueue, Result
from pool.protocol import Batch, Done, FrameReader, encode
from pool.slab import Slab
from server.base64_text import decode_base64
from server.decode import ImageLimits, decode
from server.resize import RESIZES
from server.results import Answered, Timings, reply_to
from server.schemas import parse_json

Piece = Callable[[], object]
TIMINGS = {"queue": 0.001, "infer": 0.002, "post": 0.0005}


def cost_of(piece: Piece, seconds: float = 1.0) -> dict[str, float]:
    """Microseconds a call: processor time over all rounds, and the time of the fastest."""
    piece()
    fastest, num_rounds, started = float("inf"), 0, time.perf_counter()
    cpu_before = time.thread_time()
    while (before := time.perf_counter()) < started + seconds:
        piece()
        fastest = min(fastest, time.perf_counter() - before)
        num_rounds += 1
    cpu = (time.thread_time() - cpu_before) / num_rounds
    return {"cpu_us": round(cpu * 1e6, 1), "fastest_us": round(fastest * 1e6, 1)}


@contextlib.contextmanager
def pieces(jpeg: bytes) -> Iterator[Mapping[str, Piece]]:
    """Each part of a request's way, by name."""
    limits = ImageLimits()
    picture = decode(jpeg, limits)
    pixels = np.zeros(SPEC.slot_shape, np.uint8)
    text = base64.b64encode(jpeg).decode()
    body = json.dumps({"model_id": MODEL, "image_base64": text}).encode()
    slab = Slab(64, SPEC.slot_shape)
    loop = asyncio.new_event_loop()
    ours, theirs = socket.socketpair()
    result = Result(FRAGMENT, TIMINGS, 1, 0, 0)
    answered = Answered(MODEL, "detect", (810, 1080), result, Timings())

    def slot() -> None:
        slab.lease().release()

    def queue() -> None:
        waiting = RequestQueue()
        for _ in range(8):
            entry = Entry(
                slab.lease(), {"width": 810, "height": 1080}, time.monotonic() + 30, loop.create_future()
            )
            waiting.append(entry)
        head = next(iter(waiting))
        for entry in waiting.pop_batch(head, 8):
            entry.lease.take()
            entry.settle(result)

    rows = [[0, 1, {"width": 810, "height": 1080, "confidence": 0.25}]]
    done = Done(1, [[1, None, len(FRAGMENT)]], TIMINGS, payloads=[FRAGMENT])

    def sockets() -> None:
        """A batch of one to the worker and its answer back."""
        ours.sendall(encode(Batch(1, rows)))
        list(FrameReader(1 << 20).feed(theirs.recv(1 << 18)))
        theirs.sendall(encode(done))
        list(FrameReader(1 << 20).feed(ours.recv(1 << 18)))

    yield {
        "decode": lambda: decode(jpeg, limits),
        "resize": lambda: RESIZES["letterbox"](picture, pixels),
        "base64": lambda: decode_base64(text, 1 << 30),
        "json": lambda: parse_json(body),
        "slab": slot,
        "queue, 8 entries": queue,
        "socket, 1 entry": sockets,
        "encode": lambda: reply_to(answered, "0" * 32),
    }
    ours.close()
    theirs.close()
    slab.close()
    loop.close()


def whole_path(server: RunningServer, args: argparse.Namespace, requests: Requests) -> dict[str, Any]:
    """Requests a second and what everybody's processor time was, warm-up included. Raises FailedRunError."""
    pid, started = server.process.pid, time.perf_counter()
    ours, front = time.process_time(), process_seconds(pid)
    tally = uvloop.run(measure(server.url, requests, Load(args.clients, None, args.seconds, args.warmup)))
    elapsed = time.perf_counter() - started
    figures = tally.figures(args.seconds)
    num_all = figures["per_second"] * elapsed
    return {
        **figures,
        "front_cpu_us": (process_seconds(pid) - front) / num_all * 1e6,
        "generator_cpu_us": (time.process_time() - ours) / num_all * 1e6,
        "front_peak_bytes": _peak_bytes(pid),
    }


def _tiny(number: int, num_bytes: int) -> bytes:
    """A JPEG of 16 x 16 pixels, distinct by `number`, padded with comments: what is left without decoding."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG")
    jpeg = buffer.getvalue()
    segment = b"\xff\xfe" + (0x7FFF).to_bytes(2, "big") + bytes(0x7FFF - 2)
    return jpeg[:2] + segment * ((num_bytes - len(jpeg)) // len(segment)) + jpeg[2:]


def _tiny_requests(url: str, form: str, num_bytes: int) -> Requests:
    return lambda number: build_request(url, MODEL, _tiny(number, num_bytes), form)


def _peak_bytes(pid: int) -> int:
    """The most memory that was resident at once."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) * 1024


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds not counted")
    parser.add_argument("--form", choices=["raw", "json"], default="raw")
    parser.add_argument("--piece-seconds", type=float, default=1.0, help="of each piece")
    parser.add_argument("--tiny", action="store_true", help="pictures of few pixels in as many bytes")
    args = parser.parse_args()
    pictures = Pictures()
    jpeg, alone = pictures.jpeg(0), {}
    with pieces(jpeg) as parts:
        for name, piece in parts.items():
            alone[name] = cost_of(piece, args.piece_seconds)
            print(f"{name}: {alone[name]}", file=sys.stderr, flush=True)
    options = {"max_queue_size": str(max(128, 2 * args.clients))}
    with noop_engine(options) as server:
        requests = engine_requests(server.url, MODEL, pictures, args.form)
        if args.tiny:
            requests = _tiny_requests(server.url, args.form, len(jpeg))
        before = read_hits(server.url)
        together = whole_path(server, args, requests)
        hits = read_hits(server.url, before)
    print(f"whole path: {together['per_second']:.1f}/s", file=sys.stderr, flush=True)
    figures = {
        "distinct_pixels": True,
        "cache_hits": hits,
        "body_bytes": len(jpeg),
        "pieces": alone,
        "whole_path": together,
    }
    print(json.dumps(record("pieces", vars(args), figures)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
