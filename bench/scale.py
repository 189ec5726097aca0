"""What 1,000, 10,000 and 1,000,000 images a second need, reckoned from what one machine showed: bench/scale.md.

    python -m bench.scale                                    # writes bench/scale.md
    python -m bench.scale --print --cores 16 --gpu-rate 350 --core-price 0.03 --gpu-price 2   # your figures, printed

Measured figures come from bench/results/. What nobody measured here is an input, and the page says so. Of the front it
takes `python -m bench.pieces` in bench/results/scale/, where images are decoded by processes, as is the default: in
bench/results/pieces.json, which is older, the front decoded itself.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.balancing import WAYS, latencies, num_overfull, quantile
from bench.capacity import Around, Engine, Front, Traffic, breaking_rates, million
from bench.figures import table

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).parent / "scale.md"
RATES = (1_000, 10_000, 1_000_000)
REPLY_BYTES = 839 + 322
"""Body and headers of the demo detector's answer about the sample picture: six shapes."""
NUM_SERIES = 172
"""Counted on a scrape of an engine with one model of two replicas that has answered."""


@dataclass(frozen=True, slots=True)
class Inputs:
    """What was not measured here and has to come from whoever plans."""

    cores: int = 8
    """Of one CPU engine, all of a node."""
    gpu_rate: float | None = None
    """Images per second of the model on one GPU; None: as many as the front can feed."""
    core_price: float = 0.04
    gpu_price: float = 2.0
    image_bytes: float = 1.4e9
    weights_bytes: float = 6.5e6
    around: Around = field(default_factory=Around)


@dataclass(frozen=True, slots=True)
class Measured:
    """By model: images per second of a whole engine per core; and what a request costs besides."""

    per_core: dict[str, float]
    front: Front
    traffic: Traffic
    service: float
    """Seconds of yolov8n's batch of one on one of two replicas."""
    memory_bytes: float
    """Of an engine with yolov8n on two replicas."""


def load(name: str, results: Path = RESULTS) -> dict[str, Any]:
    """One committed result."""
    document: dict[str, Any] = json.loads((results / f"{name}.json").read_text())
    return document


def measured(results: Path = RESULTS) -> Measured:
    """The figures of the committed runs that the page goes by."""
    peak, together, pieces = load("peak", results), load("together", results), load("scale/pieces", results)
    memory, tail = load("memory-yolov8n", results)["memory_bytes"], load("tail", results)
    cores = peak["machine"]["cores"]
    yolo = statistics.median(turn["raw"]["per_second"] for turn in peak["turns"])
    shapes = statistics.median(turn["alone"]["shapes-detect"] for turn in together["turns"])
    costs = {name: piece["cpu_us"] / 1e6 for name, piece in pieces["pieces"].items()}
    processes = [memory["front"], *memory["workers"]["bench"], *memory["forkservers"]]
    return Measured(
        per_core={"yolov8n": yolo / cores, "shapes-detect": shapes / together["machine"]["cores"]},
        front=Front(costs["decode"] + costs["resize"], pieces["whole_path"]["front_cpu_us"] / 1e6),
        traffic=Traffic(
            statistics.median(turn["raw"]["mean_request_bytes"] for turn in peak["turns"]),
            REPLY_BYTES,
            statistics.median(turn["mean_stage_milliseconds"]["total"] for turn in tail["turns"]) / 1000,
        ),
        service=cores / yolo,
        memory_bytes=sum(each["fair"] for each in processes),
    )


def page(inputs: Inputs, found: Measured) -> str:
    """The whole of bench/scale.md."""
    return "\n\n".join(
        [
            "# Past one machine: what how many images a second need",
            "Written by `python -m bench.scale`; `--print` and its options reckon with your own figures.",
            "## What was measured, and what was not",
            measured_text(inputs, found),
            "## Engines, network, cost",
            *(engines_text(name, inputs, found) for name in found.per_core),
            gpu_text(inputs, found),
            network_text(found),
            "## What breaks first",
            breaks_text(inputs, found),
            "## How requests are shared among engines",
            sharing_text(found),
            "## What this leaves out",
            LEFT_OUT,
        ]
    )


