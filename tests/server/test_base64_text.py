from __future__ import annotations

import base64
import binascii

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.base64_text import decode_base64
from server.errors import RequestFailedError


@pytest.mark.parametrize("text", [
    "=", "A", "AAA", "A===", "AAAA====", "AA AA", "AAAA\n", "\nAAAA", "data:text/html;base64,AAAA", "data:image/png,AAAA", "-_-_", "é",
    "AAA=AAAA", "QQ==QQ==", "QR=", "b'AAAA'", "AAAA\x00", "\ud800AAA", "ＡAAA",
])  # fmt: skip
def test_base64_is_strict(text: str) -> None:
    with pytest.raises(RequestFailedError) as caught:
        decode_base64(text, 1000)
    assert caught.value.code == "invalid_base64"


def test_base64_is_measured_before_it_is_decoded() -> None:
    assert decode_base64(base64.b64encode(bytes(1000)).decode(), 1000) == bytes(1000)
    with pytest.raises(RequestFailedError) as caught:
        decode_base64("A" * 1400, 1000)
    assert caught.value.code == "body_too_large"
    with pytest.raises(RequestFailedError) as caught:
        decode_base64("", 1000)
    assert caught.value.code == "empty_body"


_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/="
_TEXTS = st.one_of(
    st.text(max_size=40),
    st.text(_ALPHABET, max_size=400),
    st.binary(max_size=300).map(lambda content: base64.b64encode(content).decode()),
    st.tuples(st.binary(max_size=300), st.integers(0, 400), st.sampled_from([*_ALPHABET, "\n", " ", "-", "é", "=="])).map(
        lambda parts: _with_inserted(base64.b64encode(parts[0]).decode(), parts[1], parts[2])
    ),
)  # fmt: skip


def _with_inserted(text: str, position: int, piece: str) -> str:
    """One character replaced by `piece`."""
    return text[:position] + piece + text[position + 1 :]


@given(_TEXTS)
@example("QR==")
@example("AAB=")
def test_what_is_taken_and_what_comes_out_is_what_the_standard_library_says(text: str) -> None:
    try:
        content = decode_base64(text, 1000)
    except RequestFailedError as error:
        assert error.code == _refusal(text)
    else:
        assert content == binascii.a2b_base64(text, strict_mode=True)
        assert _refusal(text) is None


def _refusal(text: str) -> str | None:
    if not text:
        return "empty_body"
    if len(text) % 4 or text.endswith("==="):  # the strict mode of binascii lets some of these pass
        return "invalid_base64"
    try:
        binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        return "invalid_base64"
    return None


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp", "bmp", "gif"])
def test_the_prefix_of_a_data_url_is_taken_off(kind: str) -> None:
    assert decode_base64(
        f"data:image/{kind};base64," + base64.b64encode(bytes(1000)).decode(), 1000
    ) == bytes(1000)
    with pytest.raises(RequestFailedError) as caught:
        decode_base64(f"data:image/{kind};base64,data:image/{kind};base64,AAAA", 1000)
    assert caught.value.code == "invalid_base64"
