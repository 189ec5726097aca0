"""What sharing, questions, pieces of a request, reduced decoding and Ray Serve cost: their figures and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from bench.figures import Figure, Result, table


def figures(results: Mapping[str, Result]) -> Iterator[Figure]:
    """Of what was measured."""
    if together := results.get("together"):
        name = "two busy models together over taking turns"
        yield Figure(name, together["share"], 0.9, spread=together["spread"])
    if blip := results.get("blip"):
        what = f"({blip['runtime']} {blip['precision']}), {blip['settings']['tokens']} new tokens"
        name = f"BLIP VQA base {what} ÷ transformers fp32, images/s, each at its best batch"
        yield Figure(name, blip["ratio"], 4)
        yield Figure(f"{name}, by processor time", blip["cpu_ratio"], None)
    if questions := results.get("questions"):
        for way, passes in questions["passes"].items():
            name = (
                f"{questions['num_questions']} questions on one image, {way.replace('_', ' ')}: vision passes"
            )
            yield Figure(name, passes, 1, at_least=False)
        yield Figure("a later question over its text part alone", questions["later_over_text"], 1.3, False)
    if pieces := results.get("pieces"):
        name = "no model, JPEGs decoded: requests/s of the whole path"
        yield Figure(name, pieces["whole_path"]["per_second"], None)
    for kind, result in results.items():
        if kind.startswith("ray_serve"):
            row = result["summary"][-1]
            name = f"{_network(result)} behind Ray Serve (HAProxy) ÷ alone, {row['clients']} clients"
            yield Figure(name, row["haproxy"]["ratio"], None, spread=row["haproxy"]["spread"])
    if scaling := results.get("scaling"):
        for factor, row in scaling["by_factor"].items():
            lost = 100 * (row["in_full"]["map50_95"] - row["scaled"]["map50_95"])
            yield Figure(f"`jpeg_scaling`, pictures {factor} the slot: points of mAP50-95 lost", lost, None)


def together_table(result: Result) -> str:
    """A row per turn."""
    by = ", ".join(
        f"{model} by {told['runtime']} {told['precision']}" for model, told in result["executed_by"].items()
    )
    rows = [
        (
            number,
            *(f"{turn[how][model]:.1f}" for model in turn["alone"] for how in ("alone", "together")),
            f"{turn['share']:.2f}",
        )
        for number, turn in enumerate(result["turns"], 1)
    ]
    names = [f"{model} {how}" for model in result["executed_by"] for how in ("alone", "together")]
    return f"Images/s; {by}.\n\n{table(('turn', *names, 'sum of shares'), rows)}"


def blip_table(result: Result) -> str:
    """A row per batch size."""
    ours, theirs = result["ours"]["seconds"], result["transformers_fp32"]["seconds"]
    rows = [(batch, f"{ours[batch]:.2f}", f"{theirs[batch]:.2f}") for batch in ours]
    header = ("batch", f"{result['runtime']} {result['precision']}, s an image", "transformers fp32")
    return table(header, rows)


def questions_table(result: Result) -> str:
    """A row per way of asking."""
    rows = [
        (name.replace("_", " "), f"{1000 * way['wall_seconds']:.0f}", f"{1000 * way['cpu_seconds']:.0f}")
        for name, way in result["ways"].items()
    ]
    by = f"Executed by {result['runtime']} {result['precision']}."
    return f"{by}\n\n{table(('way', 'ms', 'processor time, ms'), rows)}"


def pieces_table(result: Result) -> str:
    """A row per piece, then the whole path."""
    whole = result["whole_path"]
    rows = [
        (name, f"{cost['cpu_us']:.0f}", f"{cost['fastest_us']:.0f}")
        for name, cost in result["pieces"].items()
    ]
    told = (
        f"The whole path around a model that does nothing: {whole['per_second']:.0f} requests/s; of each, the front "
        f"takes {whole['front_cpu_us']:.0f} µs of processor time and the generator {whole['generator_cpu_us']:.0f} µs."
    )
    return f"{table(('piece', 'processor time, µs', 'fastest, µs'), rows)}\n\n{told}"


def scaling_table(result: Result) -> str:
    """A row per factor and way of decoding."""
    rows = [
        (factor, how.replace("_", " "), f"{1000 * row['decode_cpu_seconds']:.2f}", f"{row['map50_95']:.4f}")
        for factor, ways in result["by_factor"].items()
        for how, row in ways.items()
    ]
    return table(("picture over slot", "decoded", "decoding, ms", "mAP50-95"), rows)


def ray_table(result: Result) -> str:
    """A row per number of clients and proxy."""
    by = result["executed_by"]["alone"]
    rows = [
        (
            row["clients"],
            name if name == "alone" else f"Ray's proxy: {name}",
            f"{row[name]['per_second']:.1f}",
            *(f"{1000 * row[name][percentile]:.0f}" for percentile in ("p50", "p99")),
            f"{row[name]['ratio']:.2f} ({row[name]['spread'][0]:.2f} to {row[name]['spread'][1]:.2f})",
        )
        for row in result["summary"]
        for name in result["executed_by"]
    ]
    header = (
        "clients",
        "engine",
        "images/s",
        "p50, ms",
        "p99, ms",
        "ratio to alone (lowest to highest turn)",
    )
    return f"{_network(result)}, executed by {by['runtime']} {by['precision']}.\n\n{table(header, rows)}"


def _network(result: Result) -> str:
    """What it is called outside the benches."""
    weights = result["settings"]["weights"]
    return Path(weights).stem if weights else str(result["model"])


TABLES: Mapping[str, Callable[[Result], str]] = {
    "together": together_table,
    "blip": blip_table,
    "questions": questions_table,
    "pieces": pieces_table,
    "scaling": scaling_table,
    "ray_serve": ray_table,
}
