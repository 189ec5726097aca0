from __future__ import annotations

from pathlib import Path

import pytest

import server
from pool import errors as pool_errors
from server.errors import KINDS, RequestFailedError, from_pool, load_failure


@pytest.mark.parametrize(("error", "code"), [
    (pool_errors.QueueFullError(2.5), "queue_full"), (pool_errors.DeadlineExceededError(), "deadline_exceeded"),
    (pool_errors.ModelLoadingError(), "model_loading"),
    (pool_errors.LoadFailedError("weights_unavailable", "/secret/path"), "weights_unavailable"),
    (pool_errors.LoadFailedError("weights_invalid", "/secret/path"), "weights_invalid"),
    (pool_errors.LoadFailedError("weights_mismatch", "/secret/path"), "weights_mismatch"),
    (pool_errors.LoadFailedError("unsupported_model", "/secret/path"), "unsupported_model"),
    (pool_errors.LoadFailedError("load_failed", "/secret/path"), "model_unavailable"),
    (pool_errors.EntryFailedError("internal", "/secret/path"), "internal"),
    (pool_errors.EntryFailedError("image_unprocessable", "/secret/path"), "image_unprocessable"),
    (pool_errors.EntryFailedError("invalid_parameter", "/secret/path"), "invalid_parameter"),
    (pool_errors.EntryFailedError("forbidden", "/secret/path"), "internal"),
    (pool_errors.PoolStoppedError(), "model_unavailable"), (pool_errors.NotEnoughMemoryError("/secret"), "model_unavailable"),
])  # fmt: skip
def test_pool_errors_become_codes_and_their_texts_stay_here(error: pool_errors.PoolError, code: str) -> None:
    failed = from_pool(error, "m")
    assert failed.code == code
    assert "secret" not in failed.message


def test_every_503_says_when_to_try_again_and_nothing_else_does() -> None:
    for code, kind in KINDS.items():
        assert ("retry-after" in RequestFailedError(code, "x").headers) == (kind.status in (429, 503)), code


@pytest.mark.parametrize(("seconds", "header"), [(0.0, "1"), (0.2, "1"), (2.5, "3"), (1e9, "3600")])
def test_retry_after_is_in_whole_seconds_rounded_up(seconds: float, header: str) -> None:
    assert RequestFailedError("queue_full", retry_after=seconds).headers["retry-after"] == header


def test_every_code_is_brought_about_over_http_by_some_test() -> None:
    names = (
        "inference",
        "admission",
        "registry",
        "reload",
        "routes",
        "operators",
        "middleware",
        "access",
        "pictures",
    )
    folder = Path(__file__).parent
    paths = [folder / f"test_{name}.py" for name in names]
    paths += [folder / "v2" / "test_infer.py", *(folder.parent / "hostile").glob("test_http_*.py")]
    paths += (folder / "chat").glob("test_*.py")
    text = "".join(path.read_text() for path in paths)
    assert {code for code in KINDS if f'"{code}"' not in text} == set()


def test_statuses_stand_nowhere_else() -> None:
    folder = Path(server.__file__).parent
    allowed = {"errors.py", "routes.py", "replies.py", "openapi.py", "operation.py", "app.py", "fetch.py"}
    for path in folder.glob("*.py"):
        if path.name not in allowed:
            assert "HTTPStatus" not in path.read_text(), path.name


def test_messages_name_subjects_and_progress() -> None:
    assert "resnet" in RequestFailedError("weights_unavailable", "resnet").message
    loading = from_pool(pool_errors.ModelLoadingError(7.0), "m", " (download, 45 %)")
    assert loading.message == "The model m is still loading (download, 45 %)."
    assert loading.headers["retry-after"] == "7"


@pytest.mark.parametrize(("code", "shown"), [
    ("weights_invalid", "weights_invalid"), ("device_lost", "device_lost"), ("model_unavailable", "model_unavailable"),
    ("a library's /secret/path", "load_failed"), ("E_SECRET", "load_failed"),
])  # fmt: skip
def test_a_failed_load_is_shown_by_a_code_of_ours(code: str, shown: str) -> None:
    failure = load_failure(code, "m")
    assert failure["code"] == shown
    assert "secret" not in failure["message"].lower()
