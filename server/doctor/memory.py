"""Memory and the kernel's other limits, against what the server will want."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pool import Pool
from pool.memory import CGROUP, MEMINFO, available_memory, memory_limit, num_oom_kills
from server.doctor.finding import Finding, ok, problem, warning
from server.doctor.sizes import readable
from server.estimate import forkserver_size
from server.footprint import footprint
from server.launch import weights_path
from server.room import Room, Surroundings, default_budget
from server.settings import Settings
from server.table import Known

OWN_DESCRIPTORS = 128
"""Of the server itself: libraries, the log, sockets and pidfds of workers."""
_MORE = "smaller max_batch_size, replicas = 1, fewer models in load_at_start, or a larger mem_limit of the container"


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """Bytes. `limit` is the container's or the machine's, `cgroup` the container's alone, None where it has none."""

    limit: int
    cgroup: int | None
    available: int
    budget: int
    needed: int
    swap: int
    num_kills: int


def read_memory(
    settings: Settings, needed: int, cgroup: Path = CGROUP, meminfo: Path = MEMINFO
) -> MemoryFacts:
    """This machine's. Raises OSError without /proc."""
    limit = memory_limit(cgroup, meminfo)
    try:
        text = (cgroup / "memory.max").read_text().strip()
    except OSError:
        text = "max"
    swap = [line.split()[1] for line in meminfo.read_text().splitlines() if line.startswith("SwapTotal:")]
    return MemoryFacts(
        limit=limit,
        cgroup=None if text == "max" else int(text),
        available=available_memory(cgroup, meminfo),
        budget=settings.memory_budget or default_budget(),
        needed=needed,
        swap=int(swap[0]) * 1024 if swap else 0,
        num_kills=num_oom_kills(cgroup),
    )


def needed_memory(settings: Settings, pools: Mapping[str, tuple[Known, Pool]]) -> int:
    """Bytes that the server is reckoned to take with these models, as it reckons itself before it loads them."""

    def preload(known: Known) -> tuple[str, ...]:
        entry, device = known.entry, pools[known.entry.model_id][1].replicas[0].placement.device
        return entry.preload(entry.runtime or settings.runtime, device)

    around = Surroundings(
        dict, preload, lambda known: weights_path(settings, known.entry), settings.max_batch_size
    )
    room = Room(settings.memory_budget or default_budget(), around)
    models = sum(room.need(known, pool).total(pool) for known, pool in pools.values())
    forkservers = {preload(known) for known, _ in pools.values()}
    return footprint(os.getpid()).fair + sum(map(forkserver_size, forkservers)) + models


def check_memory(facts: MemoryFacts) -> list[Finding]:
    """What there is against what is reckoned to be needed at start."""
    where = "machine" if facts.cgroup is None else "container (cgroup memory.max)"
    swap = f"{readable(facts.swap)} swap" if facts.swap else "no swap"
    findings = [
        ok(
            "memory",
            f"{readable(facts.limit)} for the {where}, {readable(facts.available)} available, {swap}",
        )
    ]
    budget, needed = readable(facts.budget), readable(facts.needed)
    text = f"server and models loaded at start are reckoned at {needed}, the budget is {budget}"
    if facts.budget > facts.limit:
        over = f"memory_budget is {budget}, more than the {readable(facts.limit)} that there are"
        findings.append(warning("budget", f"{over}: the kernel would kill", "leave memory_budget unset"))
    if facts.needed > facts.budget:
        findings.append(problem("budget", text, _MORE))
    elif facts.needed > facts.available:
        text += f", but {readable(facts.available)} are available now (is a server running already?)"
        findings.append(warning("budget", text, f"`ps aux --sort -rss | head` shows who has it; {_MORE}"))
    else:
        findings.append(ok("budget", text))
    if facts.num_kills:
        text = f"the kernel has killed {facts.num_kills} times in this container for lack of memory"
        findings.append(warning("oom_kills", text, _MORE))
    return findings


def check_descriptors(soft: int, settings: Settings, num_models: int) -> Finding:
    """The limit of open files against the requests that may wait, each with a connection, and the downloads."""
    waiting = settings.max_queue_size * max(1, num_models) + settings.max_load_waiters + settings.max_fetches
    needed = OWN_DESCRIPTORS + waiting
    if soft < needed:
        text = f"at most {soft} open files (nofile), {needed} may be wanted when all queues are full"
        return warning(
            "nofile", text, "`ulimit -n 65536`; systemd: LimitNOFILE=65536; compose: ulimits: nofile: 65536"
        )
    return ok("nofile", f"at most {soft} open files (nofile), {needed} may be wanted")


def check_shared_memory() -> Finding:
    """Pictures lie in memory files without a name; /dev/shm plays no part."""
    try:
        descriptor = os.memfd_create("doctor", os.MFD_CLOEXEC)
        try:
            os.posix_fallocate(descriptor, 0, resource.getpagesize())
        finally:
            os.close(descriptor)
    except OSError as error:
        text = f"memfd_create does not work here: {error.strerror}"
        return problem("memfd", text, "allow memfd_create and fallocate in the container's seccomp profile")
    return ok("memfd", "shared memory works (memfd; the size of /dev/shm does not matter)")


def check_room(settings: Settings, pools: Mapping[str, tuple[Known, Pool]]) -> Sequence[Finding]:
    """All of it, for this machine."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        soft = 2**31
    return [
        *check_memory(read_memory(settings, needed_memory(settings, pools))),
        check_descriptors(soft, settings, len(pools)),
        check_shared_memory(),
    ]