def measured_text(inputs: Inputs, found: Measured) -> str:
    """Where every number comes from."""
    front, traffic = found.front, found.traffic
    rows = [
        *((f"{name}, images/s per core, whole engine", f"{rate:.1f}", "measured: " + source)
          for (name, rate), source in zip(found.per_core.items(), ("peak.json", "together.json"), strict=True)),
        ("decode and resize, ms of a core", f"{1e3 * front.decode:.1f}", "measured: scale/pieces.json"),
        ("the front itself, ms", f"{1e3 * front.serial:.1f}", "measured: scale/pieces.json, without decoders"),
        ("an engine's front takes at most, requests/s", f"{front.ceiling:.0f}", "reckoned: 1 ÷ the line above"),
        ("request, bytes", f"{traffic.request_bytes:,.0f}", "measured: peak.json (810 x 1080 JPEG)"),
        ("reply with its headers, bytes", f"{traffic.reply_bytes:,.0f}", "measured: demo detector, sample picture"),
        ("a request is under way, s", f"{traffic.seconds:.2f}", "measured: tail.json, mean at 70 % of the peak"),
        ("memory of an engine, MB", f"{found.memory_bytes / 1e6:.0f}", "measured: memory-yolov8n.json, no decoders"),
        ("series of an engine", NUM_SERIES, "measured: one scrape, one model"),
        ("cores of a CPU engine", inputs.cores, "input; that throughput grows with cores beyond two is assumed"),
        ("planned with, of the peak", "70 %", "input: where tail.json was measured; and one engine to spare"),
        ("images/s of a GPU", inputs.gpu_rate or "unknown", "input: **never measured here**"),
        ("price of a core-hour, of a GPU-hour", f"{inputs.core_price:g}, {inputs.gpu_price:g}",
         "input: round numbers to show the sum, nobody's offer"),
        ("image, bytes", f"{inputs.image_bytes:,.0f}", "input: about the CPU image, unpacked; a pull is compressed"),
        ("weights, bytes", f"{inputs.weights_bytes:,.0f}", "input: about a yolov8n.pt"),
        ("one proxy", f"{inputs.around.proxy_bits / 1e9:g} Gbit/s, {inputs.around.proxy_connections:,} connections",
         "input"),
        ("one cluster", f"{inputs.around.cluster_nodes:,} nodes", "input: what Kubernetes says it is tested with"),
        ("one Prometheus", f"{inputs.around.prometheus_series:,} series", "input: depends on its memory"),
        ("a rollout in which all engines fetch at once, s", f"{inputs.around.rollout_seconds:g}", "input"),
    ]  # fmt: skip
    machine = (
        "Measured on a shared virtual machine of two cores (AMD EPYC, AVX2, no bf16 or int8 units), so "
        "that a real node is more likely faster than slower. yolov8n has random weights, which cost what "
        "trained ones do up to the number of boxes."
    )
    return table(("figure", "value", "from"), rows) + "\n\n" + machine


def engines_text(name: str, inputs: Inputs, found: Measured) -> str:
    """One model on CPUs at each rate."""
    engine = Engine(found.per_core[name] * inputs.cores, found.front)
    rows = []
    for rate in RATES:
        count = engine.count(rate)
        cores = count * inputs.cores
        hours = million(cores, rate)
        rows.append(
            (
                f"{rate:,}",
                f"{count:,}",
                f"{cores:,}",
                f"{count * found.memory_bytes / 1e9:,.0f} GB",
                f"{hours:,.1f}",
                f"{hours * inputs.core_price:,.2f}",
                f"{cores * inputs.core_price:,.0f}",
            )
        )
    header = (
        "images/s",
        "engines",
        "cores",
        "memory",
        "core-hours a million images",
        "their price",
        "price an hour",
    )
    held = "its front is what ends first" if engine.is_held_by_front else "its model is what ends first"
    text = f"An engine of {inputs.cores} cores is planned with {engine.rate:.0f} images/s; {held}."
    return f"### {name} on CPUs\n\n{text}\n\n{table(header, rows)}"


