"""Everything that the routes share: settings, models, threads, downloads and budgets, with one start and one end."""

from __future__ import annotations

import asyncio
import importlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pool import CoreBudget, Pool, usable_cores
from server.body import BodyBudget
from server.decode import ImageLimits, default_num_threads
from server.decoding import ImageDecoder, make_decoder
from server.gpu import Gpus
from server.intake import Intake
from server.launch import Launching, weights_path
from server.loading import Policy
from server.loop_lag import LoopLag
from server.metrics import Metrics
from server.registry import Registry
from server.response_cache import ResponseCache
from server.room import Room, Surroundings, default_budget
from server.scrape import Scrape
from server.served import health_of
from server.settings import Settings
from server.settings_load import environment
from server.sharing import Sharing
from server.table import Known, known_models
from server.tracing import tracer_from

if TYPE_CHECKING:
    from server.fetch import Fetcher

LATER = ("server.fetch",)
"""No request for a JPEG needs it: imported while the first model loads."""
LATER_FOR_THREADS = ("server.pillow",)
"""The same, half of what the front imports; only where the front decodes."""

NO_GPU = (
    "no GPU is to be seen although this installation is made for one: models run on the CPU, slowly; "
    "`inference-engine doctor` says why, ENGINE_DEVICE=cuda refuses to start instead"
)

log = logging.getLogger(__name__)


class Engine:
    """Made before the event loop runs; `start` and `stop` are called inside it."""

    def __init__(
        self,
        settings: Settings,
        known: Mapping[str, Known] | None = None,
        make_pool: Callable[[Known], Pool] | None = None,
        fetcher: Fetcher | None = None,
        decoder: ImageDecoder | None = None,
        cores: CoreBudget | None = None,
    ) -> None:
        """`known`, `make_pool`, `fetcher` and `decoder` replace what the settings say, for tests. `cores` None:
        all that this process may use.

        Raises SettingsError and NoSuchDeviceError.
        """
        self.settings = settings
        num_threads = settings.decode_threads
        if num_threads == "auto":
            num_threads = default_num_threads(cores or usable_cores())
        self._launching = Launching(settings, num_threads, cores=cores)
        policy = Policy(
            on_demand=settings.on_demand,
            max_loaded_models=settings.max_loaded_models,
            load_timeout=settings.load_timeout,
            start_timeout=settings.start_timeout,
            max_load_waiters=settings.max_load_waiters,
            drain_timeout=settings.drain_timeout,
            give_up_after=settings.give_up_after,
        )
        around = Surroundings(
            lambda: {**self._launching.forkservers(), **self.decoder.forkservers()},
            lambda known: self._launching.preload(known.entry),
            lambda known: weights_path(settings, known.entry),
            settings.max_batch_size,
        )
        room = Room(settings.memory_budget or default_budget(), around)
        cache = ResponseCache(settings.response_cache_bytes)
        self.registry = Registry(
            known_models(settings) if known is None else known,
            policy,
            make_pool or self._launching.make_pool,
            room,
            cache.drop,
            self._launching.is_outdated if make_pool is None else lambda known, pool: False,
        )
        limits = ImageLimits(settings.max_body_bytes, settings.max_image_pixels, settings.max_image_side)
        self.decoder = decoder or make_decoder(settings.decode, num_threads, limits, settings.jpeg_scaling)
        self.intake = Intake(settings.max_body_bytes, settings.max_json_bytes)
        self.metrics = Metrics()
        self.sharing: Sharing | None = None
        """None where every request runs for itself."""
        if settings.deduplicate or settings.response_cache_bytes:
            self.sharing = Sharing(cache, self.metrics, deduplicates=settings.deduplicate)
        self.budget = BodyBudget(settings.max_in_flight_bytes)
        self._fetcher = fetcher
        self.tracer = tracer_from(environment())
        self._lag = LoopLag(self.metrics.lag.observe)
        gpus = Gpus(self._launching.plan.all_devices)
        self.scrape = Scrape(self.metrics, self.registry, self.budget, cache, gpus)

        self.on_leave: list[Callable[[], None]] = []
        """Called, on the event loop, when the server begins to leave."""
        self.is_leaving = False
        """Readiness says no and connections are closed; requests are still answered."""

    def health(self) -> dict[str, Any]:
        """What `health_of` says of the models; ready only if images can be decoded and the server is not stopping."""
        is_stopping = self.registry.is_stopping or self.is_leaving
        health = health_of(self.registry.models.values(), is_stopping=is_stopping)
        if health["status"] == "ready" and not self.decoder.is_ready:
            health["status"] = "loading"
        return health

    async def fetcher(self) -> Fetcher | None:
        """Of images by URL; None where that is off."""
        if self.settings.image_url == "off":
            return None
        if self._fetcher is None:
            await asyncio.to_thread(importlib.import_module, "server.fetch")  # it takes long, the first time
            self._fetcher = self._fetcher or self._make_fetcher()
        return self._fetcher

    def _make_fetcher(self) -> Fetcher:
        from server.fetch import Fetcher

        return Fetcher(
            self.settings.max_body_bytes,
            self.settings.max_fetches,
            reach=self.settings.reach,
            max_per_host=self.settings.max_host_fetches,
            max_per_owner=self.settings.max_key_fetches,
        )

    def leave(self) -> None:
        """Say so to load balancers and clients; everything goes on until `stop`."""
        self.is_leaving = True
        for call in self.on_leave:
            call()

    def start(self) -> None:
        """Begin to load; returns at once."""
        plan = self._launching.plan
        log.info("engine starting", extra={"devices": list(plan.shared)})
        if self.settings.accelerator == "cuda" and not plan.has_gpu:
            log.warning(NO_GPU)
        self.registry.start()
        self._lag.start()
        self.decoder.start()
        later = LATER + (LATER_FOR_THREADS if self.settings.decode == "thread" else ())
        threading.Thread(target=_import_later, args=[later], name="imports").start()

    async def stop(self) -> None:
        """Finish what is in flight, then end every process and thread."""
        await self.registry.stop()
        self._lag.stop()
        if self._fetcher is not None:
            await self._fetcher.close()
        self._launching.close()
        await self.decoder.stop()
        if self.tracer is not None:
            await asyncio.to_thread(self.tracer.close)


def _import_later(names: Sequence[str]) -> None:
    for name in names:
        importlib.import_module(name)
