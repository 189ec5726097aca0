from __future__ import annotations

import fcntl
import itertools
import mmap
import os

import numpy as np
import pytest

from pool.errors import NotEnoughMemoryError, QueueFullError
from pool.slab import Slab, SlabView

SHAPE = (4, 6, 3)


def test_a_slot_belongs_to_one_lease_at_a_time() -> None:
    slab = Slab(3, SHAPE)
    leases = [slab.lease() for _ in range(3)]
    assert len({lease.slot for lease in leases}) == 3
    with pytest.raises(QueueFullError):
        slab.lease()
    leases[1].release()
    assert slab.lease().slot == leases[1].slot
    slab.close()


def test_pixels_written_by_the_front_are_read_by_a_worker() -> None:
    slab = Slab(2, SHAPE)
    view = SlabView(os.dup(slab.descriptor), 2, SHAPE)
    for number in range(2):
        lease = slab.lease()
        lease.pixels[:] = np.arange(72, dtype=np.uint8).reshape(SHAPE) + number
        seen = view.pixels(lease.slot, lease.nonce)
        assert np.array_equal(seen, lease.pixels)
        assert not seen.flags.writeable
    slab.close()


def test_a_slot_that_changed_hands_is_not_readable_with_the_old_nonce() -> None:
    slab = Slab(1, SHAPE)
    view = SlabView(os.dup(slab.descriptor), 1, SHAPE)
    first = slab.lease()
    first.release()
    with pytest.raises(LookupError):
        view.pixels(first.slot, first.nonce)
    second = slab.lease()
    assert second.slot == first.slot
    with pytest.raises(LookupError):
        view.pixels(first.slot, first.nonce)
    view.pixels(second.slot, second.nonce)
    slab.close()


@pytest.mark.parametrize("is_writable", [False, True])
def test_a_worker_cannot_write_to_the_pixels_it_is_given_by_mistake(is_writable: bool) -> None:
    slab = Slab(2, SHAPE)
    view = SlabView(os.dup(slab.descriptor), 2, SHAPE, is_writable)
    lease = slab.lease()
    pixels = view.pixels(lease.slot, lease.nonce)
    with pytest.raises(ValueError, match="read-only"):
        pixels[0, 0, 0] = 1
    assert view.memory.flags.writeable is is_writable
    assert view.memory.nbytes == slab.size
    assert np.shares_memory(view.memory, pixels)
    slab.close()


def test_a_lease_is_given_back_once() -> None:
    slab = Slab(2, SHAPE)
    lease = slab.lease()
    lease.release()
    lease.release()
    assert slab.num_free == 2
    with pytest.raises(RuntimeError):
        lease.take()
    slab.close()


def test_a_lease_the_pool_took_is_not_released_by_its_caller() -> None:
    slab = Slab(2, SHAPE)
    with slab.lease() as lease:
        lease.take()
    assert slab.num_free == 1
    lease.finish()
    assert slab.num_free == 2
    with pytest.raises(RuntimeError):
        lease.finish()
    slab.close()


def test_slots_lie_on_pages_and_do_not_overlap() -> None:
    slab = Slab(5, (33, 7, 3))
    addresses = sorted(slab.lease().pixels.__array_interface__["data"][0] for _ in range(5))
    assert all(address % mmap.PAGESIZE == 0 for address in addresses)
    assert all(b - a >= 33 * 7 * 3 for a, b in itertools.pairwise(addresses))
    slab.close()


def test_more_than_the_memory_there_is_is_refused() -> None:
    with pytest.raises(NotEnoughMemoryError, match="available"):
        Slab(10, (1000, 1000, 3), max_bytes=1_000_000)


def test_memory_is_allocated_when_the_slab_is_made_and_cannot_be_cut() -> None:
    slab = Slab(4, (100, 100, 3))
    assert os.fstat(slab.descriptor).st_blocks * 512 >= slab.size
    with pytest.raises(PermissionError):
        os.ftruncate(slab.descriptor, 10)
    with pytest.raises(PermissionError):
        os.ftruncate(slab.descriptor, slab.size * 2)
    assert fcntl.fcntl(slab.descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    slab.close()


def _allocated(slab: Slab) -> int:
    return os.fstat(slab.descriptor).st_blocks * 512


def test_a_slot_of_a_sparse_slab_keeps_its_first_bytes_and_gives_the_others_back() -> None:
    slab = Slab(3, (50 * 2**20,), max_bytes=4 * 2**20, kept_bytes=2**20)
    at_first = _allocated(slab)
    assert at_first < 4 * 2**20 < slab.size
    lease = slab.lease()
    lease.reserve(10 * 2**20)
    assert _allocated(slab) >= at_first + 9 * 2**20, "writing there cannot fail any more"
    lease.pixels[: 20 * 2**20] = 1  # further than was said
    lease.release()
    assert _allocated(slab) == at_first
    lease = slab.lease()
    lease.reserve(2**20)
    assert _allocated(slab) == at_first
    assert not lease.pixels[2**20 : 20 * 2**20].any(), "nobody sees what another left there"
    with pytest.raises(NotEnoughMemoryError):
        lease.reserve(50 * 2**20 + 1)
    lease.release()
    slab.close()


def test_where_the_kernel_takes_no_memory_back_slots_are_free_again_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(mmap, "MADV_REMOVE", 999)  # refused, as gVisor refuses the real one
    slab = Slab(2, (50 * 2**20,), kept_bytes=4096)
    for _ in range(5):
        with slab.lease() as lease:
            lease.reserve(10_000)
            lease.pixels[:10_000] = 7
    assert slab.num_free == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"], "said once"
    slab.close()


def test_a_model_that_writes_slots_writes_where_the_front_reads() -> None:
    slab = Slab(2, SHAPE)
    view = SlabView(os.dup(slab.descriptor), 2, SHAPE, writes_slots=True)
    lease = slab.lease()
    view.pixels(lease.slot, lease.nonce)[:] = 7
    assert (lease.pixels == 7).all()
    lease.take()
    lease.give_back()
    assert slab.num_free == 1, "it is the caller's again"
    lease.release()
    assert slab.num_free == 2
    with pytest.raises(RuntimeError):
        lease.give_back()
    slab.close()
