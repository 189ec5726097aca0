from __future__ import annotations

import pytest

from server.addresses import without_secrets


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@proxy:3128", "http://***@proxy:3128"),
        ("me:secret@proxy:3128", "***@proxy:3128"),
        ("http://me:sec@ret@proxy:3128", "http://***@proxy:3128"),
        ("http://me:sec/ret@proxy:3128", "http://***@proxy:3128"),
        ("ProxyError: 'me:secret@proxy' and //me:secret@other", "ProxyError: ***@proxy' and ***@other"),
        ("https://mirror/path, localhost", "https://mirror/path, localhost"),
    ],
)
def test_user_and_password_are_not_shown_however_they_are_written(text: str, shown: str) -> None:
    assert without_secrets(text) == shown
