"""A keys file with one key of each kind, and the keys themselves."""

from __future__ import annotations

from pathlib import Path

from server.keys import PREFIX, digest_of

CLIENT, ADMIN, EXPIRED, WRONG = (f"{PREFIX}{name}-{'k' * 36}" for name in ("client", "admin", "old", "wrong"))
MOMENT_AGO = "2020-01-01"


def line(name: str, key: str, more: str = "") -> str:
    """Of a keys file."""
    return f'{name} = {{sha256 = "{digest_of(key.encode()).hex()}"{", " + more if more else ""}}}\n'


def write_keys(folder: Path) -> Path:
    """Names are alice (client), ops (admin) and bob (expired)."""
    path = folder / "keys.toml"
    path.write_text(
        line("alice", CLIENT)
        + line("ops", ADMIN, 'role = "admin"')
        + line("bob", EXPIRED, f"expires = {MOMENT_AGO}")
    )
    return path


def bearer(key: str) -> dict[str, str]:
    """The usual header."""
    return {"authorization": f"Bearer {key}"}
