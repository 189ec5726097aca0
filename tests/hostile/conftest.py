"""One real server for all that strangers may send; after every test it must serve as before."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.hostile.leaks import CANARY, check_response
from tests.hostile.target import Target
from tests.serving import running_server


@pytest.fixture(scope="package")
def hostile_server() -> Iterator[Target]:
    """The one server, with the settings that a user has who set none."""
    with (
        running_server(
            environment={
                "PASSWORD_OF_A_DATABASE": CANARY,
                "ENGINE_MAX_VIEWERS": "0",
            }  # a stream has no end to wait for
        ) as server,
        httpx.Client(
            base_url=server.url, trust_env=False, timeout=60.0, event_hooks={"response": [check_response]}
        ) as client,
    ):
        target = Target(server, client)
        target.assert_serves()
        yield target


@pytest.fixture
def target(hostile_server: Target) -> Iterator[Target]:
    """It; what comes after the test is part of the test."""
    yield hostile_server
    hostile_server.assert_serves()
