"""Other servers with the same network, so that ours has something to be compared with.

    python -m bench.peers list
    python -m bench.peers install            # every peer, or those named, each into an environment of its own
    python -m bench.peers run --weights FOLDER/yolov8n.pt

    catalogue.py      which peers there are, what their requests look like, what is tuned
    environments.py   where they are installed
    launching.py      starting and stopping one of them
    turns.py          measuring all of them and the engine in turns
    apps/             the small servers themselves; each runs in its peer's environment
    requirements/     exact versions

Each peer serves the network in two ways: ``predict`` is what most people deploy, the library's `YOLO.predict` on the
picture's bytes; ``adapter`` has the engine's own decoder and adapter inside the peer, so that servers alone are
compared.
"""
