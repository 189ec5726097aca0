from __future__ import annotations

import pytest

from server.errors import RequestFailedError
from server.negotiation import picture_kind


def kind_of(*accepts: str) -> str | None:
    return picture_kind({"headers": [(b"accept", each.encode("latin-1")) for each in accepts]})


@pytest.mark.parametrize(
    "accepts",
    [
        (), ("*/*",), ("",), ("application/json",), ("application/*",), ("application/json, text/plain, */*",),
        ("text/html,application/xhtml+xml,*/*;q=0.8",), ("text/html",), ("image/jpeg;q=0.5, application/json",),
        ("application/json, image/jpeg",), ("image/jpeg;q=0.5, */*",), ("image/jpeg;q=0, */*",), ("application/json;q=0",),
        ("image/webp, application/json;q=0.1",),
    ],
)  # fmt: skip
def test_who_does_not_prefer_a_picture_gets_json(accepts: tuple[str, ...]) -> None:
    assert kind_of(*accepts) is None


@pytest.mark.parametrize(
    ("accepts", "kind"),
    [
        (("image/jpeg",), "JPEG"), (("image/png",), "PNG"), (("image/*",), "JPEG"), (("IMAGE/PNG",), "PNG"),
        (("image/png;q=0.2",), "PNG"), (("image/jpeg;q=0.5, image/png;q=0.8",), "PNG"), (("image/*;q=0.5, image/png",), "PNG"),
        (("image/png, */*",), "PNG"), (("image/jpeg;q=0, image/*",), "PNG"), (("image/webp, image/png",), "PNG"),
        (("application/json;q=0.9, image/jpeg",), "JPEG"), (("image/avif,image/webp,image/*,*/*;q=0.8",), "JPEG"),
        (("application/json;q=0.1", "image/png"), "PNG"), (("image/png ; level=1 ; q=1.000",), "PNG"),
    ],
)  # fmt: skip
def test_who_prefers_a_picture_gets_that_one(accepts: tuple[str, ...], kind: str) -> None:
    assert kind_of(*accepts) == kind


@pytest.mark.parametrize("accept", ["image/webp", "image/gif, text/html", "image/jpeg;q=0", "image/*;q=0"])
def test_who_wants_only_other_pictures_is_told_so(accept: str) -> None:
    with pytest.raises(RequestFailedError) as caught:
        kind_of(accept)
    assert caught.value.code == "not_acceptable"


@pytest.mark.parametrize(
    "accept",
    [
        "garbage", "/", ";", ",,,", "image", "image/", "/png", "image/jpeg;q=2", "image/jpeg;q=-1", "image/jpeg;q=nan",
        "image/jpeg;q=", "image/jp eg", "\xff\xfe", "q=1", "image/jpeg;q=1e9", "*/" * 1000, "image/png;q=0.1234",
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_nothing(accept: str) -> None:
    assert kind_of(accept) is None
    assert kind_of(f"{accept},image/png") == "PNG"
