"""What one GPU gives without any server, stage by stage, so that it shows which one limits.

    python -m bench.gpu --weights FOLDER/yolov8n.pt

resident  the network alone, its pixels on the device already
copied    pixels from page-locked slots, two batches under way, results left on the device
answered  with post-processing and encoding: a worker without its socket
decoded   the same from JPEG bytes, decoded in threads: the ceiling of a server on this machine

The last line of the output is one JSON document. Needs an NVIDIA GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.pictures import distinct_jpegs
from bench.record import record
from server.launch import worker_environment
from server.settings_load import load_settings

DEVICE = "cuda:0"
NUM_SETS = 4
"""Batches of slots: two under way, one decoded ahead, one to spare."""


@dataclass(frozen=True, slots=True)
class Slot:
    """The same pixels as the front writes them and as a worker reads them."""

    front: Any
    worker: Any


def rate(
    begin: Callable[[int], Any], finish: Callable[[Any], None], seconds: float, batch_size: int
) -> float:
    """Images per second: `begin` takes the number of the batch and is one ahead of `finish`."""
    finish(begin(0))
    started, turn = time.perf_counter(), 1
    under_way = deque([begin(0)])
    while time.perf_counter() - started < seconds:
        under_way.append(begin(turn))
        finish(under_way.popleft())
        turn += 1
    finish(under_way.popleft())
    return turn * batch_size / (time.perf_counter() - started)


def resident(model: Any, batch_size: int, seconds: float) -> float:
    """The network alone."""
    import torch

    runtime = model._runtime
    device = runtime.device

    def begin(turn: int) -> Any:
        with torch.inference_mode(), device.on(device.computing):
            runtime.computation.run(batch_size)
        return device.mark(device.computing)

    return rate(begin, lambda event: event.synchronize(), seconds, batch_size)


def copied(model: Any, slots: Sequence[Sequence[Slot]], seconds: float) -> float:
    """From slots to results on the device."""
    return rate(
        lambda turn: model._runtime.launch([slot.worker for slot in slots[turn % len(slots)]]),
        lambda running: running.result(),
        seconds,
        len(slots[0]),
    )


def answered(model: Any, rows: Sequence[Sequence[Any]], seconds: float) -> float:
    """From slots to JSON."""
    return rate(lambda turn: model.launch(rows[turn % len(rows)]), _answers, seconds, len(rows[0]))


def _answers(running: Any) -> None:
    running.wait()
    wrong = [each for each in running.result().fragments if not isinstance(each, bytes)]
    if wrong:
        raise wrong[0]


def decoded(
    model: Any, slots: Sequence[Sequence[Slot]], jpegs: Sequence[bytes], seconds: float, num_threads: int
) -> float:
    """From JPEG bytes to JSON."""
    from models.answers import WarmUpRow
    from server.decode import ImageLimits, decode
    from server.resize import RESIZES

    limits, resize = ImageLimits(), RESIZES[model.spec["resize"]]

    def fill(slot: Slot, jpeg: bytes) -> WarmUpRow:
        picture = decode(jpeg, limits)
        resize(picture, slot.front)
        return WarmUpRow(slot.worker, {"height": picture.shape[0], "width": picture.shape[1]})

    batch_size = len(slots[0])
    with ThreadPoolExecutor(num_threads) as pool:
        ahead: deque[list[Future[WarmUpRow]]] = deque()

        def order(turn: int) -> None:
            places = enumerate(slots[turn % len(slots)])
            ahead.append(
                [
                    pool.submit(fill, slot, jpegs[(turn * batch_size + place) % len(jpegs)])
                    for place, slot in places
                ]
            )

        next_turn = iter(range(1, 1 << 62))
        order(0)

        def begin(turn: int) -> Any:
            order(next(next_turn))
            return model.launch([each.result() for each in ahead.popleft()])

        return rate(begin, _answers, seconds, batch_size)


@contextmanager
def slab_of(model: Any, batch_size: int) -> Iterator[list[list[Slot]]]:
    """NUM_SETS batches of slots with noise in them, in a real slab that the model was told of."""
    from pool.slab import Slab, SlabView

    slab = Slab(NUM_SETS * batch_size, model.slot_shape)
    with closing(slab):
        leases = [slab.lease() for _ in range(slab.num_slots)]
        view = SlabView(os.dup(slab.descriptor), slab.num_slots, slab.slot_shape, is_writable=True)
        if model.attach is not None:
            model.attach(view.memory)
        for number, lease in enumerate(leases):
            lease.pixels[:] = np.random.default_rng(number).integers(0, 256, model.slot_shape, np.uint8)
        slots = [Slot(lease.pixels, view.pixels(lease.slot, lease.nonce)) for lease in leases]
        yield [slots[first : first + batch_size] for first in range(0, len(slots), batch_size)]


def measure(args: argparse.Namespace, batch_size: int, runtime: str, precision: str) -> dict[str, Any]:
    """All stages with one batch size."""
    from models.answers import WarmUpRow
    from models.yolo import load

    config = {
        "model_id": "gpu",
        "source": "file",
        "weights": str(args.weights),
        "max_batch_size": batch_size,
        "runtime": runtime,
        "precision": precision,
        "converted_dir": str(args.converted_dir),
    }
    model = load(config, DEVICE, lambda fields: None)
    height, width, _ = model.slot_shape
    jpegs = distinct_jpegs(args.pictures, seed=0)
    with slab_of(model, batch_size) as slots:
        rows = [
            [WarmUpRow(slot.worker, {"height": height, "width": width}) for slot in some] for some in slots
        ]
        return {
            "runtime": runtime,
            "precision": precision,
            "batch_size": batch_size,
            "resident": resident(model, batch_size, args.seconds),
            "copied": copied(model, slots, args.seconds),
            "answered": answered(model, rows, args.seconds),
            "decoded": decoded(model, slots, jpegs, args.seconds, args.decode_threads),
        }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Every runtime, precision and batch size."""
    import torch

    os.environ.update(worker_environment(load_settings()))
    rows = []
    for runtime in args.runtimes:
        for precision in args.precisions:
            for batch_size in args.batch_sizes:
                rows.append(measure(args, batch_size, runtime, precision))
                print(json.dumps(rows[-1]), flush=True)
    settings = {
        "weights": args.weights.name,
        "seconds": args.seconds,
        "pictures": args.pictures,
        "decode_threads": args.decode_threads,
        "gpu": torch.cuda.get_device_name(DEVICE),
    }
    return record("gpu", settings, {"rows": rows, "best": max(rows, key=lambda row: row["decoded"])})


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--runtimes", nargs="+", default=["torch"], choices=["torch", "tensorrt"])
    parser.add_argument("--precisions", nargs="+", default=["fp16"], choices=["fp16", "bf16", "fp32"])
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--decode-threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--converted-dir", type=Path, default=Path("~/.cache/inference-engine/converted"))
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--pictures", type=int, default=256)
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