def gpu_text(inputs: Inputs, found: Measured) -> str:
    """GPUs as far as the front decides, which is all that is known here."""
    front = found.front
    engine = Engine(inputs.gpu_rate or front.ceiling, front)
    feed = front.cores_for(engine.rate)
    rows = []
    for rate in RATES:
        count = engine.count(rate)
        hours = million(count, rate)
        price = hours * (inputs.gpu_price + feed * inputs.core_price)
        rows.append((f"{rate:,}", f"{count:,}", f"{count * feed:,.0f}", f"{hours:,.2f}", f"{price:,.2f}"))
    header = (
        "images/s",
        "GPUs, one an engine",
        "busy cores beside them",
        "GPU-hours a million images",
        "their price",
    )
    known = (
        f"A GPU that computes {inputs.gpu_rate:g} images/s is planned with {engine.rate:.0f}."
        if inputs.gpu_rate
        else "No GPU was measured. What is known is what one engine's front can feed: at most "
        f"{front.ceiling:.0f} requests/s. So these are the **fewest** GPUs with one engine each and bodies "
        "of this size, however fast the GPU; a slower one needs more (`--gpu-rate`), a faster one waits for its front."
    )
    text = f"{known} Feeding it takes {feed:.1f} cores of decoding and HTTP, "
    text += "which alone are in the price beside the GPU: a node has more."
    return f"### GPUs\n\n{text}\n\n{table(header, rows)}"


def network_text(found: Measured) -> str:
    """What has to come in and go out."""
    traffic = found.traffic
    rows = [
        (
            f"{rate:,}",
            f"{traffic.inward(rate) / 1e9:,.1f} Gbit/s",
            f"{traffic.inward(4 / 3 * rate) / 1e9:,.1f} Gbit/s",
            f"{traffic.outward(rate) / 1e9:,.2f} Gbit/s",
            f"{traffic.under_way(rate):,.0f}",
        )
        for rate in RATES
    ]
    header = ("images/s", "in, raw bodies", "in, base64 in JSON", "out", "requests under way")
    return f"### Network\n\n{table(header, rows)}"


def breaks_text(inputs: Inputs, found: Measured) -> str:
    """Every part, the rate at which one of it is used up, and how many each size needs."""
    engine = Engine(found.per_core["yolov8n"] * inputs.cores, found.front)
    rates = breaking_rates(
        engine,
        found.traffic,
        inputs.around,
        series=NUM_SERIES,
        image_bytes=inputs.image_bytes,
        weights_bytes=inputs.weights_bytes,
    )
    rows = [
        (part, f"{limit:,.0f}", *(f"{math.ceil(rate / limit):,}" for rate in RATES))
        for part, limit in rates.items()
    ]
    header = ("part", "one is used up at, images/s", *(f"of it for {rate:,}" for rate in RATES))
    others = {part: limit for part, limit in rates.items() if part != "one engine"}
    nearest = next(iter(others))
    said = []
    for rate in RATES:
        gone = [part for part, limit in others.items() if limit < rate]
        left = f"nothing but the engine itself; next is the {nearest}, {rate / others[nearest]:.0%} of the way there"
        said.append(f"- **{rate:,} images/s**: {', then '.join(gone) or left}.")
    intro = (
        f"yolov8n on CPU engines of {inputs.cores} cores, one a node; a network counts as used up at 70 %."
    )
    return "\n\n".join([intro, table(header, rows), "\n".join(said), REMEDIES])


