"""Which devices there are, asked without torch: NVIDIA's management library if there is a driver, else the CPU."""

from __future__ import annotations

import logging

log = logging.getLogger(__name__)


class NoSuchDeviceError(Exception):
    """The device that the operator asked for is not there; the text says what is."""


def pick_devices(wanted: str, visible: str | None, num_gpus: int | None = None) -> tuple[str, ...]:
    """Devices for `wanted` (``auto``, ``cpu``, ``cuda``, ``cuda:N`` or several of these), as `pool.place` takes them.

    `visible` is CUDA_VISIBLE_DEVICES (None: not set), and N counts within it; `num_gpus` is what the machine has
    (asked for when None). Raises NoSuchDeviceError.
    """
    if wanted == "cpu":
        return ("cpu",)
    gpus = visible_gpus(visible, count_gpus() if num_gpus is None else num_gpus)
    if wanted == "auto":
        return gpus or ("cpu",)
    if wanted == "cuda":
        if not gpus:
            raise NoSuchDeviceError("device = cuda: there is no GPU to be seen; use auto or cpu")
        return gpus
    numbers = [int(name.removeprefix("cuda:")) for name in wanted.split(",")]
    if max(numbers) >= len(gpus):
        raise NoSuchDeviceError(f"device = {wanted}: {len(gpus)} GPUs are to be seen, counted from 0")
    return tuple(dict.fromkeys(gpus[number] for number in numbers))


def visible_gpus(visible: str | None, num_gpus: int) -> tuple[str, ...]:
    """``cuda:<index or UUID>`` for each GPU that CUDA would show, by its rules: the first number that is none ends
    the list, and a number given twice empties it."""
    if visible is None:
        return tuple(f"cuda:{index}" for index in range(num_gpus))
    names: list[str] = []
    for token in (part.strip() for part in visible.split(",")):
        is_unique_id = token.startswith(("GPU-", "MIG-")) and num_gpus > 0
        if not is_unique_id and not (token.isdigit() and int(token) < num_gpus):
            break
        names.append(f"cuda:{token}")
    return tuple(names) if len(set(names)) == len(names) else ()


def count_gpus() -> int:
    """NVIDIA GPUs of this machine; 0 without a driver."""
    try:
        import pynvml  # type: ignore[import-untyped]
    except ImportError:
        return 0
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.debug("no NVIDIA driver: %s", error)
        return 0
    try:
        return int(pynvml.nvmlDeviceGetCount())
    finally:
        pynvml.nvmlShutdown()
