"""From output tensors to a reply: JSON, with the bytes of those behind it that were asked for in binary."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from server.replies import JsonReply
from server.v2.outputs import Output
from server.v2.tensors import HEADER_LENGTH

_DTYPES = {"FP32": "<f4", "INT64": "<i8"}


def to_bytes(output: Output) -> bytes:
    """Little-endian numbers; texts each behind its length, four bytes."""
    if output.datatype == "BYTES":
        texts = [text.encode() for text in output.values]
        return b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))
    return np.array(output.values, _DTYPES[output.datatype]).tobytes()


def reply_with(head: Mapping[str, Any], outputs: Sequence[Output], in_binary: Collection[str]) -> JsonReply:
    """The 200: `head` and the outputs, of which those named `in_binary` stand behind the JSON."""
    described, behind = [], []
    for output in outputs:
        tensor: dict[str, Any] = {
            "name": output.name,
            "datatype": output.datatype,
            "shape": output.shape,
        }
        if output.name in in_binary:
            behind.append(to_bytes(output))
            tensor["parameters"] = {"binary_data_size": len(behind[-1])}
        else:
            tensor["data"] = output.values
        described.append(tensor)
    text = orjson.dumps({**head, "outputs": described})
    if not behind:
        return JsonReply(text)
    headers = {HEADER_LENGTH.lower(): str(len(text)), "content-type": "application/octet-stream"}
    return JsonReply(b"".join((text, *behind)), headers=headers)
