"""What `GET /models` says of one model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from server.reply_schemas import TaskName


class _Reply(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())


class LoadFailure(_Reply):
    """Why a model does not serve."""

    code: str
    message: str


class InputSize(_Reply):
    """Pixels of the network's input."""

    height: int
    width: int


class ModelReply(_Reply):
    """A model's name, state and, once it was loaded, what is known of it."""

    model_id: str
    family: str
    task: TaskName | None = None
    description: str = ""
    state: str
    required: bool = False
    progress: Mapping[str, Any] | None = None
    error: LoadFailure | None = None
    labels: Sequence[str] | None = None
    input: InputSize | None = None
    device: str | None = None
    runtime: str | None = None
    precision: str | None = None
    queue_length: int = 0
    replicas: Sequence[Mapping[str, Any]] = ()

    @property
    def is_ready(self) -> bool:
        """Whether it answers at once."""
        return self.state == "ready"


class ModelList(_Reply):
    """The 200 of `GET /models`."""

    models: Sequence[ModelReply]
