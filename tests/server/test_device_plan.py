from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from pool import CoreBudget, place
from server import devices
from server.device_plan import DevicePlan
from server.devices import NoSuchDeviceError
from server.launch import GPU_DEPTH, Launching
from server.settings import Settings
from server.table import known_models


def plan_of(num_gpus: int, device: str = "auto", **models: dict[str, Any]) -> DevicePlan:
    return DevicePlan(settings_of(device, **models), num_gpus)


def settings_of(device: str = "auto", **models: dict[str, Any]) -> Settings:
    return Settings(cuda_visible_devices=None, device=device, models=models)


def test_models_share_all_gpus_unless_they_were_given_some() -> None:
    plan = plan_of(3, yolov8n={"device": "cuda:1"}, yolov8s={"device": "cuda:0,cuda:2"})
    assert plan.devices_of("yolov8n") == ("cuda:1",)
    assert plan.devices_of("yolov8s") == ("cuda:0", "cuda:2")
    assert plan.devices_of("shapes-detect") == plan.shared == ("cuda:0", "cuda:1", "cuda:2")


def test_models_on_the_cpu_and_on_gpus_live_side_by_side() -> None:
    plan = plan_of(2, yolov8n={"device": "cpu"})
    assert plan.devices_of("yolov8n") == ("cpu",) and plan.shared == ("cuda:0", "cuda:1")
    other_way_round = plan_of(2, device="cpu", yolov8n={"device": "cuda"})
    assert other_way_round.devices_of("yolov8n") == ("cuda:0", "cuda:1") and other_way_round.shared == (
        "cpu",
    )
    assert set(other_way_round.all_devices) == {"cpu", "cuda:0", "cuda:1"}
    assert other_way_round.has_gpu and not plan_of(0).has_gpu and not plan_of(2, device="cpu").has_gpu


def test_a_dedicated_gpu_is_nobody_elses() -> None:
    plan = plan_of(2, yolov8n={"device": "cuda:1", "dedicated": True})
    assert plan.devices_of("yolov8n") == ("cuda:1",)
    assert plan.shared == ("cuda:0",)
    assert plan_of(1, yolov8n={"device": "cuda:0", "dedicated": True}).shared == ("cpu",)
    with pytest.raises(NoSuchDeviceError, match="dedicated"):
        plan_of(1, device="cuda", yolov8n={"device": "cuda:0", "dedicated": True})
    with pytest.raises(NoSuchDeviceError, match=r"models\.yolov8s: cuda:0 is dedicated to yolov8n"):
        plan_of(2, yolov8n={"device": "cuda:0", "dedicated": True}, yolov8s={"device": "cuda"})


def test_a_model_has_as_many_replicas_on_each_gpu_as_it_was_told() -> None:
    settings = settings_of(yolov8n={"replicas": {"cuda:0": 2, "cuda:1": 1}}, yolov8s={"replicas": 3})
    launching, known = Launching(settings, 1, DevicePlan(settings, 2)), known_models(settings)
    labels = [
        [replica.placement.label for replica in launching.make_pool(known[name]).replicas]
        for name in ("yolov8n", "yolov8s", "yolo11n")
    ]
    assert labels[0] == ["cuda:0", "cuda:0", "cuda:1"]
    assert sorted(labels[1]) == ["cuda:0"] * 3 + ["cuda:1"] * 3
    assert labels[2] == ["cuda:0", "cuda:1"]


def test_what_a_pool_is_allowed_follows_its_own_devices() -> None:
    settings = settings_of(yolov8n={"device": "cpu"})
    launching, known = Launching(settings, 1, DevicePlan(settings, 1)), known_models(settings)
    on_cpu, on_gpu = (launching.make_pool(known[name]) for name in ("yolov8n", "yolov8s"))
    assert [pool._limits.max_in_flight for pool in (on_cpu, on_gpu)] == [1, GPU_DEPTH]
    assert "torch" not in launching.preload(known["yolov8n"].entry)
    assert "torch" in launching.preload(known["yolov8s"].entry)


def test_a_device_that_is_not_there_is_said_with_the_models_name() -> None:
    with pytest.raises(NoSuchDeviceError, match=r"models\.yolov8n: device = cuda:4: 2 GPUs"):
        plan_of(2, yolov8n={"device": "cuda:4"})
    with pytest.raises(NoSuchDeviceError, match=r"models\.yolov8n: device = cuda:1: 1 GPUs"):
        plan_of(1, yolov8n={"replicas": {"cuda:1": 1}})


@pytest.mark.parametrize("table", [
    {"device": "gpu"}, {"device": "cuda:0,cpu"}, {"replicas": {}}, {"replicas": {"cpu": 1}}, {"replicas": {"cuda:0": 0}},
    {"replicas": {"cuda:0": 1}, "device": "cuda:0"}, {"dedicated": True}, {"dedicated": True, "device": "cpu"},
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(table: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        settings_of(yolov8n=table)


def test_places_repeat_as_devices_do() -> None:
    spots = place(("cuda:1", "cuda:1", "cuda:0"), 1, CoreBudget.of(range(6)))
    assert [spot.label for spot in spots] == ["cuda:1", "cuda:1", "cuda:0"]
    assert [spot.cores for spot in spots] == [(0, 1), (2, 3), (4, 5)]


def test_where_everything_goes_to_the_cpu_the_driver_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(devices, "count_gpus", lambda: asked.append(1) or 1)
    assert DevicePlan(settings_of("cpu", yolov8n={"device": "cpu"})).all_devices == ("cpu",)
    assert asked == []
    assert DevicePlan(settings_of("cpu", yolov8n={"device": "cuda"})).devices_of("yolov8n") == ("cuda:0",)
    assert asked == [1]
