"""Which replica saw which content last, so that what it keeps of it can be used again. Front process, pure."""

from __future__ import annotations

from collections import OrderedDict

_MAX_KEYS = 4096


class Affinity:
    """The latest `_MAX_KEYS` content keys and the replica (by index) that ran each last. Only ever a hint."""

    def __init__(self) -> None:
        self._replicas: OrderedDict[str, int] = OrderedDict()

    def note(self, key: str, replica: int) -> None:
        """`replica` has run `key`; the empty key is nobody's."""
        if key:
            self._replicas[key] = replica
            self._replicas.move_to_end(key)
            if len(self._replicas) > _MAX_KEYS:
                self._replicas.popitem(last=False)

    def replica(self, key: str) -> int | None:
        """The index of the replica that ran `key` last, None if nobody knows."""
        return self._replicas.get(key)

    def forget(self, replica: int) -> None:
        """Its worker is gone, and with it whatever it kept."""
        for key in [key for key, index in self._replicas.items() if index == replica]:
            del self._replicas[key]
