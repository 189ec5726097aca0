"""What models and the server say of themselves in this protocol."""

from __future__ import annotations

from server.served import Served
from server.v2.images import IMAGE, PIXELS, PROMPT
from server.v2.outputs import COLUMNS, JSON
from server.v2.schemas import VERSION, ModelMetadata, TensorMetadata

NAME = "model-inference-engine"
EXTENSIONS = ["binary_tensor_data", "model_repository"]
_REPOSITORY_STATES = {"ready": "READY", "loading": "LOADING", "draining": "UNLOADING"}


def describe_model(served: Served) -> ModelMetadata:
    """Its tensors; of a model whose task only its weights know, and that never was loaded, the output `json` alone."""
    task = served.spec.task if served.spec is not None else served.known.task
    inputs = [
        TensorMetadata(name=IMAGE, datatype="BYTES", shape=[-1]),
        TensorMetadata(name=PIXELS, datatype="UINT8", shape=[-1, -1, -1, 3]),
    ]
    family = served.known.entry.family
    if family == "blip":
        inputs.append(TensorMetadata(name=PROMPT, datatype="BYTES", shape=[-1]))
    columns = COLUMNS[task] if task is not None else {}
    outputs = [
        TensorMetadata(name=name, datatype=column.datatype, shape=list(column.shape))
        for name, column in columns.items()
    ]
    return ModelMetadata(
        name=served.model_id,
        versions=[VERSION],
        platform=f"{family}_{task}" if task is not None else family,
        inputs=inputs,
        outputs=[*outputs, TensorMetadata(name=JSON, datatype="BYTES", shape=[-1])],
    )


def index_entry(served: Served) -> dict[str, str]:
    """For the repository's index, in Triton's words."""
    state = _REPOSITORY_STATES.get(served.state, "UNAVAILABLE")
    return {"name": served.model_id, "version": VERSION, "state": state, "reason": served.state}
