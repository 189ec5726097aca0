"""Who may load and unload models: an admin key; as long as there are no keys, only somebody on this very machine."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import Request
from starlette.types import Scope

from server.errors import RequestFailedError

_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip")


def check_operator(scope: Scope) -> None:
    """Raises RequestFailedError ``admin_key_required`` (with keys) or ``forbidden`` (without)."""
    role = scope["state"].get("role")
    if role is None:
        check_is_local(Request(scope))
    elif role != "admin":
        raise RequestFailedError("admin_key_required")


def check_is_local(request: Request) -> None:
    """Raises RequestFailedError ``forbidden``.

    The client's address must be loopback. That alone would let in everybody behind a proxy on this machine, and
    any web page that a browser on it shows: so nothing may be forwarded, and the names in Host and Origin must be
    loopback as well.
    """
    client = request.client.host if request.client else ""
    origin = request.headers.get("origin")
    is_local = (
        is_loopback(client)
        and not any(name in request.headers for name in _FORWARDED)
        and _names_loopback(f"//{request.headers.get('host', '')}")
        and (origin is None or _names_loopback(origin))
    )
    if not is_local:
        raise RequestFailedError("forbidden")


def _names_loopback(url: str) -> bool:
    try:
        name = urlsplit(url).hostname or ""
    except ValueError:
        return False
    return name == "localhost" or is_loopback(name)


def is_loopback(address: str) -> bool:
    """Whether it is this machine's own; False for what is no address."""
    try:
        ip = ip_address(address)
    except ValueError:
        return False
    return ((ip.version == 6 and ip.ipv4_mapped) or ip).is_loopback
