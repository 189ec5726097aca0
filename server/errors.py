"""Everything that can go wrong for a client: the only place that knows statuses and texts.

A reply's body is ``{"error": {"code", "message", "request_id"}}``. The message is fixed per code; only names of
fields and reasons out of closed lists are filled in, never the text of an exception.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from pool import errors as pool_errors


@dataclass(frozen=True, slots=True)
class Kind:
    """One code's status and text; ``{subject}`` is the field, model or reason it is about."""

    status: HTTPStatus
    message: str
    retry_after: float | None = None
    """Seconds to tell the client where nothing better is known."""


_BAD, _GONE = HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND
_TYPE, _IMAGE = HTTPStatus.UNSUPPORTED_MEDIA_TYPE, HTTPStatus.UNPROCESSABLE_ENTITY
_BUSY = HTTPStatus.SERVICE_UNAVAILABLE

KINDS: Mapping[str, Kind] = {
    "malformed_request": Kind(_BAD, "This is not a valid HTTP request."),
    "invalid_json": Kind(_BAD, "The body is not valid JSON."),
    "invalid_request": Kind(
        _BAD, "The body must be a JSON object, and no longer beside its image than its fields need."
    ),
    "invalid_multipart": Kind(
        _BAD, "The body is not valid multipart/form-data with one file named image or file."
    ),
    "invalid_parameter": Kind(
        _BAD, "The parameter {subject} is missing or not allowed here, or its value is wrong."
    ),
    "invalid_tensor": Kind(_BAD, "The tensor {subject} {reason}."),
    "unknown_field": Kind(_BAD, "The field {subject} is not known."),
    "exactly_one_image_source": Kind(_BAD, "Give exactly one of image_url and image_base64."),
    "image_required": Kind(
        _BAD, "The model answers about an image: give one, as an image_url part of a user's message."
    ),
    "several_images": Kind(_BAD, "The model looks at one image at a time: give one in a message."),
    "not_supported": Kind(_BAD, "What {subject} asks for is not supported here."),
    "not_a_chat_model": Kind(
        _BAD, "The model {subject} does not answer in words; GET /v1/models lists those that do."
    ),
    "invalid_base64": Kind(_BAD, "image_base64, or what a data: URL carries, is not valid base64."),
    "empty_body": Kind(_BAD, "The body is empty."),
    "invalid_image_url": Kind(
        _BAD, "image_url is neither a valid http or https address nor data:image/...;base64,... of an image."
    ),
    "image_url_not_allowed": Kind(_BAD, "image_url leads to an address that is not allowed."),
    "image_url_disabled": Kind(_BAD, "This server does not fetch images by URL; send the image itself."),
    "unauthorized": Kind(
        HTTPStatus.UNAUTHORIZED, "Give a valid API key, as Authorization: Bearer KEY or as X-API-Key: KEY."
    ),
    "admin_key_required": Kind(HTTPStatus.FORBIDDEN, "This needs an admin key."),
    "forbidden": Kind(HTTPStatus.FORBIDDEN, "This is only allowed from the machine that the server runs on."),
    "not_found": Kind(_GONE, "There is no such page; GET /docs lists what there is."),
    "model_not_found": Kind(_GONE, "There is no such model; GET /models lists what there is."),
    "reload_in_progress": Kind(
        HTTPStatus.CONFLICT, "The model {subject} is being reloaded already; ask again when that is done."
    ),
    "method_not_allowed": Kind(HTTPStatus.METHOD_NOT_ALLOWED, "This method is not allowed here."),
    "not_acceptable": Kind(
        HTTPStatus.NOT_ACCEPTABLE, "Answers are application/json, or drawn as image/jpeg or image/png."
    ),
    "request_timeout": Kind(HTTPStatus.REQUEST_TIMEOUT, "The request did not arrive in time."),
    "uri_too_long": Kind(HTTPStatus.REQUEST_URI_TOO_LONG, "The path and query are too long."),
    "headers_too_large": Kind(
        HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The headers are too large or too many."
    ),
    "body_too_large": Kind(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body or the image in it is too large."),
    "unsupported_media_type": Kind(
        _TYPE, "Send application/json, multipart/form-data or an image with its image/* content type."
    ),
    "unsupported_content_encoding": Kind(_TYPE, "A compressed body is not supported."),
    "unsupported_image_format": Kind(_TYPE, "The image must be JPEG, PNG, WebP, BMP or GIF."),
    "image_undecodable": Kind(_IMAGE, "The image is damaged or not an image."),
    "image_too_large": Kind(_IMAGE, "The image has too many pixels or a side that is too long."),
    "answer_too_large": Kind(
        _IMAGE, "The answers are too large for one reply; send fewer images or ask for fewer predictions."
    ),
    "image_unprocessable": Kind(_IMAGE, "The model cannot work on this image."),
    "picture_too_large": Kind(
        _IMAGE, "The answer drawn on this image is too large; ask for image/jpeg or for JSON."
    ),
    "image_fetch_failed": Kind(_IMAGE, "The image could not be fetched: {subject}."),
    "rate_limited": Kind(
        HTTPStatus.TOO_MANY_REQUESTS, "Too many requests; Retry-After says when to go on.", 1.0
    ),
    "queue_full": Kind(_BUSY, "Too many requests are waiting for this model.", 1.0),
    "decoder_unavailable": Kind(_BUSY, "Images cannot be decoded now.", 1.0),
    "overloaded": Kind(_BUSY, "The server holds as much as it can.", 1.0),
    "model_loading": Kind(_BUSY, "The model {subject} is still loading{progress}.", 5.0),
    "model_unavailable": Kind(_BUSY, "The model {subject} cannot be served now{reason}.", 5.0),
    "weights_unavailable": Kind(
        _BUSY,
        "The weights of {subject} are not on this machine and could not be downloaded. Run `inference-engine pull "
        "{subject}` there once it has a network, or copy them into the weights folder that the log names.",
        5.0,
    ),
    "out_of_memory": Kind(_BUSY, "The device has not enough memory for this.", 5.0),
    "weights_not_stored": Kind(
        _BUSY,
        "The weights of {subject} could not be stored: the disk is full or the weights folder cannot be written to. "
        "Make room there or choose another folder; the log names it.",
        5.0,
    ),
    "weights_invalid": Kind(
        _BUSY,
        "The weights of {subject} are damaged or not the ones whose sha256 the settings give. Replace them or correct "
        "the sha256; the log says which file it is.",
        5.0,
    ),
    "weights_mismatch": Kind(
        _BUSY,
        "The weights of {subject} are not what the settings say of them: another task, or no end-to-end head. The "
        "log says what they are; correct the settings.",
        5.0,
    ),
    "unsupported_model": Kind(
        _BUSY, "The weights of {subject} are of a kind that is not served. The log says which.", 5.0
    ),
    "runtime_unavailable": Kind(
        _BUSY,
        "The settings ask for a runtime or precision that {subject} cannot have on this machine. The log says why; "
        "correct the settings.",
        5.0,
    ),
    "shutting_down": Kind(_BUSY, "The server is stopping.", 5.0),
    "deadline_exceeded": Kind(HTTPStatus.GATEWAY_TIMEOUT, "The answer was not ready in time."),
    "internal": Kind(
        HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here; the log has the request_id."
    ),
}


class RequestFailedError(Exception):
    """This request is answered with an error: `code` out of KINDS."""

    def __init__(
        self,
        code: str,
        subject: str = "",
        *,
        retry_after: float | None = None,
        progress: str = "",
        reason: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(code)
        self.code = code
        self.subject = subject
        self.kind = KINDS[code]
        self.retry_after = retry_after
        self.message = self.kind.message.format(subject=subject[:128], progress=progress, reason=reason)
        self._headers = dict(headers or {})

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the reply, among them Retry-After (whole seconds, rounded up) where trying again may help."""
        seconds = self.kind.retry_after if self.retry_after is None else self.retry_after
        if self.kind.retry_after is None or seconds is None:
            return self._headers
        return {**self._headers, "retry-after": str(max(1, math.ceil(min(seconds, 3600.0))))}


class ClientDisconnectedError(Exception):
    """Nobody is left to answer."""


_FROM_MODEL = {"image_unprocessable", "invalid_parameter", "out_of_memory"}
"""Codes that a model may choose for one entry; any other word is ours to look into."""
_FROM_LOADING = {
    "weights_unavailable",
    "weights_not_stored",
    "weights_invalid",
    "weights_mismatch",
    "unsupported_model",
    "runtime_unavailable",
}
"""Codes that a model may choose when it cannot load: an operator can do something about them."""
_FROM_POOL = {"load_failed", "device_lost", "not_enough_memory", "unsafe_loading"}
"""What else stops a load; `code` of a library's exception may be any text."""


def load_failure(code: str, model_id: str) -> dict[str, str]:
    """What `GET /models` shows of a load that failed: `code`, if it is one of ours, and the message of a reply."""
    code = code if code in KINDS or code in _FROM_POOL else "load_failed"
    return {"code": code, "message": from_pool(pool_errors.LoadFailedError(code, ""), model_id).message}


def from_pool(error: pool_errors.PoolError, model_id: str, progress: str = "") -> RequestFailedError:
    """What a client is told of something that happened in the pool of `model_id`."""
    match error:
        case pool_errors.QueueFullError():
            return RequestFailedError("queue_full", retry_after=error.retry_after)
        case pool_errors.DeadlineExceededError():
            return RequestFailedError("deadline_exceeded")
        case pool_errors.ModelLoadingError():
            return RequestFailedError(
                "model_loading", model_id, retry_after=error.retry_after, progress=progress
            )
        case pool_errors.CrashLoopError():
            return RequestFailedError("model_unavailable", model_id, retry_after=error.retry_after)
        case pool_errors.LoadFailedError(code=code) if code in _FROM_LOADING:
            return RequestFailedError(code, model_id)
        case pool_errors.EntryFailedError(code=code) if code in _FROM_MODEL:
            return RequestFailedError(code, "prompt" if code == "invalid_parameter" else "")
        case pool_errors.EntryFailedError():
            return RequestFailedError("internal")
        case _:
            return RequestFailedError("model_unavailable", model_id)
