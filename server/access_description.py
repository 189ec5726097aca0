"""What keys and a rate limit change in the OpenAPI description."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from server.access_settings import AccessSettings
from server.errors import KINDS
from server.guarded_route import GuardedRoute, Level

_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}


def describe_access(
    document: dict[str, Any], routes: Iterable[GuardedRoute], settings: AccessSettings
) -> None:
    """Add to `document` which routes want a key, and what is said to whom is not let in."""
    has_keys = settings.keys_file is not None
    if has_keys:
        document["components"]["securitySchemes"] = _SCHEMES
    for route in routes:
        codes = _codes(route.access, has_keys=has_keys, has_limit=settings.rate_limit > 0)
        for name, operation in document["paths"].get(route.path, {}).items():
            if name == "parameters":
                continue
            error = operation["responses"]["500"]["content"]  # in the shape of its protocol
            added = {str(KINDS[code].status.value): {"description": code, "content": error} for code in codes}
            if has_keys:
                schemes = () if route.access == "public" else _SCHEMES
                operation["security"] = [{scheme: []} for scheme in schemes]
            operation["responses"] = dict(sorted((operation["responses"] | added).items()))


def _codes(access: Level, *, has_keys: bool, has_limit: bool) -> list[str]:
    if access == "public":
        return []
    codes = ["rate_limited"] if has_limit else []
    if has_keys:
        codes.append("unauthorized")
        if access == "admin":
            codes.append("admin_key_required")
    return codes
