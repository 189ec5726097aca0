"""That the declared replies are those that the server gives is shown over HTTP, in tests/test_end_to_end.py."""

from __future__ import annotations

from server.openapi import describe_api
from server.reply_schemas import InferenceReply, TaskName
from server.schemas import PARAMETERS


def test_every_task_is_declared() -> None:
    assert set(TaskName.__args__) == set(PARAMETERS)


def test_unknown_fields_are_skipped() -> None:
    fields = {
        "model_id": "m", "task": "vqa", "image": {"width": 1, "height": 2, "depth": 3}, "answer": "two", "new": {},
        "timings_ms": {"total": 1.5}, "request_id": "r",
    }  # fmt: skip
    reply = InferenceReply.model_validate(fields)
    assert (reply.answer, reply.image.height, reply.predictions) == ("two", 2, None)


def test_the_description_is_of_the_same_fields() -> None:
    declared = describe_api()["components"]["schemas"]["InferenceReply"]["properties"]
    assert set(declared) == set(InferenceReply.model_fields)
