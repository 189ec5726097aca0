from __future__ import annotations

import pytest

from server.devices import NoSuchDeviceError, pick_devices, visible_gpus


@pytest.mark.parametrize(("visible", "num_gpus", "expected"), [
    (None, 0, ()), (None, 2, ("cuda:0", "cuda:1")), ("", 2, ()), ("-1", 2, ()), ("1", 2, ("cuda:1",)),
    ("1,0", 2, ("cuda:1", "cuda:0")), ("0,5,1", 2, ("cuda:0",)), ("0, 1", 2, ("cuda:0", "cuda:1")), ("0,0", 2, ()),
    ("GPU-8932f937", 2, ("cuda:GPU-8932f937",)), ("MIG-GPU-1/0/0", 1, ("cuda:MIG-GPU-1/0/0",)), ("GPU-1", 0, ()),
    ("NoDevFiles", 2, ()), ("0", 0, ()),
])  # fmt: skip
def test_visible_gpus_are_counted_as_cuda_does(
    visible: str | None, num_gpus: int, expected: tuple[str, ...]
) -> None:
    assert visible_gpus(visible, num_gpus) == expected


@pytest.mark.parametrize(("wanted", "visible", "num_gpus", "expected"), [
    ("auto", None, 0, ("cpu",)), ("auto", None, 2, ("cuda:0", "cuda:1")), ("auto", "", 2, ("cpu",)),
    ("cpu", None, 2, ("cpu",)), ("cuda", None, 2, ("cuda:0", "cuda:1")), ("cuda:1", None, 2, ("cuda:1",)),
    ("cuda:0", "1", 2, ("cuda:1",)), ("cuda:2,cuda:0", None, 3, ("cuda:2", "cuda:0")),
    ("cuda:1,cuda:1", None, 2, ("cuda:1",)),
])  # fmt: skip
def test_devices_are_picked(
    wanted: str, visible: str | None, num_gpus: int, expected: tuple[str, ...]
) -> None:
    assert pick_devices(wanted, visible, num_gpus) == expected


@pytest.mark.parametrize(
    ("wanted", "visible", "num_gpus"),
    [("cuda", None, 0), ("cuda", "", 2), ("cuda:2", None, 2), ("cuda:1", "0", 2), ("cuda:0,cuda:2", None, 2)],
)
def test_a_device_that_is_not_there_is_refused_at_start(
    wanted: str, visible: str | None, num_gpus: int
) -> None:
    with pytest.raises(NoSuchDeviceError, match=wanted):
        pick_devices(wanted, visible, num_gpus)


def test_a_machine_is_asked_without_torch() -> None:
    assert pick_devices("auto", "")[0] == "cpu"
