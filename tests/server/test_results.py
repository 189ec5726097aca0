from __future__ import annotations

import orjson
import pytest

from pool import Result
from server.results import Answered, Origin, Timings, reply_to, splice


def test_the_fragments_members_stand_in_the_reply() -> None:
    timings = Timings()
    timings.add({"queue": 0.001, "infer": 0.0123456, "post": 0.0, "something_else": 1.0})
    timings.seconds["total"] = 0.5
    result = Result(b' {"predictions":[{"label":"a,}"}], "x": {}} ', {}, 3, 0, 0)
    reply = reply_to(Answered("m", "detect", (640, 480), result, timings), "id-1")
    assert orjson.loads(reply.body) == {
        "model_id": "m",
        "task": "detect",
        "image": {"width": 640, "height": 480},
        "predictions": [{"label": "a,}"}],
        "x": {},
        "timings_ms": {
            "fetch": 0.0,
            "decode": 0.0,
            "queue": 1.0,
            "infer": 12.346,
            "post": 0.0,
            "draw": 0.0,
            "total": 500.0,
        },
        "request_id": "id-1",
    }
    assert reply.headers["server-timing"] == (
        'fetch;dur=0.0, decode;dur=0.0, queue;dur=1.0, infer;dur=12.346, post;dur=0.0, draw;dur=0.0, total;dur=500.0, batch;desc="3"'
    )


@pytest.mark.parametrize("origin", ["miss", "shared", "hit"])
def test_where_a_shared_answer_came_from_is_said_twice(origin: Origin) -> None:
    result = Result(b"{}", {}, 3, 0, 0)
    reply = reply_to(Answered("m", "detect", (640, 480), result, Timings(), origin), "id-1")
    assert orjson.loads(reply.body)["cache"] == origin
    assert reply.headers["server-timing"].endswith(f'batch;desc="3", cache;desc="{origin}"')


def test_an_empty_fragment_adds_nothing() -> None:
    assert splice(b'{"a":1}', b"{}", b"{ }", b'{"b":2}') == b'{"a":1,"b":2}'


@pytest.mark.parametrize("fragment", [b"", b"[]", b"null", b'{"a":1', b'"{}"'])
def test_what_is_no_object_is_never_spliced(fragment: bytes) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        splice(b'{"a":1}', fragment)
