"""What 200 requests that wait for dripping origins cost those that bring their image: the ratio of their p99, with and
without, in pairs. By command: ``unshare --user --map-root-user --net --mount --pid --fork --kill-child --mount-proc
python -m tests.hostile.internet_run 5``, on a quiet machine."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import Any
from urllib.parse import urlsplit

import httpx

from tests.hostile.evil_origin import Internet
from tests.hostile.target import SAMPLE

NUM_STUCK, NUM_HOSTS, NUM_REQUESTS = 200, 20, 200
NAMES = {f"slow{number}.example": [["93.184.215.14"]] for number in range(NUM_HOSTS)}


async def drip(writer: asyncio.StreamWriter) -> None:
    """A byte now and then, for longer than anybody waits."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    for _ in range(300):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.1)


async def measure(url: str, internet: Internet, num_pairs: int) -> dict[str, Any]:
    """p99 in seconds of calm and of disturbed requests, pair by pair, and the median of their ratios."""
    pairs = []
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60) as client:
        await _p99(client)
        for _ in range(num_pairs):
            calm = await _p99(client)
            seen = len(internet.hits)
            stuck = [
                asyncio.create_task(_keep_asking(url, number % NUM_HOSTS)) for number in range(NUM_STUCK)
            ]
            while len(internet.hits) - seen < 64:  # all downloads that there may be
                assert not any(task.done() for task in stuck), "they are answered 422 and ask again"
                await asyncio.sleep(0.01)
            disturbed = await _p99(client)
            assert not any(task.done() for task in stuck), "they went on all the while"
            pairs.append((calm, disturbed))
            for task in stuck:
                task.cancel()
            await asyncio.wait(stuck)
    ratios = sorted(disturbed / calm for calm, disturbed in pairs)
    return {"pairs": pairs, "ratios": ratios, "median_ratio": ratios[len(ratios) // 2]}


async def _p99(client: httpx.AsyncClient) -> float:
    body = {"model_id": "shapes-detect", "image_base64": base64.b64encode(SAMPLE.read_bytes()).decode()}
    seconds = []
    for _ in range(NUM_REQUESTS):
        started = time.monotonic()
        assert (await client.post("/inference", json=body)).status_code == 200
        seconds.append(time.monotonic() - started)
    return sorted(seconds)[NUM_REQUESTS * 99 // 100]


async def _keep_asking(url: str, host: int) -> None:
    parts = urlsplit(url)
    body = f'{{"model_id": "shapes-detect", "image_url": "http://slow{host}.example/drip"}}'.encode()
    head = f"POST /inference HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    while True:
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        try:
            writer.write(head.encode() + body)
            assert b"422" in await reader.readline()
        finally:
            writer.close()
