"""``inference-engine key``."""

from __future__ import annotations

import secrets
import sys
from datetime import date

from server.keys import PREFIX, digest_of, is_name

NUM_RANDOM_BYTES = 32


def make_key(name: str, *, is_admin: bool = False, expires: date | None = None) -> int:
    """Print a new key to standard error, its line of the keys file to standard output; the exit code.

    So `inference-engine key NAME >> FILE` shows the key and keeps what is needed to recognise it.
    """
    if not is_name(name):
        print(
            f"inference-engine: a key's name is 1 to 64 letters, digits, dashes and underscores and does not begin "
            f"with {PREFIX}",
            file=sys.stderr,
        )
        return 2
    key = PREFIX + secrets.token_urlsafe(NUM_RANDOM_BYTES)
    fields = [f'sha256 = "{digest_of(key.encode()).hex()}"']
    if is_admin:
        fields.append('role = "admin"')
    if expires is not None:
        fields.append(f"expires = {expires.isoformat()}")
    print(f"The key of {name}, shown this once:\n\n    {key}\n", file=sys.stderr)
    print("Its line of the keys file (keys_file in the settings), on standard output:\n", file=sys.stderr)
    print(f"{name} = {{{', '.join(fields)}}}")
    return 0
