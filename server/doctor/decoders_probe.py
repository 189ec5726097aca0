"""Takes the measures that a decoder takes and prints what came of each. A process of its own: they are for good."""

from __future__ import annotations

import json

from server.decoder_sandbox import enter

_SPACE = 2**30


def main() -> None:
    """One JSON object: by measure the reason why it could not be taken, empty where it was."""
    print(json.dumps(enter(_SPACE)), flush=True)


if __name__ == "__main__":
    main()
