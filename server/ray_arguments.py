"""What a deployment on Ray Serve can be told, and what that means for `serve.deployment`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from ray.serve.config import AutoscalingConfig, BackpressureConfig

from pool import usable_cores
from server.devices import count_gpus
from server.settings import Settings

STOP_MARGIN = 10.0
"""Seconds for processes to end, besides those for what is in flight."""
HEALTH_CHECK_PERIOD = 5.0
HEALTH_CHECK_TIMEOUT = 30.0
RETRY_AFTER = 1.0
"""Seconds, said by Ray to who is too many for it."""


class EngineArguments(BaseModel):
    """`serve run server.ray_app:build NAME=VALUE ...`: these, and any setting of the engine by its name."""

    model_config = ConfigDict(extra="allow", frozen=True)

    num_cpus: float | None = Field(default=None, gt=0)
    """Cores of one replica. None: all of the machine that builds the deployment, or where a replica has GPUs its share
    of them."""
    num_gpus: float | None = Field(default=None, ge=0)
    """GPUs of one replica. None: one where `accelerator` or `device` name a GPU, else none."""
    min_replicas: int = Field(default=1, ge=0)
    max_replicas: int = Field(default=4, ge=1)
    target_ongoing_requests: float | None = Field(default=None, gt=0)
    """Requests per replica that autoscaling aims at. None: two batches, one that runs and one that waits."""
    max_ongoing_requests: int | None = Field(default=None, ge=1)
    """Requests that one replica is given at once. None: what the queues of all its models hold, and more, so that
    who is too many is refused by the engine, with Retry-After."""
    max_queued_requests: int | None = Field(default=None, ge=-1)
    """Requests that wait besides (with HAProxy in the replica, else in Ray's proxy), before Ray itself answers 503.
    None: as many as one replica is given; -1: any number."""
    downscale_delay: float = Field(default=600.0, ge=0)
    """Seconds of less work before a replica is stopped."""

    @property
    def given_settings(self) -> dict[str, Any]:
        """Of the engine, as on the command line."""
        return dict(self.model_extra or {})


def deployment_options(arguments: EngineArguments, settings: Settings) -> dict[str, Any]:
    """Of `serve.deployment`."""
    batch, queue = settings.max_batch_size, settings.max_queue_size
    most = arguments.max_ongoing_requests or settings.max_loaded_models * (queue + 4 * batch)
    target = min(arguments.target_ongoing_requests or 2.0 * batch, most)
    wants_gpu = settings.accelerator == "cuda" or settings.device.startswith("cuda")
    num_gpus = arguments.num_gpus if arguments.num_gpus is not None else float(wants_gpu)
    return {
        "ray_actor_options": {
            "num_cpus": arguments.num_cpus or share_of_cores(num_gpus),
            "num_gpus": num_gpus,
        },
        "autoscaling_config": AutoscalingConfig(
            min_replicas=arguments.min_replicas,
            max_replicas=max(arguments.min_replicas, arguments.max_replicas),
            target_ongoing_requests=target,
            downscale_delay_s=arguments.downscale_delay,
        ),
        "max_ongoing_requests": most,
        "max_queued_requests": most
        if arguments.max_queued_requests is None
        else arguments.max_queued_requests,
        "backpressure_config": BackpressureConfig(retry_after_s=RETRY_AFTER),
        "graceful_shutdown_wait_loop_s": 0.1,
        "graceful_shutdown_timeout_s": settings.deadline + settings.drain_timeout + STOP_MARGIN,
        "health_check_period_s": HEALTH_CHECK_PERIOD,
        "health_check_timeout_s": HEALTH_CHECK_TIMEOUT,
    }


def share_of_cores(num_gpus: float) -> float:
    """Of this machine's, so that each of its GPUs can have an engine."""
    cores = usable_cores().num_cores
    return (
        float(max(1, int(cores * num_gpus / count_gpus()))) if 0 < num_gpus < count_gpus() else float(cores)
    )
