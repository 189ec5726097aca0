from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from server.errors import RequestFailedError
from server.form import MAX_FIELD_BYTES, MAX_PARTS, parse_form

TYPE = "multipart/form-data; boundary=frontier"


def part(name: str, content: bytes, *headers: str) -> bytes:
    lines = [f'Content-Disposition: form-data; name="{name}"', *headers]
    return b"--frontier\r\n" + "\r\n".join(lines).encode() + b"\r\n\r\n" + content + b"\r\n"


def body(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--frontier--\r\n"


def code_of(content: bytes, content_type: str = TYPE) -> str:
    with pytest.raises(RequestFailedError) as caught:
        parse_form(content_type, content, 1000)
    return caught.value.code


def named(name: str) -> bytes:
    """A part as .NET writes it: the file's name twice, in a word of MIME and in escapes."""
    word, escaped = base64.b64encode(name.encode()).decode(), quote(name)
    disposition = f"form-data; name=image; filename=\"=?utf-8?B?{word}?=\"; filename*=utf-8''{escaped}"
    return f"--frontier\r\nContent-Disposition: {disposition}\r\n\r\npicture\r\n".encode()


def test_a_file_may_have_the_longest_name_that_there_is_in_any_writing() -> None:
    longest = "写" * 83 + ".jpeg"
    assert len(longest.encode()) == 254
    assert parse_form(TYPE, body(part("model_id", b"m"), named(longest)), 1000).images[0] == b"picture"


def test_only_one_part_may_have_so_long_a_name() -> None:
    long = named("写" * 83).replace(b"name=image", b"name=other")
    assert code_of(body(long, named("写" * 83))) == "invalid_multipart"


@pytest.mark.parametrize("name", ["image", "file"])
def test_file_and_fields_are_read(name: str) -> None:
    image = bytes(range(256)) + b"\r\n--front"
    form = parse_form(
        TYPE,
        body(
            part("model_id", b"m"),
            part(name, image, "Content-Type: image/png"),
            part("prompt", "é?".encode()),
        ),
        1000,
    )
    assert form.images[0] == image
    assert form.fields == {"model_id": "m", "prompt": "é?"}


def test_prompts_may_be_repeated_and_keep_their_order() -> None:
    form = parse_form(
        TYPE,
        body(part("prompts", b"b"), part("image", b"x"), part("prompts", b""), part("prompts", b"a")),
        10,
    )
    assert (form.prompts, form.fields, form.images[0]) == (["b", "", "a"], {}, b"x")


@pytest.mark.parametrize(("content", "code"), [
    (b"", "invalid_multipart"), (b"junk", "invalid_multipart"), (b"--frontier--\r\n", "invalid_multipart"),
    (body(part("model_id", b"m")), "invalid_multipart"), (body(part("image", b"")), "empty_body"),
    (body(part("image", b"x"), part("file", b"x")), "invalid_multipart"),
    (body(part("image", b"x"), part("image", b"x")), "invalid_multipart"),
    (body(part("image", b"x"), part("a", b"1"), part("a", b"2")), "invalid_multipart"),
    (part("image", b"x"), "invalid_multipart"), (body(part("image", b"x"))[:-8], "invalid_multipart"),
    (body(part("image", b"x" * 1001)), "body_too_large"),
    (body(part("image", b"x"), part("prompt", b"x" * (MAX_FIELD_BYTES + 1))), "body_too_large"),
    (body(part("image", b"x"), *(part(f"f{i}", b"") for i in range(MAX_PARTS))), "invalid_multipart"),
    (body(part("image", b"x"), *(part("prompts", b"") for i in range(MAX_PARTS))), "invalid_multipart"),
    (body(part("image", b"x"), part("prompt", b"\xff")), "invalid_multipart"),
    (body(part("image", b"x"), part("prompts", b"a"), part("prompts", b"\xff")), "invalid_multipart"),
    (body(b"--frontier\r\nContent-Type: image/png\r\n\r\nx\r\n"), "invalid_multipart"),
    (body(b'--frontier\r\nContent-Disposition: attachment; name="image"\r\n\r\nx\r\n'), "invalid_multipart"),
    (body(b"--frontier\r\n" + b"X: y\r\n" * 100 + b"\r\nx\r\n"), "invalid_multipart"),
    (body(b"--frontier\r\nX: " + b"y" * 100_000 + b"\r\n\r\nx\r\n"), "invalid_multipart"),
])  # fmt: skip
def test_what_is_not_such_a_form_is_refused(content: bytes, code: str) -> None:
    assert code_of(content) == code


@pytest.mark.parametrize("content_type", [
    "multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=other",
    "multipart/form-data; boundary=" + "x" * 1000, "multipart/form-data; charset=é",
])  # fmt: skip
def test_a_boundary_is_needed(content_type: str) -> None:
    assert code_of(body(part("image", b"x")), content_type) == "invalid_multipart"
