"""How images are decoded."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field


class DecodeSettings(BaseModel):
    """A part of `Settings`."""

    decode: Literal["thread", "process"] = Field(
        "process",
        description="Where images are decoded: in threads of the server, or each in one of `decode_threads` processes "
        "without rights, files or network, so that an image that breaks its decoder breaks nothing else.",
    )
