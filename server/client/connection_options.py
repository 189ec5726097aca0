"""How both clients connect."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

import httpx

MAX_CONNECTIONS = 100


def connection_options(url: str, api_key: str | None) -> dict[str, Any]:
    """Keywords of `httpx.Client` and `httpx.AsyncClient`. Raises ValueError for what is no http or https address.

    The usual variables of proxies and certificates count, but never for this machine's own addresses. Redirects are
    not followed: the key goes nowhere else.
    """
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ValueError(f"{url!r} is no address: {error}") from None
    if base.scheme not in ("http", "https") or not base.host:
        raise ValueError(f"{url!r} is no http or https address")
    return {
        "base_url": base,
        "headers": {"authorization": f"Bearer {api_key}"} if api_key else {},
        "trust_env": not _is_here(base.host),
        "verify": base.scheme == "https",  # reading certificates takes longer than a request
        "limits": httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS),
        "follow_redirects": False,
    }


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
