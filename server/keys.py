"""API keys: a file that names them and holds their SHA-256, never the keys themselves.

    alice = {sha256 = "9f86...", expires = 2027-01-31}
    ops = {sha256 = "60f3...", role = "admin", rate_limit = 100}

A thread reads the file again every two seconds: keys are added, replaced and revoked without a restart. One that
cannot be read or is damaged then changes nothing, and an error is logged; at start it is refused. Nothing out of the
file but the names ever gets into a log or an error.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import math
import re
import threading
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from server.settings_load import SettingsError

PREFIX = "engine_"
"""What our keys begin with, so that people and scanners for secrets recognise one."""
MAX_KEY_LENGTH = 256
MAX_KEYS = 1000
"""Every key is compared with every request's."""
MAX_FILE_BYTES = 1 << 20
REREAD_INTERVAL = 2.0
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

log = logging.getLogger(__name__)

Role = Literal["client", "admin"]


class KeysError(SettingsError):
    """The keys file cannot be read, is damaged, or holds no key."""


def _to_moment(value: object) -> datetime:
    """A date means its beginning; without a zone it is UTC."""
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time_of_day(), UTC)
    raise ValueError("must be a date, without quotation marks: 2027-01-31")


class _Entry(BaseModel):
    """One line of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    role: Role = "client"
    expires: Annotated[datetime | None, BeforeValidator(_to_moment)] = None
    rate_limit: Annotated[float | None, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = None


@dataclass(frozen=True, slots=True)
class Key:
    """`expires_at` in seconds since 1970; `rate_limit` in requests per second, None: what the settings say."""

    name: str
    digest: bytes
    role: Role
    expires_at: float = math.inf
    rate_limit: float | None = None


def is_name(text: str) -> bool:
    """Whether a key may be called so. What looks like a key is not a name: names are logged."""
    return _NAME.fullmatch(text) is not None and not text.startswith(PREFIX)


def digest_of(key: bytes) -> bytes:
    """The SHA-256 under which the file holds `key`. Plain, since a key is random: no guessing to slow down."""
    return hashlib.sha256(key).digest()


class Keys:
    """The keys of one file. Made at start, which raises KeysError; `start` and `stop` its thread."""

    def __init__(self, path: Path, interval: float) -> None:
        self._path = path
        self._interval = interval
        self._content = read_file(path)
        self._keys = parse_keys(self._content, path)
        self._complaint = ""
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="keys", daemon=True)
        self._log_keys()

    def __repr__(self) -> str:
        return f"Keys({', '.join(key.name for key in self._keys)})"

    def find(self, presented: bytes | None) -> Key | None:
        """The key that was presented, if it is one and has not expired. The time does not tell how near it came."""
        if not presented or len(presented) > MAX_KEY_LENGTH:
            return None
        digest = digest_of(presented)
        found = None
        for key in self._keys:
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found if found is not None and time.time() < found.expires_at else None

    def reread(self) -> None:
        """Take over what the file says now; if that cannot be used keep what there is, and say so once."""
        try:
            content = read_file(self._path)
            if content == self._content:
                if self._complaint:
                    log.info("the keys file is as it was read before", extra={"path": str(self._path)})
                self._complaint = ""
                return
            self._keys = parse_keys(content, self._path)
        except KeysError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.error("KEYS FILE NOT USED, the keys from before stay valid: %s", error)
            return
        self._content, self._complaint = content, ""
        self._log_keys()

    def start(self) -> None:
        """Watch the file from here on."""
        self._thread.start()

    def stop(self) -> None:
        """Returns at once; the thread holds nothing."""
        self._stopping.set()

    def _watch(self) -> None:
        while not self._stopping.wait(self._interval):
            self.reread()

    def _log_keys(self) -> None:
        now = time.time()
        by_role = {
            role: [key.name for key in self._keys if key.role == role and now < key.expires_at]
            for role in ("client", "admin")
        }
        expired = [key.name for key in self._keys if key.expires_at <= now]
        log.log(
            logging.INFO if any(by_role.values()) else logging.WARNING,
            "keys read" if any(by_role.values()) else "keys read: every one has expired, nobody is let in",
            extra={"clients": by_role["client"], "admins": by_role["admin"], "expired": expired},
        )


def read_file(path: Path) -> bytes:
    """Its content. Raises KeysError."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise KeysError([f"keys file {path} cannot be read: {error.strerror}"]) from None
    if len(content) > MAX_FILE_BYTES:
        raise KeysError([f"keys file {path} is larger than {MAX_FILE_BYTES} bytes"])
    return content


def parse_keys(content: bytes, path: Path) -> tuple[Key, ...]:
    """At least one key. Raises KeysError, whose lines hold nothing of `content` but names of keys."""
    try:
        tables = tomllib.loads(content.decode("utf-8"))
    except UnicodeDecodeError:
        raise KeysError([f"keys file {path} is not UTF-8"]) from None
    except (ValueError, RecursionError) as error:  # its text may quote the file
        place = re.search(r"\(at [a-z0-9, ]+\)", str(error))
        raise KeysError([f"keys file {path} is not valid TOML {place.group() if place else ''}"]) from None
    if not tables:
        raise KeysError([f"keys file {path} holds no key; `inference-engine key NAME` makes one"])
    if len(tables) > MAX_KEYS:
        raise KeysError([f"keys file {path} holds more than {MAX_KEYS} keys"])
    keys: list[Key] = []
    lines: list[str] = []
    for position, (name, table) in enumerate(tables.items(), 1):
        if not is_name(name):
            rule = f"1 to 64 letters, digits, dashes and underscores, not beginning with {PREFIX}"
            lines.append(f"keys file {path}: the name of key {position} must be {rule}")
            continue
        try:
            keys.append(_to_key(name, _Entry.model_validate(table)))
        except ValidationError as error:
            lines += [f"keys file {path}: {name}: {reason}" for reason in _reasons(error)]
    lines += [f"keys file {path}: {first} and {second} are the same key" for first, second in _twins(keys)]
    if lines:
        raise KeysError(lines)
    return tuple(keys)


def _to_key(name: str, entry: _Entry) -> Key:
    expires_at = entry.expires.timestamp() if entry.expires else math.inf
    return Key(name, bytes.fromhex(entry.sha256), entry.role, expires_at, entry.rate_limit)


def _reasons(error: ValidationError) -> list[str]:
    """What is wrong, without what was found there: it may be a key."""
    reasons = []
    for problem in error.errors(include_url=False, include_input=False, include_context=False):
        field = str(problem["loc"][0]) if problem["loc"] else ""
        if field == "sha256":
            reasons.append("sha256 must be 64 of 0-9a-f, as `inference-engine key` prints it")
        elif field in _Entry.model_fields:
            reasons.append(f"{field} {problem['msg'].removeprefix('Value error, ')}")
        else:
            reasons.append(f"must be a table of {', '.join(_Entry.model_fields)}, and nothing else")
    return reasons


def _twins(keys: Sequence[Key]) -> list[tuple[str, str]]:
    first: dict[bytes, str] = {}
    twins = []
    for key in keys:
        if key.digest in first:
            twins.append((first[key.digest], key.name))
        first.setdefault(key.digest, key.name)
    return twins
