from __future__ import annotations

import pytest
from starlette.requests import Request

from server.errors import RequestFailedError
from server.operators import check_is_local


def request(client: str | None, **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return Request(
        {
            "type": "http",
            "client": (client, 1) if client else None,
            "headers": raw,
            "method": "POST",
            "path": "/",
        }
    )


@pytest.mark.parametrize(("client", "headers"), [
    ("127.0.0.1", {"host": "127.0.0.1:5000"}), ("127.0.0.1", {"host": "localhost:5000"}), ("::1", {"host": "[::1]:5000"}),
    ("::ffff:127.0.0.1", {"host": "localhost"}), ("127.0.0.1", {"host": "localhost", "origin": "http://localhost:5000"}),
])  # fmt: skip
def test_somebody_on_this_machine_is_local(client: str, headers: dict[str, str]) -> None:
    check_is_local(request(client, **headers))


@pytest.mark.parametrize(("client", "headers"), [
    ("10.0.0.1", {"host": "localhost"}), ("172.17.0.1", {"host": "127.0.0.1"}), (None, {"host": "localhost"}), ("nonsense", {"host": "localhost"}),
    ("127.0.0.1", {"host": "engine.example"}), ("127.0.0.1", {}), ("127.0.0.1", {"host": "localhost", "x_forwarded_for": "127.0.0.1"}),
    ("127.0.0.1", {"host": "localhost", "forwarded": "for=127.0.0.1"}), ("127.0.0.1", {"host": "localhost", "origin": "https://evil.example"}),
    ("127.0.0.1", {"host": "localhost", "origin": "null"}), ("127.0.0.1", {"host": "localhost.evil.example"}), ("127.0.0.1", {"host": "[bad"}),
    ("127.0.0.1", {"host": "a@localhost", "origin": "http://localhost@evil.example"}),
])  # fmt: skip
def test_somebody_elsewhere_or_behind_a_proxy_or_a_page_is_not(
    client: str | None, headers: dict[str, str]
) -> None:
    with pytest.raises(RequestFailedError) as caught:
        check_is_local(request(client, **headers))
    assert caught.value.code == "forbidden"
