"""Examples of the protocols that other servers' clients speak, for the OpenAPI description; checked like ours."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.picture_example import PICTURE

_QUESTION = [
    {"type": "text", "text": "what color is the circle?"},
    {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PICTURE}"}},
]
_COMPLETION = {
    "id": "chatcmpl-1a6f6f28369eb66bc4ad663282dc5878",
    "object": "chat.completion",
    "created": 1795487827,
    "model": "shapes-vqa",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "red", "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 8, "completion_tokens": 2, "total_tokens": 10},
}
_CHAT_MODEL = {
    "id": "shapes-vqa",
    "object": "model",
    "created": 1795487818,
    "owned_by": "model-inference-engine",
}
_METADATA = {
    "name": "shapes-detect",
    "versions": ["1"],
    "platform": "yolo_detect",
    "inputs": [
        {"name": "image", "datatype": "BYTES", "shape": [-1]},
        {"name": "pixels", "datatype": "UINT8", "shape": [-1, -1, -1, 3]},
    ],
    "outputs": [
        {"name": "boxes", "datatype": "FP32", "shape": [-1, 4]},
        {"name": "scores", "datatype": "FP32", "shape": [-1]},
        {"name": "class_ids", "datatype": "INT64", "shape": [-1]},
        {"name": "labels", "datatype": "BYTES", "shape": [-1]},
        {"name": "num_detections", "datatype": "INT64", "shape": [-1]},
        {"name": "json", "datatype": "BYTES", "shape": [-1]},
    ],
}
_TENSORS = {
    "inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": [PICTURE]}],
    "parameters": {"confidence": 0.4},
    "outputs": [{"name": "boxes"}, {"name": "scores"}, {"name": "labels"}, {"name": "num_detections"}],
}
_FOUND = {
    "model_name": "shapes-detect",
    "model_version": "1",
    "outputs": [
        {
            "name": "boxes",
            "datatype": "FP32",
            "shape": [2, 4],
            "data": [19.14967, 30.02303, 82.48581, 92.24341, 99.31511, 40.07044, 147.00493, 87.01255],
        },
        {"name": "scores", "datatype": "FP32", "shape": [2], "data": [0.94584, 0.8652]},
        {"name": "labels", "datatype": "BYTES", "shape": [2], "data": ["circle", "square"]},
        {"name": "num_detections", "datatype": "INT64", "shape": [1], "data": [2]},
    ],
}
_INDEX = [
    {"name": "shapes-detect", "version": "1", "state": "READY", "reason": "ready"},
    {"name": "yolov8n", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
]
_MODEL_PATHS = ("/v2/models/{model_id}", "/v2/models/{model_id}/versions/1")

REQUESTS: Mapping[str, Mapping[str, Any]] = {
    "/v1/chat/completions": {
        "question": {"model": "shapes-vqa", "messages": [{"role": "user", "content": _QUESTION}]}
    },
    **{f"{path}/infer": {"objects": _TENSORS} for path in _MODEL_PATHS},
}
REPLIES: Mapping[tuple[str, str], Mapping[str, Any]] = {
    ("/v1/chat/completions", "post"): {"question": _COMPLETION},
    ("/v1/models", "get"): {"models": {"object": "list", "data": [_CHAT_MODEL]}},
    ("/v1/models/{model_id}", "get"): {"model": _CHAT_MODEL},
    ("/v2", "get"): {
        "server": {
            "name": "model-inference-engine",
            "version": "0.1.0",
            "extensions": ["binary_tensor_data", "model_repository"],
        }
    },
    ("/v2/health/live", "get"): {"live": {"live": True}},
    ("/v2/health/ready", "get"): {"ready": {"ready": True}},
    ("/v2/repository/index", "post"): {"models": _INDEX},
    ("/v2/repository/models/{model_id}/load", "post"): {"loaded": {}},
    ("/v2/repository/models/{model_id}/unload", "post"): {"unloaded": {}},
    **{(path, "get"): {"model": _METADATA} for path in _MODEL_PATHS},
    **{
        (f"{path}/ready", "get"): {"ready": {"name": "shapes-detect", "ready": True}} for path in _MODEL_PATHS
    },
    **{(f"{path}/infer", "post"): {"objects": _FOUND} for path in _MODEL_PATHS},
}
