"""Who competes: the engine as it is, the engine in fp32, each peer in each variant with the best of its settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from bench.client import build_post
from bench.load import FailedRunError, Requests
from bench.noop import MODEL as NOOP
from bench.peers.catalogue import PEERS, Peer
from bench.peers.environments import PeerNotInstalledError, python_of
from bench.peers.launching import PeerFailedError, running
from bench.peers.turns import Contender, Target, Turns, running_engine, running_noop_engine
from bench.pictures import Bitmaps, Pictures
from bench.record import record

FP32 = {"precision": "fp32"}
NOOP_PEER = "mosec"


@dataclass(frozen=True)
class Comparison:
    """What `compare` is told; seconds per measurement, `options` of the runtime alike for engine and adapters."""

    weights: str
    peers: Sequence[str]
    variants: Sequence[str]
    folder: Path
    clients: int
    seconds: float
    warmup: float
    tuning_seconds: float
    turns: int
    options: Mapping[str, str] = field(default_factory=dict)
    noop: bool = True


def compare(plan: Comparison) -> dict[str, Any]:
    """Tune, measure in turns, and say how often the engine goes into each."""
    turns = Turns(plan.clients, plan.seconds, plan.warmup)
    pictures = Pictures()
    contenders, absent = _engines(plan, pictures), {}
    for name in plan.peers:
        for variant in plan.variants:
            try:
                contenders.append(_tuned(plan, turns, PEERS[name], variant, pictures))
            except (PeerNotInstalledError, PeerFailedError, FailedRunError) as error:
                absent[f"{name} {variant}"] = str(error)
                print(f"{name} {variant} is left out: {error}", file=sys.stderr, flush=True)
    if plan.peers and plan.variants and len(absent) == len(plan.peers) * len(plan.variants):
        raise PeerFailedError(f"none of the peers could take part: {absent}")
    figures: dict[str, Any] = {"distinct_pixels": True, "absent": absent}
    rows = turns.run(contenders, plan.turns)
    figures |= {"rows": rows, "ratios": ratios(rows)}
    if plan.noop:
        rows = turns.run(list(_noops(plan, pictures)), plan.turns)
        figures["noop"] = {"rows": rows, "ratios": ratios(rows)}
    settings = {
        "weights": Path(plan.weights).name,
        "peers": list(plan.peers),
        "clients": plan.clients,
        "seconds": plan.seconds,
        "turns": plan.turns,
        "tuning_seconds": plan.tuning_seconds,
        "options": dict(plan.options),
    }
    return record("peers", settings, figures)


def ratios(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """For each of `rows` that is not the engine: the engine's median rate over its own, per row of the engine."""
    ours = [row for row in rows if row["name"].startswith("engine")]
    theirs = [row for row in rows if not row["name"].startswith("engine")]
    return {
        f"{our['name']} / {their['name']}": our["per_second"] / their["per_second"]
        for our in ours
        for their in theirs
    }


def _engines(plan: Comparison, pictures: Pictures) -> list[Contender]:
    found = []
    for name, options in {"engine": plan.options, "engine fp32": {**plan.options, **FP32}}.items():
        start = partial(running_engine, plan.weights, options, pictures)
        found.append(Contender(name, start, options))
    return found


def _tuned(plan: Comparison, turns: Turns, peer: Peer, variant: str, pictures: Pictures) -> Contender:
    """`peer` with the candidate that was fastest in a short measurement. Raises what the last one failed with where
    none works."""
    python, tried, last = python_of(peer.name, plan.folder), [], None
    for candidate in peer.candidates(len(os.sched_getaffinity(0))):
        chosen = {"variant": variant, "weights": plan.weights, "options": dict(plan.options), **candidate}
        start = partial(_running_peer, peer, python, chosen, pictures)
        try:
            with start() as target:
                rate = turns.measure(target, plan.tuning_seconds)["per_second"]
        except (PeerFailedError, FailedRunError, ConnectionError) as error:
            last = error
            print(f"{peer.name} {variant} {candidate}: {error}", file=sys.stderr, flush=True)
            continue
        print(f"{peer.name} {variant} {candidate}: {rate:.2f}/s", file=sys.stderr, flush=True)
        tried.append((rate, candidate, start))
    if not tried:
        raise PeerFailedError(str(last))
    rate, candidate, start = max(tried, key=lambda each: each[0])
    version = _version(python, peer.package)
    rates = [{**settings, "per_second": each} for each, settings, _ in tried]
    return Contender(
        f"{peer.name} {variant}", start, {**candidate, "version": version, "why": peer.why, "tried": rates}
    )


@contextmanager
def _running_peer(
    peer: Peer, python: Path, settings: Mapping[str, Any], pictures: Pictures
) -> Iterator[Target]:
    with running(peer, python, settings, pictures) as peer_running:
        yield Target(peer_running.url, peer_running.requests, peer_running.runtime)


def _version(python: Path, package: str) -> str | None:
    """Of what is installed in the environment of `python`."""
    folders = [str(path) for path in python.parents[1].glob("lib/python3*/site-packages")]
    return next((found.version for found in Distribution.discover(name=package, path=folders)), None)


def _noops(plan: Comparison, pictures: Pictures) -> Iterator[Contender]:
    """The engine without a network, for bitmaps and for JPEGs, which it decodes, and a peer that decodes nothing."""
    bitmaps = Bitmaps()
    kinds: dict[str, tuple[str, Callable[[int], bytes]]] = {
        "bmp": ("image/bmp", bitmaps.bitmap),
        "jpeg": ("image/jpeg", pictures.jpeg),
    }
    for kind, (content_type, picture) in kinds.items():
        yield Contender(
            f"engine noop {kind}", partial(running_noop_engine, partial(_posts, content_type, picture)), {}
        )
    try:
        python = python_of(NOOP_PEER, plan.folder)
    except PeerNotInstalledError:
        return
    peer = PEERS[NOOP_PEER]
    chosen = {"variant": "noop", "weights": "", "workers": 1, "threads": 1, "batch_size": 8, "options": {}}
    start: Callable[[], AbstractContextManager[Target]] = partial(
        _running_peer, peer, python, chosen, pictures
    )
    yield Contender(f"{NOOP_PEER} noop", start, {"workers": 1, "batch_size": 8})


def _posts(content_type: str, picture: Callable[[int], bytes], url: str) -> Requests:
    host = urlsplit(url).netloc
    return lambda number: build_post(host, f"/inference?model_id={NOOP}", content_type, picture(number))
