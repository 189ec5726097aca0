from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import ssl
import subprocess
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from server.errors import RequestFailedError
from server.fetch import MAX_PER_HOST, Fetcher, parse_url
from server.reach import Reach, is_public
from tests.hostile.certificates import context_of, self_signed
from tests.server.origin import PUBLIC, Answer, Origin, redirect, response, running_origin

IMAGE = b"\xff\xd8\xff" + bytes(1000)
URL = "http://images.example/a.jpg"


@pytest.fixture
async def origin() -> AsyncIterator[Origin]:
    async with running_origin() as origin:
        origin.answers["/a.jpg"] = response(IMAGE)
        yield origin


def fetcher(origin: Origin, max_bytes: int = 100_000, max_fetches: int = 8) -> Fetcher:
    return Fetcher(max_bytes, max_fetches, origin.backend())


async def get(origin: Origin, url: str, timeout: float = 5.0, max_bytes: int = 100_000) -> bytes:
    one = fetcher(origin, max_bytes)
    try:
        return await one.fetch(url, lambda num_bytes: None, timeout)
    finally:
        await one.close()


async def refusal(origin: Origin, url: str, timeout: float = 5.0) -> tuple[str, str]:
    """Code and, for a fetch that failed, its reason."""
    with pytest.raises(RequestFailedError) as caught:
        await get(origin, url, timeout)
    return caught.value.code, caught.value.message.removeprefix("The image could not be fetched: ").rstrip(
        "."
    )


async def test_a_public_image_comes_and_grows_are_told(origin: Origin) -> None:
    pieces: list[int] = []
    one = fetcher(origin)
    assert await one.fetch(URL, pieces.append) == IMAGE
    await one.close()
    assert sum(pieces) == len(IMAGE)
    assert origin.dials == [PUBLIC]
    head = origin.hits[0].lower()
    assert "\r\nhost: images.example\r\n" in head
    assert "\r\naccept-encoding: identity\r\n" in head
    assert "cookie" not in head and "authorization" not in head and "referer" not in head


@pytest.mark.parametrize("url", [
    "http://127.0.0.1/", "http://localhost/", "http://0/", "http://127.1/", "http://2130706433/", "http://0x7f.1/",
    "http://0x7f000001/", "http://017700000001/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://[::127.0.0.1]/",
    "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://[fd00:ec2::254]/", "http://[fe80::1]/", "http://10.0.0.1/",
    "http://169.254.169.254/latest/meta-data", "http://168.63.129.16/", "http://100.100.100.200/", "http://192.168.1.1/",
    "http://172.16.0.1/", "http://224.0.0.1/", "http://255.255.255.255/", "http://private.example/", "http://mixed.example/",
    "http://mixed2.example/", "http://nothing.example/", "http://[::]/", "http://0.0.0.0/",
])  # fmt: skip
async def test_a_private_address_is_never_dialled(origin: Origin, url: str) -> None:
    origin.names |= {
        "private.example": ["10.1.2.3"], "mixed.example": [PUBLIC, "127.0.0.1"], "mixed2.example": ["::1", PUBLIC],
        "nothing.example": [],
    }  # fmt: skip
    assert (await refusal(origin, url))[0] == "image_url_not_allowed"
    assert (origin.dials, origin.hits) == ([], [])


@pytest.mark.parametrize("url", [
    "", "file:///etc/passwd", "gopher://images.example/", "ftp://images.example/", "data:image/png;base64,AAAA", "//images.example/",
    "http:images.example", "http://", "https:///a.jpg", "images.example/a.jpg", "http://ok@127.0.0.1/", "http://user:pass@images.example/",
    "http://@images.example/", "http://127.0.0.1:80\\@images.example/", "http://images.example/a b", "http://images.example/\r\nX: y",
    " http://images.example/", "http://images.example/\x00", "http://images.example:99999/", "http://images.example:x/",
    "http://" + "a" * 300 + ".example/", "http://images.example/" + "a" * 3000, "http://a\u0301\u0301.\u2028example/",
    "http://[::1/", "http://[fe80::1%25eth0]/", "http://-/\x7f",
])  # fmt: skip
async def test_what_is_no_plain_web_address_is_invalid(origin: Origin, url: str) -> None:
    assert (await refusal(origin, url))[0] in ("invalid_image_url", "image_url_not_allowed")
    assert (origin.dials, origin.hits) == ([], [])


@pytest.mark.parametrize("port", [22, 6379, 8080, 65535, 0])
async def test_only_web_ports_are_dialled(origin: Origin, port: int) -> None:
    assert (await refusal(origin, f"http://images.example:{port}/a.jpg"))[0] == "image_url_not_allowed"
    assert origin.dials == []