def sharing_text(found: Measured) -> str:
    """p50 and p99 by the way of sharing."""
    rows = []
    for way in WAYS:
        taken = latencies(
            way,
            num_engines=24,
            num_replicas=2,
            service=found.service,
            utilisation=0.7,
            num_requests=12_000,
            seed=1,
        )
        rows.append((way, *(f"{1000 * quantile(taken, share):.0f}" for share in (0.5, 0.99))))
    text = (
        "Simulated: 24 engines as measured (two replicas of one core) at 70 % of their peak, Poisson arrivals, every "
        f"image for the same {1000 * found.service:.0f} ms. `random` is a Kubernetes Service with a new connection for "
        "each request; `turns` and `least` are proxies that know the engines one by one and share requests out."
    )
    kept = (
        "Kept connections are worse than any of these: a Service gives each to a random engine, for good. Of "
        f"{KEPT} that bring the same rate, {num_overfull(KEPT, 24, 0.7):.1f} of the 24 engines are to be expected to "
        "get more than their peak, though all together are at 70 % (binomial, not simulated)."
    )
    figures = table(("shared", "p50, ms", "p99, ms"), rows)
    return f"{text}\n\n{figures}\n\n{kept}"


KEPT = 240
"""Connections, ten an engine."""

REMEDIES = """\
What to do where a part is used up:

- **One engine**: the first thing that breaks, long before anything around it. More engines; nothing ties them
  together.
- **Network of a proxy**: pictures are what fills it, answers are a hundredth. Several proxies behind DNS or
  anycast; clients that send smaller pictures (the model sees 640 pixels whatever comes); raw bodies rather than
  base64; `image_url` where the pictures lie beside the engines, so that they never pass the proxy.
- **Connections of a proxy**: more proxies, or HTTP/2 between clients and them.
- **Nodes of a cluster**: larger nodes, until an engine's front is what ends it; then several clusters with a share
  of the traffic each.
- **Series of a Prometheus**: one for each cluster, with sums recorded; the engine's labels never grow with
  traffic.
- **Image and weights at a rollout**: with `maxSurge: 1` engines come one after another and this never happens; that
  takes a start (3.4 s once converted, 15 s the first time) for each, so thousands need a larger `maxSurge`, and then
  registries near them (or images that the nodes have already), a mirror of the weights (`yolo_weights_url`,
  `HF_ENDPOINT`) or a volume that all read."""

LEFT_OUT = """\
- Ray Serve's own hop: every picture passes its proxy. That hop is measured apart and not part of these sums.
- Decoders, a process a core, at most eight: their memory is not in that of an engine, which was measured before there
  were any, as was all but `scale/pieces.json`.
- Several engines that are away at once, as of thousands some always are: one is spare, the reserve bears the rest.
- Uneven load: engines are counted for a steady rate. Peaks of the day multiply the rate; autoscaling follows
  within minutes.
- TLS, which the proxy does; storage; what leaves a cloud at a price.
- Other models: BLIP VQA base alone gave about 1 image/s on the two cores that gave yolov8n 15 (bench/README.md).
- Whether a front beside more cores reaches its ceiling: its processor time was measured on two that decoders, the
  generator and other work on the machine shared; what else runs makes it longer rather than shorter."""


def inputs_from(arguments: argparse.Namespace) -> Inputs:
    """Those that were given over the defaults."""
    return Inputs(arguments.cores, arguments.gpu_rate, arguments.core_price, arguments.gpu_price)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the page, or print it."""
    usual = Inputs()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--print", action="store_true", dest="is_printed")
    parser.add_argument("--cores", type=int, default=usual.cores)
    parser.add_argument("--gpu-rate", type=float)
    parser.add_argument("--core-price", type=float, default=usual.core_price)
    parser.add_argument("--gpu-price", type=float, default=usual.gpu_price)
    args = parser.parse_args(arguments)
    text = page(inputs_from(args), measured()) + "\n"
    if args.is_printed:
        sys.stdout.write(text)
    else:
        PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
