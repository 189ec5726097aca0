"""multipart/form-data that strangers send."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.errors import RequestFailedError
from server.form import Form, parse_form
from tests.hostile.target import SAMPLE, Target

PICTURE = SAMPLE.read_bytes()
MIB = 1 << 20
END = b"\r\n--B--\r\n"
CODES = {"invalid_multipart", "body_too_large", "empty_body"}


def part(
    name: str = "image", content: bytes = PICTURE, *, disposition: bytes | None = None, headers: bytes = b""
) -> bytes:
    said = b'form-data; name="%s"' % name.encode() if disposition is None else disposition
    return b"--B\r\nContent-Disposition: " + said + b"\r\n" + headers + b"\r\n" + content + b"\r\n"


def form(*parts: bytes) -> bytes:
    return part("model_id", b"shapes-detect") + b"".join(parts) + b"--B--\r\n"


CASES: dict[str, tuple[bytes, str, int, str]] = {
    "no boundary": (form(part()), "multipart/form-data", 400, "invalid_multipart"),
    "another boundary": (form(part()), "multipart/form-data; boundary=C", 400, "invalid_multipart"),
    "10 KB of boundary": (form(part()), "multipart/form-data; boundary=" + "B" * 10_240, 415, "unsupported_media_type"),
    "a boundary of another charset": (form(part()), "multipart/form-data; boundary*=bogus''B", 400, "invalid_multipart"),
    "100,000 parts": (form(*(part(f"f{number}", b"") for number in range(100_000))), "", 400, "invalid_multipart"),
    "100,000 prompts": (form(part(), *[part("prompts", b"")] * 100_000), "", 400, "invalid_multipart"),
    "no end": (form(part())[:-6], "", 400, "invalid_multipart"),
    "half a part": (form(part())[:-100], "", 400, "invalid_multipart"),
    "twice": (form(part(), part()), "", 400, "invalid_multipart"),
    "a file and an image": (form(part(), part("file")), "", 400, "invalid_multipart"),
    "no image": (form(), "", 400, "invalid_multipart"),
    "an empty image": (form(part(content=b"")), "", 400, "empty_body"),
    "nested": (form(part(content=b"--C\r\n\r\nx\r\n--C--", headers=b"Content-Type: multipart/mixed; boundary=C\r\n")), "", 422, "image_undecodable"),
    "a long header": (form(part(headers=b"X: " + b"y" * MIB + b"\r\n")), "", 400, "invalid_multipart"),
    "many headers": (form(part(headers=b"X: y\r\n" * 100_000)), "", 400, "invalid_multipart"),
    "a long name of a header": (form(part(headers=b"X" * MIB)), "", 400, "invalid_multipart"),
    "a long disposition": (form(part(disposition=b"form-data; " + b"a=b; " * 700 + b'name="image"')), "", 400, "invalid_multipart"),
    "a long name": (form(part(), part("x" * 400, b"1")), "", 400, "unknown_field"),
    "no name": (form(part(disposition=b"form-data")), "", 400, "invalid_multipart"),
    "an encoded name": (form(part(disposition=b"form-data; name*=utf-8''im%61ge")), "", 400, "invalid_multipart"),
    "an attachment": (form(part(disposition=b'attachment; name="image"')), "", 400, "invalid_multipart"),
    "base64": (form(part(content=b"/9j/", headers=b"Content-Transfer-Encoding: base64\r\n")), "", 422, "image_undecodable"),
    "a name with NUL": (form(part(disposition=b'form-data; name="im\0age"')), "", 400, "invalid_multipart"),
    "no text": (form(part(), part("confidence", b"\xff")), "", 400, "invalid_multipart"),
    "a large field": (form(part(), part("prompt", b"x" * MIB)), "", 413, "body_too_large"),
    "a file's name": (form(part(disposition=b'form-data; name="image"; filename="../../etc/passwd"')), "", 200, ""),
    "junk before": (b"\r\n" * 100_000 + form(part()), "", 200, ""),
    "junk behind": (form(part()) + b"\r\n" * 100_000, "", 200, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_a_form_is_answered_as_due(target: Target, name: str) -> None:
    body, content_type, status, code = CASES[name]
    headers = {"content-type": content_type or "multipart/form-data; boundary=B"}
    reply = target.client.post("/inference", content=body, headers=headers)
    assert reply.status_code == status, reply.text
    assert status == 200 or reply.json()["error"]["code"] == code


@pytest.mark.parametrize(
    "repeated",
    [b"\r\n", b"\r", b"\n", b"-", b"\r\n-", b"\r\n--", b"\r\n--X", b"\r\n--B\r", b"\r\n--B-X", b"x"],
)
def test_a_form_takes_a_time_that_grows_with_its_length_only(repeated: bytes) -> None:
    def seconds(size: int) -> float:
        body = form(part(content=repeated * (size // len(repeated))))
        best = float("inf")
        for _ in range(3):
            started = time.process_time()
            read(body)
            best = min(best, time.process_time() - started)
        return best

    assert seconds(8 * MIB) < 8 * 3 * seconds(MIB) + 0.05


def read(body: bytes, content_type: str = "multipart/form-data; boundary=B") -> Form | str:
    """The form, or the code of its refusal; nothing else may come of any bytes."""
    try:
        return parse_form(content_type, body, 20 * MIB)
    except RequestFailedError as error:
        assert error.code in CODES
        return error.code


WORDS = st.sampled_from([
    b"--B", b"--B--", b"\r\n", b"\r", b"\n", b":", b";", b"=", b'"', b"\\", b"Content-Disposition", b"form-data", b'name="image"', b'name="prompts"', b"name*=",
    b"\0", b"\xff", b"utf-8''", b"%61", b"*0*", b"--", b" ", b"\t", part(content=b"x"), part("prompt", b"?"), END,
])  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    st.lists(WORDS | st.binary(max_size=8), max_size=30).map(b"".join),
    st.sampled_from(["B", '"B"', "", "B; boundary=C", '"', "B" * 71]),
)
def test_any_bytes_are_a_form_or_refused(body: bytes, boundary: str) -> None:
    read(body, f"multipart/form-data; boundary={boundary}")


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_a_form_with_wounds_is_a_form_or_refused(data: st.DataObject) -> None:
    whole = bytearray(form(part(content=b"\r\n--picture"), part("prompts", b"a"), part("prompts", b"b")))
    for _ in range(data.draw(st.integers(1, 5))):
        begin = data.draw(st.integers(0, len(whole)))
        whole[begin : begin + data.draw(st.integers(0, 12))] = data.draw(WORDS | st.binary(max_size=4))
    read(bytes(whole))
