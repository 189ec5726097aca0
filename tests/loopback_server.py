"""`inference-engine` to which this machine's addresses are public ones, which no setting makes them. For pictures by
their address where there is no internet: ``python -m tests.loopback_server serve``."""

from __future__ import annotations

import sys

import server.reach
from server.cli import main

if __name__ == "__main__":
    server.reach.V4_DENIED = tuple(
        network for network in server.reach.V4_DENIED if not str(network).startswith("127.")
    )
    sys.exit(main())
