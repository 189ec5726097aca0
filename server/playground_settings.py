"""The settings of the page at `/` and of who may watch the pools."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class PlaygroundSettings(BaseModel):
    """The part of Settings that playground_page.py and events.py read."""

    model_config = ConfigDict(frozen=True)

    playground: bool = Field(
        True,
        description="Whether `/` is a page to try the models on. It loads without a key and asks for one where there "
        "are keys.",
    )
    max_viewers: int = Field(
        32, ge=0, le=10_000, description="Clients that may watch `/events` at once; 0: nobody."
    )
