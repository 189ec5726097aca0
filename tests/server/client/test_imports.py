"""What `import server.client` brings along, in a real interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
CODE = """
import json, sys, time
import httpx, pydantic
before, started = set(sys.modules), time.process_time()
import server.client
print(json.dumps([sorted(set(sys.modules) - before - sys.stdlib_module_names), time.process_time() - started]))
"""


def test_the_client_brings_the_declared_replies_and_nothing_else() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    names, seconds = json.loads(done.stdout)
    ours = {name for name in names if name.split(".")[0] in ("server", "pool", "models")}
    assert {name for name in ours if not name.startswith("server.client")} == {
        "server", "server.reply_schemas", "server.state_schemas",
    }  # fmt: skip
    heavy = {"torch", "numpy", "starlette", "uvicorn", "orjson", "PIL", "cv2", "pydantic_settings"}
    assert not {name.split(".")[0] for name in names} & heavy
    assert seconds < 1.0
