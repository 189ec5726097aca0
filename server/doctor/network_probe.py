"""Asks a few addresses for the beginning of their answer. A program: resolving a name has no time limit of its own.

Its argument is a JSON list of addresses; it prints, as one JSON object, the status or the failure of each.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

TIMEOUT = 4.0


def main() -> None:
    """Ask all of them at once; each answer is printed when it comes, with those before it."""
    urls: list[str] = json.loads(sys.argv[1])
    answers: dict[str, Any] = {}
    with ThreadPoolExecutor(max_workers=8) as threads:
        for url, answer in zip(urls, threads.map(_ask, urls), strict=True):
            answers[url] = answer
            print(json.dumps({"answers": answers}), flush=True)


def _ask(url: str) -> dict[str, Any]:
    import httpx

    try:
        # As the download itself does it, by the proxies of the environment; the body is not read.
        with httpx.stream("GET", url, timeout=TIMEOUT, follow_redirects=True) as response:
            return {"status": response.status_code}
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return {"failure": f"{type(error).__name__}: {error}"}


if __name__ == "__main__":
    main()
