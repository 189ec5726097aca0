"""How the workers of a model are started: their forkserver, environment, places and limits."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import models.catalogue
from models.catalogue import CatalogueEntry
from pool import CoreBudget, Launcher, Limits, Pool, place, usable_cores
from server.device_plan import CPU, DevicePlan
from server.layouts import Layouts
from server.settings import Settings
from server.table import Known

MAX_CONNECT_TIMEOUT = 10.0
PACKAGE = Path(models.catalogue.__file__).parent
GPU_DEPTH = 2
"""Batches given to a replica on a GPU at once, so that it never waits for the next."""


class Launching:
    """Makes pools. One forkserver for each set of imports, started when the first model that wants it is."""

    def __init__(
        self,
        settings: Settings,
        num_decode_threads: int,
        plan: DevicePlan | None = None,
        cores: CoreBudget | None = None,
    ) -> None:
        """`plan` None: what the settings mean on this machine; `cores` None: all that this process may use.

        Raises NoSuchDeviceError.
        """
        self._settings = settings
        self.plan = plan or DevicePlan(settings)
        self._environment = worker_environment(settings)
        self._num_decode_threads = num_decode_threads
        self._launchers: dict[tuple[str, ...], Launcher] = {}
        self._cores = cores
        self.layouts = Layouts(converted_folder(settings), (cores or usable_cores()).num_cores)

    def make_pool(self, known: Known) -> Pool:
        """A pool that has not been started."""
        settings, entry = self._settings, known.entry
        devices, cores = self.plan.devices_of(entry.model_id), self._cores or usable_cores()
        num_replicas = None if known.replicas == "auto" else known.replicas
        num_threads = None if settings.threads == "auto" else settings.threads
        if self._is_laid_out(known) and (width := self.layouts.width(known)) is not None:
            num_replicas, num_threads = max(1, cores.num_cores // width), width
        placements = place(devices, num_replicas, cores, num_threads)
        limits = Limits(
            max_batch_size=settings.max_batch_size,
            max_queue_delay=settings.max_queue_delay,
            max_queue_size=settings.max_queue_size,
            max_in_flight=1 if devices == CPU else GPU_DEPTH,
            num_extra_slots=self._num_decode_threads,
            start_timeout=settings.start_timeout,
            batch_timeout=settings.batch_timeout,
            first_batch_timeout=settings.first_batch_timeout,
            min_batch_timeout=settings.min_batch_timeout,
            max_worker_growth=settings.max_worker_growth,
            max_worker_age=settings.max_worker_age,
        )
        return Pool(
            entry.model_id,
            entry.factory,
            factory_config(settings, entry),
            placements,
            self._launcher(entry),
            limits,
        )

    def _is_laid_out(self, known: Known) -> bool:
        """Whether it is for us to say how the cores are shared out."""
        is_on_cpu = self.plan.devices_of(known.entry.model_id) == CPU
        return is_on_cpu and known.replicas == "auto" and self._settings.threads == "auto"

    def is_outdated(self, known: Known, pool: Pool) -> bool:
        """Whether `pool` has said what makes it worth while to lay it out anew. Remembers what it has said."""
        if not self._is_laid_out(known):
            return False
        self.layouts.note(known, pool.spec)
        return self.layouts.is_outdated(pool, known)

    def preload(self, entry: CatalogueEntry) -> tuple[str, ...]:
        """What the workers of `entry` import before they are forked."""
        return entry.preload(entry.runtime or self._settings.runtime, self.plan.devices_of(entry.model_id)[0])

    def _launcher(self, entry: CatalogueEntry) -> Launcher:
        preload = self.preload(entry)
        if preload not in self._launchers:
            self._launchers[preload] = Launcher(preload, self._environment)
        return self._launchers[preload]

    def forkservers(self) -> Mapping[tuple[str, ...], int]:
        """Process ids of the forkservers that run, by what they import."""
        pids = {preload: launcher.pid for preload, launcher in self._launchers.items()}
        return {preload: pid for preload, pid in pids.items() if pid is not None}

    def close(self) -> None:
        """End the forkservers."""
        for launcher in self._launchers.values():
            launcher.close()


def factory_config(settings: Settings, entry: CatalogueEntry) -> dict[str, Any]:
    """What a worker is told of its model, JSON types; also what `pull` fetches by."""
    folder = cache_folder(settings, entry)
    own = {"vision_cache_bytes": settings.vision_cache_bytes} if entry.family == "blip" else {}
    return {
        **entry.to_config(),
        "max_batch_size": settings.max_batch_size,
        "offline": settings.offline,
        "cache_dir": str(folder) if folder else None,
        "base_url": settings.yolo_weights_url if entry.source == "ultralytics" else settings.hf_endpoint,
        "connect_timeout": min(settings.download_timeout, MAX_CONNECT_TIMEOUT),
        "read_timeout": settings.download_timeout,
        "runtime": entry.runtime or settings.runtime,
        "precision": entry.precision or settings.precision,
        "converted_dir": str(converted_folder(settings)),
        **own,
    }


def cache_folder(settings: Settings, entry: CatalogueEntry) -> Path | None:
    """Where downloaded weights are kept; None for the Hugging Face library's own default, below `HF_HOME`."""
    if entry.source == "ultralytics":
        return ultralytics_folder(settings)
    if settings.huggingface_hub_cache is None and settings.hf_home is not None:
        return settings.hf_home / "hub"
    return settings.huggingface_hub_cache


