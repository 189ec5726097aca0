"""Who is let in: everybody with a key, nobody else, but for the few paths that are open.

In front of the router, so that a path that does not exist, a route that is new and an application that is mounted are
all behind a key as long as nobody says otherwise. It is decided before a byte of the body is read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import partial
from ipaddress import ip_address

from starlette.types import ASGIApp, Receive, Scope, Send

from server.errors import RequestFailedError
from server.keys import Keys
from server.rate_limit import RateLimit
from server.replies import ErrorReply

NOBODY = "nobody"
"""The role of who gave no valid key, on an open path. Without keys nobody has a role at all."""
_POLICY_VIOLATION = 1008
_CHALLENGE = {"www-authenticate": "Bearer"}


class Access:
    """Pure ASGI, inside RequestScope. Puts `role` and `key_id`, the key's name, into ``scope["state"]``, and `charge`,
    which counts more requests than the one.

    `open_paths` are compared with the path as the router sees it, byte by byte: nothing is normalised. Neither a key
    nor a rate is asked for there; a valid key is noticed.
    """

    def __init__(
        self, app: ASGIApp, keys: Keys | None, limit: RateLimit, open_paths: Collection[str]
    ) -> None:
        self._app = app
        self._keys = keys
        self._limit = limit
        self._open_paths = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on or refuse it."""
        if scope["type"] == "http":
            try:
                self._admit(scope)
            except RequestFailedError as error:
                await ErrorReply(error, scope)(scope, receive, send)
                return
        elif (
            scope["type"] == "websocket"
        ):  # there are none; should there ever be, this is where they are let in
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION})
            return
        await self._app(scope, receive, send)

    def _admit(self, scope: Scope) -> None:
        state = scope["state"]
        is_open = scope["path"].removeprefix(scope.get("root_path", "")) in self._open_paths
        rate = None
        if self._keys is not None:
            key = self._keys.find(presented_key(scope["headers"]))
            if key is not None:
                state["role"], state["key_id"], rate = key.role, key.name, key.rate_limit
            elif is_open:
                state["role"] = NOBODY
            else:
                raise RequestFailedError("unauthorized", headers=_CHALLENGE)
        if is_open:
            return
        name = state.get("key_id") or _network(scope)
        if wait := self._limit.take(name, rate):
            raise RequestFailedError("rate_limited", retry_after=wait)
        state["charge"] = partial(self._limit.charge, name, rate=rate)


def presented_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The key of a request, from ``Authorization: Bearer`` or ``X-API-Key``; None where there is none or more than
    one thing that it could be."""
    bearers = []
    plain = []
    for name, value in headers:
        if name == b"authorization":
            bearers.append(value)
        elif name == b"x-api-key":
            plain.append(value)
    if len(bearers) > 1 or len(plain) > 1:
        return None
    found = set(plain)
    for value in bearers:
        scheme, _, key = value.partition(b" ")
        found.add(key.strip(b" ") if scheme.lower() == b"bearer" else b"")
    return found.pop() if len(found) == 1 else None


def _network(scope: Scope) -> str:
    """The client's address as the connection has it, of IPv6 the half that its provider gave it. What a header says
    of it counts for nothing."""
    client = scope.get("client")
    address: str = client[0] if client else ""
    if ":" not in address:
        return address
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    mapped = ip.ipv4_mapped if ip.version == 6 else None
    return str(mapped) if mapped else ip.packed[:8].hex()
