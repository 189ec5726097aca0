"""How a probe speaks: one JSON object a line, at once, so that nothing is lost if the next step crashes or hangs."""

from __future__ import annotations

import json
from typing import Any


def say(**facts: Any) -> None:
    """Print `facts`, JSON types; the key `stage` names what is tried next, as in "while ..."."""
    print(json.dumps(facts), flush=True)
