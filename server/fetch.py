"""Fetching an image by its URL without being made to reach into a private network.

Every hop, redirects too, goes through the same guarded dial (dial.py). There are no proxies, no cookies, no
credentials, no decompression. Together with dial.py the only place that may use an HTTP client.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping

import certifi
import httpcore
import httpx

from server.dial import PORTS, BlockedError, FetchFailedError, GuardedBackend
from server.errors import RequestFailedError

MAX_URL_CHARS = 2048
MAX_HOST_CHARS = 253
MAX_REDIRECTS = 3
MAX_PER_HOST = 8
MAX_WAITERS_PER_FETCH = 4
CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 5.0
TOTAL_TIMEOUT = 10.0

_REDIRECTS = {301, 302, 303, 307, 308}
_FORBIDDEN_CHARS = re.compile(r"[\x00-\x20\x7f\\]")
_USERINFO = re.compile(r"[^/?#]*//[^/?#]*@")
_HEADERS = [(b"Accept", b"image/*"), (b"Accept-Encoding", b"identity"), (b"User-Agent", b"inference-engine")]

Grow = Callable[[int], None]
"""Told of every piece that arrived, in bytes; may raise to stop the fetch."""


def parse_url(text: str) -> httpx.URL:
    """Parse once; what comes out is what is dialled.

    Raises RequestFailedError ``invalid_image_url``, or ``image_url_not_allowed`` for another port.
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
    if port is not None and port not in PORTS:
        raise RequestFailedError("image_url_not_allowed")
    return url


class Fetcher:
    """The one connection pool for images, with its own limits so that other requests never wait for it."""

    def __init__(
        self, max_bytes: int, max_fetches: int, backend: httpcore.AsyncNetworkBackend | None = None
    ) -> None:
        self._max_bytes = max_bytes
        self._places = asyncio.Semaphore(max_fetches)
        self._max_users = max_fetches * MAX_WAITERS_PER_FETCH
        self._num_users = 0
        self._hosts: dict[str, _Host] = {}
        self._pool = httpcore.AsyncConnectionPool(
            ssl_context=_TLS,
            max_connections=max_fetches,
            max_keepalive_connections=0,
            network_backend=backend or GuardedBackend(),
        )

    def check(self, address: str) -> None:
        """Raises RequestFailedError for an address that would be refused before anything is dialled."""
        parse_url(address)

    async def fetch(self, address: str, grow: Grow, timeout: float = TOTAL_TIMEOUT) -> bytes:
        """The bytes behind `address`, within `timeout` seconds over all hops, TOTAL_TIMEOUT at most.

        Raises RequestFailedError ``invalid_image_url``, ``image_url_not_allowed``, ``image_fetch_failed`` or
        ``overloaded``.
        """
        url = parse_url(address)
        if self._num_users >= self._max_users:
            raise RequestFailedError("overloaded")
        self._num_users += 1
        try:
            async with asyncio.timeout(min(timeout, TOTAL_TIMEOUT)):
                return await self._follow(url, grow)
        except BlockedError:
            raise RequestFailedError("image_url_not_allowed") from None
        except FetchFailedError as error:
            raise RequestFailedError("image_fetch_failed", error.reason) from None
        except (TimeoutError, httpcore.TimeoutException):
            raise RequestFailedError("image_fetch_failed", "timeout") from None
        except httpcore.NetworkError:
            raise RequestFailedError("image_fetch_failed", "connect") from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise RequestFailedError("image_fetch_failed", "protocol") from None
        finally:
            self._num_users -= 1

    async def _follow(self, url: httpx.URL, grow: Grow) -> bytes:
        for _ in range(MAX_REDIRECTS + 1):
            async with self._place(url.raw_host.decode("ascii")):
                answer = await self._get(url, grow)
            if isinstance(answer, bytes):
                return answer
            if url.scheme == "https" and answer.scheme == "http":
                raise FetchFailedError("redirect")
            url = answer
        raise FetchFailedError("redirect")

    @contextlib.asynccontextmanager
    async def _place(self, host: str) -> AsyncIterator[None]:
        """The host's place first: who waits for a slow host must not hold one that others could use."""
        key = host.lower().rstrip(".")
        entry = self._hosts.setdefault(key, _Host())
        entry.num_users += 1
        try:
            async with entry.places, self._places:
                yield
        finally:
            entry.num_users -= 1
            if entry.num_users == 0:
                self._hosts.pop(key, None)

    async def _get(self, url: httpx.URL, grow: Grow) -> bytes | httpx.URL:
        """The body, or where a redirect leads."""
        target = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        timeouts = {"connect": CONNECT_TIMEOUT, "read": READ_TIMEOUT, "write": READ_TIMEOUT}
        async with self._pool.stream(
            "GET", target, headers=_HEADERS, extensions={"timeout": timeouts}
        ) as response:
            headers = {name.lower(): value for name, value in response.headers}
            if response.status in _REDIRECTS:
                return _redirect(url, headers)
            if response.status != 200:
                raise FetchFailedError("status")
            if headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
                raise FetchFailedError("encoding")
            return await self._read(response, headers, grow)

    async def _read(self, response: httpcore.Response, headers: Mapping[bytes, bytes], grow: Grow) -> bytes:
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_bytes:
            raise FetchFailedError("too_large")
        body = bytearray()
        try:
            async for chunk in response.aiter_stream():
                if len(body) + len(chunk) > self._max_bytes:
                    raise FetchFailedError("too_large")
                grow(len(chunk))
                body += chunk
        except httpcore.ProtocolError:
            raise FetchFailedError("truncated") from None
        return bytes(body)

    async def close(self) -> None:
        """Close what connections there are."""
        await self._pool.aclose()


class _Host:
    def __init__(self) -> None:
        self.places = asyncio.Semaphore(MAX_PER_HOST)
        self.num_users = 0


def _redirect(url: httpx.URL, headers: Mapping[bytes, bytes]) -> httpx.URL:
    try:
        location = headers.get(b"location", b"").decode("ascii")
        if not location or _FORBIDDEN_CHARS.search(location):
            raise FetchFailedError("redirect")
        return parse_url(str(url.join(location)))
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
