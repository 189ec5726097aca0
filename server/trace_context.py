"""`traceparent`: the trace that a request belongs to, as W3C Trace Context writes it (https://www.w3.org/TR/trace-context).

Understood whether or not spans are sent anywhere, so that logs can be joined with the client's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_FORMAT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]*)?")
_MAX_LENGTH = 256


@dataclass(frozen=True, slots=True)
class TraceContext:
    """Hexadecimal: 32 digits of the trace, 16 of the caller's span; `flags` has bit 0 set where it is recorded."""

    trace_id: str
    span_id: str
    flags: int


def trace_context(headers: Iterable[tuple[bytes, bytes]]) -> TraceContext | None:
    """None without a valid one, and where there are two: it is not for us to choose."""
    found = [value for name, value in headers if name == b"traceparent"]
    return parse_traceparent(found[0]) if len(found) == 1 else None


def parse_traceparent(value: bytes) -> TraceContext | None:
    """None where it is not valid. A version that is not known yet may say more after what is known."""
    match = _FORMAT.fullmatch(value) if len(value) <= _MAX_LENGTH else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    is_valid = (
        version != b"ff"
        and (version != b"00" or more is None)
        and trace_id.strip(b"0")
        and span_id.strip(b"0")
    )
    return TraceContext(trace_id.decode(), span_id.decode(), int(flags, 16)) if is_valid else None
