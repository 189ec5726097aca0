"""The settings of requests that bring several images."""

from __future__ import annotations

from pydantic import BaseModel, Field


class ListSettings(BaseModel):
    """Part of Settings."""

    max_listed_images: int = Field(64, ge=2, le=4096, description="Images in one call of `/inference/batch`.")
    max_list_bytes: int = Field(
        64 * 2**20,
        ge=1024,
        description="Largest body of such a call; never more than `max_in_flight_bytes`.",
    )
    max_listed_at_once: int = Field(
        16,
        ge=1,
        le=1024,
        description="Its images that are worked on at once; the others wait, so that other requests have room.",
    )
