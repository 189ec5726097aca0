"""How many threads a replica on the CPU gets: as the model's first worker on this machine has measured. Front process.

Kept in a file beside the converted networks, because replicas are placed before any of them has said a word. A model
that was never measured gets two replicas that share the cores, and is laid out anew once it has said more.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pool import Pool
from server.table import Known

FILE = "layouts.json"
AS_GOOD = 0.95
"""Of the best throughput: above it the number of replicas decides."""
log = logging.getLogger(__name__)


def best_width(images_per_second: Mapping[str, float], num_cores: int) -> int | None:
    """Threads per replica. Of layouts that are nearly as fast as the fastest, the one with the fewest replicas, but
    two rather than one, so that one serves while the other is replaced. None where nothing was measured."""
    if not images_per_second:
        return None
    enough = AS_GOOD * max(images_per_second.values())
    good = [int(width) for width, rate in images_per_second.items() if rate >= enough]
    several = [width for width in good if num_cores // width > 1]
    return max(several or good)


class Layouts:
    """What was measured, by model and number of cores."""

    def __init__(self, folder: Path, num_cores: int) -> None:
        """`folder` is that of converted networks; it need not be there yet."""
        self._file = folder / FILE
        self._num_cores = num_cores
        self._measured: dict[str, Mapping[str, float]] = self._read()

    def measured(self, known: Known) -> Mapping[str, float]:
        """Images per second of the whole model, by threads per replica; empty if unknown."""
        return self._measured.get(self._key(known), {})

    def width(self, known: Known) -> int | None:
        """Threads per replica, None if unknown."""
        return best_width(self.measured(known), self._num_cores)

    def note(self, known: Known, spec: Mapping[str, Any] | None) -> None:
        """Remember what a worker's spec says."""
        said = (spec or {}).get("layouts")
        if not said or said == self.measured(known):
            return
        self._measured[self._key(known)] = said
        partial = self._file.with_suffix(f".{os.getpid()}")
        try:
            partial.write_text(json.dumps(self._measured, indent=1) + "\n", "utf-8")
            partial.replace(self._file)
        except OSError as error:
            log.warning("layout not kept: %s", error.strerror, extra={"file": str(self._file)})

    def is_outdated(self, pool: Pool, known: Known) -> bool:
        """Whether `pool` would be laid out in another way now."""
        width = self.width(known)
        return width is not None and any(replica.placement.num_threads != width for replica in pool.replicas)

    def _key(self, known: Known) -> str:
        entry = known.entry
        facts = (entry.model_id, entry.weights, entry.imgsz, entry.runtime, entry.precision, self._num_cores)
        return " ".join(str(fact) for fact in facts if fact is not None)

    def _read(self) -> dict[str, Mapping[str, float]]:
        try:
            measured = json.loads(self._file.read_text("utf-8"))
            return {str(name): _checked(rates) for name, rates in measured.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            log.warning("layouts not read: %s", error, extra={"file": str(self._file)})
            return {}


def _checked(rates: Mapping[str, Any]) -> dict[str, float]:
    """Raises ValueError or AttributeError for what is no measurement."""
    if any(int(width) < 1 for width in rates):
        raise ValueError("a replica has at least one thread")
    return {width: float(rate) for width, rate in rates.items()}
