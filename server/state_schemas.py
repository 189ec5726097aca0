"""What the replies look like that tell of models and of the server itself. Imports pydantic only; the server builds
them by hand (server/served.py), and a test compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import Field

from server.reply_schemas import Reply, TaskName

ModelState = Literal["unloaded", "loading", "ready", "crash_looping", "draining", "failed"]


class Progress(Reply):
    """Of a load. The bytes where they are known."""

    stage: str | None = None
    done_bytes: int | None = None
    total_bytes: int | None = Field(None, json_schema_extra={"type": ["integer", "null"]})


class Reloading(Reply):
    """waiting: for memory; draining: the weights from before answer their last requests."""

    state: Literal["waiting", "loading", "draining"]
    progress: Progress | None


class Failure(Reply):
    """Why a model does not serve."""

    code: str
    message: str


class InputSize(Reply):
    """Pixels of the network's input."""

    height: int
    width: int


class Slots(Reply):
    """Places for decoded images."""

    total: int
    free: int


class Replica(Reply):
    """A position that a worker process fills."""

    index: int
    device: str
    cores: Sequence[int]
    state: Literal["backoff", "starting", "ready", "busy", "draining", "dead", "stopped"]
    pid: int | None
    in_flight: int
    batches: int
    deaths: int


class ModelReply(Reply):
    """One model. What is not known before it has been loaded is null."""

    model_id: str
    family: str
    task: TaskName | None
    description: str
    state: ModelState
    required: bool = Field(description="Whether readiness waits for it.")
    progress: Progress | None
    reloading: Reloading | None
    error: Failure | None
    labels: Sequence[str] | None
    input: InputSize | None
    device: str | None
    runtime: str | None
    precision: str | None
    runtime_reason: str | None
    layouts: Mapping[str, float]
    queue_length: int
    slots: Slots
    replicas: Sequence[Replica]
    counters: Mapping[str, int]

    @property
    def is_ready(self) -> bool:
        """Whether it answers at once."""
        return self.state == "ready"


class ModelsReply(Reply):
    """The 200 of `GET /models`."""

    models: Sequence[ModelReply]


class ModelHealth(Reply):
    """Of a required model, or another that is loaded or failed."""

    state: ModelState
    required: bool
    ready_replicas: int
    replicas: int


class HealthReply(Reply):
    """Of `GET /healthz`, whether it is a 200 or a 503. Who gives no key where there are keys gets the status only."""

    status: Literal["ready", "loading", "unavailable", "draining"]
    models: Mapping[str, ModelHealth] | None = None


class LiveReply(Reply):
    """The 200 of `GET /livez`."""

    status: Literal["live"]
