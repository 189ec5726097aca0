"""Results as Markdown tables: one per kind, and one that holds each figure against what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from bench import costs
from bench.figures import Figure, Result, table

MEBIBYTE = 2**20


def machine_line(result: Result) -> str:
    """What, when and with which versions it was measured."""
    machine = result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items() if version)
    units = ", ".join(machine["vector_units"]) or "no vector units named"
    return (
        f"Measured {result['measured_at'][:10]} at commit {result['commit']} on {machine['processor']} ({units}), "
        f"{machine['cores']} cores, {machine['memory_bytes'] / 2**30:.0f} GiB, load average "
        f"{result['load_average'][0]:.1f}; Python {machine['python']}, {packages}."
    )


def figures_table(results: Mapping[str, Result]) -> str:
    """Every figure that was measured against what is asked of it."""
    rows = [figure.row() for figure in figures(results)]
    return (
        table(("figure", "asked for", "median (lowest to highest turn)", ""), rows)
        if rows
        else "Not measured."
    )


def figures(results: Mapping[str, Result]) -> Iterator[Figure]:
    """Of what was measured."""
    if peak := results.get("peak"):
        bounds = {"raw": ("raw JPEG bodies", 0.85), "json": ("base64 in JSON", 0.80)}
        for form, (name, bound) in bounds.items():
            ratio = peak["ratios"][form]
            yield Figure(f"peak ÷ ceiling, {name}", ratio["median"], bound, spread=ratio["spread"])
    if peers := results.get("peers"):
        yield from _peer_figures(peers)
    if tail := results.get("tail"):
        name = f"p99 ÷ p50 at {tail['settings']['share']:.0%} of peak over that of the simulated queue"
        yield Figure(name, tail["ratio"], 1.3, at_least=False, spread=tail["spread"])
    if single := results.get("single"):
        name = "single request, idle server: latency over decoding and model"
        yield Figure(name, single["ratio"], 1.3, at_least=False, spread=single["spread"])
    for kind, result in results.items():
        if kind.startswith("memory"):
            yield from _memory_figures(result)
    yield from costs.figures(results)


def _peer_figures(result: Result) -> Iterator[Figure]:
    """The engine against the best peer of each variant; as it is, and both in fp32."""
    rows = {row["name"]: row for row in result["rows"]}
    for ours, variant, bound in (
        ("engine", "predict", 3.5),
        ("engine fp32", "predict", None),
        ("engine", "adapter", 1.0),
    ):
        theirs = [row for name, row in rows.items() if name.endswith(f" {variant}")]
        if ours in rows and theirs:
            best = max(theirs, key=lambda row: float(row["per_second"]))
            name = f"{_executed(rows[ours])} ÷ best peer, {_executed(best)}"
            yield Figure(name, rows[ours]["per_second"] / best["per_second"], bound)
    for pair, ratio in result.get("noop", {}).get("ratios", {}).items():
        yield Figure(f"no model, 140 kB bodies: {pair}", ratio, None)


def _executed(row: Result) -> str:
    by = row["executed_by"]
    return f"{row['name']} ({by.get('runtime')} {by.get('precision')})"


def _memory_figures(result: Result) -> Iterator[Figure]:
    memory, model, by = result["memory_bytes"], result["model"], result["executed_by"]
    workers = memory["workers"][model]
    mib = " MiB"
    yield Figure(f"{model}: front, resident", memory["front"]["resident"] / MEBIBYTE, 200, False, unit=mib)
    for name, bound in (("fair", 300), ("private", 150)):
        shown = "proportional (PSS)" if name == "fair" else name
        value = max(worker[name] for worker in workers) / MEBIBYTE
        executed = f"{by['runtime']} {by['precision']}"
        yield Figure(f"{model}: largest worker ({executed}), {shown}", value, bound, False, unit=mib)
    for number, forkserver in enumerate(memory["forkservers"]):
        value = forkserver["fair"] / MEBIBYTE
        yield Figure(f"{model}: forkserver {number}, proportional", value, None, unit=mib)
    ready = result["seconds_to_ready"]
    yield Figure(f"{model}: very first start to ready", ready["first_start"], None, unit=" s")
    later = ready["later_starts"]
    yield Figure(f"{model}: start to ready", ready["median"], 6, False, (min(later), max(later)), " s")
    yield Figure(f"{model}: killed worker to ready", result["respawn_seconds"]["p50"], 1, False, unit=" s")


def peak_table(result: Result) -> str:
    """A row per turn."""
    rows = [
        (
            number,
            f"{turn['ceiling']['per_second']:.1f}",
            _layout(turn["ceiling"]),
            *(f"{turn[form]['per_second']:.1f}" for form in ("raw", "json")),
            f"{turn['raw']['cpu']['generator_share']:.1%}",
        )
        for number, turn in enumerate(result["turns"], 1)
    ]
    header = (
        "turn",
        "ceiling, images/s",
        "its layout",
        "raw JPEG",
        "base64 JSON",
        "generator's share of the CPU",
    )
    return f"{_by(result)}\n\n{table(header, rows)}"


def _layout(row: Result) -> str:
    how = "decoding ahead" if row["decodes_ahead"] else "in sequence"
    return f"{row['processes']} × {row['streams']} × {row['threads']}, batch {row['batch_size']}, {how}"


def _by(result: Result) -> str:
    by = result["executed_by"]
    return f"Executed by {by['runtime']} {by['precision']}, replicas: {by['replicas']}."


def peers_table(result: Result) -> str:
    """A row per contender, and who could not take part."""
    rows = [_peer_row(row) for row in [*result["rows"], *result.get("noop", {}).get("rows", [])]]
    header = ("server", "runtime", "settings", "requests/s", "lowest to highest", "p50, ms", "p99, ms")
    absent = [f"- {name}: {reason.splitlines()[0]}" for name, reason in result["absent"].items()]
    return "\n".join([table(header, rows), *(["", "Left out:", *absent] if absent else [])])


def _peer_row(row: Result) -> tuple[str, ...]:
    by, settings = row["executed_by"], row["settings"]
    names = [name for name in ("version", "workers", "threads", "batch_size") if name in settings]
    shown = ", ".join(f"{name} {settings[name]}" for name in names)
    latency = row["turns"][-1]["latency_seconds"]
    return (
        row["name"],
        f"{by.get('runtime')} {by.get('precision', '')}".strip(),
        shown,
        f"{row['per_second']:.1f}",
        f"{row['spread'][0]:.1f} to {row['spread'][1]:.1f}",
        *_milliseconds(latency, "p50", "p99"),
    )


def tail_table(result: Result) -> str:
    """A row per turn."""
    rows = [
        (
            number,
            f"{turn['rate']:.1f}",
            *_milliseconds(turn["latency_seconds"], "p50", "p99"),
            *_milliseconds(turn["simulated_seconds"], "p50", "p99"),
            f"{turn['ratio']:.2f}",
        )
        for number, turn in enumerate(result["turns"], 1)
    ]
    header = (
        "turn",
        "requests/s",
        "p50, ms",
        "p99, ms",
        "simulated p50",
        "simulated p99",
        "ratio of p99 ÷ p50",
    )
    return f"{_by(result)}\n\n{table(header, rows)}"


def _milliseconds(latencies: Mapping[str, float], *names: str) -> list[str]:
    return [f"{1000 * latencies[name]:.0f}" for name in names]


def sweep_table(result: Result) -> str:
    """By clients, then by load."""
    names = ("p50", "p90", "p99")
    closed = [
        (
            row["clients"],
            f"{row['per_second']:.1f}",
            *_milliseconds(row["latency_seconds"], *names),
        )
        for row in result["by_clients"]
    ]
    opened = [
        (
            f"{row['share']:.0%}",
            f"{row['rate']:.1f}",
            *_milliseconds(row["latency_seconds"], *names),
        )
        for row in result["by_load"]
    ]
    latencies = tuple(f"{name}, ms" for name in names)
    first = table(("clients", "images/s", *latencies), closed)
    second = table(("share of peak", "requests/s", *latencies), opened)
    return f"{_by(result)}\n\n{first}\n\n{second}"


def single_table(result: Result) -> str:
    """A row per turn."""
    rows = [
        (
            number,
            f"{1000 * turn['mean_seconds']:.1f}",
            *(f"{1000 * seconds:.1f}" for seconds in turn["bare_mean_seconds"].values()),
            f"{turn['ratio']:.2f}",
        )
        for number, turn in enumerate(result["turns"], 1)
    ]
    bare = [f"bare, {threads} threads, ms" for threads in result["turns"][0]["bare_mean_seconds"]]
    return f"{_by(result)}\n\n{table(('turn', 'server, ms', *bare, 'ratio'), rows)}"


TABLES: Mapping[str, Callable[[Result], str]] = {
    "peak": peak_table,
    "peers": peers_table,
    "tail": tail_table,
    "sweep": sweep_table,
    "single": single_table,
    **costs.TABLES,
}
"""Kinds with a table of their own; the others' figures stand in the first one."""
