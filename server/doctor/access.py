"""Who will be let in: the keys file, and whether somebody else on the network could ask without one."""

from __future__ import annotations

import socket
import stat
import time
from pathlib import Path

from server.doctor.finding import Finding, ok, problem, warning
from server.keys import KeysError, parse_keys, read_file
from server.operators import is_loopback
from server.settings import Settings

SOON = 14 * 86_400
"""Seconds before a key expires from which on it is said."""


def check_access(settings: Settings) -> list[Finding]:
    """The keys' names, never more of them."""
    if settings.keys_file is not None:
        return _check_file(settings.keys_file)
    if _is_only_here(settings.host):
        return [ok("keys", f"no keys: only programs on this machine reach {settings.host}")]
    remedy = (
        "`inference-engine key NAME >> keys.toml` and ENGINE_KEYS_FILE=keys.toml, or ENGINE_HOST=127.0.0.1"
    )
    return [warning("keys", f"no keys: whoever reaches {settings.host} may ask", remedy)]


def _check_file(path: Path) -> list[Finding]:
    try:
        keys = parse_keys(read_file(path), path)
    except KeysError as error:
        remedy = "`inference-engine key NAME` prints a line as it must be; the server does not start with this file"
        return [problem("keys", line, remedy) for line in error.lines]
    names = ", ".join(f"{key.name} (admin)" if key.role == "admin" else key.name for key in keys)
    findings = [ok("keys", f"{path}: {names}")]
    now = time.time()
    for key in keys:
        if key.expires_at < now + SOON:
            state = "has expired" if key.expires_at <= now else "expires within two weeks"
            remedy = f"give its owner a new one: `inference-engine key NEW_NAME >> {path}`"
            findings.append(warning("keys", f"the key {key.name} {state}", remedy))
    if path.stat().st_mode & stat.S_IWOTH:
        findings.append(
            warning("keys", f"{path}: every user of this machine can add keys", f"`chmod o-w {path}`")
        )
    return findings


def _is_only_here(host: str) -> bool:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        return False
    return all(is_loopback(str(address[4][0])) for address in found)
