"""`GET /v1/models`: the models that answer in words."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import Response

from server.chat.schemas import ChatModel, ChatModelList
from server.errors import RequestFailedError
from server.registry import Registry
from server.replies import JsonReply
from server.served import Served


class ChatModels:
    """The endpoints of one engine."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._started_at = int(time.time())

    async def list_models(self, request: Request) -> Response:
        """All that a request may name, loaded or not."""
        found = [self._shown(served) for served in self._registry.models.values() if is_chat_model(served)]
        return JsonReply(ChatModelList(data=found).model_dump())

    async def show_model(self, request: Request) -> Response:
        """One of them."""
        served = self._registry.find(request.path_params["model_id"])
        check_chat_model(served)
        return JsonReply(self._shown(served).model_dump())

    def _shown(self, served: Served) -> ChatModel:
        return ChatModel(id=served.model_id, created=self._started_at)


def is_chat_model(served: Served) -> bool:
    """Whether its task is vqa or caption; before its weights have told which, its family says as much."""
    task = served.spec.task if served.spec is not None else served.known.task
    return task in ("vqa", "caption") if task is not None else served.known.entry.family == "blip"


def check_chat_model(served: Served) -> None:
    """Raises RequestFailedError."""
    if not is_chat_model(served):
        raise RequestFailedError("not_a_chat_model", served.model_id)
