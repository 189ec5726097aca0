"""The real server on an internet of its own: asks it for images by their addresses, and prints what was answered and
who was reached, as JSON. ``unshare --net --mount ... python -m tests.hostile.internet_run``."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import certifi
import httpx

from tests.hostile.certificates import LONG_AGO, context_of, one_for_each, self_signed
from tests.hostile.evil_origin import Internet, be_the_name_server, stand_in, take_all_addresses
from tests.hostile.slow_origins import NAMES as SLOW_NAMES
from tests.hostile.slow_origins import drip, measure
from tests.hostile.target import SAMPLE
from tests.server.origin import redirect, response
from tests.serving import start_server

PUBLIC, INTERNAL, METADATA = "93.184.215.14", "10.1.2.3", "169.254.169.254"
WITNESSED = (INTERNAL, METADATA, "168.63.129.16", "127.0.0.1", "::1", "fd00:ec2::254")
NAMES = {
    "images.example": [[PUBLIC]],
    "six.example": [["2606:4700::1111"]],
    "internal.example": [[INTERNAL]],
    "metadata.example": [[METADATA]],
    "mixed.example": [[PUBLIC, INTERNAL]],
    "mixed2.example": [[INTERNAL, PUBLIC]],
    "mixed6.example": [[PUBLIC, "fd12:3456::1"]],
    "six-internal.example": [["fd00:ec2::254"]],
    "rebinds.example": [[PUBLIC], [INTERNAL]],
    "hops.example": [[PUBLIC], [METADATA]],
    "wrong.example": [[PUBLIC]],
    "stranger.example": [[PUBLIC]],
    "expired.example": [[PUBLIC]],
    "metadata.google.internal": [[METADATA]],
}
REDIRECTS = {
    "internal": f"http://{INTERNAL}/", "metadata": f"http://{METADATA}/latest", "name": "http://internal.example/",
    "six": "http://[fd00:ec2::254]/", "loopback": "//127.0.0.1/", "port": "http://images.example:6379/",
    "file": "file:///etc/passwd", "again": "http://hops.example/a.jpg", "fine": "http://images.example/a.jpg",
    "plain": "http://images.example/a.jpg",
}  # fmt: skip
REFUSED = [
    *(f"http://images.example/to/{name}" for name in ("internal", "metadata", "name", "six", "loopback", "port", "file")),
    "http://hops.example/to/again", "https://images.example/to/plain",
    *(f"http://{name}/a.jpg" for name in NAMES if "internal" in name or "mixed" in name or "metadata" in name),
    f"http://{INTERNAL}/", f"http://{METADATA}/latest/meta-data", "http://168.63.129.16/", "http://100.100.100.200/",
    "http://127.0.0.1/", "http://localhost/", "http://0/", "http://127.1/", "http://2130706433/", "http://0x7f.1/",
    "http://0x7f000001/", "http://017700000001/", "http://0177.0.0.1/", "http://0xA010203/", "http://[::1]/",
    "http://[::ffff:10.1.2.3]/", "http://[::10.1.2.3]/", "http://[64:ff9b::a01:203]/", "http://[2002:a01:203::]/",
    "http://[fe80::1%25lo]/", "http://[fd00:ec2::254]/", "http://[fd12:3456::1]/", "http://\u2460\u2461\u2466.0.0.1/",
    "http://127\u30020\u30020\u30021/", "http://ok@10.1.2.3/", "http://10.1.2.3\\@images.example/", "http://images.example:22/",
    "http://images.example:8080/", "gopher://10.1.2.3/", "file:///etc/passwd", "http://unknown.example/",
    "https://wrong.example/a.jpg", "https://stranger.example/a.jpg", "https://expired.example/a.jpg",
]  # fmt: skip
ANSWERED = [
    "http://images.example/a.jpg", "https://images.example/a.jpg", "http://images.example/to/fine", "http://rebinds.example/a.jpg",
    f"http://{PUBLIC}/a.jpg", "http://six.example/a.jpg", "http://IMAGES.example./a.jpg#@10.1.2.3/",
]  # fmt: skip
ENVIRONMENT = {
    **dict.fromkeys(("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"), f"http://{INTERNAL}:8080"),
    "NO_PROXY": "",
}  # fmt: skip


async def main(folder: Path, num_pairs: int) -> dict[str, Any]:
    """Everything that came of it, or with `num_pairs` what slow origins cost others."""
    take_all_addresses()
    be_the_name_server(folder)
    certificates = {
        name: self_signed(folder / name, name if name != "wrong.example" else "another.example")
        for name in ("images.example", "wrong.example", "stranger.example")
    }
    certificates["expired.example"] = self_signed(folder / "expired.example", "expired.example", LONG_AGO)
    trusted = [pem for name, pem in certificates.items() if name != "stranger.example"]
    authorities = folder / "authorities.pem"
    authorities.write_text("".join(pem.with_name("signed").read_text() for pem in trusted))
    stand_in(authorities, Path(certifi.where()))
    contexts = {name: context_of(pem) for name, pem in certificates.items()}
    internet = Internet(
        {"/a.jpg": response(SAMPLE.read_bytes()), "/drip": drip}
        | {f"/to/{name}": redirect(location) for name, location in REDIRECTS.items()},
        {name: [list(turn) for turn in turns] for name, turns in (NAMES | SLOW_NAMES).items()},
    )
    await internet.start(one_for_each(contexts, context_of(certificates["images.example"])))
    for address in WITNESSED:
        _, writer = await asyncio.open_connection(address, 80)
        writer.close()
    while len(internet.hits) < len(WITNESSED):
        await asyncio.sleep(0.01)
    assert {hit.address for hit in internet.hits} == set(WITNESSED), "who reaches them is seen"
    internet.hits.clear()
    if num_pairs:
        return await asyncio.to_thread(_measure, internet, num_pairs)
    return await asyncio.to_thread(_ask_all, internet, str(certificates["stranger.example"]))


def _measure(internet: Internet, num_pairs: int) -> dict[str, Any]:
    with start_server("--lame-duck", "0") as server:
        return asyncio.run(measure(server.url, internet, num_pairs))


def _ask_all(internet: Internet, stranger: str) -> dict[str, Any]:
    environment = {**ENVIRONMENT, "SSL_CERT_FILE": stranger}
    with (
        start_server("--lame-duck", "0", environment=environment) as server,
        httpx.Client(base_url=server.url, trust_env=False, timeout=60.0) as client,
    ):
        hits, queries = len(internet.hits), len(internet.queries)
        options = {"params": {"model_id": "shapes-detect"}, "headers": {"content-type": "image/jpeg"}}
        expected = client.post("/inference", content=SAMPLE.read_bytes(), **options)  # type: ignore[arg-type]
        report: dict[str, Any] = {"expected": expected.json()["predictions"], "at_start": [hits, queries]}
        for kind, urls in (("answered", ANSWERED), ("refused", [*REFUSED, "http://rebinds.example/a.jpg"])):
            report[kind] = {}
            for url in urls:
                seen = len(internet.hits)
                reply = client.post("/inference", json={"model_id": "shapes-detect", "image_url": url})
                reached = [hit.address for hit in internet.hits[seen:]]
                report[kind][url] = [reply.status_code, reply.json(), reached]
        report["hits"] = sorted({f"{hit.address} {hit.port}" for hit in internet.hits})
        report["queries"] = internet.queries
        return report


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        json.dump(asyncio.run(main(Path(temporary), int(sys.argv[1]) if sys.argv[1:] else 0)), sys.stdout)
