"""How many engines a rate of images needs, and the rate at which each part around them is used up. Pure arithmetic.

Rates are in images per second, sizes in bytes, times in seconds. `utilisation` is how much of a peak is planned with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Front:
    """What one request costs beside its model, in seconds of processor time."""

    decode: float
    """Decoding and resizing, which runs on as many cores as there are."""
    serial: float
    """The rest, in one process and one thread: the event loop."""

    @property
    def ceiling(self) -> float:
        """What one engine can take, however fast its models."""
        return 1.0 / self.serial

    def cores_for(self, rate: float) -> float:
        """Cores that do nothing but feed models at this rate."""
        return rate * (self.decode + self.serial)


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine: a node's cores or a GPU. `peak` is that of its model on it."""

    peak: float
    front: Front
    utilisation: float = 0.7

    @property
    def rate(self) -> float:
        """What is planned with: the model's or the front's peak, whichever ends first, less the reserve."""
        return self.utilisation * min(self.peak, self.front.ceiling)

    @property
    def is_held_by_front(self) -> bool:
        """Whether a faster model would change nothing."""
        return self.peak > self.front.ceiling

    def count(self, rate: float, num_spare: int = 1) -> int:
        """Engines for a rate, with as many lost as are spare. Raises ValueError for a rate that is not positive."""
        if rate <= 0:
            raise ValueError("a rate is positive")
        return math.ceil(rate / self.rate) + num_spare


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of one request and of its reply, and how long it is under way."""

    request_bytes: float
    reply_bytes: float
    seconds: float

    def inward(self, rate: float) -> float:
        """Bits per second."""
        return 8 * rate * self.request_bytes

    def outward(self, rate: float) -> float:
        """Bits per second."""
        return 8 * rate * self.reply_bytes

    def under_way(self, rate: float) -> float:
        """Requests at one moment, by Little's law."""
        return rate * self.seconds


@dataclass(frozen=True, slots=True)
class Around:
    """How much one of each part around the engines takes. None of it is measured here: inputs."""

    proxy_bits: float = 25e9
    """Network of one proxy or load balancer, each way; what comes in goes out to an engine again."""
    proxy_connections: int = 65_536
    cluster_nodes: int = 5_000
    prometheus_series: int = 2_000_000
    rollout_seconds: float = 600.0
    """In which a source of images or weights, with the network of a proxy, has to serve every engine."""


def breaking_rates(
    engine: Engine, traffic: Traffic, around: Around, *, series: int, image_bytes: float, weights_bytes: float
) -> dict[str, float]:
    """The rate from which one of each part is not enough, the smallest first. One engine a node."""
    per_engine = engine.rate
    fetched = around.rollout_seconds * around.proxy_bits / 8
    rates = {
        "one engine": per_engine,
        "network of one proxy": engine.utilisation * around.proxy_bits / (8 * traffic.request_bytes),
        "connections of one proxy": around.proxy_connections / traffic.seconds,
        "nodes of one cluster": around.cluster_nodes * per_engine,
        "series of one Prometheus": around.prometheus_series / series * per_engine,
        "one registry of images, all engines at once": fetched / image_bytes * per_engine,
        "one source of weights, all engines at once": fetched / weights_bytes * per_engine,
    }
    return dict(sorted(rates.items(), key=lambda item: item[1]))


def million(num_units: int, rate: float) -> float:
    """Unit-hours (of a core, of a GPU) that a million images take with so many units at that rate."""
    return num_units * 1e6 / rate / 3600
