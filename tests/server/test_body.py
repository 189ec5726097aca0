from __future__ import annotations

import pytest

from server.body import BodyBudget, declared_length, read_body
from server.errors import ClientDisconnectedError, RequestFailedError


class Script:
    """A `receive` that plays messages."""

    def __init__(self, *messages: dict[str, object]) -> None:
        self._messages = list(messages)

    async def __call__(self) -> dict[str, object]:
        return self._messages.pop(0)


def piece(body: bytes, more: bool = True) -> dict[str, object]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_is_counted_as_it_comes_and_given_back_at_the_end() -> None:
    budget = BodyBudget(100)
    with budget.share() as share:
        scope = {"headers": [], "state": {}}
        assert (
            await read_body(scope, Script(piece(b"ab"), piece(b""), piece(b"c", False)), 10, share) == b"abc"
        )
        assert budget.num_bytes == 3
        assert scope["state"] == {"is_body_read": True}
    assert budget.num_bytes == 0


@pytest.mark.parametrize(("length", "messages", "code"), [
    (None, [piece(b"", False)], "empty_body"), (b"11", [], "body_too_large"), (None, [piece(b"x" * 11)], "body_too_large"),
    (None, [piece(b"x" * 6), piece(b"x" * 6, False)], "body_too_large"), (b"9", [], "overloaded"),
    (None, [piece(b"x" * 5), piece(b"x" * 4)], "overloaded"),
])  # fmt: skip
async def test_a_body_over_a_limit_is_refused(
    length: bytes | None, messages: list[dict[str, object]], code: str
) -> None:
    budget = BodyBudget(8)
    headers = [(b"content-length", length)] if length else []
    with pytest.raises(RequestFailedError) as caught, budget.share() as share:
        await read_body({"headers": headers, "state": {}}, Script(*messages), 10, share)
    assert caught.value.code == code
    assert budget.num_bytes == 0


async def test_a_client_that_leaves_ends_the_reading() -> None:
    budget = BodyBudget(100)
    with pytest.raises(ClientDisconnectedError), budget.share() as share:
        await read_body(
            {"headers": [], "state": {}}, Script(piece(b"abc"), {"type": "http.disconnect"}), 10, share
        )
    assert budget.num_bytes == 0


@pytest.mark.parametrize(
    ("value", "expected"), [(b"12", 12), (b"-1", None), (b"+5", None), (b"1e3", None), (b"", None)]
)
def test_only_digits_are_a_length(value: bytes, expected: int | None) -> None:
    assert declared_length({"headers": [(b"content-length", value)]}) == expected
    assert declared_length({"headers": []}) is None


def test_a_moved_share_holds_the_bytes_after_its_request_has_ended() -> None:
    budget = BodyBudget(100)
    with budget.share() as share:
        share.grow(60)
        moved = share.moved()
        assert budget.num_bytes == 60
    assert budget.num_bytes == 60
    with moved:
        pass
    assert budget.num_bytes == 0
