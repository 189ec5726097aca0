"""Fetching an image by its URL without being made to reach into a private network.

Every hop, redirects too, goes through the same guarded dial (dial.py). There are no proxies, no cookies, no
credentials, no decompression. Together with dial.py the only place that may use an HTTP client.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping

import certifi
import httpcore
import httpx

from server.dial import BlockedError, BoundedStream, FetchFailedError, GuardedBackend
from server.errors import RequestFailedError
from server.loop_guard import FETCH_HEADER
from server.places import Places
from server.reach import MAX_HOST_CHARS, Reach

MAX_URL_CHARS = 2048
MAX_REDIRECTS = 3
MAX_PER_HOST = 8
MAX_PER_OWNER = 4
CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 5.0
TOTAL_TIMEOUT = 10.0
MAX_SMALL_CHUNKS = 512
LEAST_CHUNK_BYTES = 256
"""Of the average chunk beyond MAX_SMALL_CHUNKS: parsing twenty million chunks of one byte would leave the loop no time
for anything else."""

_REDIRECTS = {301, 302, 303, 307, 308}
_FORBIDDEN_CHARS = re.compile(r"[\x00-\x20\x7f\\]")
_USERINFO = re.compile(r"[^/?#]*//[^/?#]*@")
_HEADERS = [
    (b"Accept", b"image/*"),
    (b"Accept-Encoding", b"identity"),
    (b"User-Agent", b"inference-engine"),
    (FETCH_HEADER, b"1"),
]

Grow = Callable[[int], None]
"""Told of every piece that arrived, in bytes; may raise to stop the fetch."""


def parse_url(text: str, reach: Reach) -> httpx.URL:
    """Parse once; what comes out is what is dialled.

    Raises RequestFailedError ``invalid_image_url``, or ``image_url_not_allowed`` for a host or port out of `reach`.
    """
    if not text or len(text) > MAX_URL_CHARS or _FORBIDDEN_CHARS.search(text):
        raise RequestFailedError("invalid_image_url")
    try:
        url = httpx.URL(text)
        host = url.raw_host.decode("ascii")
        port = url.port
    except (httpx.InvalidURL, ValueError):  # IDNA errors are ValueErrors
        raise RequestFailedError("invalid_image_url") from None
    is_web = url.scheme in ("http", "https") and 0 < len(host) <= MAX_HOST_CHARS and "%" not in host
    if not is_web or _USERINFO.match(text):
        raise RequestFailedError("invalid_image_url")
    if port is None:
        port = 443 if url.scheme == "https" else 80
    if port not in reach.ports or not reach.has_host(host):
        raise RequestFailedError("image_url_not_allowed")
    return url


class Fetcher:
    """The one connection pool for images, with its own limits so that other requests never wait for it."""

    def __init__(
        self,
        max_bytes: int,
        max_fetches: int,
        backend: GuardedBackend | None = None,
        *,
        reach: Reach | None = None,
        max_per_host: int = MAX_PER_HOST,
        max_per_owner: int = MAX_PER_OWNER,
    ) -> None:
        self._max_bytes = max_bytes
        self._reach = reach or Reach()
        self._places = Places(max_fetches, max_per_host, max_per_owner)
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_TLS,
            max_connections=max_fetches,
            max_keepalive_connections=0,
            network_backend=backend or GuardedBackend(reach=self._reach),
        )

    def check(self, address: str) -> None:
        """Raises RequestFailedError for an address that would be refused before anything is dialled."""
        parse_url(address, self._reach)

    async def fetch(self, address: str, grow: Grow, timeout: float = TOTAL_TIMEOUT, owner: str = "") -> bytes:
        """The bytes behind `address`, within `timeout` seconds over all hops and all waiting, TOTAL_TIMEOUT at most.
        `owner` is the id of the API key that asks, empty without one.

        Raises RequestFailedError ``invalid_image_url``, ``image_url_not_allowed``, ``image_fetch_failed`` or
        ``overloaded``.
        """
        url = parse_url(address, self._reach)
        try:
            async with asyncio.timeout(min(timeout, TOTAL_TIMEOUT)), self._places.download(owner):
                return await self._follow(url, grow)
        except BlockedError:
            raise RequestFailedError("image_url_not_allowed") from None
        except FetchFailedError as error:
            raise RequestFailedError("image_fetch_failed", error.reason) from None
        except (TimeoutError, httpcore.TimeoutException):
            raise RequestFailedError("image_fetch_failed", "timeout") from None
        except (httpcore.NetworkError, ssl.SSLError):  # httpcore passes on what breaks behind the handshake
            raise RequestFailedError("image_fetch_failed", "connect") from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise RequestFailedError("image_fetch_failed", "protocol") from None

    async def _follow(self, url: httpx.URL, grow: Grow) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            async with self._places.hop(url.raw_host.decode("ascii")):
                answer = await self._get(url, grow)
            if isinstance(answer, bytes):
                return answer
            if url.scheme == "https" and answer.scheme == "http":
                raise FetchFailedError("redirect")
            url = answer
        raise FetchFailedError("redirect")

    async def _get(self, url: httpx.URL, grow: Grow) -> bytes | httpx.URL:
        """The body, or where a redirect leads."""
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        timeouts = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": READ_TIMEOUT}
        async with self._pool.stream(
            "GET", target, headers=_HEADERS, extensions={"timeout": timeouts}
        ) as response:
            headers = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS:
                return _redirect(url, headers, self._reach)
            if response.status != 200:
                raise FetchFailedError("status")
            if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
                raise FetchFailedError("encoding")
            stream = response.extensions["network_stream"]
            assert isinstance(stream, BoundedStream), "every dial is guarded"
            stream.expect_body(self._max_bytes)
            return await self._read(response, headers, grow)

    async def _read(self, response: httpcore.Response, headers: Mapping[bytes, bytes], grow: Grow) -> bytes:
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_bytes:
            raise FetchFailedError("too_large")
        body, num_chunks = bytearray(), 0
        try:
            async for chunk in response.aiter_stream():
                if len(body) + len(chunk) > self._max_bytes:
                    raise FetchFailedError("too_large")
                num_chunks += 1
                if num_chunks > MAX_SMALL_CHUNKS + len(body) // LEAST_CHUNK_BYTES:
                    raise FetchFailedError("protocol")
                grow(len(chunk))
                body += chunk
        except httpcore.ProtocolError:
            raise FetchFailedError("truncated") from None
        return bytes(body)

    async def close(self) -> None:
        """Close what connections there are."""
        await self._pool.aclose()


def _redirect(url: httpx.URL, headers: Mapping[bytes, bytes], reach: Reach) -> httpx.URL:
    try:
        location = headers.get(b"location", b"").decode("ascii")
        if not location or _FORBIDDEN_CHARS.search(location):
            raise FetchFailedError("redirect")
        return parse_url(str(url.join(location)), reach)
    except (httpx.InvalidURL, ValueError):
        raise FetchFailedError("redirect") from None
    except RequestFailedError as error:
        if error.code == "image_url_not_allowed":
            raise BlockedError("redirect") from None
        raise FetchFailedError("redirect") from None


def _tls() -> ssl.SSLContext:
    """Certificates of certifi only: SSL_CERT_FILE in the environment cannot widen what is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certifi.where())
    return context


_TLS = _tls()  # read with this module, which is imported in a thread
