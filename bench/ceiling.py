"""The ceiling: what this machine gives without any server, from JPEG bytes to boxes.

    python -m bench.ceiling --weights FOLDER/yolov8n.pt

Every layout of processes x threads over the cores, every batch size, decoding in a thread beside the model as a good
program would; the best one counts. It runs the engine's own decoder and adapter, so a server built from them can at
most reach it. The last line of the output is one JSON document.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

from bench.pictures import distinct_jpegs
from bench.record import record
from server.launch import worker_environment
from server.settings_load import load_settings


def measure(
    weights: str, cores: list[int], batch_size: int, seconds: float, pictures: int, gate: Barrier, counts: Any
) -> None:
    """One process: puts its images per second into `counts`, or None where it failed."""
    per_second = None
    try:
        os.sched_setaffinity(0, cores)
        per_second = images_per_second(weights, len(cores), batch_size, seconds, pictures, gate)
    finally:
        gate.abort()  # a failed one must not keep the others waiting
        counts.put(per_second)


def images_per_second(
    weights: str, num_threads: int, batch_size: int, seconds: float, pictures: int, gate: Barrier
) -> float:
    """Decode ahead in one thread, run the model in this one, count for `seconds` after all have passed `gate`."""
    os.environ.update(worker_environment(load_settings()))
    from models.answers import WarmUpRow
    from models.yolo import load
    from server.decode import ImageLimits, decode
    from server.resize import RESIZES

    config = {
        "model_id": "ceiling",
        "source": "file",
        "weights": weights,
        "max_batch_size": batch_size,
        "num_threads": num_threads,
    }
    model = load(config, "cpu", lambda fields: None)
    limits, resize = ImageLimits(), RESIZES[model.spec["resize"]]
    jpegs = distinct_jpegs(pictures, seed=os.getpid())
    slots = [[np.empty(model.slot_shape, np.uint8) for _ in range(batch_size)] for _ in range(2)]

    def fill(turn: int) -> list[WarmUpRow]:
        rows = []
        for place, slot in enumerate(slots[turn % 2]):
            picture = decode(jpegs[(turn * batch_size + place) % len(jpegs)], limits)
            resize(picture, slot)
            rows.append(WarmUpRow(slot, {"height": picture.shape[0], "width": picture.shape[1]}))
        return rows

    with ThreadPoolExecutor(1) as decoder:
        gate.wait()
        started = time.perf_counter()
        turn, num_done, ahead = 0, 0, decoder.submit(fill, 0)
        while time.perf_counter() - started < seconds:
            rows = ahead.result()
            turn += 1
            ahead = decoder.submit(fill, turn)
            answers = model.infer(rows)
            assert all(isinstance(fragment, bytes) for fragment in answers.fragments)
            num_done += batch_size
        return num_done / (time.perf_counter() - started)


def layouts(cores: list[int], threads: list[int] | None = None) -> list[list[list[int]]]:
    """One process with all cores, one per core, and (from four cores) one per two; or as `threads` per process says."""
    widths = sorted(set(threads or (1, 2, len(cores))) & set(range(1, len(cores) + 1)))
    return [[cores[i : i + width] for i in range(0, len(cores) - width + 1, width)] for width in widths]


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every layout and batch size."""
    context = multiprocessing.get_context("spawn")
    rows = []
    for layout in layouts(sorted(os.sched_getaffinity(0)), args.threads):
        for batch_size in args.batch_sizes:
            gate, counts = context.Barrier(len(layout)), context.Queue()
            common = (batch_size, args.seconds, args.pictures, gate, counts)
            processes = [
                context.Process(target=measure, args=(str(args.weights), part, *common)) for part in layout
            ]
            for process in processes:
                process.start()
            rates = [counts.get() for _ in processes]
            for process in processes:
                process.join()
            if None in rates:
                raise RuntimeError("a process failed; its error is above")
            rows.append(
                {
                    "processes": len(layout),
                    "threads": len(layout[0]),
                    "batch_size": batch_size,
                    "per_second": sum(rates),
                }
            )
            print(json.dumps(rows[-1]), flush=True)
    settings = {"weights": args.weights.name, "seconds": args.seconds, "pictures": args.pictures}
    return record("ceiling", settings, {"rows": rows, "best": max(rows, key=lambda row: row["per_second"])})


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--threads", type=int, nargs="+", help="only these numbers of threads per process")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--pictures", type=int, default=64)
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