@pytest.mark.parametrize(
    "host",
    [
        "a..b",
        "...",
        "-.example",
        "no.such.example",
        "xn--",
        "017.0.0.0x1.999",
        "x" * 64 + ".example",
        "\u2603.example",
    ],
)
async def test_a_name_that_does_not_resolve_is_a_failed_fetch_or_no_address(
    origin: Origin, host: str
) -> None:
    code, reason = await refusal(origin, f"http://{host}/")
    assert code == "invalid_image_url" or (code, reason) == ("image_fetch_failed", "dns")
    assert origin.dials == []


async def test_a_resolver_that_chokes_on_a_label_is_a_dns_failure(origin: Origin) -> None:
    origin.names["odd.example"] = UnicodeError("label too long")
    assert await refusal(origin, "http://odd.example/") == ("image_fetch_failed", "dns")


async def test_each_dial_looks_up_once_and_checks_what_it_dials(origin: Origin) -> None:
    one = fetcher(origin)
    await one.fetch(URL, lambda num_bytes: None)
    origin.names["images.example"] = ["127.0.0.1"]  # rebinding
    with pytest.raises(RequestFailedError) as caught:
        await one.fetch(URL, lambda num_bytes: None)
    await one.close()
    assert caught.value.code == "image_url_not_allowed"
    assert origin.lookups == ["images.example"] * 2
    assert origin.dials == [PUBLIC]


@pytest.mark.parametrize(("location", "expected"), [
    ("http://127.0.0.1/", "image_url_not_allowed"), ("http://169.254.169.254/", "image_url_not_allowed"),
    ("//[::1]/", "image_url_not_allowed"), ("http://images.example:8080/", "image_url_not_allowed"),
    ("file:///etc/passwd", "redirect"), ("http://u:p@images.example/", "redirect"), ("", "redirect"), ("http://[", "redirect"),
    ("/loop", "redirect"), ("/caf\u00e9", "redirect"),
])  # fmt: skip
async def test_redirects_are_checked_like_the_first_address(
    origin: Origin, location: str, expected: str
) -> None:
    origin.answers["/r"] = redirect(location)
    origin.answers["/loop"] = redirect("/loop")
    code, reason = await refusal(origin, "http://images.example/r")
    assert expected in (code, reason)
    assert set(origin.dials) == {PUBLIC}


async def test_three_redirects_are_followed_and_a_fourth_is_not(origin: Origin) -> None:
    origin.answers |= {f"/{n}": redirect(f"/{n + 1}") for n in range(4)}
    origin.answers["/3"] = redirect("http://images.example/a.jpg")
    assert await get(origin, "http://images.example/1") == IMAGE
    assert await refusal(origin, "http://images.example/0") == ("image_fetch_failed", "redirect")


@pytest.mark.parametrize(
    "status",
    ["204 No Content", "206 Partial Content", "304 Not Modified", "404 Not Found", "500 Oh", "301 Moved"],
)
async def test_only_200_brings_an_image(origin: Origin, status: str) -> None:
    origin.answers["/s"] = response(b"", status)
    code, reason = await refusal(origin, "http://images.example/s")
    assert (code, reason) == ("image_fetch_failed", "redirect" if status.startswith("301") else "status")


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
    while True:
        writer.write(bytes(10_000))
        await writer.drain()


async def drip(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.05)


