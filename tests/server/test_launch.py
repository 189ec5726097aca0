from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from models.catalogue import CATALOGUE, LIGHT_PRELOAD
from server.devices import NoSuchDeviceError
from server.launch import Launching, _private_folder, cache_folder, factory_config, worker_environment
from server.settings import Settings
from server.table import known_models


def settings(**fields: Any) -> Settings:
    return Settings(cuda_visible_devices="", **fields)


def test_workers_never_download_or_unpickle_by_themselves() -> None:
    environment = worker_environment(settings())
    assert environment["YOLO_OFFLINE"] == "true"
    assert environment["YOLO_AUTOINSTALL"] == "false"
    assert environment["ULTRALYTICS_SAFE_LOAD"] == "true"
    assert environment["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"
    assert environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "1"
    assert "HF_HUB_OFFLINE" not in environment
    assert worker_environment(settings(offline=True))["HF_HUB_OFFLINE"] == "1"


def test_ultralytics_gets_a_place_to_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("YOLO_CONFIG_DIR", raising=False)
    assert "YOLO_CONFIG_DIR" not in worker_environment(settings())
    assert worker_environment(settings(yolo_config_dir="/c"))["YOLO_CONFIG_DIR"] == "/c"
    monkeypatch.setenv("HOME", "/")
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    folder = worker_environment(settings())["YOLO_CONFIG_DIR"]
    assert os.access(folder, os.W_OK)
    assert Path(folder).stat().st_mode & 0o777 == 0o700


def test_weights_are_kept_where_the_usual_variables_say(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("HF_HOME", "HUGGINGFACE_HUB_CACHE", "ULTRALYTICS_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    yolo, blip = CATALOGUE["yolov8n"], CATALOGUE["blip-vqa-base"]
    assert cache_folder(settings(), yolo) == tmp_path / ".cache" / "ultralytics"
    assert cache_folder(settings(ultralytics_cache_dir="/y"), yolo) == Path("/y")
    assert cache_folder(settings(), blip) is None
    assert cache_folder(settings(hf_home="/h"), blip) == Path("/h/hub")
    assert cache_folder(settings(hf_home="/h", huggingface_hub_cache="/c"), blip) == Path("/c")


def test_a_factory_is_told_all_it_needs() -> None:
    config = factory_config(
        settings(offline=True, max_batch_size=3, ultralytics_cache_dir="/y"), CATALOGUE["yolov8n"]
    )
    assert config["model_id"] == "yolov8n"
    assert (config["max_batch_size"], config["offline"], config["cache_dir"]) == (3, True, "/y")


def test_a_model_has_its_own_runtime_or_that_of_all() -> None:
    chosen = settings(models={"yolov8n": {"runtime": "torch"}}, precision="fp32", ultralytics_cache_dir="/y")
    known = known_models(chosen)
    own, other = (factory_config(chosen, known[name].entry) for name in ("yolov8n", "yolov8s"))
    assert (own["runtime"], other["runtime"]) == ("torch", "auto")
    assert {own["precision"], other["precision"]} == {"fp32"}
    assert own["converted_dir"] == "/y/converted"
    elsewhere = settings(converted_dir="/c", ultralytics_cache_dir="/y")
    assert factory_config(elsewhere, CATALOGUE["shapes-detect"])["converted_dir"] == "/c"


def test_workers_of_converted_networks_are_forked_without_torch() -> None:
    chosen = settings(device="cpu", models={"yolov8n": {"runtime": "torch"}})
    launching, known = Launching(chosen, 1), known_models(chosen)
    assert "torch" in launching.preload(known["yolov8n"].entry)
    light = launching.preload(known["yolov8s"].entry)
    assert light.index("models.guarded") < light.index("openvino"), "the first keeps the second quiet"
    assert "torch" not in light
    assert launching.preload(known["shapes-vqa"].entry) == light, "one forkserver for all families"
    for model in ("yolov8s", "shapes-vqa"):
        assert "torch" in known[model].entry.preload("auto", "cuda:0")
        assert "torch" in known[model].entry.preload("torch", "cpu")


def test_light_imports_are_light_and_start_no_thread_before_the_fork() -> None:
    program = f"""
import importlib, os, sys
for name in {LIGHT_PRELOAD!r}: importlib.import_module(name)
heavy = ("torch", "transformers", "ultralytics", "httpx", "huggingface_hub", "openvino_telemetry")
print(len(os.listdir("/proc/self/task")), [name for name in heavy if sys.modules.get(name)])"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, **worker_environment(settings())},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "1 []", done.stderr


async def test_pools_are_made_to_the_settings() -> None:
    launching = Launching(
        settings(device="cpu", replicas=3, threads=1, max_batch_size=5), num_decode_threads=2
    )
    known = known_models(settings(replicas=3))
    pool = launching.make_pool(known["shapes-detect"])
    assert len(pool.replicas) == 3
    assert {replica.placement.num_threads for replica in pool.replicas} == {1}
    launching.close()


def test_a_gpu_that_is_not_there_is_said_before_anything_starts() -> None:
    with pytest.raises(NoSuchDeviceError):
        Launching(settings(device="cuda"), 1)


def test_without_a_home_the_hubs_library_writes_below_the_folder_for_temporary_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "HF_HOME" not in worker_environment(settings())
    monkeypatch.setenv("HOME", "/proc/nonexistent")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    folder = Path(worker_environment(settings())["HF_HOME"])
    assert tmp_path in folder.parents and os.access(folder.parent, os.W_OK)
    assert "HF_HOME" not in worker_environment(settings(hf_home="/h"))


def test_a_temporary_folder_that_others_can_write_to_is_not_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", "/proc/nonexistent")
    monkeypatch.delenv("YOLO_CONFIG_DIR", raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    planted = tmp_path / f"ultralytics-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    _private_folder.cache_clear()
    folder = Path(worker_environment(settings())["YOLO_CONFIG_DIR"])
    assert folder != planted and folder.stat().st_mode & 0o077 == 0


def test_the_operators_timeout_goes_to_every_download() -> None:
    chosen = factory_config(settings(download_timeout=3.0), CATALOGUE["yolov8n"])
    assert (chosen["connect_timeout"], chosen["read_timeout"]) == (3.0, 3.0)
    usual = factory_config(settings(), CATALOGUE["blip-vqa-base"])
    assert (usual["connect_timeout"], usual["read_timeout"]) == (10.0, 30.0)
