"""Breaks a running server on purpose and proves that nobody lost, or got somebody else's, answer.

 asking ── every request has its own picture and knows its answer ──▶ server ──▶ journal: right, wrong, lost, refused
 injector ── signals to workers, orders in files that the fake model obeys ──▶ fault log: when, who, what it hit
 census ── slots, descriptors, processes, tasks, memory, before and after
 timeline ── the server's own log: when each replica died and served again

`model` and `front` are a server with a fake model that can be told to break; everything else is outside of it and
works on `inference-engine serve` as well. `python -m bench.chaos --help` lists the runs.
"""