def converted_folder(settings: Settings) -> Path:
    """Where converted networks are kept, and what was measured of them."""
    return settings.converted_dir or ultralytics_folder(settings) / "converted"


def ultralytics_folder(settings: Settings) -> Path:
    """Where downloaded YOLO weights are kept."""
    home = _writable_home()
    default = home / ".cache" / "ultralytics" if home else _temporary_folder() / "weights"
    return settings.ultralytics_cache_dir or default


def weights_path(settings: Settings, entry: CatalogueEntry) -> Path | None:
    """Where a model's weights are or will be; None for the hub's, whose cache is the library's own business."""
    match entry.source:
        case "package":
            return PACKAGE / entry.weights
        case "ultralytics":
            folder = cache_folder(settings, entry)
            return folder / entry.weights if folder else None
        case "file":
            return Path(entry.weights).expanduser()
        case _:
            return None


def worker_environment(settings: Settings) -> dict[str, str]:
    """Variables of the forkservers, on top of the front's own. Libraries read them at import."""
    environment = {
        "YOLO_OFFLINE": "true",  # importing ultralytics would resolve names otherwise
        "YOLO_AUTOINSTALL": "false",
        "ULTRALYTICS_SAFE_LOAD": "true",  # weights are pickles; load nothing but tensors and known classes
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",  # numbered as by the driver's library, which placed them
        "PYTORCH_NVML_BASED_CUDA_CHECK": "1",  # the usual check would start CUDA before the fork
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OPENBLAS_NUM_THREADS": "1",  # no threads before the fork; a worker sets its own number
        "OMP_NUM_THREADS": "1",
    }
    if settings.offline:
        environment["HF_HUB_OFFLINE"] = "1"
    if settings.yolo_config_dir is not None:
        environment["YOLO_CONFIG_DIR"] = str(settings.yolo_config_dir)
    elif _writable_home() is None:
        environment["YOLO_CONFIG_DIR"] = str(_temporary_folder())
    if settings.hf_home is None and _writable_home() is None:
        environment["HF_HOME"] = str(_temporary_folder() / "huggingface")
    return environment


def _writable_home() -> Path | None:
    """None for a container's random user, who has no home or may not write to it."""
    try:
        home = Path.home()
    except RuntimeError:
        return None
    return home if home != Path("/") and os.access(home, os.W_OK) else None


def _temporary_folder() -> Path:
    """A folder of this user's own, where the home folder cannot be written to.

    Its name is known, so somebody else may have made it first: then another one is taken, for this process only.
    """
    folder = Path(tempfile.gettempdir()) / f"ultralytics-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        there = folder.lstat()
        if not stat.S_ISDIR(there.st_mode) or there.st_uid != os.getuid() or there.st_mode & 0o022:
            return _private_folder()
    return folder


@cache
def _private_folder() -> Path:
    return Path(tempfile.mkdtemp(prefix="ultralytics-"))
