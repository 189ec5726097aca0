"""The slab: one block of shared memory per pool, cut into equal slots. Owned by the front process.

    memfd, sealed against shrinking and growing
    ┌──────────────────────┬────────────────┬────────────────┬─────
    │ header per slot:     │ slot 0         │ slot 1         │ ...
    │ u64 nonce            │ uint8 pixels   │                │
    └──────────────────────┴────────────────┴────────────────┴─────
    0                      first            first + stride      (both multiples of a page)

A lease is a request's right to one slot. The front writes a fresh nonce into the header whenever a slot
changes hands, and a worker refuses a row whose nonce is not the one it was told: bytes of somebody else's
picture can never be answered for. Workers map the same memory through a descriptor sent over their socket;
nothing here has a name in the file system, so nothing is left behind after a SIGKILL.

A sparse slab is address space more than memory: of each slot only the first bytes are always there, what is behind them
is allocated for one lease (`Lease.reserve`) and given back with it.
"""

from __future__ import annotations

import enum
import fcntl
import logging
import math
import mmap
import os
import secrets
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from pool.errors import NotEnoughMemoryError, QueueFullError
from pool.memory import available_memory
from pool.model import Pixels

log = logging.getLogger(__name__)

_PAGE = mmap.PAGESIZE
_SEALS = 0x0002 | 0x0004  # F_SEAL_SHRINK | F_SEAL_GROW, not in `fcntl` before 3.13
_ADD_SEALS = 1033  # F_ADD_SEALS


