"""A probe that fails in the way that its argument names."""

from __future__ import annotations

import json
import os
import signal
import sys
import time

print(json.dumps({"version": "1", "stage": "beginning"}), flush=True)
print("what a library prints\n[1]", flush=True)
match sys.argv[1]:
    case "hang":
        print(json.dumps({"stage": "asking the driver"}), flush=True)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(600)
    case "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    case "raise":
        raise ImportError("libcudart.so.13: cannot open shared object file")
    case "exit":
        os._exit(3)
    case "environment":
        print(json.dumps({"variables": dict(os.environ), "path": sys.path}))
