"""The settings of connections and of what is received over them before a request is one."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, Field

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class ReceiptSettings(BaseModel):
    """Part of Settings."""

    header_timeout: Seconds = Field(
        15.0, description="Seconds for a request's line and headers, from the connection or their first byte."
    )
    receive_timeout: Seconds = Field(
        60.0, description="Seconds for the whole of a request, its body too, from the same moment."
    )
    send_timeout: Seconds = Field(
        30.0, description="Seconds after which a client that takes nothing of its reply is given up."
    )
    max_connections: Literal["auto"] | Annotated[int, Field(ge=1, le=1_000_000)] = Field(
        "auto",
        description="Connections at once; `auto`: what the limit of open files allows, at most 16384. A further one "
        "takes the place of one that waits for a request.",
    )
    max_header_bytes: int = Field(
        32 * 1024, ge=1024, le=2**20, description="Bytes of a request's headers; also of trailers."
    )
    max_headers: int = Field(100, ge=8, le=10_000, description="Headers of a request.")
    max_target_bytes: int = Field(
        8 * 1024, ge=256, le=2**20, description="Bytes of a request's path and query."
    )