def _round_up(size: int) -> int:
    return -(-size // _PAGE) * _PAGE


class _Geometry:
    """Where header and pixels of each slot lie; the same arithmetic in both processes."""

    def __init__(self, num_slots: int, slot_shape: Sequence[int]) -> None:
        self.num_slots = num_slots
        self.slot_shape = tuple(slot_shape)
        self.slot_size = math.prod(self.slot_shape)
        self.first = _round_up(num_slots * 8)
        self.stride = _round_up(self.slot_size)
        self.size = self.first + num_slots * self.stride

    def nonces(self, memory: mmap.mmap) -> npt.NDArray[np.uint64]:
        return np.frombuffer(memory, np.uint64, self.num_slots)

    def pixels(self, memory: mmap.mmap, slot: int) -> Pixels:
        start = self.first + slot * self.stride
        return np.frombuffer(memory, np.uint8, self.slot_size, start).reshape(self.slot_shape)


class _Holder(enum.Enum):
    CALLER = "caller"
    POOL = "pool"
    NOBODY = "nobody"


class Lease:
    """The right to one slot. Held by the caller until `Pool.infer` takes it, then by the pool."""

    __slots__ = ("_holder", "_slab", "content", "nonce", "pixels", "slot")

    def __init__(self, slab: Slab, slot: int, nonce: int, pixels: Pixels) -> None:
        self._slab = slab
        self._holder = _Holder.CALLER
        self.slot = slot
        self.nonce = nonce
        self.pixels = pixels
        """uint8 array of the model's slot shape; write the picture here before `Pool.infer`."""
        self.content = pixels
        """The part of `pixels` that two equal entries have in common; a caller who writes only some narrows it."""

    def reserve(self, num_bytes: int) -> None:
        """Make sure of memory for the first `num_bytes` of a slot of a sparse slab. Raises NotEnoughMemoryError."""
        self._slab._reserve(self.slot, num_bytes)

    def release(self) -> None:
        """Give the slot back, unless the pool took the lease over. Safe to call twice."""
        if self._holder is _Holder.CALLER:
            self._free()

    def take(self) -> None:
        """The pool's: from here on only `finish` gives the slot back."""
        if self._holder is not _Holder.CALLER:
            raise RuntimeError("this lease was used already")
        self._holder = _Holder.POOL

    def finish(self) -> None:
        """The pool's: no worker can touch the slot any more."""
        if self._holder is not _Holder.POOL:
            raise RuntimeError("this lease is not the pool's")
        self._free()

    def give_back(self) -> None:
        """The pool's: no worker has any business in the slot any more, what lies there is for the caller."""
        if self._holder is not _Holder.POOL:
            raise RuntimeError("this lease is not the pool's")
        self._holder = _Holder.CALLER

    def _free(self) -> None:
        self._holder = _Holder.NOBODY
        self._slab._put_back(self.slot)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __repr__(self) -> str:
        return f"<Lease slot={self.slot} held by {self._holder.value}>"


class Slab:
    """The front's side: allocates the memory and hands out leases."""

    def __init__(
        self,
        num_slots: int,
        slot_shape: Sequence[int],
        max_bytes: int | None = None,
        kept_bytes: int | None = None,
    ) -> None:
        """Allocate now, so that running out of memory is an error here and not a SIGBUS later.

        With `kept_bytes` the slab is sparse: so much of each slot is always there. Raises NotEnoughMemoryError when
        the slots do not fit into `max_bytes` (the memory still available by default).
        """
        self._geometry = geometry = _Geometry(num_slots, slot_shape)
        self._kept = geometry.stride if kept_bytes is None else min(_round_up(kept_bytes), geometry.stride)
        self._gives_back = self.is_sparse
        limit = available_memory() if max_bytes is None else max_bytes
        needed = geometry.first + num_slots * self._kept
        if needed > limit:
            raise NotEnoughMemoryError(
                f"{num_slots} slots of {geometry.slot_size} bytes need {needed} bytes, "
                f"{limit} bytes are available"
            )
        try:
            self.descriptor = os.memfd_create("slab", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        except OSError as error:
            raise NotEnoughMemoryError(f"no descriptor for shared memory: {error.strerror}") from error
        try:
            self._allocate()
            fcntl.fcntl(self.descriptor, _ADD_SEALS, _SEALS)
            self._memory = mmap.mmap(self.descriptor, self._geometry.size)
        except OSError as error:
            os.close(self.descriptor)
            raise NotEnoughMemoryError(f"cannot allocate {needed} bytes: {error.strerror}") from error
        self._nonces = self._geometry.nonces(self._memory)
        self._free = list(range(num_slots))  # last in, first out: the slot used last is warm in the cache

    def _allocate(self) -> None:
        geometry = self._geometry
        if not self.is_sparse:
            os.posix_fallocate(self.descriptor, 0, geometry.size)
            return
        os.ftruncate(self.descriptor, geometry.size)
        os.posix_fallocate(self.descriptor, 0, geometry.first)
        for slot in range(geometry.num_slots):
            os.posix_fallocate(self.descriptor, geometry.first + slot * geometry.stride, self._kept)

    @property
    def is_sparse(self) -> bool:
        """Whether slots have memory only where it was kept or reserved."""
        return self._kept < self._geometry.stride

    @property
    def num_slots(self) -> int:
        """How many slots there are."""
        return self._geometry.num_slots

    @property
    def num_free(self) -> int:
        """How many slots nobody holds."""
        return len(self._free)

    @property
    def slot_shape(self) -> tuple[int, ...]:
        """Shape of the uint8 array in each slot."""
        return self._geometry.slot_shape

    @property
    def size(self) -> int:
        """Bytes of shared memory."""
        return self._geometry.size

    def lease(self) -> Lease:
        """Take a free slot. Raises QueueFullError when there is none."""
        if not self._free:
            raise QueueFullError()
        slot = self._free.pop()
        nonce = secrets.randbits(64)
        self._nonces[slot] = nonce
        return Lease(self, slot, nonce, self._geometry.pixels(self._memory, slot))

    def _reserve(self, slot: int, num_bytes: int) -> None:
        if num_bytes > self._geometry.slot_size:
            raise NotEnoughMemoryError(f"a slot has {self._geometry.slot_size} bytes, not {num_bytes}")
        if num_bytes > self._kept:
            start = self._geometry.first + slot * self._geometry.stride + self._kept
            try:
                os.posix_fallocate(self.descriptor, start, _round_up(num_bytes - self._kept))
            except OSError as error:
                raise NotEnoughMemoryError(f"cannot allocate {num_bytes} bytes: {error.strerror}") from error

    def _put_back(self, slot: int) -> None:
        self._nonces[slot] = 0
        self._free.append(slot)
        if self._gives_back:  # whoever wrote there, and how far: 2 µs where there is nothing
            start = self._geometry.first + slot * self._geometry.stride
            try:
                self._memory.madvise(mmap.MADV_REMOVE, start + self._kept, self._geometry.stride - self._kept)
            except OSError as error:  # not every kernel can, and none of that is the request's fault
                self._gives_back = False
                log.warning("slots keep the memory that they once had: %s", error.strerror)

    def close(self) -> None:
        """Drop the descriptor; the memory goes when the last mapping and lease are gone."""
        os.close(self.descriptor)
        self.descriptor = -1

    def detach(self) -> int:
        """The descriptor, now the caller's to close: the last one closed frees every page, which takes a while."""
        descriptor, self.descriptor = self.descriptor, -1
        return descriptor

    def __repr__(self) -> str:
        return f"<Slab {self.num_free}/{self.num_slots} slots free, {self.size} bytes>"


class SlabView:
    """A worker's side: reads the slots it is told to."""

    def __init__(
        self,
        descriptor: int,
        num_slots: int,
        slot_shape: Sequence[int],
        is_writable: bool = False,
        writes_slots: bool = False,
    ) -> None:
        """Map the slab and close `descriptor`. `is_writable` is for a device that takes no other memory: what
        `pixels` gives is read-only unless the model `writes_slots`."""
        self._geometry = _Geometry(num_slots, slot_shape)
        self._writes_slots = writes_slots
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if is_writable or writes_slots else 0)
        try:
            self._memory = mmap.mmap(descriptor, self._geometry.size, prot=protection)
        finally:
            os.close(descriptor)
        self._nonces = self._geometry.nonces(self._memory)

    @property
    def memory(self) -> Pixels:
        """All of it: a flat uint8 array of whole pages."""
        return np.frombuffer(self._memory, np.uint8)

    def pixels(self, slot: int, nonce: int) -> Pixels:
        """The slot's uint8 pixels. Raises LookupError if the slot is not this entry's any more."""
        if int(self._nonces[slot]) != nonce:
            raise LookupError(f"slot {slot} has changed hands")
        pixels = self._geometry.pixels(self._memory, slot)
        pixels.flags.writeable = self._writes_slots
        return pixels