async def silence(writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


async def headers_for_ever(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\n")
    while True:
        writer.write(b"X: y\r\n" * 1000)
        await writer.drain()


async def interim_for_ever(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)
        await writer.drain()


def chunked(size: int) -> Answer:
    """Chunks of `size` bytes without end."""

    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"%x\r\n%s\r\n" % (size, bytes(size)) * 100)
            await writer.drain()

    return answer


async def extensions_for_ever(writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"400;x=" + b"y" * 50_000 + b"\r\n" + bytes(1024) + b"\r\n")
        await writer.drain()


async def slow_headers(writer: asyncio.StreamWriter) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc":
        writer.write(bytes([byte]))
        await writer.drain()
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(("answer", "reason"), [
    (interim_for_ever, "protocol"), (chunked(1), "protocol"), (chunked(1000), "too_large"), (extensions_for_ever, "too_large"),
    (slow_headers, "timeout"), (redirect("http://images.example/" + "a" * 5_000_000), "protocol"),
    (redirect("http://images.example/" + "a" * 5_000), "redirect"),
    (endless, "too_large"), (drip, "timeout"), (silence, "timeout"), (headers_for_ever, "protocol"),
    (response(b"", headers={"Content-Length": "100001"}), "too_large"), (response(bytes(100_001)), "too_large"),
    (response(IMAGE, headers={"Content-Length": "2000"}), "truncated"), (response(IMAGE, headers={"Content-Encoding": "gzip"}), "encoding"),
    (b"HTTP/9.9 what\r\n\r\n", "protocol"), (b"\x16\x03\x01", "protocol"), (b"", "protocol"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "truncated"),
])  # fmt: skip
async def test_a_bad_origin_costs_no_more_than_the_limits(origin: Origin, answer: bytes, reason: str) -> None:
    origin.answers["/bad"] = answer
    started = time.monotonic()
    assert await refusal(origin, "http://images.example/bad", timeout=0.5) == ("image_fetch_failed", reason)
    assert time.monotonic() - started < 3.0


async def test_a_length_smaller_than_the_body_is_what_counts(origin: Origin) -> None:
    origin.answers["/short"] = response(IMAGE, headers={"Content-Length": "3"})
    assert await get(origin, "http://images.example/short") == IMAGE[:3]


async def test_a_slow_resolver_is_cut_off(origin: Origin) -> None:
    async def slow(host: str, port: int) -> list[str]:
        await asyncio.sleep(3600)
        return []

    origin._resolve = slow  # type: ignore[method-assign]
    assert await refusal(origin, URL, timeout=0.3) == ("image_fetch_failed", "timeout")


async def test_nothing_in_the_environment_changes_the_way(
    origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{origin.port}")
    assert await get(origin, URL) == IMAGE
    assert origin.hits[0].startswith("GET /a.jpg ")


async def test_one_slow_host_takes_only_its_share(origin: Origin) -> None:
    origin.answers["/slow"] = silence
    origin.names["other.example"] = [PUBLIC]
    one = fetcher(origin, max_fetches=MAX_PER_HOST + 1)
    slow = [asyncio.create_task(one.fetch("http://images.example/slow", lambda n: None)) for _ in range(30)]
    async with asyncio.timeout(10):
        while len(origin.hits) < MAX_PER_HOST:
            await asyncio.sleep(0.01)
        assert await one.fetch("http://other.example/a.jpg", lambda n: None) == IMAGE
    assert len(origin.hits) == MAX_PER_HOST + 1
    for task in slow:
        task.cancel()
    await asyncio.wait(slow)
    await one.close()


async def test_too_many_waiting_fetches_are_refused_at_once(origin: Origin) -> None:
    origin.answers["/slow"] = silence
    one = fetcher(origin, max_fetches=1)
    urls = ["http://images.example/slow"] * 2 + ["http://other.example/slow"] * 2
    waiting = [asyncio.create_task(one.fetch(url, lambda n: None)) for url in urls]
    await asyncio.sleep(0)
    with pytest.raises(RequestFailedError) as caught:
        await one.fetch("http://third.example/", lambda n: None)
    assert caught.value.code == "overloaded"
    for task in waiting:
        task.cancel()
    await asyncio.wait(waiting)
    await one.close()


async def test_the_budget_can_stop_a_fetch(origin: Origin) -> None:
    def refuse(num_bytes: int) -> None:
        raise RequestFailedError("overloaded")

    one = fetcher(origin)
    with pytest.raises(RequestFailedError) as caught:
        await one.fetch(URL, refuse)
    await one.close()
    assert caught.value.code == "overloaded"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_a_certificate_nobody_signed_is_refused_even_when_the_environment_trusts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=images.example",
    ]
    names = ["-addext", "subjectAltName=DNS:images.example", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with running_origin(context) as origin:
        assert await refusal(origin, "https://images.example/a.jpg") == ("image_fetch_failed", "connect")
        assert origin.hits == []
        assert origin.dials == [PUBLIC]


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
async def test_tls_that_breaks_after_its_handshake_is_a_failed_fetch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = self_signed(tmp_path / "images", "images.example")
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr("server.fetch._TLS", trusting)

    async def answer(writer: asyncio.StreamWriter, begun: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(begun)
            await writer.drain()
            os.write(writer.get_extra_info("socket").fileno(), b"\x17\x03\x03\x00\x20" + bytes(32))

    async with running_origin(context_of(certificate)) as origin:
        for begun in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf"):
            origin.answers["/a.jpg"] = partial(answer, begun=begun)
            assert await refusal(origin, "https://images.example/a.jpg") == ("image_fetch_failed", "connect")
        assert len(origin.hits) == 2, "the handshake was over"


async def test_a_redirect_may_not_leave_tls(origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    one = fetcher(origin)

    async def answer(url: object, grow: object) -> object:
        return parse_url("http://images.example/a.jpg", Reach())

    monkeypatch.setattr(one, "_get", answer)
    with pytest.raises(RequestFailedError) as caught:
        await one.fetch("https://images.example/a.jpg", lambda n: None)
    await one.close()
    assert "redirect" in caught.value.message
    assert origin.hits == []


@pytest.mark.parametrize(("address", "expected"), [
    ("8.8.8.8", True), ("2606:4700::1111", True), ("::ffff:8.8.8.8", True), ("::ffff:10.0.0.1", False), ("1.1.1.1%eth0", True),
    ("2001:db8::1", False), ("2001::1", False), ("3fff::1", False), ("nonsense", False), ("", False), ("fe80::1%eth0", False),
])  # fmt: skip
def test_public_addresses(address: str, expected: bool) -> None:
    assert is_public(address) is expected
