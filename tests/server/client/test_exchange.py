"""The pauses and the waiting, with the clock passed in; names that must be the engine's own."""

from __future__ import annotations

import pytest

from server.client.calls import Options
from server.client.errors import seconds_of
from server.client.exchange import BEYOND_WAITING, Patience
from server.client.image import KINDS, UNKNOWN
from server.errors import KINDS as ERROR_KINDS
from server.schemas import PARAMETER_NAMES
from server.served import Served
from server.settings import Settings
from server.state_schemas import ModelReply
from server.table import known_models


def test_pauses_grow_to_a_bound_and_differ() -> None:
    least, most = (Patience(60, 8, jitter=lambda value=value: value) for value in (0.0, 1.0))
    assert [most.pause(attempt, None) for attempt in (0, 1, 2, 3, 9)] == [0.25, 0.5, 1, 2, 8]
    assert [least.pause(attempt, None) for attempt in (0, 9)] == [0.125, 4]


def test_the_server_is_never_asked_earlier_than_it_said() -> None:
    least, most = (Patience(60, 8, jitter=lambda value=value: value) for value in (0.0, 1.0))
    assert least.pause(5, 2.0) == 2.0 < most.pause(5, 2.0) < 2.5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3", 3.0), ("0.5", 0.5), ("-1", 0.0), (None, None), ("soon", None), ("nan", None), ("inf", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)  # fmt: skip
def test_retry_after_is_read_as_a_number_or_a_date(text: str | None, seconds: float | None) -> None:
    assert seconds_of(text) == seconds


def test_options_are_prompts_and_every_parameter_there_is() -> None:
    assert Options.__optional_keys__ == PARAMETER_NAMES | {"prompt", "prompts"}


def test_codes_that_are_not_waited_for_are_codes_of_503() -> None:
    assert {ERROR_KINDS[code].status for code in BEYOND_WAITING} == {503}


def test_a_model_is_declared_as_it_is_described() -> None:
    served = Served(known_models(Settings())["yolov8n"], is_required=False)
    described = served.describe()
    assert set(ModelReply.model_fields) <= set(described)
    assert ModelReply.model_validate(described).state == "unloaded"


def test_every_type_that_is_named_is_an_image_type() -> None:
    assert all(kind.startswith("image/") for kind in (UNKNOWN, *(kind for _, kind in KINDS)))
