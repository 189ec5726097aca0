"""What the operator chose: one frozen declaration, read once at start.

Defaults < engine.toml < environment ``ENGINE_*`` < command line. Nobody else in the project reads the
environment; the usual variables of CUDA, Hugging Face and Ultralytics keep their meaning through aliases here.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AliasChoices,
    BeforeValidator,
    Field,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from models.spec import Precision, RuntimeName
from server.access_settings import AccessSettings
from server.decode_settings import DecodeSettings
from server.image_url_settings import ImageUrlSettings
from server.list_settings import ListSettings
from server.model_settings import AutoCount, Count, Device, ModelSettings
from server.receipt_settings import ReceiptSettings

ENV_PREFIX = "ENGINE_"
DEFAULT_CONFIG = Path("engine.toml")
_HTTP = r"^https?://[^\s]+$"
_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _split_commas(value: object) -> object:
    """``a, b`` from the environment or the command line; TOML brings a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _parse_json(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise ValueError("must be a JSON object") from error


Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]
NumBytes = Annotated[int, Field(ge=1024)]


def _usual(name: str) -> AliasChoices:
    """A variable that keeps its usual name, without our prefix."""
    return AliasChoices(name, name.upper(), f"{ENV_PREFIX}{name.upper()}")


class Settings(AccessSettings, ImageUrlSettings, ReceiptSettings, DecodeSettings, ListSettings, BaseSettings):
    """Every setting, its default and what it means. settings_table.py prints it as a table."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, extra="forbid", frozen=True, validate_default=True
    )

    config: Path | None = Field(
        None, description="Settings file; without it `engine.toml` is read where it exists."
    )
    host: str = Field(
        "127.0.0.1", min_length=1, description="Address to listen on; `0.0.0.0` for every interface."
    )
    port: int = Field(5000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")

    load_at_start: Names | None = Field(
        None, description="Models loaded at start, which readiness waits for. Unset: the shipped demo models."
    )
    on_demand: Literal["all", "listed", "off"] = Field(
        "all",
        description="Which other models a request may load: all, only those named in the settings, or none.",
    )
    max_loaded_models: Count = Field(
        4, description="Models in memory at once; the idle one used longest ago makes room, never a busy one."
    )
    memory_budget: NumBytes | None = Field(
        None,
        description="Bytes that the server and its models may take together; more is refused or makes room. Unset: "
        "nine tenths of the memory of the container or machine.",
    )
    load_timeout: Seconds = Field(120.0, description="Seconds that a request waits for its model to load.")
    max_load_waiters: Count = Field(256, description="Requests that may wait for models to load.")

    device: Device = Field(
        "auto",
        description="`auto` (every GPU, the CPU where there is none), `cpu`, `cuda` (every GPU; refuses to start "
        "without) or some of them, `cuda:0,cuda:2`.",
    )
    accelerator: Literal["cpu", "cuda"] | None = Field(
        None,
        description="What an installation is made for; the images set it. A `cuda` one that finds no GPU says so when "
        "it starts, and serves on the CPU.",
    )
    runtime: RuntimeName = Field(
        "auto",
        description="What executes models: `torch`, `openvino` (CPU) or `tensorrt` (NVIDIA). `auto`: on the CPU the "
        "fastest that keeps the accuracy, measured once and remembered; on a GPU torch.",
    )
    precision: Precision = Field(
        "auto",
        description="`fp32`, `bf16`, `fp16` or `int8`, where runtime and device have it. `auto`: none that loses more "
        "than half a point of accuracy.",
    )
    converted_dir: Path | None = Field(
        None,
        description="Folder of converted networks. Unset: `converted` in the folder of downloaded YOLO weights.",
    )
    replicas: AutoCount = Field(
        "auto", description="Worker processes of a model: per GPU, or in all on the CPU."
    )
    threads: AutoCount = Field(
        "auto", description="CPU threads of one worker; `auto`: its share of the cores."
    )
    max_batch_size: int = Field(8, ge=1, le=1024, description="Most images that run together.")
    vision_cache_bytes: int = Field(
        256 * 2**20,
        ge=0,
        description="Bytes of encoded images that each worker of a BLIP model keeps for further questions; 0: none.",
    )
    max_queue_delay: float = Field(
        0.0, ge=0, le=10, allow_inf_nan=False, description="Seconds that a batch waits to fill; 0: never."
    )
    max_queue_size: Count = Field(128, description="Requests that may wait for one model.")
    deadline: Seconds = Field(
        30.0, description="Seconds after which a request is given up (loading not counted)."
    )
    batch_timeout: Seconds = Field(
        120.0, description="Seconds after which a worker that does not finish its batch is replaced, at most."
    )
    first_batch_timeout: Seconds = Field(
        60.0,
        description="The same for the first batch of each size; later ones have what was learnt from it.",
    )
    min_batch_timeout: Seconds = Field(
        10.0, description="The least that is learnt; a batch has 5 times what the slowest took, or this."
    )
    max_worker_growth: int = Field(
        0, ge=0, description="Bytes that a worker may grow by once warm before it is replaced; 0: any."
    )
    max_worker_age: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="Seconds after which a worker is replaced; 0: never."
    )
    start_timeout: Seconds = Field(
        600.0, description="Seconds after which a worker that does not finish loading is replaced."
    )

    max_body_bytes: NumBytes = Field(20 * 2**20, description="Largest image: body, form file or download.")
    max_json_bytes: NumBytes = Field(28 * 2**20, description="Largest JSON body.")
    max_in_flight_bytes: NumBytes = Field(
        256 * 2**20, description="Bytes of all request bodies held at once."
    )
    max_image_pixels: Count = Field(24_000_000, description="Largest image in pixels.")
    max_image_side: int = Field(16_384, ge=1, le=32_767, description="Longest side of an image in pixels.")
    decode_threads: AutoCount = Field(
        "auto",
        description="Threads or processes (see `decode`) that decode images; `auto`: one per core, at most 8.",
    )
    jpeg_scaling: bool = Field(
        False,
        description="Whether a JPEG of at least twice a model's input is decoded in an eighth to a half of its size: "
        "faster, with slightly other pixels.",
    )

    deduplicate: bool = Field(
        False, description="Equal requests that are in flight at the same time are computed once."
    )
    response_cache_bytes: int = Field(
        0, ge=0, description="Bytes of answers kept for equal requests that come later; 0: none."
    )

    give_up_after: float = Field(
        120.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds without any required model, its workers dying or its device gone, after which the server "
        "ends with code 75, so that the platform acts; 0: never.",
    )
    lame_duck: float = Field(
        5.0,
        ge=0,
        le=300,
        allow_inf_nan=False,
        description="Seconds between SIGTERM and the end of the port: readiness says no, requests are answered.",
    )
    drain_timeout: Seconds = Field(25.0, description="Seconds that a stop waits for requests in flight.")
    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`auto`: console on a terminal."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe line logged."
    )
    offline: bool = Field(False, description="Never download weights.")
    download_timeout: Seconds = Field(
        30.0, description="Seconds without a byte after which a download of weights is given up."
    )

    huggingface_hub_cache: Path | None = Field(
        None,
        validation_alias=_usual("huggingface_hub_cache"),
        description="Folder of downloaded BLIP weights.",
    )
    hf_home: Path | None = Field(
        None,
        validation_alias=_usual("hf_home"),
        description="Home of Hugging Face; its `hub` folder is the fallback.",
    )
    ultralytics_cache_dir: Path | None = Field(
        None,
        validation_alias=_usual("ultralytics_cache_dir"),
        description="Folder of downloaded YOLO weights.",
    )
    hf_endpoint: str | None = Field(
        None,
        pattern=_HTTP,
        validation_alias=_usual("hf_endpoint"),
        description="Address of a mirror of the hub.",
    )
    yolo_weights_url: str | None = Field(
        None,
        pattern=_HTTP,
        description="Where YOLO weights are downloaded, instead of Ultralytics' own release.",
    )
    yolo_config_dir: Path | None = Field(
        None,
        validation_alias=_usual("yolo_config_dir"),
        description="Where Ultralytics keeps its own settings file.",
    )
    cuda_visible_devices: str | None = Field(
        None,
        validation_alias=_usual("cuda_visible_devices"),
        description="GPUs that may be used, as CUDA reads it.",
    )

    models: Annotated[dict[str, ModelSettings], NoDecode, BeforeValidator(_parse_json)] = Field(
        default_factory=dict,
        description="`[models.NAME]` tables of engine.toml (JSON elsewhere): weights, sha256, family, task, imgsz, "
        "end2end, runtime, precision, device, dedicated, replicas, load_at_start, description.",
    )

    @field_validator("models")
    @classmethod
    def _names_are_plain(cls, models: dict[str, ModelSettings]) -> dict[str, ModelSettings]:
        for name in models:
            if not _MODEL_NAME.fullmatch(name):
                raise ValueError(
                    f"model name {name[:80]!r} must be 1 to 64 letters, digits, dots, dashes, underscores"
                )
        return models

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if self.max_json_bytes > self.max_in_flight_bytes or self.max_body_bytes > self.max_in_flight_bytes:
            raise ValueError(
                "max_in_flight_bytes must hold at least one body (max_json_bytes, max_body_bytes)"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Strongest first."""
        path = init_settings().get("config") or env_settings().get("config")
        toml = InitSettingsSource(settings_cls, read_toml(Path(path) if path else None))
        return init_settings, env_settings, toml


def read_toml(path: Path | None) -> dict[str, Any]:
    """The settings file's fields, weights' paths made relative to its folder. {} if `path` is None and there is
    no engine.toml in the working directory. Raises OSError or tomllib.TOMLDecodeError."""
    if path is None:
        if not DEFAULT_CONFIG.exists():
            return {}
        path = DEFAULT_CONFIG
    fields = tomllib.loads(path.read_text("utf-8"))
    models = fields.get("models")
    for table in models.values() if isinstance(models, Mapping) else ():
        if isinstance(table, dict) and isinstance(table.get("weights"), str):
            table["weights"] = str(path.parent / table["weights"])
    return fields
