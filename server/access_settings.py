"""The settings of who may ask, how often, and from which web pages."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_settings import NoDecode

_ORIGIN = re.compile(r"https?://[a-z0-9._\[\]:-]+")


def _split_commas(value: object) -> object:
    """``a, b`` from the environment or the command line; TOML brings a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _check_origins(origins: tuple[str, ...]) -> tuple[str, ...]:
    for origin in origins:
        if origin not in ("*", "null") and not _ORIGIN.fullmatch(origin):
            raise ValueError(
                f"{origin[:80]!r} is not an origin as browsers send it: scheme and host in small letters, a port if "
                "it is not the usual one, no slash at the end; or *"
            )
    return origins


Origins = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas), AfterValidator(_check_origins)]


class AccessSettings(BaseModel):
    """The part of Settings that access.py, keys.py, rate_limit.py and cors.py read."""

    model_config = ConfigDict(frozen=True)

    keys_file: Path | None = Field(
        None,
        description="File of API keys, hashed, one line each as `inference-engine key` prints them; read again when it "
        "changes. Unset: no keys, everybody may ask.",
    )
    public_metrics: bool = Field(
        False, description="Whether `/metrics` is answered without a key where there are keys."
    )
    public_docs: bool = Field(
        False,
        description="Whether `/docs` and `/openapi.json` are answered without a key where there are keys.",
    )
    rate_limit: float = Field(
        0.0,
        ge=0,
        le=1_000_000,
        allow_inf_nan=False,
        description="Requests per second that each key (without keys: each client address) may send; 0: any.",
    )
    rate_limit_burst: int = Field(
        10, ge=1, le=1_000_000, description="Requests that may come at once within `rate_limit`."
    )
    cors_origins: Origins = Field(
        (),
        description="Web pages' origins (`https://app.example`) whose scripts may call this server; `*`: any. Cookies "
        "and other credentials of the browser are never allowed.",
    )
