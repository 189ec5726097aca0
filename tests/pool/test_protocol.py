from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pool.protocol import (
    Batch,
    Done,
    Fatal,
    FrameReader,
    Message,
    Progress,
    ProtocolError,
    Ready,
    Slab,
    Stop,
    encode,
)

MESSAGES: list[Message] = [
    Ready({"labels": ["a"]}, [8, 8, 3], 0.5),
    Ready({}, [8], 0.5, {"confidence": 0.1}),
    Done(2, [], {}, True, 4, []),
    Slab(4, [8, 8, 3]),
    Batch(1, [[0, 2**64 - 1, {"confidence": 0.25}]]),
    Done(1, [[5, None, 3], [6, ["internal", "why"], 0]], {"infer": 0.1}, payloads=[b"{1}", b""]),
    Fatal("load_failed", "réason", True),
    Progress({"done_bytes": 1}),
    Stop(),
]


@given(st.lists(st.integers(1, 40), max_size=60))
@settings(max_examples=50)
def test_messages_survive_any_cut_of_the_stream(cuts: list[int]) -> None:
    stream = b"".join(map(encode, MESSAGES))
    reader, received, start = FrameReader(1000), [], 0
    for size in [*cuts, len(stream)]:
        received += reader.feed(stream[start : start + size])
        start += size
    assert received == MESSAGES


@pytest.mark.parametrize(
    "stream",
    [
        b"\xff" * 16,  # a frame of 4 GB
        b"\0\0\0\x01" + b"\0" * 12,  # shorter than its own header
        b"\0\0\0\x07\x63\0\0\0\x02[]",  # unknown kind
        b"\0\0\0\x07\x07\0\0\0\xff[]",  # JSON longer than the frame
        b"\0\0\0\x07\x07\0\0\0\x02{]",  # not JSON
        b"\0\0\0\x08\x07\0\0\0\x03[1]",  # a field too many
        encode(Done(1, [[5, None, 3]], {}, payloads=[b"12"])),  # sizes that do not add up
        encode(Done(1, [[5, None, -1], [6, None, 3]], {}, payloads=[b"12"])),
        encode(Done(1, [[5]], {}, payloads=[])),
    ],
)
def test_nonsense_is_a_protocol_error(stream: bytes) -> None:
    with pytest.raises(ProtocolError):
        list(FrameReader(1000).feed(stream))


@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(stream: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        list(FrameReader(1000).feed(stream))


def test_a_frame_over_the_limit_is_refused_before_it_is_read() -> None:
    frame = encode(Progress({"x": "y" * 2000}))
    with pytest.raises(ProtocolError):
        list(FrameReader(1000).feed(frame[:16]))


@pytest.mark.parametrize(
    "message",
    [
        Done(1, [[5, None, 2]], [1], payloads=[b"{}"]),  # type: ignore[arg-type]
        Done(1, [[5, None, 2]], {"infer": "x"}, payloads=[b"{}"]),  # type: ignore[dict-item]
        Done(1, [[5, "oops!", 0]], {}, payloads=[b""]),
        Done(1, [[5, [1, 2], 0]], {}, payloads=[b""]),
        Done(1, [["5", None, 2]], {}, payloads=[b"{}"]),
        Ready({}, [8], 0.0, [1]),  # type: ignore[arg-type]
        Done(1, [], {}, 1),  # type: ignore[arg-type]
        Done(1, [], {}, False, "2"),  # type: ignore[arg-type]
        Ready([], [8], 0.0),  # type: ignore[arg-type]
        Ready({}, [8, "8"], 0.0),  # type: ignore[list-item]
        Ready({}, [0], 0.0),
        Fatal("code", "reason", 1),  # type: ignore[arg-type]
        Progress([1]),  # type: ignore[arg-type]
    ],
)
def test_fields_of_wrong_types_are_nonsense(message: Message) -> None:
    with pytest.raises(ProtocolError):
        list(FrameReader(1000).feed(encode(message)))
