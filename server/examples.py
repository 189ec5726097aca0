"""Examples for the OpenAPI description. A test sends every request, and compares every reply with a real one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PICTURE = (
    "iVBORw0KGgoAAAANSUhEUgAAAKAAAAB4AgMAAAAIzBH8AAAACVBMVEXIyMTIKCgoRsh9I2UeAAABEklEQVR42u2WPQ7CMAyF"
    "X3/YMwBzj5IjsMDM+QBxhhyFvQydulCpDG3TBBK7SAVVyG9JZH2yX+y0CiASiUT/oMTZbzTOUTD1OOwngIkGgF0MzOyuS5Zt"
    "b0zGwaziSq/7dcWB+m0TBsc2KRrMbSSnQRUcQWAyTqdLAwA4jZH6aDO6aRRV2jWWU6CK3JPgpaCVBrqs46BfTc1ReirodySf"
    "IaOKfnBfP8xk8GUWeokeBSRB4wfNEj1WXqydIWPjxZpfHsa3XxEZDTeYjz1WXBsHsOG6M4Atdxbr0TBnsWDFWLRgw1i0YMtY"
    "HPtoaIvjj/3er48hcIhkbOnKzggvXULDvntQFgCu/AMJdVkQbzORSCRatJ6zUSypPK3h6QAAAABJRU5ErkJggg=="
)
"""A red circle and a blue square, PNG, in base64."""
_ID = "5f0c3a9be1d24d7f8a6b1c2d3e4f5a6b"
_DETECT = {"model_id": "shapes-detect", "image_base64": PICTURE, "parameters": {"confidence": 0.4}}
_ASK = {"model_id": "shapes-vqa", "image_base64": PICTURE, "prompt": "what color is the circle?"}
_LIST = {"model_id": "shapes-detect", "images": [{"image_base64": PICTURE}, {"image_base64": "%"}]}
_TIMES = {"fetch": 0.0, "decode": 2.1, "queue": 0.1, "infer": 11.4, "post": 0.7, "total": 15.2}
_CIRCLE = {
    "label": "circle",
    "class_id": 0,
    "confidence": 0.94584,
    "box": {"x1": 19.14967, "y1": 30.02303, "x2": 82.48581, "y2": 92.24341},
}
_SQUARE = {
    "label": "square",
    "class_id": 1,
    "confidence": 0.8652,
    "box": {"x1": 99.31511, "y1": 40.07044, "x2": 147.00493, "y2": 87.01255},
}
_SEEN = {
    "model_id": "shapes-detect",
    "task": "detect",
    "image": {"width": 160, "height": 120},
    "predictions": [_CIRCLE, _SQUARE],
    "timings_ms": _TIMES,
    "request_id": _ID,
}
_ANSWER = {
    "model_id": "shapes-vqa",
    "task": "vqa",
    "image": {"width": 160, "height": 120},
    "answer": "red",
    "prompt": "what color is the circle?",
    "vision_cached": False,
    "timings_ms": _TIMES,
    "request_id": _ID,
}
_NO_BASE64 = {
    "error": {
        "code": "invalid_base64",
        "message": "image_base64, or what a data: URL carries, is not valid base64.",
        "request_id": _ID,
    }
}
_MODEL = {
    "model_id": "shapes-detect",
    "family": "yolo",
    "task": "detect",
    "description": "Coloured shapes: a small demo detector that ships with the engine.",
    "state": "ready",
    "required": True,
    "progress": None,
    "reloading": None,
    "error": None,
    "labels": [
        "circle",
        "square",
        "triangle",
        "hexagon",
        "star",
        "cross",
        "heart",
        "ring",
        "crescent",
        "arrow",
    ],
    "input": {"height": 320, "width": 320},
    "device": "cpu",
    "runtime": "openvino",
    "precision": "fp32",
    "runtime_reason": "fastest on this machine: openvino fp32 11.2 ms an image, torch fp32 21.01 ms an image",
    "layouts": {"1": 131.74, "2": 95.13},
    "queue_length": 0,
    "slots": {"total": 146, "free": 146},
    "replicas": [
        {
            "index": 0,
            "device": "cpu",
            "cores": [0],
            "state": "ready",
            "pid": 71,
            "in_flight": 0,
            "batches": 2,
            "deaths": 0,
        }
    ],
    "counters": {"batches": 2},
}
_UNLOADED = {
    **_MODEL,
    "state": "unloaded",
    "required": False,
    "queue_length": 0,
    "slots": {"total": 0, "free": 0},
    "replicas": [],
    "counters": {},
}
_READY = {
    "status": "ready",
    "models": {"shapes-detect": {"state": "ready", "required": True, "ready_replicas": 1, "replicas": 1}},
}

REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "/inference": {"objects": _DETECT, "question": _ASK},
    "/inference/batch": {"several": _LIST},
}
"""JSON bodies of POST by path and name; each is answered with 200."""
REPLIES: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("/inference", "post"): {"objects": _SEEN, "question": _ANSWER},
    ("/inference/batch", "post"): {"several": {"results": [_SEEN, _NO_BASE64], "request_id": _ID}},
    ("/models", "get"): {"models": {"models": [_MODEL]}},
    ("/models/{model_id}", "get"): {"model": _MODEL},
    ("/models/{model_id}/load", "post"): {"loaded": _MODEL},
    ("/models/{model_id}/unload", "post"): {"unloaded": _UNLOADED},
    ("/models/{model_id}/reload", "post"): {"reloaded": _MODEL},
    ("/healthz", "get"): {"ready": _READY},
    ("/readyz", "get"): {"ready": _READY},
    ("/livez", "get"): {"live": {"status": "live"}},
}
"""JSON of a 200 by path and method; under the name of the request that it answers."""


def add_examples(paths: Mapping[str, Any]) -> None:
    """Put them into the `paths` of a description."""
    for path, bodies in REQUESTS.items():
        content = paths[path]["post"]["requestBody"]["content"]["application/json"]
        content["examples"] = _named(bodies)
    for (path, method), replies in REPLIES.items():
        content = paths[path][method]["responses"]["200"]["content"]["application/json"]
        content["examples"] = _named(replies)


def _named(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {"value": value} for name, value in values.items()}
