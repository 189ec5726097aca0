"""Open files: how many this process may have, and how many of them may be connections."""

from __future__ import annotations

import logging
import resource
from typing import Literal

log = logging.getLogger(__name__)

MAX_AUTO = 16_384
"""Connections; of more than this an idle one's few kilobytes are worth a decision."""
RESERVE = 512
"""For models' processes and files, downloads, the log, and connections that are being refused."""


def connections_for(wanted: Literal["auto"] | int, num_descriptors: int) -> int:
    """How many connections that many open files allow, at most `wanted`."""
    reserve = min(RESERVE, num_descriptors // 2)
    return min(MAX_AUTO if wanted == "auto" else wanted, max(1, num_descriptors - reserve))


def raise_limit(wanted: Literal["auto"] | int) -> int:
    """Raise this process's soft limit of open files as far as `wanted` connections need and the hard one allows.
    How many connections there may be then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = (MAX_AUTO if wanted == "auto" else wanted) + RESERVE
    if soft != resource.RLIM_INFINITY and soft < needed:
        # not to the hard limit as such: with a billion, as under some container engines, programs that close
        # every descriptor there could be would take minutes
        raised = needed if hard == resource.RLIM_INFINITY else min(hard, needed)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            soft = raised
        except (OSError, ValueError) as error:
            log.warning("the limit of open files stays at %d: %s", soft, error)
    num_connections = connections_for(wanted, needed if soft == resource.RLIM_INFINITY else soft)
    if wanted != "auto" and num_connections < wanted:
        log.warning("max_connections is %d: the limit of open files is %d", num_connections, soft)
    return num_connections
